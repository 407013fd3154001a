import csv
import random
import time

import pytest

from dataset_builder.errors import RecordError
from dataset_builder.mimic_statements import STATEMENT_COLUMNS, join_statements, quality_notes


def test_columns():
    assert (len(STATEMENT_COLUMNS), STATEMENT_COLUMNS[0], STATEMENT_COLUMNS[-1]) == (18, "report_0", "report_17")


def test_statements_become_sentences_in_their_order():
    statements = ["Sinus rhythm", "", "Left axis deviation.", "Possible lateral infarct?", "Abnormal ECG", ""]
    assert join_statements(statements) == ("Sinus rhythm. Left axis deviation. Possible lateral infarct? Abnormal ECG.")
    assert quality_notes(statements) == []


def test_repeated_statements_come_once():
    statements = ["Sinus rhythm", "SINUS RHYTHM.", "Abnormal ECG", "Summary: ABNORMAL ECG"]
    assert join_statements(statements) == "Sinus rhythm. Abnormal ECG."


def test_a_statement_that_goes_on_with_the_one_before():
    assert join_statements(["Sinus rhythm", "with 1st degree A-V block", "Normal axis"]) == (
        "Sinus rhythm with 1st degree A-V block. Normal axis."
    )


@pytest.mark.parametrize(
    "statement",
    [
        "", " ", "***", "-", "nan",
        "*** report made without knowing patient's sex ***",
        "*** Report made without knowing patient's sex or age ***",
        "age not entered, assumed to be  50 years old for purpose of ecg interpretation",
        "Age and gender specific ECG analysis",
        "--- Pediatric criteria used ---",
        "-------------------- Pediatric ECG interpretation --------------------",
        "Unconfirmed", "*** Unconfirmed Analysis ***", "Not confirmed", "Preliminary report",
        "Confirmed by SMITH MD, JANE (123) on 1/2/2130 10:20:00 AM", "Electronically signed by X",
        "Reviewed by: Dr X", "Referred by: UNKNOWN", "Technician: 123", "Location: ED", "Review advised",
        "No previous ECG available", "No previous tracing for comparison",
        "Compared with ECG of 12-JAN-2130, no significant change", "When compared with ECG of 12-JAN-2130 10:20,",
        "Since previous tracing, no significant change", "No significant change was found",
        "Vent. rate has increased BY 33 BPM", "Premature ventricular complexes are no longer Present",
        "When compared to prior", "Minor changes compared to prior", "PVCs resolved since prior tracing",
        "Rate has decreased since", "Unconfirmed report", "Unconfirmed diagnosis", "Unconfirmed ECG",
        "Not confirmed by physician",
        "Clinical correlation suggested", "This is a computer generated interpretation", "12-lead ECG",
    ],
)  # fmt: skip
def test_what_says_nothing_of_this_ecg(statement):
    assert join_statements([statement]) == ""
    assert quality_notes([statement]) == []
    assert join_statements(["Sinus rhythm", statement, "Normal ECG"]) == "Sinus rhythm. Normal ECG."


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("*** CONSIDER ACUTE ST ELEVATION MI ***", "Consider acute ST elevation MI."),
        ("*** LATERAL INFARCT - POSSIBLY ACUTE ***", "Lateral infarct - possibly acute."),
        ("** ** ** ** * ACUTE MI / STEMI * ** ** ** **", "Acute MI / STEMI."),
        ("--- Suggests dextrocardia ---", "Suggests dextrocardia."),
        ("Summary: OTHERWISE NORMAL ECG", "Otherwise normal ECG."),
        ("Interpretation: Sinus rhythm", "Sinus rhythm."),
        ("3:1 A-V BLOCK", "3:1 A-V block."),
        ("NORMAL SINUS RHYTHM WITH 1ST DEGREE AV BLOCK", "Normal sinus rhythm with 1st degree AV block."),
        ("ST ELEVATION IN II, III AND AVF, CONSIDER INFARCT", "ST elevation in II, III and aVF, consider infarct."),
        ("FREQUENT PVC(S), PACS AND PROLONGED QTC IN V1-V6", "Frequent PVC(s), PACs and prolonged QTc in V1-V6."),
        ("LVH, RBBB AND LBBB, WIDE QRS", "LVH, RBBB and LBBB, wide QRS."),
        ("WOLFF-PARKINSON-WHITE PATTERN, TYPE A", "Wolff-Parkinson-White pattern, type A."),
        ("MOBITZ I (WENCKEBACH) 2ND DEGREE BLOCK", "Mobitz I (Wenckebach) 2nd degree block."),
        ("Extensive ST elevation, CONSIDER ACUTE INFARCT", "Extensive ST elevation, consider acute infarct."),
        ("Nonspecific ST And T Wave Abnormality", "Nonspecific ST and T wave abnormality."),
        ("T wave abnormality, consider Anterior ischemia", "T wave abnormality, consider anterior ischemia."),
        ("Mobitz I with LAFB and IVCD", "Mobitz I with LAFB and IVCD."),
        ("rSr'(V1) - probable normal variant", "rSr'(V1) - probable normal variant."),
        ("aVL with tall R", "aVL with tall R."),
        (" Sinus\u00a0 rhythm ,, with PVC(s) . .\t", "Sinus rhythm, with PVC(s)."),
        ("\ufeffST &amp; T abnormality", "ST & T abnormality."),
        ("LVH \u2013 patient\u2019s voltage", "LVH - patient's voltage."),
        ("Uncertain rhythm: review", "Uncertain rhythm."),
        ("Sinus rhythm, confirmed by Dr X", "Sinus rhythm."),
        ("Sinus rhythm (unconfirmed)", "Sinus rhythm."),
        ("Sinus rhythm, no significant change since previous tracing", "Sinus rhythm."),
        ("Atrial fibrillation has replaced Sinus rhythm", "Atrial fibrillation."),
        ("New left bundle branch block since prior", "New left bundle branch block."),
        (
            "T wave changes consistent with ischemia since last tracing",
            "T wave changes consistent with ischemia.",
        ),
        ("Acute MI compared to prior", "Acute MI."),
        ("Acute MI as compared with previous ECG", "Acute MI."),
        ("Compared with ECG of 01-JAN-2150, atrial fibrillation", "Atrial fibrillation."),
        ("Unconfirmed: possible MI", "Possible MI."),
        ("This patient has AF, automatic interpretation", "This patient has AF."),
        ("Clinical correlation suggested: possible MI", "Possible MI."),
        ("T wave inversion now evident in Lateral leads", "T wave inversion evident in lateral leads."),
    ],
)
def test_clean_sentences(statement, sentence):
    assert join_statements([statement]) == sentence
    assert quality_notes([statement]) == []


