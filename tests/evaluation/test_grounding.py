"""Gaps between the right ECG and others: against counts made by hand, and the verdict on known systems."""

import math

import numpy as np
import pytest

from evaluation.grounding import (
    CONTRADICTED,
    LOSS,
    LOSS_PER_REPORT,
    contradiction_statistics,
    grounding,
    loss_statistics,
)

RECORDS = 40
PATIENTS = [str(n // 2) for n in range(RECORDS)]


def figures(name, values):
    values = np.asarray(values, dtype=float)
    return {name: lambda rows: values[rows].mean()}


def losses(per_report):
    return loss_statistics(per_report, np.full(RECORDS, 5))


def test_a_gap_is_right_minus_other_on_the_same_patients():
    rng = np.random.default_rng(0)
    right, other, flat = rng.normal(size=RECORDS), rng.normal(size=RECORDS), rng.normal(size=RECORDS)
    shown = {name: figures("ROUGE-L", values) for name, values in (("right", right), ("other", other), ("flat", flat))}
    figure = grounding(PATIENTS, shown).figures["ROUGE-L"]
    assert figure.right.estimate == pytest.approx(right.mean())
    assert figure.flat.estimate == pytest.approx(flat.mean())
    assert figure.gap_other.estimate == pytest.approx((right - other).mean())
    paired = grounding(PATIENTS, {"right": figures("ROUGE-L", right - other)}).figures["ROUGE-L"].right
    assert (figure.gap_other.low, figure.gap_other.high) == pytest.approx((paired.low, paired.high))


def test_losses_are_per_token_and_per_report():
    statistics = loss_statistics([10.0, 2.0], [5, 1])
    rows = np.array([0, 1, 1])
    assert statistics[LOSS](rows) == 14 / 7
    assert statistics[LOSS_PER_REPORT](rows) == pytest.approx(14 / 3)


def test_a_system_that_reads_the_ecg_is_seen_to():
    rng = np.random.default_rng(0)
    result = grounding(
        PATIENTS, {"right": losses(rng.normal(10, 1, RECORDS)), "other": losses(rng.normal(20, 1, RECORDS))}
    )
    assert result.reads_the_ecg is True
    assert "a sign that the system reads the ECG" in result.verdict
    text = grounding(
        PATIENTS, {"right": figures("ROUGE-L", [1.0] * RECORDS), "other": figures("ROUGE-L", [0.5] * RECORDS)}
    )
    assert text.reads_the_ecg is True


def test_a_system_that_says_the_same_whatever_it_is_shown_has_a_gap_of_0_and_is_marked():
    same = figures("ROUGE-L", np.random.default_rng(0).random(RECORDS))
    result = grounding(PATIENTS, {"right": same, "other": same, "flat": same})
    gap = result.figures["ROUGE-L"].gap_other
    assert gap.estimate == gap.low == gap.high == 0
    assert result.reads_the_ecg is False
    assert "no sign" in result.verdict


def test_a_system_that_does_better_with_the_wrong_ecg_does_not_read_it():
    better, worse = losses(np.full(RECORDS, 5.0)), losses(np.full(RECORDS, 9.0))
    assert grounding(PATIENTS, {"right": worse, "other": better}).reads_the_ecg is False


def test_a_figure_that_was_not_named_beforehand_gives_no_verdict():
    shown = {"right": figures("BLEU-1", [1.0] * RECORDS), "other": figures("BLEU-1", [0.0] * RECORDS)}
    shown["right"] |= figures("ROUGE-L", [0.5] * RECORDS)
    shown["other"] |= figures("ROUGE-L", [0.5] * RECORDS)
    assert grounding(PATIENTS, shown).reads_the_ecg is False


def test_without_exchange_nothing_is_claimed():
    result = grounding(PATIENTS, {"right": figures("ROUGE-L", [1.0] * RECORDS)})
    assert result.reads_the_ecg is None
    assert result.figures["ROUGE-L"].gap_other is None
    assert "not known" in result.verdict


def test_chance_is_seldom_called_reading():
    rng = np.random.default_rng(3)
    called = 0
    for seed in range(100):
        shown = {
            name: losses(rng.normal(size=RECORDS)) | figures("ROUGE-L", rng.normal(size=RECORDS))
            for name in ("right", "other")
        }
        called += grounding(PATIENTS, shown, seed).reads_the_ecg
    assert called <= 9  # one-sided 2.5 % nominally; of 20 patients a percentile interval is still a little narrow


@pytest.mark.parametrize("patients", [2, 19])
def test_too_few_patients_are_not_called_reading(patients):
    shown = {name: {"ROUGE-L": lambda rows, score=score: score} for name, score in (("right", 1.0), ("other", 0.5))}
    result = grounding([str(number) for number in range(patients)], shown)
    assert result.reads_the_ecg is None
    assert f"but on {patients} patients" in result.verdict


def test_one_patient_gives_no_interval():
    shown = {name: {"ROUGE-L": lambda rows, score=score: score} for name, score in (("right", 1.0), ("other", 0.5))}
    result = grounding(["a", "a"], shown)
    gap = result.figures["ROUGE-L"].gap_other
    assert gap.estimate == 0.5
    assert math.isnan(gap.low)
    assert result.reads_the_ecg is False


def test_an_undefined_figure_has_no_interval():
    shown = {"right": {"critical-miss rate": lambda rows: math.nan}, "other": {"critical-miss rate": lambda rows: 0.0}}
    figure = grounding(PATIENTS, shown).figures["critical-miss rate"]
    assert math.isnan(figure.gap_other.low)


def test_contradictions_are_a_share_of_what_was_measured():
    share = contradiction_statistics([2, 0, 3], [1, 0, 1])[CONTRADICTED]
    assert share(np.array([0, 1, 2])) == pytest.approx(2 / 5)
    assert share(np.array([0, 0, 2])) == pytest.approx(3 / 7)
    assert math.isnan(share(np.array([1])))
