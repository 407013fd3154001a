"""How far raters agree: intraclass correlation, Krippendorff's alpha, Cohen's kappa. All in float64."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import f as f_distribution

from .bootstrap import Interval

LEVELS = ("nominal", "ordinal", "interval")


@dataclass(frozen=True)
class IntraclassCorrelation:
    """ICC(2,1), of one rater's scores, and ICC(2,k), of the mean of all raters, each with its interval."""

    single: Interval
    average: Interval


def intraclass_correlation(scores: ArrayLike, confidence: float = 0.95) -> IntraclassCorrelation:
    """ICC(2,1) and ICC(2,k): raters drawn at random, absolute agreement (Shrout and Fleiss 1979).

    Intervals: McGraw and Wong 1996, table 7, ICC(A,1) and ICC(A,k).

    Args:
        scores: (subjects, raters), without gaps.
        confidence: coverage of the intervals.

    Returns:
        nan throughout where all scores are equal; nan for a coefficient whose denominator is not positive, as happens
        where the subjects' means differ less than chance would make them. Both may be below 0.

    Raises:
        ValueError: fewer than two subjects or raters, or a score that is not finite.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or min(scores.shape) < 2:
        raise ValueError(f"scores are {scores.shape}, expected (subjects, raters) with at least two of each")
    if not np.isfinite(scores).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(scores))} scores are not finite; leave such subjects out")
    undefined = Interval(np.nan, np.nan, np.nan)
    if np.ptp(scores) == 0:
        return IntraclassCorrelation(undefined, undefined)
    n, k = scores.shape
    subjects, raters, grand = scores.mean(axis=1), scores.mean(axis=0), scores.mean()
    ms_subjects = k * np.sum((subjects - grand) ** 2) / (n - 1)
    ms_raters = n * np.sum((raters - grand) ** 2) / (k - 1)
    ms_error = np.sum((scores - subjects[:, None] - raters + grand) ** 2) / ((n - 1) * (k - 1))

    between = ms_subjects - ms_error
    single = _ratio(between, ms_subjects + (k - 1) * ms_error + k * (ms_raters - ms_error) / n)
    average = _ratio(between, ms_subjects + (ms_raters - ms_error) / n)
    if np.isnan(single):
        return IntraclassCorrelation(undefined, Interval(average, np.nan, np.nan))
    if single == 1:
        return IntraclassCorrelation(Interval(1.0, 1.0, 1.0), Interval(1.0, 1.0, 1.0))

    # For the degrees of freedom a coefficient below 0 counts as 0: with less, bounds need not enclose the estimate.
    share = max(single, 0.0)
    weight_raters = k * share / (n * (1 - share))
    weight_error = 1 + k * share * (n - 1) / (n * (1 - share))
    on_raters, on_error = weight_raters * ms_raters, weight_error * ms_error
    degrees = _ratio((on_raters + on_error) ** 2, on_raters**2 / (k - 1) + on_error**2 / ((n - 1) * (k - 1)))
    quantile = (1 + confidence) / 2
    f_low = f_distribution.ppf(quantile, n - 1, degrees)
    f_high = f_distribution.ppf(quantile, degrees, n - 1)
    spread = k * ms_raters + (k * n - k - n) * ms_error
    low = n * (ms_subjects - f_low * ms_error) / (f_low * spread + n * ms_subjects)
    high = n * (f_high * ms_subjects - ms_error) / (spread + n * f_high * ms_subjects)
    if np.isnan(average):
        return IntraclassCorrelation(Interval(single, float(low), float(high)), undefined)
    # Spearman-Brown takes the bounds of one to those of the other, as it does the coefficients.
    low_average, high_average = (_ratio(k * bound, 1 + (k - 1) * bound) for bound in (low, high))
    return IntraclassCorrelation(
        Interval(single, float(low), float(high)), Interval(average, low_average, high_average)
    )


def krippendorff_alpha(scores: ArrayLike, level: str = "ordinal") -> float:
    """Krippendorff's alpha (2011, "Computing Krippendorff's alpha-reliability").

    Args:
        scores: (subjects, raters), nan where a rater gave none; subjects with fewer than two are left out.
        level: "nominal", "ordinal" or "interval".

    Returns:
        1 for full agreement, 0 for that of chance, below 0 for less; nan where all paired scores are equal.

    Raises:
        ValueError: another level, or no subject with two scores (so for one rater).
    """
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}, expected one of {', '.join(LEVELS)}")
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2:
        raise ValueError(f"scores are {scores.shape}, expected (subjects, raters)")
    scores = scores[np.count_nonzero(~np.isnan(scores), axis=1) > 1]
    if not len(scores):
        raise ValueError("no subject has scores of two raters, so no agreement can be told")
    values = np.unique(scores[~np.isnan(scores)])
    if len(values) == 1:
        return float("nan")
    counts = np.stack([np.count_nonzero(scores == value, axis=1) for value in values], axis=1).astype(np.float64)
    # A pair counts 1/(scores of its subject - 1); equal scores count with a difference of 0.
    coincidences = counts.T @ (counts / (counts.sum(axis=1, keepdims=True) - 1))
    totals = counts.sum(axis=0)
    differences = _squared_differences(values, totals, level)
    expected = totals @ differences @ totals / (totals.sum() - 1)
    return float(1 - np.sum(coincidences * differences) / expected)


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Cohen's kappa of two readers' labels (Cohen 1960), unweighted.

    Returns:
        nan where both give the same label throughout: chance alone would agree as often.

    Raises:
        ValueError: unequal lengths, or no labels.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} labels of one reader but {len(second)} of the other")
    if not len(first):
        raise ValueError("no labels to compare")
    labels = {label: index for index, label in enumerate(dict.fromkeys([*first, *second]))}
    table = np.zeros((len(labels), len(labels)))
    np.add.at(table, ([labels[label] for label in first], [labels[label] for label in second]), 1 / len(first))
    if len(labels) == 1:
        return float("nan")
    by_chance = table.sum(axis=1) @ table.sum(axis=0)
    return float((np.trace(table) - by_chance) / (1 - by_chance))


def _ratio(numerator: float, denominator: float) -> float:
    # A denominator that is 0 but for rounding is 0.
    return float(numerator / denominator) if denominator > 1e-12 * abs(numerator) else float("nan")


def _squared_differences(values: np.ndarray, totals: np.ndarray, level: str) -> np.ndarray:
    """(values, values); of ordinal values by how many scores lie between them, each end counted half."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    position = values if level == "interval" else np.cumsum(totals) - totals / 2
    return (position[:, None] - position) ** 2
