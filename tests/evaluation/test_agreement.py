"""Agreement against published worked examples and against plain loops."""

import itertools
import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from evaluation.agreement import cohen_kappa, intraclass_correlation, krippendorff_alpha

NAN = math.nan
# Shrout and Fleiss 1979, table 2: four judges, six targets.
SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
# Krippendorff 2011, section C: four observers, twelve units, some unseen.
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T


def plain_alpha(rows, level):
    """One minus observed over expected disagreement, over all ordered pairs, in fractions."""
    units = [[Fraction(v) for v in row if not math.isnan(v)] for row in rows]
    units = [unit for unit in units if len(unit) > 1]
    pooled = [value for unit in units for value in unit]

    def difference(a, b):
        if level == "nominal":
            return Fraction(a != b)
        if level == "interval":
            return (a - b) ** 2
        low, high = sorted((a, b))
        between = sum(low <= value <= high for value in pooled)
        return (between - Fraction(pooled.count(low) + pooled.count(high), 2)) ** 2 if a != b else Fraction(0)

    observed = sum(
        sum(difference(a, b) for a, b in itertools.permutations(unit, 2)) / Fraction(len(unit) - 1) for unit in units
    ) / len(pooled)
    expected = sum(difference(a, b) for a, b in itertools.permutations(pooled, 2)) / Fraction(
        len(pooled) * (len(pooled) - 1)
    )
    return float(1 - observed / expected)


def plain_icc(rows, confidence):
    """Sums of squares by loops; the intervals by McGraw and Wong's own formulas for both coefficients."""
    n, k = len(rows), len(rows[0])
    grand = statistics.fmean(value for row in rows for value in row)
    row_means = [statistics.fmean(row) for row in rows]
    column_means = [statistics.fmean(column) for column in zip(*rows, strict=True)]
    msr = sum(k * (mean - grand) ** 2 for mean in row_means) / (n - 1)
    msc = sum(n * (mean - grand) ** 2 for mean in column_means) / (k - 1)
    total = sum((value - grand) ** 2 for row in rows for value in row)
    mse = (total - msr * (n - 1) - msc * (k - 1)) / ((n - 1) * (k - 1))
    single = (msr - mse) / (msr + (k - 1) * mse + k / n * (msc - mse))
    average = (msr - mse) / (msr + (msc - mse) / n)

    def degrees(a, b):
        return (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))

    upper = 1 - (1 - confidence) / 2
    v = degrees(k * single / (n * (1 - single)), 1 + k * single * (n - 1) / (n * (1 - single)))
    f_low, f_high = stats.f.ppf(upper, n - 1, v), stats.f.ppf(upper, v, n - 1)
    rest = k * msc + (k * n - k - n) * mse
    bounds_single = (
        n * (msr - f_low * mse) / (f_low * rest + n * msr),
        n * (f_high * msr - mse) / (rest + n * f_high * msr),
    )
    v = degrees(average / (n * (1 - average)), 1 + average * (n - 1) / (n * (1 - average)))
    f_low, f_high = stats.f.ppf(upper, n - 1, v), stats.f.ppf(upper, v, n - 1)
    bounds_average = (
        n * (msr - f_low * mse) / (f_low * (msc - mse) + n * msr),
        n * (f_high * msr - mse) / (msc - mse + n * f_high * msr),
    )
    return (single, *bounds_single), (average, *bounds_average)


def bounds(interval):
    return interval.estimate, interval.low, interval.high


def test_icc_of_shrout_and_fleiss():
    icc = intraclass_correlation(SHROUT_FLEISS)
    assert bounds(icc.single) == pytest.approx((0.29, 0.02, 0.76), abs=0.005)
    assert bounds(icc.average) == pytest.approx((0.62, 0.07, 0.93), abs=0.005)


@pytest.mark.parametrize("seed", range(5))
def test_icc_agrees_with_plain_loops(seed):
    rng = np.random.default_rng(seed)
    subjects, raters = rng.integers(5, 30), rng.integers(2, 6)
    scores = rng.normal(size=(subjects, 1)) + rng.normal(scale=0.5, size=(1, raters))
    scores = np.clip(np.rint(3 + scores + rng.normal(scale=0.7, size=(subjects, raters))), 1, 5)
    icc = intraclass_correlation(scores, 0.9)
    single, average = plain_icc(scores.tolist(), 0.9)
    assert bounds(icc.single) == pytest.approx(single, abs=1e-10)
    assert bounds(icc.average) == pytest.approx(average, abs=1e-10)


def test_the_interval_of_few_subjects_holds_the_coefficient_or_is_undefined():
    rng = np.random.default_rng(0)
    negative = 0
    for _ in range(1000):
        scores = rng.integers(1, 6, size=(rng.integers(2, 7), rng.integers(2, 5)))
        icc = intraclass_correlation(scores)
        negative += icc.single.estimate < 0
        for found in (icc.single, icc.average):
            assert math.isnan(found.low) or found.low - 1e-9 <= found.estimate <= found.high + 1e-9, scores.tolist()
    assert negative > 100


