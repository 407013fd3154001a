"""Filled sheets are read back as they were meant, and whatever is wrong with one is named."""

import csv
import io
import json

import numpy as np
import pytest

from evaluation.agreement import intraclass_correlation, krippendorff_alpha
from evaluation.rating_criteria import CRITERIA
from evaluation.rating_sheet import RatingItem, write_rating_sheets
from evaluation.ratings import RatedItem, Ratings, rating_summary, read_ratings

ITEMS = [
    RatingItem(f"r{record}", system, f"p{record // 2}", f"Draft; of\n{system}", "für")
    for record in range(6)
    for system in ("a", "b")
]


def true_score(rater, record, system, criterion):
    """What the rater of these tests thinks."""
    return 1 + (3 * int(record[1:]) + 2 * (system == "b") + len(criterion) + len(rater)) % 5


def table(path):
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    return rows[0], rows[1:]


def save(path, columns, rows, delimiter=",", line_end="\r\n", encoding="utf-8-sig"):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([columns, *rows])
    path.write_bytes(text.getvalue().encode(encoding))


@pytest.fixture
def sheets(tmp_path):
    """Sheets of Ann and Bernd that are filled throughout."""
    folder = write_rating_sheets(ITEMS, tmp_path, ["Ann", "Bernd"], "A draft.")
    key = json.loads((tmp_path / "key.json").read_text())["items"]
    for rater in ("Ann", "Bernd"):
        columns, rows = table(folder / f"{rater}.csv")
        for row in rows:
            entry = key[row[columns.index("code")]]
            for criterion in CRITERIA:
                score = true_score(rater, entry["record"], entry["system"], criterion)
                row[columns.index(criterion)] = str(score)
        save(folder / f"{rater}.csv", columns, rows)
    return folder


def change(path, row, column, value):
    """Write a value into a sheet; the row as a spreadsheet counts."""
    columns, rows = table(path)
    rows[row - 2][columns.index(column)] = value
    save(path, columns, rows)


def test_ratings_come_back_as_given(sheets):
    ratings = read_ratings(sheets, sheets.parent / "key.json")
    assert ratings.raters == ("Ann", "Bernd")
    assert set(ratings.items) == {RatedItem(item.record, item.system, item.patient_id) for item in ITEMS}
    assert ratings.missing == {"Ann": 0, "Bernd": 0}
    for criterion, scores in ratings.scores.items():
        for item, row in zip(ratings.items, scores, strict=True):
            assert row.tolist() == [true_score(rater, item.record, item.system, criterion) for rater in ratings.raters]


@pytest.mark.parametrize(("delimiter", "line_end"), [(";", "\r\n"), ("\t", "\n"), (",", "\r")])
def test_a_spreadsheet_of_another_country_may_save_the_sheet(sheets, delimiter, line_end):
    expected = read_ratings(sheets, sheets.parent / "key.json")
    save(sheets / "Ann.csv", *table(sheets / "Ann.csv"), delimiter=delimiter, line_end=line_end, encoding="utf-8")
    found = read_ratings([sheets / "Bernd.csv", sheets / "Ann.csv"], sheets.parent / "key.json")
    assert found.raters == expected.raters
    assert all((found.scores[criterion] == expected.scores[criterion]).all() for criterion in CRITERIA)


def test_missing_scores_are_counted_and_not_guessed(sheets):
    change(sheets / "Ann.csv", 3, "logic", " ")
    columns, rows = table(sheets / "Ann.csv")
    save(sheets / "Ann.csv", columns, [*rows[:-1], [""] * len(columns)])
    ratings = read_ratings(sheets, sheets.parent / "key.json")
    assert ratings.missing == {"Ann": 5, "Bernd": 0}
    assert [int(np.isnan(ratings.scores[criterion]).sum()) for criterion in CRITERIA] == [1, 2, 1, 1]


def test_a_rater_without_scores_is_no_rater_but_counted(sheets):
    columns, rows = table(sheets / "Bernd.csv")
    first, last = columns.index("terminology"), columns.index("diagnosis")
    save(sheets / "Bernd.csv", columns, [row[:first] + [""] * 4 + row[last + 1 :] for row in rows])
    for sources in (sheets, sheets / "Ann.csv"):
        ratings = read_ratings(sources, sheets.parent / "key.json")
        assert ratings.raters == ("Ann",)
        assert ratings.missing == {"Ann": 0, "Bernd": 48}
    with pytest.raises(ValueError, match=r"no sheet has a score: .*Bernd\.csv"):
        read_ratings(sheets / "Bernd.csv", sheets.parent / "key.json")


def test_comments_are_kept(sheets):
    change(sheets / "Ann.csv", 2, "comment", "should say 'old'")
    ratings = read_ratings(sheets, sheets.parent / "key.json")
    ((rater, item, text),) = ratings.comments
    assert (rater, text) == ("Ann", "should say 'old'")
    assert item in ratings.items


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("logic", "6", r"Ann\.csv, row 4: logic is '6', expected a whole number from 1 to 5"),
        ("logic", "0", "logic is '0'"),
        ("diagnosis", "3.5", "diagnosis is '3.5'"),
        ("diagnosis", "good", "diagnosis is 'good'"),
        ("diagnosis", "-1", "diagnosis is '-1'"),
        ("diagnosis", "٣", "diagnosis is"),
        ("code", "ABCDEF", r"Ann\.csv, row 4: code 'ABCDEF' is not in the key"),
        ("rater", "Carl", r"Ann\.csv: one rater expected in the column rater, found 'Ann', 'Carl'"),
    ],
)
def test_a_bad_cell_is_named_by_file_and_row(sheets, column, value, message):
    change(sheets / "Ann.csv", 4, column, value)
    with pytest.raises(ValueError, match=message):
        read_ratings(sheets, sheets.parent / "key.json")