@pytest.mark.parametrize(
    "statement",
    [
        # Each looks like a rule's remark and is a finding.
        "Previous anterior infarct", "Anterior infarct, old", "Anterior infarct, age unknown",
        "Inferior infarct, age not determined", "Reverse R wave progression in V1-V3", "No acute ST changes",
        "Low QRS voltages in limb leads", "Q waves in inferior leads", "Normal ECG except for rate",
        "Age undetermined infarct", "Unconfirmed inferior infarct", "Demand pacing",
        "Lateral ST-T changes are nonspecific",
        "Left axis deviation. Left anterior fascicular block", "QRS changes V3/V4 - probably due to LVH",
    ],
)  # fmt: skip
def test_findings_stay(statement):
    assert join_statements([statement]) == f"{statement}."
    assert quality_notes([statement]) == []


@pytest.mark.parametrize(
    ("statement", "note"),
    [
        ("--- Warning: Data quality may affect interpretation ---", "Data quality may affect interpretation"),
        ("Poor data quality, interpretation may be adversely affected", None),
        ("Lead(s) unsuitable for analysis: III aVL", None),
        ("LEAD(S) UNSUITABLE FOR ANALYSIS: V2, V3", "Lead(s) unsuitable for analysis: V2, V3"),
        ("--- Suspect arm lead reversal - only aVF, V1-V6 analyzed ---", None),
        ("--- Possible limb lead reversal - hence only V1-V6 analyzed ---", None),
        ("Right and left arm electrode reversal, interpretation assumes no reversal", None),
        ("--- Recording unsuitable for analysis - please repeat ---", None),
        ("--- Technically unsatisfactory tracing ---", None),
        ("All 12 leads are missing", None),
        ("Possible faulty V2 - omitted from analysis", None),
        ("Possible sequence error: V1,V2 omitted", None),
        ("V1/V2 are at least one interspace too high and have been omitted from the analysis", None),
        ("Baseline wander in lead(s) II, III", None),
        ("Muscle tremor artifact", None),
        ("--- Possible measurement error ---", None),
        ("Analysis error", None),
        ("Right or left arm electrode reversal", None),
        ("Tremor or artifact", None),
    ],
)  # fmt: skip
def test_notes_on_quality(statement, note):
    assert quality_notes(["Sinus rhythm", statement, "", statement]) == [note or statement.strip("- ")]
    assert join_statements([statement]) == ""


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("Pacemaker rhythm - no further analysis", "Pacemaker rhythm."),
        ("Normal ECG based on available leads", "Normal ECG."),
        ("Borderline ECG (based on available leads)", "Borderline ECG."),
        ("Wide QRS tachycardia, no further rhythm analysis attempted", "Wide QRS tachycardia."),
        ("Poor R wave progression - consider lead placement", "Poor R wave progression."),
        ("Sinus rhythm with baseline wander", "Sinus rhythm."),
        ("Sinus rhythm with muscle and motion artifact", "Sinus rhythm."),
        ("Sinus rhythm with PVCs and artifact", "Sinus rhythm with PVCs."),
        ("Sinus rhythm with PVCs with noise", "Sinus rhythm with PVCs."),
        ("Sinus rhythm with artifact and PVCs", "Sinus rhythm and PVCs."),
        (
            "Sinus rhythm with first degree AV block and baseline wander",
            "Sinus rhythm with first degree AV block.",
        ),
        (
            "Atrial fibrillation with rapid ventricular response and baseline artifact",
            "Atrial fibrillation with rapid ventricular response.",
        ),
        ("Dextrocardia or limb lead reversal", "Dextrocardia or limb lead reversal."),
        ("Limb lead reversal or dextrocardia", "Limb lead reversal or dextrocardia."),
        ("PVCs or artifact", "PVCs or artifact."),
    ],
)
def test_a_note_that_carries_a_finding(statement, sentence):
    assert join_statements([statement]) == sentence
    assert quality_notes([statement]) == [statement]


