"""Confidence intervals by resampling patients.

Recordings of one patient resemble each other, so resampling recordings would promise too much precision.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

Statistic = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its confidence interval, in the statistic's own unit."""

    estimate: float
    low: float
    high: float


def bootstrap_interval(
    patient_ids: Sequence[Hashable],
    statistic: Statistic,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval over patients (Efron and Tibshirani 1993, chapter 13).

    Each resample draws as many patients as there are, with replacement, and takes all recordings of each
    patient drawn, as often as it was drawn. The same seed gives the same interval.

    Args:
        patient_ids: one per recording.
        statistic: the figure of interest, from the indices of recordings (int64, with repeats), for example
            `lambda indices: correct[indices].mean()`.
        confidence: coverage, between 0 and 1.
        resamples: number of resamples.
        seed: of the draws.
    Raises:
        ValueError: no recordings, confidence out of range, fewer than one resample, or a statistic that is
            not finite (the message says on how many of the resamples).
    """
    if len(patient_ids) == 0:
        raise ValueError("no recordings to resample: patient_ids is empty")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a number between 0 and 1")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, expected at least 1")
    recordings_of: dict[Hashable, list[int]] = {}
    for index, patient in enumerate(patient_ids):
        recordings_of.setdefault(patient, []).append(index)
    groups = [np.array(indices, dtype=np.int64) for indices in recordings_of.values()]

    estimate = float(statistic(np.arange(len(patient_ids), dtype=np.int64)))
    rng = np.random.default_rng(seed)
    values = np.empty(resamples)
    for resample in range(resamples):
        drawn = rng.integers(len(groups), size=len(groups))
        values[resample] = statistic(np.concatenate([groups[patient] for patient in drawn]))
    undefined = int(np.count_nonzero(~np.isfinite(values)))
    if undefined or not np.isfinite(estimate):
        raise ValueError(
            f"the statistic is {estimate} on all recordings and not finite on {undefined} of {resamples} "
            "resamples; an interval over the others would be biased"
        )
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high))


def bootstrap_difference(
    patient_ids: Sequence[Hashable],
    first: Statistic,
    second: Statistic,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Interval of `first - second`, both computed on the same patients in every resample (paired).

    Args and errors are those of `bootstrap_interval`.
    """
    return bootstrap_interval(
        patient_ids, lambda indices: first(indices) - second(indices), confidence, resamples, seed
    )