def test_all_problems_are_told_at_once(sheets):
    change(sheets / "Ann.csv", 2, "logic", "9")
    change(sheets / "Bernd.csv", 5, "logic", "8")
    with pytest.raises(ValueError, match=r"Ann\.csv, row 2: .*'9'.*; .*Bernd\.csv, row 5: .*'8'"):
        read_ratings(sheets, sheets.parent / "key.json")


def test_duplicate_rows_and_files_are_refused(sheets):
    columns, rows = table(sheets / "Ann.csv")
    save(sheets / "Ann.csv", columns, [*rows, rows[0]])
    with pytest.raises(ValueError, match=r"Ann\.csv, row 14: code [A-Z]{6} stands in row 2 already"):
        read_ratings(sheets, sheets.parent / "key.json")
    save(sheets / "Ann.csv", columns, rows)
    save(sheets / "Ann (1).csv", columns, rows)
    with pytest.raises(ValueError, match=r"Ann\.csv: rater Ann has another file, .*Ann \(1\)\.csv"):
        read_ratings(sheets, sheets.parent / "key.json")


def test_sheets_of_another_study_are_refused(sheets, tmp_path):
    other = write_rating_sheets(ITEMS, tmp_path / "other", ["Carl"], "A draft.", seed=5)
    with pytest.raises(ValueError, match="rater 'Carl' is not in the key, which has Ann, Bernd"):
        read_ratings(other, sheets.parent / "key.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"no column rater, code, .*; found nothing"),
        (
            b"rater,code,logic\r\nAnn,X,3\r\n",
            r"no column terminology, completeness, diagnosis; found rater, code, logic",
        ),
        ("rater;code\r\nJürgen;X\r\n".encode("cp1252"), "not UTF-8 .*; save it as 'CSV UTF-8'"),
        (b"rater,code,terminology,logic,completeness,diagnosis\r\n", "one rater expected .*, found none"),
    ],
)
def test_another_file_is_refused(sheets, content, message):
    (sheets / "Ann.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_ratings(sheets, sheets.parent / "key.json")


def test_a_folder_without_sheets_and_another_key_are_refused(sheets, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="no sheet"):
        read_ratings(tmp_path / "none", sheets.parent / "key.json")
    with pytest.raises(ValueError, match="not a key of rating sheets"):
        read_ratings(sheets, sheets / "criteria.txt")


def made(scores, systems, patients=None):
    """Ratings with the same scores on each criterion."""
    patients = patients or [str(row) for row in range(len(scores))]
    items = tuple(RatedItem(f"r{row}", *pair) for row, pair in enumerate(zip(systems, patients, strict=True)))
    scores = np.array(scores, dtype=float)
    raters = tuple(f"rater {number}" for number in range(scores.shape[1]))
    return Ratings(raters, items, dict.fromkeys(CRITERIA, scores), dict.fromkeys(raters, 0))


def test_summary_has_means_over_raters_and_the_agreement_of_all_reports():
    nan = np.nan
    scores = [[1, 2], [3, nan], [5, 5], [nan, nan], [2, 4], [4, 4]]
    summary = rating_summary(made(scores, ["a", "a", "a", "a", "b", "b"]), resamples=200)
    logic = summary.scores["a"]["logic"]
    assert logic.mean.estimate == pytest.approx((1.5 + 3 + 5) / 3)
    assert logic.reports == 3
    assert 1.5 <= logic.mean.low < logic.mean.estimate < logic.mean.high <= 5
    assert summary.scores["b"]["diagnosis"].mean.estimate == pytest.approx(3.5)
    agreement = summary.agreement["logic"]
    assert agreement.complete_reports == 4
    assert agreement.icc == intraclass_correlation([[1, 2], [5, 5], [2, 4], [4, 4]])
    assert agreement.alpha_ordinal == krippendorff_alpha(np.array(scores, dtype=float), "ordinal")
    assert agreement.alpha_interval == krippendorff_alpha(np.array(scores, dtype=float), "interval")


def test_one_rater_has_means_but_no_agreement():
    summary = rating_summary(made([[1], [3], [5]], "aaa"), resamples=50)
    assert summary.scores["a"]["logic"].mean.estimate == 3
    agreement = summary.agreement["logic"]
    assert (agreement.icc, agreement.alpha_ordinal, agreement.alpha_interval) == (None, None, None)


def test_a_system_that_nobody_rated_has_no_score_and_one_patient_no_interval():
    summary = rating_summary(made([[1], [np.nan]], "ab"), resamples=50)
    mean = summary.scores["a"]["logic"].mean
    assert mean.estimate == 1
    assert np.isnan([mean.low, mean.high]).all()
    assert summary.scores["b"] == {}


def test_patients_are_resampled_and_not_reports():
    scores, systems = [[value] for value in (1, 1, 1, 1, 5, 5, 5, 5)], "a" * 8
    by_patient = rating_summary(made(scores, systems, list("xxxxyyyy")), seed=1).scores["a"]["logic"].mean
    by_report = rating_summary(made(scores, systems), seed=1).scores["a"]["logic"].mean
    assert (by_patient.low, by_patient.high) == (1, 5)
    assert by_report.high - by_report.low < 3.5