def test_subjects_that_do_not_differ_have_bounds_and_no_coefficient_of_rounding():
    icc = intraclass_correlation([[3, 2, 1], [2, 1, 3], [2, 1, 3]])
    assert icc.single.estimate == pytest.approx(-0.5)
    assert math.isnan(icc.average.estimate)


def test_icc_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(400):  # variances 1, 0.25 and 1: the true ICC(2,1) is 1 / 2.25
        scores = rng.normal(size=(20, 1)) + 0.5 * rng.normal(size=(1, 4)) + rng.normal(size=(20, 4))
        interval = intraclass_correlation(scores).single
        hits += interval.low <= 1 / 2.25 <= interval.high
    assert 0.91 <= hits / 400 <= 0.99


def test_raters_who_always_agree_have_an_icc_of_one_and_a_constant_shift_lowers_it():
    scores = np.array([[1.0, 1, 1], [3, 3, 3], [5, 5, 5], [2, 2, 2]])
    assert bounds(intraclass_correlation(scores).single) == (1, 1, 1)
    assert bounds(intraclass_correlation(scores).average) == (1, 1, 1)
    shifted = intraclass_correlation(scores + [0, 1, 2]).single
    assert 0 < shifted.low < shifted.estimate < shifted.high < 1


def test_icc_without_variation_is_undefined():
    icc = intraclass_correlation(np.full((5, 3), 0.1))
    assert np.isnan([*bounds(icc.single), *bounds(icc.average)]).all()


def test_icc_whose_denominator_is_not_positive_is_undefined():
    icc = intraclass_correlation([[1, 2], [2, 1]])
    assert math.isnan(icc.single.estimate)
    assert math.isnan(icc.average.estimate)
    icc = intraclass_correlation([[1, 5, 3], [5, 3, 1], [3, 1, 5]])
    assert icc.single.estimate < 0
    assert math.isnan(icc.average.estimate)


@pytest.mark.parametrize("scores", [[[1], [2]], [[1, 2]], [1, 2], []])
def test_icc_of_one_rater_or_subject_is_refused(scores):
    with pytest.raises(ValueError, match="at least two of each"):
        intraclass_correlation(scores)


def test_icc_with_gaps_is_refused():
    with pytest.raises(ValueError, match="1 scores are not finite"):
        intraclass_correlation([[1, 2], [3, NAN], [2, 2]])


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_krippendorff(level, alpha):
    assert krippendorff_alpha(KRIPPENDORFF, level) == pytest.approx(alpha, abs=0.0005)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(4))
def test_alpha_agrees_with_plain_pairs(level, seed):
    rng = np.random.default_rng(seed)
    scores = rng.choice([1.0, 2, 4, 5, NAN], size=(12, 4), p=[0.2, 0.3, 0.2, 0.1, 0.2])
    assert krippendorff_alpha(scores, level) == pytest.approx(plain_alpha(scores.tolist(), level), abs=1e-12)


def test_alpha_is_one_for_full_agreement_and_undefined_without_variation():
    assert krippendorff_alpha([[1, 1], [4, 4], [5, NAN]]) == 1
    assert math.isnan(krippendorff_alpha([[4, 4], [4, 4], [5, NAN]]))


@pytest.mark.parametrize("scores", [[[1], [2]], [[1, NAN], [NAN, 2]], np.empty((0, 3))])
def test_alpha_without_a_pair_is_refused(scores):
    with pytest.raises(ValueError, match="two raters"):
        krippendorff_alpha(scores)


def test_alpha_of_another_level_is_refused():
    with pytest.raises(ValueError, match="'ratio', expected one of nominal, ordinal, interval"):
        krippendorff_alpha([[1, 2]], "ratio")


def test_kappa_of_fleiss():
    """Fleiss, Levin and Paik 2003, table 18.1: kappa is .676."""
    table = {"psychotic": (75, 1, 4), "neurotic": (5, 4, 1), "organic": (0, 0, 10)}
    pairs = [(a, b) for a, row in table.items() for b, count in zip(table, row, strict=True) for _ in range(count)]
    assert cohen_kappa(*zip(*pairs, strict=True)) == pytest.approx(0.676, abs=0.0005)


def test_kappa_agrees_with_a_plain_count():
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 4, (2, 50)).tolist()
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / 50
    chance = sum(first.count(label) * second.count(label) for label in range(4)) / 2500
    assert cohen_kappa(first, second) == pytest.approx((agreed - chance) / (1 - chance), abs=1e-12)


def test_kappa_at_its_ends():
    assert cohen_kappa([True, False], [True, False]) == 1
    assert cohen_kappa([True, False], [False, True]) == -1
    assert math.isnan(cohen_kappa(["a", "a"], ["a", "a"]))


def test_kappa_of_unequal_or_no_labels_is_refused():
    with pytest.raises(ValueError, match="2 labels of one reader but 1"):
        cohen_kappa([1, 2], [1])
    with pytest.raises(ValueError, match="no labels"):
        cohen_kappa([], [])
