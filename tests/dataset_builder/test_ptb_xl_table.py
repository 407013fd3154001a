from datetime import datetime

import pytest

from dataset_builder.errors import DatasetBuildError, RecordError
from dataset_builder.ptb_xl_table import (
    OPTIONAL_COLUMNS,
    parse_columns,
    parse_ids,
    parse_scp_codes,
    read_reports,
    split_of,
)


def strings(line: dict) -> dict[str, str]:
    """A line as a table gives it, optional columns included."""
    return dict.fromkeys(OPTIONAL_COLUMNS, "") | {name: str(value) for name, value in line.items()}


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
        "{'NORM': 1e999}", r"{'\ud800': 1}", r"{'\0': 1}", "__import__('os').getcwd()", "{'NORM': 100", "(" * 5000,
        "{'A': 1, " * 5000,
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
    line = strings(entry(1, strat_fold=fold))
    assert split_of(line) == split
    assert parse_ids(line) == ("1", "1001", split)


@pytest.mark.parametrize("fold", ["0", "11", "", "-1", "1.5", "x"])
def test_another_fold_is_refused(fold, entry):
    with pytest.raises(RecordError) as caught:
        parse_ids(strings(entry(1, strat_fold=fold)))
    assert caught.value.reason == "no fold"
    assert split_of(strings(entry(1, strat_fold=fold))) is None


@pytest.mark.parametrize(("name", "value"), [("ecg_id", "x"), ("patient_id", ""), ("patient_id", "1.5")])
def test_a_line_without_ids_is_refused(name, value, entry):
    with pytest.raises(RecordError) as caught:
        parse_ids(strings(entry(1, **{name: value})))
    assert caught.value.reason == "no id"


def test_columns_of_a_line(entry):
    optional = {"recording_date": "1984-11-09 09:17:34", "burst_noise": " , alles,  ", "baseline_drift": " , I-AVR"}
    assert parse_columns(strings(entry(7) | optional)) == {
        "study_time": datetime(1984, 11, 9, 9, 17, 34),
        "age": 56.0,
        "sex": "female",
        "scp_codes": [{"code": "NORM", "likelihood": 80.0}, {"code": "SR", "likelihood": 0.0}],
        "validated_by_human": True,
        "signal_quality": ["baseline drift: I-AVR", "burst noise: alles"],
    }


def test_unknown_values_are_none_and_300_stays(entry):
    unknown = parse_columns(strings(entry(1, age="", sex="", validated_by_human="")))
    assert (unknown["age"], unknown["sex"], unknown["validated_by_human"]) == (None, None, None)
    assert (unknown["study_time"], unknown["signal_quality"]) == (None, [])
    older_than_89 = parse_columns(strings(entry(1, age="300.0", sex="0", validated_by_human="False")))
    assert (older_than_89["age"], older_than_89["sex"], older_than_89["validated_by_human"]) == (300.0, "male", False)
    nonsense = parse_columns(strings(entry(1, age="nan", sex="2", validated_by_human="maybe")))
    assert (nonsense["age"], nonsense["sex"], nonsense["validated_by_human"]) == (None, None, None)


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
