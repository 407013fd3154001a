"""Findings in free text: each class in each language, its denial and doubt, lists, and what is no report at all."""

import time

import pytest

from evaluation.finding import Finding
from evaluation.finding_classes import FINDING_CLASSES
from evaluation.findings import UnknownLanguageError, find_findings
from evaluation.report_language import report_language

ENGLISH = {
    "SR": "sinus rhythm",
    "SBRAD": "sinus bradycardia",
    "STACH": "sinus tachycardia",
    "SARRH": "sinus arrhythmia",
    "AFIB": "atrial fibrillation",
    "AFLT": "atrial flutter",
    "SVTAC": "supraventricular tachycardia",
    "SVARR": "ectopic atrial rhythm",
    "JR": "junctional rhythm",
    "VT": "ventricular tachycardia",
    "IVR": "idioventricular rhythm",
    "ESC": "escape beats",
    "PAUSE": "sinus pause",
    "TACH": "tachycardia",
    "BRAD": "bradycardia",
    "PAC": "premature atrial complexes",
    "PVC": "premature ventricular complexes",
    "PRC": "premature beats",
    "BIGU": "bigeminy",
    "PACE": "ventricular pacing",
    "LAX": "left axis deviation",
    "RAX": "right axis deviation",
    "NAX": "normal axis",
    "VAX": "vertical axis",
    "IAX": "indeterminate axis",
    "1AVB": "first degree AV block",
    "2AVB": "second degree AV block",
    "3AVB": "complete AV block",
    "CRBBB": "right bundle branch block",
    "IRBBB": "incomplete right bundle branch block",
    "CLBBB": "left bundle branch block",
    "ILBBB": "incomplete left bundle branch block",
    "LAFB": "left anterior fascicular block",
    "LPFB": "left posterior fascicular block",
    "IVCD": "intraventricular conduction delay",
    "WPW": "preexcitation",
    "LVH": "left ventricular hypertrophy",
    "RVH": "right ventricular hypertrophy",
    "SEHYP": "septal hypertrophy",
    "LAE": "left atrial enlargement",
    "RAE": "right atrial enlargement",
    "ABQRS": "abnormal QRS",
    "QWAVE": "Q waves",
    "PRWP": "poor R wave progression",
    "LVOLT": "low voltage",
    "HVOLT": "high voltage",
    "MI": "myocardial infarction",
    "ANEUR": "ventricular aneurysm",
    "INJ": "myocardial injury",
    "ISC": "myocardial ischaemia",
    "STD": "ST depression",
    "STE": "ST elevation",
    "STC": "ST changes",
    "TINV": "T wave inversion",
    "LOWT": "flat T waves",
    "TC": "T wave changes",
    "EREP": "early repolarization",
    "PERI": "pericarditis",
    "DIG": "digitalis effect",
    "EL": "electrolyte disturbance",
    "LNGQT": "prolonged QT interval",
    "SQT": "short QT interval",
    "NORM": "normal ECG",
    "BORD": "borderline ECG",
    "ABN": "abnormal ECG",
    "QUAL": "artefact",
    "LREV": "lead reversal",
}
GERMAN = {
    "SR": "Sinusrhythmus",
    "STACH": "Sinustachykardie",
    "SBRAD": "Sinusbradykardie",
    "AFIB": "Vorhofflimmern",
    "AFLT": "Vorhofflattern",
    "SVTAC": "supraventrikuläre Tachykardie",
    "VT": "ventrikuläre Tachykardie",
    "PVC": "ventrikuläre Extrasystolen",
    "PAC": "supraventrikuläre Extrasystolen",
    "BIGU": "Bigeminus",
    "PACE": "Schrittmacher",
    "LAX": "überdrehter Linkstyp",
    "RAX": "Rechtstyp",
    "VAX": "Steiltyp",
    "1AVB": "AV-Block I",
    "3AVB": "AV-Block III",
    "CRBBB": "Rechtsschenkelblock",
    "IRBBB": "inkompletter Rechtsschenkelblock",
    "CLBBB": "Linksschenkelblock",
    "LAFB": "linksanteriorer Hemiblock",
    "IVCD": "intraventrikuläre Leitungsstörung",
    "LVH": "Linkshypertrophie",
    "RVH": "Rechtsherzhypertrophie",
    "LAE": "P-sinistroatriale",
    "LVOLT": "Niederspannung",
    "MI": "Infarkt",
    "ISC": "Ischämie",
    "STD": "ST-Senkung",
    "STE": "ST-Hebung",
    "TINV": "T-Negativierung",
    "LNGQT": "QT-Verlängerung",
    "PERI": "Perikarditis",
    "QUAL": "Artefakte",
}
SWEDISH = {
    "SR": "sinusrytm",
    "AFIB": "förmaksflimmer",
    "PVC": "ventrikulära extrasystolier",
    "LAX": "vänster el-axel",
    "1AVB": "AV-block I",
    "CRBBB": "högersidigt skänkelblock",
    "LVH": "vänster kammarhypertrofi",
    "MI": "infarkt",
    "ISC": "ischemi",
    "STD": "ST-sänkning",
}
ALL = [*ENGLISH.items(), *GERMAN.items(), *SWEDISH.items()]


