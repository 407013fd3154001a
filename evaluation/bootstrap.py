"""Confidence intervals and paired tests by resampling patients.

Recordings of one patient resemble each other, so resampling recordings would promise too much precision.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Statistic = Callable[[np.ndarray], float]
CONFIDENCE = 0.95
RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its confidence interval, in the statistic's own unit; NaN where undefined."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Resampled:
    """A statistic on all recordings, and on each resample of the patients (float64)."""

    estimate: float
    values: np.ndarray

    def __sub__(self, other: "Resampled") -> "Resampled":
        """The difference on the same patients, resample by resample (paired)."""
        return Resampled(self.estimate - other.estimate, self.values - other.values)

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Percentile interval (Efron and Tibshirani 1993, chapter 13).

        Its bounds are NaN where the statistic is undefined on any resample, for an interval over the others would be
        biased.
        """
        if not 0 < confidence < 1:
            raise ValueError(f"confidence is {confidence}, expected a number between 0 and 1")
        if not (math.isfinite(self.estimate) and np.isfinite(self.values).all()):
            return Interval(self.estimate, math.nan, math.nan)
        tail = (1 - confidence) / 2
        low, high = np.quantile(self.values, [tail, 1 - tail])
        return Interval(self.estimate, float(low), float(high))

    def p_value(self) -> float:
        """Two-sided p-value of a difference of 0: how often resamples lie on either side of it (Koehn 2004).

        At least 1 / (resamples + 1), and 1 where no resample differs; NaN where it is undefined on any resample.
        """
        if not (math.isfinite(self.estimate) and np.isfinite(self.values).all()):
            return math.nan
        smaller = min(np.count_nonzero(self.values <= 0), np.count_nonzero(self.values >= 0))
        return min(1.0, 2 * (float(smaller) + 1) / (len(self.values) + 1))


def resample(
    patient_ids: Sequence[Hashable], statistics: Mapping[Hashable, Statistic], resamples: int = RESAMPLES, seed: int = 0
) -> dict[Hashable, Resampled]:
    """Several statistics on the same resamples of the patients, so that their differences are paired.

    Each resample draws as many patients as there are, with replacement, and takes all recordings of each patient
    drawn, as often as it was drawn. The same seed gives the same resamples. Where there is but one patient the
    statistics are NaN on all of them, as nothing tells how far patients differ.

    Args:
        patient_ids: one per recording.
        statistics: each a figure from the indices of recordings (int64, with repeats), for example
            `lambda indices: correct[indices].mean()`; NaN where it is undefined.
        resamples: number of resamples.
        seed: of the draws.

    Raises:
        ValueError: no recordings, or fewer than one resample.
    """
    if len(patient_ids) == 0:
        raise ValueError("no recordings to resample: patient_ids is empty")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, expected at least 1")
    everything = np.arange(len(patient_ids), dtype=np.int64)
    values = {name: np.full(resamples, math.nan) for name in statistics}
    if len(set(patient_ids)) > 1:
        for number, indices in enumerate(_draws(patient_ids, resamples, seed)):
            for name, statistic in statistics.items():
                values[name][number] = statistic(indices)
    return {name: Resampled(float(statistic(everything)), values[name]) for name, statistic in statistics.items()}


def _draws(patient_ids: Sequence[Hashable], resamples: int, seed: int) -> Iterator[np.ndarray]:
    recordings_of: dict[Hashable, list[int]] = {}
    for index, patient in enumerate(patient_ids):
        recordings_of.setdefault(patient, []).append(index)
    groups = [np.array(indices, dtype=np.int64) for indices in recordings_of.values()]
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = rng.integers(len(groups), size=len(groups))
        yield np.concatenate([groups[patient] for patient in drawn])


def bootstrap_interval(
    patient_ids: Sequence[Hashable],
    statistic: Statistic,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The interval of one statistic that must be defined; arguments are those of `resample`.

    Raises:
        ValueError: as `resample`, confidence out of range, one patient alone, or a statistic that is not finite (the
            message says on how many of the resamples).
    """
    if len(set(patient_ids)) == 1:
        raise ValueError("all recordings are of one patient; an interval over patients needs at least two")
    drawn = resample(patient_ids, {"": statistic}, resamples, seed)[""]
    undefined = int(np.count_nonzero(~np.isfinite(drawn.values)))
    if undefined or not math.isfinite(drawn.estimate):
        raise ValueError(
            f"the statistic is {drawn.estimate} on all recordings and not finite on {undefined} of {resamples} "
            "resamples; an interval over the others would be biased"
        )
    return drawn.interval(confidence)