def test_a_statement_longer_than_any_is_refused():
    for read in (join_statements, quality_notes):
        with pytest.raises(RecordError) as caught:
            read(["Sinus rhythm", "x" * 1001])
        assert caught.value.reason == "statement too long"


def test_any_text_takes_little_time():
    parts = [
        "(",
        "*",
        "- ",
        " - ",
        "V1 ",
        "I,",
        "lead ",
        "no ",
        "has ",
        "with ",
        "ST ",
        "A",
        "a",
        ", ",
        "&amp;",
        "\u200b",
        "'",
    ]
    draw = random.Random(0)
    begin = time.perf_counter()
    for part in [*parts, *("".join(draw.choices(parts, k=50)) for _ in range(100))]:
        statement = (part * 1000)[:1000]
        join_statements([statement])
        quality_notes([statement])
    assert time.perf_counter() - begin < 5


def test_real_statements(mimic_iv_ecg):
    with open(mimic_iv_ecg / "machine_measurements.csv", encoding="utf-8", newline="") as file:
        records = [[row[column] for column in STATEMENT_COLUMNS] for row in csv.DictReader(file)]
    for statements in records:
        report, notes = join_statements(statements), quality_notes(statements)
        assert report
        assert not any(part in report for part in ("*", "--", "..", "  ", "Summary", "analyzed", "unsuitable"))
        # Nothing but remarks is lost: each statement is in the report or in the notes, letter by letter.
        for statement in filter(None, statements):
            words = statement.removeprefix("Summary: ").removeprefix("--- Warning: ").strip("*-. ").casefold()
            assert words in report.casefold() or words in map(str.casefold, notes) or "without knowing" in words
    # Counted in the table by hand (grep): so many records bear a note of each kind.
    all_notes = [note for statements in records for note in quality_notes(statements)]
    assert sum(note == "Data quality may affect interpretation" for note in all_notes) == 4
    assert sum(note.startswith("Lead(s) unsuitable for analysis: ") for note in all_notes) == 5
    assert all_notes.count("Pacemaker rhythm - no further analysis") == 4
    assert all_notes.count("Normal ECG based on available leads") == 2
    assert all_notes.count("Suspect arm lead reversal - only aVF, V1-V6 analyzed") == 1
    assert len(all_notes) == 16


def test_speed(mimic_iv_ecg):
    with open(mimic_iv_ecg / "machine_measurements.csv", encoding="utf-8", newline="") as file:
        records = [[row[column] for column in STATEMENT_COLUMNS] for row in csv.DictReader(file)]
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        for statements in records:
            join_statements(statements)
        times.append((time.perf_counter() - begin) / len(records))
    assert min(times) < 30e-6  # measured: 3 microseconds