def found(text: str, language: str | None = None) -> list[str]:
    return [str(finding) for finding in find_findings(text, language)]


def denied(code: str) -> list[str]:
    """A report that is not abnormal is normal, and the other way round."""
    return {"ABN": ["NORM"], "NORM": ["ABN"]}.get(code, [f"no {code}"])


def test_every_class_has_an_english_term_here():
    assert set(ENGLISH) == set(FINDING_CLASSES)


@pytest.mark.parametrize(("code", "term"), ALL)
def test_a_term_alone_is_its_finding(code, term):
    assert found(term) == found(term.upper()) == [code]


@pytest.mark.parametrize("frame", ["no {}", "No definite evidence of {} on this tracing.", "{} has been ruled out"])
@pytest.mark.parametrize(("code", "term"), ENGLISH.items())
def test_no_flips_a_finding_in_english(code, term, frame):
    assert found(frame.format(term)) == denied(code)


@pytest.mark.parametrize("frame", ["kein {}", "kein Hinweis auf {}", "ohne {}", "{} nicht nachweisbar"])
@pytest.mark.parametrize(("code", "term"), GERMAN.items())
def test_no_flips_a_finding_in_german(code, term, frame):
    assert found(frame.format(term)) == denied(code)


@pytest.mark.parametrize("frame", ["ingen {}", "inget {}", "ej {}"])
@pytest.mark.parametrize(("code", "term"), SWEDISH.items())
def test_no_flips_a_finding_in_swedish(code, term, frame):
    assert found(frame.format(term)) == denied(code)


# With the findings that "no" must leave as they are.
BESIDE_OTHERS = [
    ("Atrial flutter, no {}, low voltage.", ["AFLT", "LVOLT"]),
    ("Atrial flutter without any sign of {}. Low voltage.", ["AFLT", "LVOLT"]),
    ("Atrial flutter, with neither {} nor pericarditis, and low voltage.", ["AFLT", "LVOLT", "no PERI"]),
    ("No {}, and the voltage is low.", ["LVOLT"]),
    ("No {}, but the QT interval is prolonged.", ["LNGQT"]),
    ("No {} or pericarditis; atrial flutter.", ["no PERI", "AFLT"]),
    ("{} is absent, but atrial flutter is present.", ["AFLT"]),
    ("Low voltage. {}: absent. Atrial flutter: present.", ["LVOLT", "AFLT"]),
    ("Low voltage, {} unlikely, atrial flutter.", ["LVOLT", "AFLT"]),
    ("Low voltage and pericarditis are seen; {} is not present.", ["LVOLT", "PERI"]),
    ("Weder {} noch Perikarditis. Vorhofflattern.", ["no PERI", "AFLT"]),
    ("{} liegt nicht vor. Niedervoltage.", ["LVOLT"]),
]


@pytest.mark.parametrize(("frame", "others"), BESIDE_OTHERS)
@pytest.mark.parametrize(("code", "term"), [(code, term) for code, term in ENGLISH.items() if code != "LNGQT"])
def test_no_flips_a_finding_and_none_beside_it(code, term, frame, others):
    others = [other for other in others if other.removeprefix("no ") != code]
    assert set(others) | set(denied(code)) <= set(found(frame.format(term)))
    assert len(found(frame.format(term))) <= len(others) + 2


