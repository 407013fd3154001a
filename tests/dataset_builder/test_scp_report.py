import pytest

from dataset_builder.csv_table import iterate_csv
from dataset_builder.errors import DatasetBuildError, RecordError
from dataset_builder.ptb_xl_table import parse_scp_codes
from dataset_builder.report_text import foreign_words, report_language
from dataset_builder.scp_report import ScpStatement, read_scp_statements, render_scp_report

HEADER = ",description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass,Statement Category\n"
TABLE = HEADER + (
    "NORM,normal ECG,1.0,,,NORM,NORM,Normal/abnormal\n"
    "IMI,inferior myocardial infarction,1.0,,,MI,IMI,Myocardial Infarction\n"
    "LVH,left ventricular hypertrophy,1.0,,,HYP,LVH,Ventricular Hypertrophy\n"
    "1AVB,first degree AV block,1.0,,,CD,_AVB,conduction defects\n"
    "NDT,non-diagnostic T abnormalities,1.0,1.0,,STTC,STTC,ST-T\n"
    "ISC_,non-specific ischemic,1.0,,,STTC,ISC_,ST-T\n"
    "ISCAL,ischemic in anterolateral leads,1.0,,,STTC,ISCA,ST-T\n"
    "EL,electrolytic disturbance or drug (former EDIS),1.0,,,STTC,STTC,ST-T\n"
    "WPW,Wolf-Parkinson-White syndrome,1.0,,,CD,WPW,conduction\n"
    "ABQRS,abnormal QRS,,1.0,,,,Normal/abnormal\n"
    "PVC,ventricular premature complex,,1.0,,,,Statements related to ectopic rhythm abnormalities\n"
    "INVT,inverted T-waves,,1.0,,,,ST-T\n"
    "QWAVE,Q waves present,,1.0,,,,QRS\n"
    "SR,sinus rhythm,,,1.0,,,impulse formation\n"
    'BIGU,"bigeminal pattern (unknown origin, SV or Ventricular)",,,1.0,,,Statements related to ectopic rhythm\n'
)


@pytest.fixture
def statements(tmp_path):
    path = tmp_path / "scp_statements.csv"
    path.write_text(TABLE, encoding="utf-8")
    return read_scp_statements(path)


def render(statements, **codes):
    return render_scp_report(
        [{"code": code.replace("_1", "1"), "likelihood": float(value)} for code, value in codes.items()], statements
    )


def test_order_from_rhythm_to_normal(statements):
    report = render(statements, NORM=100, INVT=0, ABQRS=0, NDT=100, IMI=100, LVH=100, _1AVB=100, PVC=0, SR=0)
    assert report == (
        "Sinus rhythm. Ventricular premature complex. First degree AV block. Left ventricular hypertrophy. "
        "Inferior myocardial infarction. Non-diagnostic T abnormalities. Inverted T-waves. Abnormal QRS. "
        "Otherwise normal ECG."
    )


@pytest.mark.parametrize(
    ("likelihood", "infarction", "normal"),
    [
        (0, "Inferior myocardial infarction.", "Normal ECG."),
        (15, "Inferior myocardial infarction cannot be excluded.", "Possibly normal ECG."),
        (35, "Inferior myocardial infarction cannot be excluded.", "Possibly normal ECG."),
        (50, "Possible inferior myocardial infarction.", "Possibly normal ECG."),
        (80, "Probable inferior myocardial infarction.", "Probably normal ECG."),
        (100, "Inferior myocardial infarction.", "Normal ECG."),
    ],
)
def test_likelihoods_become_words(statements, likelihood, infarction, normal):
    assert render(statements, IMI=likelihood) == infarction
    assert render(statements, SR=0, NORM=likelihood) == f"Sinus rhythm. {normal}"


def test_the_more_likely_of_a_kind_comes_first(statements):
    assert render(statements, NDT=50, ISCAL=100) == (
        "Ischemic ST-T changes in anterolateral leads. Possible non-diagnostic T abnormalities."
    )


def test_descriptions_that_are_no_phrases(statements):
    assert render(statements, BIGU=0, WPW=100, ISC_=50, EL=50, QWAVE=0) == (
        "Bigeminal pattern of unknown origin. Wolff-Parkinson-White syndrome. "
        "Possible non-specific ischemic ST-T changes. "
        "Possible ST-T changes compatible with electrolyte disturbance or drug. Q waves."
    )


def test_no_codes_no_report(statements):
    assert render_scp_report([], statements) == ""


def test_an_unknown_code_is_refused(statements):
    with pytest.raises(RecordError, match="XYZ") as caught:
        render(statements, SR=0, XYZ=100)
    assert caught.value.reason == "unknown SCP statement"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("code,description\nNORM,normal ECG\n", r"the column\(s\) "),
        (HEADER + "NORM,,1.0,,,NORM,NORM,x\n", "code 'NORM' has the description ''"),
        (HEADER + ",normal ECG,1.0,,,NORM,NORM,x\n", "code '' has the description 'normal ECG'"),
        (HEADER + "SR,sinus rhythm,,,1.0,,,x\nSR,sinus rhythm,,,1.0,,,x\n", "two lines for the code SR"),
        (HEADER + "SR,sinus rhythm,,,yes,,,x\n", "code SR: .*'rhythm': 'yes'.*; expected 1.0 or nothing"),
        (HEADER + "IMI,infarction,1.0,,,HEART,,x\n", "code IMI: .*'HEART'"),
    ],
)
def test_bad_tables(tmp_path, table, message):
    path = tmp_path / "scp_statements.csv"
    path.write_text(table, encoding="utf-8")
    with pytest.raises(DatasetBuildError, match=message):
        read_scp_statements(path)


def test_a_missing_table(tmp_path):
    with pytest.raises(DatasetBuildError, match=r"none\.csv"):
        read_scp_statements(tmp_path / "none.csv")


def test_real_recordings(ptb_xl):
    statements = read_scp_statements(ptb_xl / "scp_statements.csv")
    assert len(statements) == 71  # as the corpus says of itself
    assert statements["IMI"] == ScpStatement("inferior myocardial infarction", "MI")
    assert statements["1AVB"] == ScpStatement("first degree AV block", "CD")
    reports = {}
    for entry in iterate_csv(ptb_xl / "ptbxl_database.csv", ("ecg_id", "scp_codes")):
        codes = parse_scp_codes(entry["scp_codes"])
        report = render_scp_report(codes, statements)
        assert report.count(".") == len(codes)  # a sentence for each
        assert report_language(report) == "en" or report in ("Normal ECG.", "Non-diagnostic T abnormalities.")
        assert foreign_words(report) == []
        reports[entry["ecg_id"]] = report
    # {'NORM': 100.0, 'LVOLT': 0.0, 'SR': 0.0} and {'NORM': 80.0, 'SBRAD': 0.0}, read by hand in the table.
    assert reports["1"] == ("Sinus rhythm. Low QRS voltages in the frontal and horizontal leads. Otherwise normal ECG.")
    assert reports["2"] == "Sinus bradycardia. Otherwise probably normal ECG."
