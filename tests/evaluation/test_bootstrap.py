"""The patient bootstrap against a plain loop, and its coverage against known truth."""

import random

import numpy as np
import pytest

from evaluation.bootstrap import bootstrap_interval, resample

PATIENTS = ["a", "a", "a", "b", "c", "c", "d", "e", "f", "g"]
VALUES = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0])


def mean(indices):
    return VALUES[indices].mean()


def plain_interval(patients, values, resamples, seed):
    """Patients drawn by another generator; the bounds are order statistics."""
    rng = random.Random(seed)
    distinct = sorted(set(patients))
    means = []
    for _ in range(resamples):
        picked = []
        for patient in rng.choices(distinct, k=len(distinct)):
            picked += [value for value, owner in zip(values, patients, strict=True) if owner == patient]
        means.append(sum(picked) / len(picked))
    means.sort()
    return means[int(0.025 * resamples)], means[int(0.975 * resamples)]


def test_interval_agrees_with_a_plain_loop():
    interval = bootstrap_interval(PATIENTS, mean, resamples=20000, seed=1)
    low, high = plain_interval(PATIENTS, VALUES, 20000, seed=7)
    assert interval.estimate == VALUES.mean()
    assert interval.low == pytest.approx(low, abs=0.02)
    assert interval.high == pytest.approx(high, abs=0.02)


def test_same_seed_same_interval_other_seed_another():
    assert bootstrap_interval(PATIENTS, mean, seed=3) == bootstrap_interval(PATIENTS, mean, seed=3)
    draws = []
    for seed in (3, 4):
        bootstrap_interval(PATIENTS, lambda i: draws.append(tuple(i)) or mean(i), resamples=2, seed=seed)
    assert draws[1:3] != draws[4:6]


def test_all_recordings_of_a_drawn_patient_come_together():
    def check(indices):
        counts = np.bincount(indices, minlength=len(PATIENTS))
        assert counts[0] == counts[1] == counts[2]
        assert counts[4] == counts[5]
        return 0.0

    bootstrap_interval(PATIENTS, check, resamples=200)


def test_many_recordings_of_one_patient_do_not_narrow_the_interval():
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    once = bootstrap_interval(range(40), lambda i: values[i].mean(), seed=1)
    repeated = np.repeat(values, 25)
    grouped = bootstrap_interval(np.repeat(np.arange(40), 25).tolist(), lambda i: repeated[i].mean(), seed=1)
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high))


def test_coverage_is_near_the_stated_confidence():
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(200):
        values = rng.normal(size=60)
        interval = bootstrap_interval(range(60), lambda i, v=values: v[i].mean(), 0.9, resamples=300, seed=seed)
        hits += interval.low <= 0 <= interval.high
    assert 0.82 <= hits / 200 <= 0.96


def test_paired_difference_uses_the_same_patients_for_both():
    shifted = VALUES + 0.25
    drawn = resample(PATIENTS, {"shifted": lambda i: shifted[i].mean(), "plain": mean})
    difference = drawn["shifted"] - drawn["plain"]
    interval = difference.interval()
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((0.25, 0.25, 0.25))
    assert difference.p_value() == pytest.approx(2 / 1001)
    assert (drawn["plain"] - drawn["plain"]).p_value() == 1


def test_p_values_of_no_difference_are_spread_evenly():
    rng = np.random.default_rng(2)
    small = 0
    for seed in range(200):
        values = rng.normal(size=40)
        drawn = resample(range(40), {"": lambda i, v=values: v[i].mean()}, resamples=300, seed=seed)[""]
        small += drawn.p_value() <= 0.2
    assert 0.12 <= small / 200 <= 0.3


def test_where_a_statistic_is_undefined_it_has_an_estimate_and_no_interval():
    def of_patient_a(indices):
        return 1.0 if 0 in indices else float("nan")

    drawn = resample(PATIENTS, {"": of_patient_a}, resamples=100)[""]
    interval = drawn.interval()
    assert interval.estimate == 1
    assert np.isnan([interval.low, interval.high, drawn.p_value()]).all()


def test_one_patient_has_neither_interval_nor_p_value():
    drawn = resample(["a"] * len(VALUES), {"": mean}, resamples=50)[""]
    assert drawn.interval().estimate == VALUES.mean()
    assert np.isnan([drawn.interval().low, drawn.interval().high, drawn.p_value()]).all()


@pytest.mark.parametrize(
    ("patients", "options", "message"),
    [
        ([], {}, "patient_ids is empty"),
        (["a", "b"], {"confidence": 1.0}, "confidence is 1.0"),
        (["a", "b"], {"resamples": 0}, "resamples is 0"),
        (["a", "a"], {}, "all recordings are of one patient"),
    ],
)
def test_bad_input_is_refused(patients, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(patients, lambda i: 0.0, **options)


def test_an_undefined_statistic_is_refused_not_dropped():
    def of_patient_a(indices):
        return 1.0 if 0 in indices else float("nan")

    with pytest.raises(ValueError, match=r"not finite on \d+ of 100 resamples"):
        bootstrap_interval(PATIENTS, of_patient_a, resamples=100)