@pytest.mark.parametrize(
    "frame", ["possible {}", "Cannot rule out {}.", "{} cannot be excluded", "{} is not excluded", "Consider {}"]
)
@pytest.mark.parametrize(("code", "term"), ENGLISH.items())
def test_what_cannot_be_ruled_out_is_possible_and_not_denied(code, term, frame):
    assert found(frame.format(term)) == [f"{code}[possible]"]


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        # Denial reaches a list to its end and no further.
        ("No ST elevation, T wave inversion, or pathological Q waves.", "no STE, no TINV, no QWAVE"),
        ("No LBBB or RBBB. Left axis deviation.", "no CLBBB, no CRBBB, LAX"),
        ("no definite evidence of ischaemia or rhythm disturbance minor qt prolongation", "no ISC, LNGQT"),
        ("No STEMI criteria.", "no MI[acute], no STE"),
        ("T waves are flat but not inverted.", "LOWT, no TINV"),
        ("regular rhythm, no p-wave detected right type", "RAX"),
        ("Atrial fibrillation is no longer present.", "no AFIB"),
        ("Vorhofflimmern ohne ST-Hebung. Kein Hinweis auf Ischämie oder Infarkt.", "AFIB, no STE, no ISC, no MI"),
        ("Voltage criteria for LVH are not met.", "no LVH"),
        ("No pathologic ST changes. No abnormal Q waves.", "no STC, no QWAVE"),
        ("No ischemic ST-T changes.", "no ISC, no STC, no TC"),
        ("No Q waves to suggest old infarction.", "no QWAVE, no MI[old]"),
        ("There are no Q waves, and the R wave progression is poor.", "no QWAVE, PRWP"),
        ("No pacemaker spikes.", "no PACE"),
        ("Atrial fibrillation with absent P waves.", "AFIB"),
        ("LBBB, absent Q waves in V1, LVH unlikely.", "CLBBB, no QWAVE, no LVH"),
        ("It is unlikely that LVH is present.", "no LVH"),
        ("Q waves and ST elevation are absent.", "no QWAVE, no STE"),
        ("Pericarditis was considered but is unlikely.", "no PERI"),
        ("Atrial fibrillation: no. Low voltage: yes.", "no AFIB, LVOLT"),
        ("Sinus rhythm has replaced atrial fibrillation.", "SR, no AFIB"),
        ("Weder ST-Hebung noch ST-Senkung, kein AV-Block II oder III", "no STE, no STD, no 2AVB, no 3AVB"),
        ("Hinweise auf einen Vorderwandinfarkt finden sich nicht.", "no MI[anterior]"),
        ("The ECG is not normal.", "ABN"),
        # What looks like denial.
        ("No doubt about the acute anterior infarct.", "MI[anterior;acute]"),
        ("ST elevation, not present on the previous tracing", "STE"),
        ("ST elevation V2-V3, not diagnostic of infarction", "STE"),
        ("LBBB, therefore ischemia cannot be assessed", "CLBBB"),
        ("Sinus rhythm, no acute changes and a previous inferior infarct", "SR, MI[inferior;old]"),
        ("No significant change since the prior tracing. Sinus rhythm.", "SR"),
        ("Sinus rhythm, not only with PVCs but also with LBBB.", "SR, PVC, CLBBB"),
        ("No other abnormality.", "NORM"),
        ("sinus bradycardia. the cause of the bradycardia is not evident.", "SBRAD"),
        ("patient may be at increased risk of developing complete heart block", ""),
        ("sinusrhythmus, keine r-progression", "SR, PRWP"),
        # Doubt: before, behind, of the age only.
        ("sinus rhythm left hypertrophy possible qrs(t) abnormal", "SR, LVH[possible], ABQRS"),
        ("sinus arrhythmia suspected p-sinistrocardiale left type", "SARRH, LAE[possible], LAX"),
        ("inferiorer infarkt     wahrscheinlich alt", "MI[inferior;old]"),
        ("avvikande qrs(t) förlopp    inferior infarkt bör övervägas", "ABQRS, MI[inferior;possible]"),
        ("PVC(s) or aberrant ventricular conduction", "PVC[possible]"),
        (
            "Atrial fibrillation with premature ventricular or aberrantly conducted complexes",
            "AFIB, PVC[possible]",
        ),
        ("Q waves raising the possibility of an old infarct", "QWAVE, MI[old;possible]"),
        ("NSTEMI cannot be excluded.", "MI[acute;possible]"),
        ("STEMI cannot be excluded.", "MI[acute;possible], STE[possible]"),
        ("Possible LVH, left axis deviation.", "LVH[possible], LAX"),
        ("Poor R wave progression - probable normal variant", "PRWP"),
        ("myocardial ischaemia is likely", "ISC[possible]"),
        # Sites and ages.
        ("Anteroseptal infarct - age undetermined", "MI[anterior,septal;undetermined]"),
        ("Infarct of the inferior wall, old.", "MI[inferior;old]"),
        ("old inferior infarct, recent anterior infarct", "MI[inferior;old], MI[anterior;recent]"),
        ("Inferior and lateral infarct", "MI[lateral,inferior]"),
        ("Ischemia in V5-6.", "ISC[lateral]"),
        ("Anterior STEMI.", "MI[anterior;acute], STE"),
        ("Acute ST-elevation myocardial infarction of the inferior wall.", "MI[inferior;acute], STE"),
        ("Non-ST elevation myocardial infarction, lateral.", "MI[lateral;acute]"),
        ("myocardial infarction of uncertain age cannot be excluded", "MI[undetermined;possible]"),
        (
            "Inferior ST elevation, CONSIDER ACUTE INFARCT. Lateral T wave changes may be due to myocardial ischemia",
            "STE, MI[inferior;acute;possible], TC, ISC[lateral;possible]",
        ),
        (
            "Ant/septal ST-T changes suggest myocardial injury/ischemia",
            "STC, TC, INJ[anterior,septal;possible], ISC[anterior,septal;possible]",
        ),
        ("Tall R V1/V2 probably reflect the infarct", "ABQRS, MI[possible]"),
        # Lists that share a head or a subject.
        ("left anterior and posterior fascicular block", "LAFB, LPFB"),
        ("Left and right atrial enlargement", "LAE, RAE"),
        ("Sinus/ectopic atrial rhythm", "SR, SVARR"),
        ("Premature complexes, atrial and ventricular", "PAC, PVC"),
        ("Biventricular hypertrophy", "LVH, RVH"),
        ("atrial fibrillation/flutter", "AFIB, AFLT"),
        ("st segments are depressed and t waves inverted in v4,5,6", "STD, TINV"),
        ("t waves are low or flat in i and inverted in avl", "LOWT, TINV"),
        ("Non-specific ST and T wave changes", "STC, TC"),
        # The longest name counts; a quality goes to its own subject.
        ("Incomplete right bundle branch block", "IRBBB"),
        ("Sinus bradycardia", "SBRAD"),
        ("Abnormal ECG", "ABN"),
        ("sinus rhythm position type normal normal ecg", "SR, NAX, NORM"),
        ("The ECG shows normal sinus rhythm with normal intervals.", "SR"),
        ("r-s transition zone in v leads displaced to the right", ""),
        ("high lateral infarction", "MI[lateral]"),
        ("RBBB with left anterior fascicular block. Bifascicular block.", "CRBBB, LAFB"),
        ("Bifascicular block.", "IVCD"),
        ("Supraventricular bigeminy", "BIGU, PAC"),
        # Spelling: umlauts in other forms, translations, abbreviations, HTML.
        ("sinusrytm vÄnster el-axel", "SR, LAX"),
        ("ueberdrehter linkstyp unvollstaendiger rechtsschenkelblock", "LAX, IRBBB"),
        ("sinus rhythm of block in layer type normal", "SR, 1AVB, NAX"),
        ("left-sided leg block", "CLBBB"),
        (
            "st &amp; t abnormal, probably anterior ischemia or left strain",
            "STC, TC, ISC[anterior;possible], LVH[possible]",
        ),
        ("intraventr. leitungsstörung path. ekg", "IVCD, ABN"),
        ("Edit: NORM 100, schlechte Qualität V2", "NORM, QUAL"),
        ("LAE, RAE, PRWP, NSSTTW, 1st deg AVB", "LAE, RAE, PRWP, STC, TC, 1AVB"),
        ("periphere Niedervoltage, keine Endstreckenveränderungen", "LVOLT, no STC, no TC"),
        # What models and other authors write.
        ("AF w/ RVR.", "AFIB, TACH"),
        ("Paced ventricular rhythm.", "PACE"),
        ("Multifocal atrial tachycardia.", "SVTAC"),
        ("Low amplitude T waves.", "LOWT"),
        ("Third-degree AV block. Mobitz type II block. Wenckebach.", "3AVB, 2AVB"),
        ("A-fib with controlled rate. Torsades de pointes.", "AFIB, VT"),
        ("QTc prolonged at 480 ms. PR interval is normal.", "LNGQT"),
        ("LVH with strain pattern. Prior MI.", "LVH, MI[old]"),
        ("Prolonged PR interval 210 ms (1st degree AV block)", "1AVB"),
        ("The patient has no chest pain. Sinus rhythm.", "SR"),
        ("trace only requested.", ""),
        ("", ""),
    ],
)
def test_a_report_is_read_as_a_cardiologist_would(text, findings):
    assert found(text) == [part for part in findings.split(", ") if part]


