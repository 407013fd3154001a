import csv

import pytest

from dataset_builder.report_text import foreign_words, is_empty_report, is_trace_only, report_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("sinus rhythm normal ecg", "en"),
        ("sinus rhythm. st segments are depressed in i, v4,5,6. possible ischaemia.", "en"),
        ("Normal dual chamber pacing, rate 62.", "en"),
        ("ATRIAL FLUTTER WITH RAPID VENTRICULAR RESPONSE", "en"),
        ("sinusrhythmus linkstyp qrs(t) abnormal    inferiorer infarkt     alter unbest.", "de"),
        ("vorhofflimmern/-flattern ueberdrehter linkstyp lahb", "de"),
        ("Kammereigenrhythmus, Verlängerung der QT-Zeit", "de"),
        ("sinusrytm vÄnster el-axel avvikande qrs(t) fÖrlopp    inferior infarkt bÖr ÖvervÄgas", "sv"),
        ("sinusrytm normalt ekg", "sv"),
        ("förmaksflimmer med hög kammarfrekvens, ospecifika st-förändringar lateralt", "sv"),
        # Half-translated: the larger part decides.
        ("sinus rhythm left axis deviation, linkshypertrophie", "en"),
        ("sinusrhythmus linkstyp t abnormal, probably inferiorer myokardschaden", "de"),
        ("qrs 90 ms", None),
        ("lateral infarkt, ekg", None),
        ("", None),
    ],
)
def test_language(text, language):
    assert report_language(text) == language


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # Translations of PTB-XL (CC BY 4.0) with words left over.
        ("sinusrhythmus qrs(t) abnormal", ["sinusrhythmus"]),
        ("sinus rhythm lagetyp normal q in iii, avf", ["lagetyp"]),
        ("sinus rhythm ueberdrehter linkstyp", ["ueberdrehter", "linkstyp"]),
        ("qrs(t) abnormal inferior infarction probable alt t abnormal", ["alt"]),
        ("sinus rhythm moderate amplitude criteria f#r left hypertrophy", ["f#r"]),
        ("sinus tachycardia ospecifik t-fÖrÄndring", ["ospecifik", "förändring"]),
        ("normal ecg. Edit: NORM 100, schlechte Qualität V2", ["schlechte", "qualität"]),
        # Of our own writing: compounds and endings that no list holds.
        ("Sinus rhythm, Rechtsschenkelblock.", ["rechtsschenkelblock"]),
        ("Sinus rhythm with Kammerflattern, septaler infarct", ["kammerflattern", "septaler"]),
        ("Left axis deviation, Repolarisationsstörung", ["repolarisationsstörung"]),
        ("Left axis deviation, sinusbradykardi, skänkelblock", ["sinusbradykardi", "skänkelblock"]),
        ("left axis deviation, misstÄnkt infarkt", ["misstänkt", "infarkt"]),
        ("left axis mo\u0308glich", ["möglich"]),
    ],
)
def test_words_left_of_another_language(text, words):
    assert foreign_words(text) == words


@pytest.mark.parametrize(
    "text",
    [
        "",
        "qrs 90 ms",
        "Sinus rhythm. Normal EKG.",
        "Summary: sinus bradycardia with 1st degree A-V block, LVH with secondary repolarization abnormality",
        # Latin and abbreviations are no German.
        "sinus rhythm p-sinistrocardiale llt bigeminus, av block i, partial rsb, neg. t in iii, pathological ecg",
        "P mitrale, cor pulmonale, situs inversus, status post PCI, Wolff-Parkinson-White syndrome",
        "poor r wave progression: age undetermined infarct, ischaemia, or a normal variant; digitalis may alter ST",
        "rising ST segments, peripheral low voltage, young patient, prestige, strung out, tankard",
    ],
)
def test_english_has_none(text):
    assert foreign_words(text) == []


def test_real_translations(ptb_xl):
    """English text is found to be English, German and Swedish originals are found not to be."""
    with open(ptb_xl / "ptbxl_reports_en.csv", encoding="utf-8-sig", newline="") as file:
        translations = [row["report_en"] for row in csv.DictReader(file)]
    left = [text for text in translations if foreign_words(text)]
    # The data's own description says "about 1 % still hold German".
    assert 0.005 < len(left) / len(translations) < 0.03
    assert all(foreign_words(text) for text in translations if "sinusrhythmus" in text.lower())

    with open(ptb_xl / "ptbxl_database.csv", encoding="utf-8-sig", newline="") as file:
        originals = [row["report"] for row in csv.DictReader(file)]
    for text in originals:
        # The corpus' three ways to begin a report say its language.
        beginning = text.lower().split(" ")[0]
        expected = {"sinusrhythmus": "de", "sinusbradykardie": "de", "sinusrytm": "sv", "sinusbradykardi": "sv"}
        if beginning in expected:
            assert report_language(text) == expected[beginning], text
            assert foreign_words(text), text
        elif text.startswith("sinus rhythm. "):
            assert report_language(text.partition("Edit:")[0]) == "en", text


@pytest.mark.parametrize("text", ["", " ", "\n", "4.46", " -- ... 12 _"])
def test_without_a_letter_it_is_empty(text):
    assert is_empty_report(text)


@pytest.mark.parametrize("text", ["sr", "Ö"])
def test_with_a_letter_it_is_not(text):
    assert not is_empty_report(text)


@pytest.mark.parametrize(
    "text",
    [
        "trace only requested.",
        " Trace only requested",
        "trace only requested. Edit: IMI 50",
        "trace only.",
        "Trace only",
        "ECG.",
        "EKG Edit: NORM 100, (NORM 100)",
        "4.46 unconfirmed report",
        "Unconfirmed",
        "unbestÄtigter bericht",
        "Kein Befund.",
        "No findings.",
        "no report available",
        "Inget utlÅtande",
    ],
)
def test_trace_only(text):
    assert is_trace_only(text)


@pytest.mark.parametrize(
    "text",
    [
        "sinus rhythm. trace only requested",
        "trace only requestedly",
        "trace only of sinus rhythm",
        "pacemaker ecg",
        "sinusrhythmus ob",
        "o. B.",
        "normal ecg 4.46 unconfirmed report",
        "Unconfirmed report of infarction",
        "kein befund eines infarkts",
        "Edited",
    ],
)
def test_not_trace_only(text):
    assert not is_trace_only(text)
