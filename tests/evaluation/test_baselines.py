"""The baselines against plain loops, and whether retrieval reads real ECGs."""

import csv

import numpy as np
import pytest

from evaluation.baselines import NearestNeighbourReports, most_frequent_report
from evaluation.bootstrap import bootstrap_interval
from evaluation.ecg_features import FEATURE_NAMES, FEATURE_WEIGHTS, ecg_features
from evaluation.permutation import other_patients
from evaluation.rouge import rouge_l_per_report
from processing.leads import place_leads
from processing.reading import read_ecg


def test_the_most_frequent_report_wins_and_of_several_the_first_in_sorted_order():
    assert most_frequent_report(["b", "a", "b"]) == "b"
    assert most_frequent_report(["c", "b", "b", "c", "a"]) == "b"
    with pytest.raises(ValueError, match="no reports"):
        most_frequent_report([])


def test_the_nearest_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    scales = np.array([1.0, 100.0, 0.01, 1.0])
    known, queries = rng.normal(size=(40, 4)) * scales, rng.normal(size=(25, 4)) * scales
    known[:, 3] = 7.0
    weights = np.array([1.0, 0.5, 2.0, 1.0])
    reports = [f"report {number}" for number in range(40)]
    neighbours = NearestNeighbourReports(known, reports, weights=weights)
    means = [sum(known[:, column]) / 40 for column in range(3)]
    deviations = [(sum((known[:, column] - means[column]) ** 2) / 40) ** 0.5 for column in range(3)]
    for query in queries:
        distances = [
            sum((weights[c] * (row[c] - query[c]) / deviations[c]) ** 2 for c in range(3)) for row in known.tolist()
        ]
        assert neighbours.report(query) == reports[distances.index(min(distances))]


def test_units_do_not_matter_and_the_first_of_equals_counts():
    known = np.array([[60.0, 1.0], [60.0, 1.0], [90.0, 0.0]])
    reports = ["first", "second", "third"]
    assert NearestNeighbourReports(known, reports).report([61.0, 0.9]) == "first"
    in_other_units = NearestNeighbourReports(known * [1, 1000], reports)
    assert in_other_units.report([89.0, 100.0]) == "third"


def test_features_that_are_no_numbers_are_refused_by_name():
    known = np.array([[60.0, 1.0], [90.0, np.nan]])
    with pytest.raises(ValueError, match="recording 1: 1 features are not finite, among them QRS width"):
        NearestNeighbourReports(known, ["a", "b"], ["heart rate", "QRS width"])
    neighbours = NearestNeighbourReports(known[:1], ["a"], ["heart rate", "QRS width"])
    with pytest.raises(ValueError, match="query: 1 features are not finite, among them heart rate"):
        neighbours.report([np.inf, 1.0])
    with pytest.raises(ValueError, match=r"features of shape \(3,\), expected \(2,\)"):
        neighbours.report([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("features", "reports", "options", "message"),
    [
        (np.zeros((2, 3)), ["a"], {}, r"shape \(2, 3\) and 1 reports"),
        (np.zeros((0, 3)), [], {}, r"shape \(0, 3\) and 0 reports"),
        (np.zeros(3), ["a"] * 3, {}, r"shape \(3,\) and 3 reports"),
        (np.zeros((1, 2)), ["a"], {"feature_names": ["x"]}, "1 names and weights"),
        (np.zeros((1, 2)), ["a"], {"weights": np.array([1.0, -1.0])}, "not negative"),
    ],
)
def test_features_that_do_not_fit_are_refused(features, reports, options, message):
    with pytest.raises(ValueError, match=message):
        NearestNeighbourReports(features, reports, **options)


def test_retrieval_on_real_recordings_reads_the_ecg(ptb_xl):
    with (ptb_xl / "ptbxl_reports_en.csv").open(encoding="utf-8") as file:
        reports = {row["ecg_id"]: row["report_en"] for row in csv.DictReader(file)}
    with (ptb_xl / "ptbxl_database.csv").open(encoding="utf-8") as file:
        lines = [row for row in csv.DictReader(file) if reports.get(row["ecg_id"], "").strip()]
    train = [row for row in lines if int(row["strat_fold"]) <= 8]
    test = [row for row in lines if int(row["strat_fold"]) == 10]
    neighbours = NearestNeighbourReports(
        np.stack([_features(ptb_xl, row) for row in train]),
        [reports[row["ecg_id"]] for row in train],
        FEATURE_NAMES,
        FEATURE_WEIGHTS,
    )
    drafts = [neighbours.report(_features(ptb_xl, row)) for row in test]
    references = [reports[row["ecg_id"]] for row in test]
    patients = [row["patient_id"] for row in test]
    right = np.array(rouge_l_per_report(drafts, references))
    other = np.array(rouge_l_per_report([drafts[donor] for donor in other_patients(patients)], references))
    gap = bootstrap_interval(patients, lambda rows: (right - other)[rows].mean())
    assert gap.low > 0.05


def _features(folder, row):
    recording = read_ecg(folder / row["filename_hr"])
    return ecg_features(place_leads(recording.signal, recording.lead_names), recording.sampling_rate)