def test_a_certain_finding_replaces_the_same_possible_one_only_at_the_same_site():
    assert found("Possible LVH. LVH. Possible inferior infarct. Anterior infarct.") == [
        "LVH",
        "MI[inferior;possible]",
        "MI[anterior]",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Rythme sinusal normal. Bloc de branche droit complet. Pas de signe d'ischémie.",
        "Rythme sinusal, tracé sans particularité",
        "Bloc de branche gauche",
        "Ritmo sinusal normal, sin alteraciones de la repolarización",
        "Ritmo sinusal normal",
        "Hartritme normaal",
        "Fibrilacja przedsionków z szybką czynnością komór",
        "窦性心律 正常心电图",
        "Синусовый ритм",
        "asdf qwer zxcv uiop",
    ],
)
def test_another_language_is_refused_unless_a_language_is_named(text):
    assert report_language(text) is None
    with pytest.raises(UnknownLanguageError, match="en, de, sv"):
        find_findings(text)
    assert isinstance(find_findings(text, "en"), list)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("sr", "en"),
        ("afib", "en"),
        ("lvh", "en"),
        ("", "en"),
        ("80/min", "en"),
        ("The tracing could not be interpreted by our team.", "en"),
        ("sinusrhythmus linkstyp sonst normales ekg", "de"),
        ("sinusrytm vÄnster el-axel eljest normalt ekg", "sv"),
    ],
)
def test_the_language_is_found_in_few_words(text, language):
    assert report_language(text) == language


