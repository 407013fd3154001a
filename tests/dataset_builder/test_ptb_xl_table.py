import pytest

from dataset_builder.errors import DatasetBuildError, RecordError
from dataset_builder.ptb_xl_table import parse_entry, parse_scp_codes, read_database, read_reports, relative_path


def strings(line: dict) -> dict[str, str]:
    return {name: str(value) for name, value in line.items()}


@pytest.mark.parametrize(
    "path",
    [
        "", " ", "/etc/passwd", "../secret", "records500/../../secret", "C:\\secret", "c:secret", "\\\\host\\share\\x",
        "records500\\..\\..\\secret", "records500/0\x00", "records500/a\nb",
    ],
)  # fmt: skip
def test_paths_out_of_the_folder_are_refused(path):
    with pytest.raises(RecordError) as caught:
        relative_path(path)
    assert caught.value.reason == "path leaves the folder"


@pytest.mark.parametrize(
    "path", ["records500/00000/00001_hr", "records500\\00000\\00001_hr", " records500/00000/00001_hr "]
)
def test_windows_separators_are_understood(path):
    assert relative_path(path) == "records500/00000/00001_hr"


def test_scp_codes():
    codes = parse_scp_codes("{'NORM': 100.0, 'SR': 0.0, 'LVOLT': 15}")
    assert codes == [
        {"code": "NORM", "likelihood": 100.0},
        {"code": "SR", "likelihood": 0.0},
        {"code": "LVOLT", "likelihood": 15.0},
    ]


@pytest.mark.parametrize(
    "text",
    [
        "", "nan", "['NORM']", "{'NORM': 'x'}", "{'NORM': 101}", "{'NORM': -1}", "{1: 2}", "{'NORM': True}",
        "{'NORM': 1e999}", "__import__('os').getcwd()", "{'NORM': 100", "(" * 5000, "{'A': 1, " * 5000,
    ],
)  # fmt: skip
def test_unreadable_scp_codes(text):
    with pytest.raises(RecordError) as caught:
        parse_scp_codes(text)
    assert caught.value.reason == "unreadable scp_codes"


@pytest.mark.parametrize(
    ("fold", "split"),
    [("1", "train"), ("8", "train"), ("8.0", "train"), ("9", "validation"), ("10", "test")],
)
def test_splits_are_the_folds(fold, split, entry):
    assert parse_entry(strings(entry(1, strat_fold=fold)), None)[0] == split


@pytest.mark.parametrize("fold", ["0", "11", "", "-1", "1.5", "x"])
def test_another_fold_is_refused(fold, entry):
    with pytest.raises(RecordError) as caught:
        parse_entry(strings(entry(1, strat_fold=fold)), None)
    assert caught.value.reason == "no fold"


@pytest.mark.parametrize(("name", "value"), [("ecg_id", "x"), ("patient_id", ""), ("patient_id", "1.5")])
def test_a_line_without_ids_is_refused(name, value, entry):
    with pytest.raises(RecordError) as caught:
        parse_entry(strings(entry(1, **{name: value})), None)
    assert caught.value.reason == "no id"


def test_values_of_a_line(entry):
    split, row = parse_entry(strings(entry(7)), None)
    assert (split, row) == (
        "train",
        {
            "id": "7",
            "corpus": "ptb-xl",
            "patient_id": "1007",
            "age": 56.0,
            "sex": "female",
            "report": "sinusrhythmus normales ekg",
            "report_language": "de",
            "report_source": "corpus",
            "scp_codes": [{"code": "NORM", "likelihood": 80.0}, {"code": "SR", "likelihood": 0.0}],
            "validated_by_human": True,
            "filename": "records500/00000/00007_hr",
            "split": "train",
        },
    )


def test_unknown_values_are_none_and_300_stays(entry):
    unknown = parse_entry(strings(entry(1, age="", sex="", validated_by_human="")), None)[1]
    assert (unknown["age"], unknown["sex"], unknown["validated_by_human"]) == (None, None, None)
    older_than_89 = parse_entry(strings(entry(1, age="300.0", sex="0", validated_by_human="False")), None)[1]
    assert (older_than_89["age"], older_than_89["sex"], older_than_89["validated_by_human"]) == (300.0, "male", False)


def test_reports_are_joined_by_id(entry):
    reports = {"2": "sinus rhythm normal ecg", "1": "qrs 90 ms", "3": ". ", "4": "trace only requested."}
    first, second = (parse_entry(strings(entry(number)), reports)[1] for number in (1, 2))
    assert (first["report"], first["report_source"], first["report_language"]) == ("qrs 90 ms", "translation_csv", "en")
    assert second["report"] == "sinus rhythm normal ecg"
    for number, reason in ((3, "empty report"), (4, "trace only requested")):
        with pytest.raises(RecordError) as caught:
            parse_entry(strings(entry(number)), reports)
        assert caught.value.reason == reason
    not_translated = parse_entry(strings(entry(5)), reports)[1]
    assert (not_translated["report_source"], not_translated["report_language"]) == ("corpus", "de")


def test_table_with_a_byte_order_mark_and_quotes(tmp_path, entry, write_table):
    write_table(tmp_path, [entry(1, report='he said "sinus",\nand left')])
    table = tmp_path / "ptbxl_database.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    (line,) = read_database(tmp_path)
    assert (line["ecg_id"], line["report"]) == ("1", 'he said "sinus",\nand left')


def test_what_is_no_ptb_xl_folder(tmp_path):
    with pytest.raises(DatasetBuildError, match="nowhere: no such folder"):
        read_database(tmp_path / "nowhere")
    with pytest.raises(DatasetBuildError, match=r"holds no ptbxl_database\.csv"):
        read_database(tmp_path)
    (tmp_path / "ptbxl_database.csv").write_text("ecg_id,report\n1,x\n")
    with pytest.raises(DatasetBuildError, match=r"ptbxl_database\.csv: the column\(s\) patient_id"):
        read_database(tmp_path)
    (tmp_path / "ptbxl_database.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetBuildError, match="UTF-8"):
        read_database(tmp_path)


def test_bad_report_tables(tmp_path, write_table):
    columns = ["ecg_id", "report_en"]
    with pytest.raises(DatasetBuildError, match=r"none\.csv"):
        read_reports(tmp_path / "none.csv")
    write_table(tmp_path, [{"ecg_id": 1, "report_en": "a"}, {"ecg_id": "1.0", "report_en": "b"}], "two.csv", columns)
    with pytest.raises(DatasetBuildError, match="two different reports for ecg_id 1"):
        read_reports(tmp_path / "two.csv")
    write_table(tmp_path, [{"ecg_id": "x", "report_en": "a"}], "no_id.csv", columns)
    with pytest.raises(DatasetBuildError, match="ecg_id 'x'"):
        read_reports(tmp_path / "no_id.csv")
    write_table(tmp_path, [{"ecg_id": "1.0", "report_en": "a"}, {"ecg_id": 1, "report_en": "a"}], "same.csv", columns)
    assert read_reports(tmp_path / "same.csv") == {"1": "a"}