def test_a_draft_without_a_finding_has_none():
    assert find_findings("Please repeat the recording when the patient is at rest.") == []


def test_what_is_no_text_or_no_language_is_refused():
    with pytest.raises(ValueError, match="NoneType"):
        find_findings(None)
    with pytest.raises(ValueError, match="'fr'.*en, de, sv"):
        find_findings("sinus rhythm", "fr")


@pytest.mark.parametrize(
    "part",
    [
        "no ",
        "left ",
        "left and ",
        "v1,2,3 ",
        "v1 - ",
        "t wave st ",
        "q ",
        "no infarct, ",
        "infarct old anterior, ",
        "sinusvorhof",
        "a",
        "&amp;",
    ],
)
def test_a_long_text_takes_time_in_proportion(part):
    text = part * (100_000 // len(part))
    start = time.process_time()  # of this process: other work on the machine counts nothing
    find_findings(text, "en")
    # It takes half a second; where the time grows with the square of the length, minutes.
    assert time.process_time() - start < 20


@pytest.mark.parametrize("code", sorted(FINDING_CLASSES))
def test_the_order_of_sentences_changes_nothing(code):
    other = "Atrial flutter" if code == "SR" else "Sinus rhythm"
    term = ENGLISH[code]
    assert set(found(f"{term}. {other}.")) == set(found(f"{other}. {term}."))


def test_findings_are_of_the_known_classes_with_their_sites():
    (infarct,) = find_findings("possible anteroseptal infarct, probably old")
    assert infarct == Finding("MI", ("anterior", "septal"), "old", "possible")
