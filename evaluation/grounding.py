"""How much of a system's figures hangs on the ECG: the same figures with ECGs that are not the patient's.

A system that has learnt only what reports usually say scores the same with the ECG of another patient.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .bootstrap import CONFIDENCE, Interval, Resampled, Statistic, resample

RIGHT, OTHER, FLAT = "right", "other", "flat"
LOSS = "loss (nats per token)"
LOSS_PER_REPORT = "loss (nats per report)"
CONTRADICTED = "contradicted by the signal"
LOWER_IS_BETTER = {LOSS, LOSS_PER_REPORT, "hallucination rate", "omission rate", "critical-miss rate", CONTRADICTED}
# Named beforehand: of twenty figures one is beyond its 95 % interval by chance alone.
PRIMARY = (LOSS_PER_REPORT, "ROUGE-L", "findings F1")
# With fewer, percentile intervals are so narrow that chance passes too often: with three figures in 31 % of trials on 3
# patients, in 5 % on 20.
LEAST_PATIENTS = 20


@dataclass(frozen=True)
class Figure:
    """One figure with the record's ECG, with another patient's and with a flat line, and what is lost by these."""

    right: Interval
    other: Interval | None = None
    flat: Interval | None = None
    gap_other: Interval | None = None
    gap_flat: Interval | None = None


@dataclass(frozen=True)
class Grounding:
    """The figures of one system, and whether they show that it reads the ECG.

    Attributes:
        figures: by name.
        reads_the_ecg: whether a primary figure is better with the right ECG than with another patient's, beyond its
            interval at 95 % for all primary figures together (Bonferroni); None where ECGs were not exchanged, or where
            one is better on fewer than `LEAST_PATIENTS` patients.
        verdict: the same as a sentence.
    """

    figures: Mapping[str, Figure]
    reads_the_ecg: bool | None
    verdict: str


def grounding(
    patient_ids: Sequence[str], statistics: Mapping[str, Mapping[str, Statistic]], seed: int = 0
) -> Grounding:
    """Figures with their 95 % intervals (bootstrap over patients), each gap resampled on the same patients.

    Args:
        patient_ids: one per record.
        statistics: "right", and "other" and "flat" where they were run, to figures by name.
        seed: of the bootstrap.
    """
    drawn = resample(
        patient_ids,
        {(shown, name): figure for shown, of in statistics.items() for name, figure in of.items()},
        seed=seed,
    )
    names = list(statistics[RIGHT])
    figures = {name: _figure(drawn, name) for name in names}
    if OTHER not in statistics:
        return Grounding(figures, None, "The ECGs were not exchanged: whether the system reads them is not known.")
    patients = len(set(patient_ids))
    primary = [name for name in PRIMARY if name in names]
    better = [name for name in primary if _is_better(drawn, name, 1 - (1 - CONFIDENCE) / len(primary))]
    listed = ", ".join(primary)
    if better and patients < LEAST_PATIENTS:
        verdict = (
            f"{', '.join(better)} better with the right ECG than with another patient's, but on {patients} patients; "
            f"with fewer than {LEAST_PATIENTS} chance is seen too often: whether the system reads the ECG is not known."
        )
        return Grounding(figures, None, verdict)
    if better:
        verdict = (
            f"{', '.join(better)} better with the right ECG than with another patient's, beyond the interval at 95 % "
            f"for {listed} together: a sign that the system reads the ECG."
        )
    else:
        verdict = (
            f"None of {listed} is better with the right ECG than with another patient's, beyond the interval at 95 % "
            "for all of them together: no sign that the system reads the ECG."
        )
    return Grounding(figures, bool(better), verdict)


def _figure(drawn: Mapping[tuple[str, str], Resampled], name: str) -> Figure:
    right, other, flat = (drawn.get((shown, name)) for shown in (RIGHT, OTHER, FLAT))
    return Figure(
        right.interval(),
        None if other is None else other.interval(),
        None if flat is None else flat.interval(),
        None if other is None else (right - other).interval(),
        None if flat is None else (right - flat).interval(),
    )


def _is_better(drawn: Mapping[tuple[str, str], Resampled], name: str, confidence: float) -> bool:
    gap = (drawn[RIGHT, name] - drawn[OTHER, name]).interval(confidence)
    if math.isnan(gap.low):
        return False
    return gap.high < 0 if name in LOWER_IS_BETTER else gap.low > 0


def loss_statistics(nats: Sequence[float], tokens: Sequence[int]) -> dict[str, Statistic]:
    """Loss per token (each token weighs the same) and per report, from nats and tokens of each report."""
    nats, tokens = np.asarray(nats, dtype=np.float64), np.asarray(tokens, dtype=np.int64)
    return {
        LOSS: lambda rows: nats[rows].sum() / tokens[rows].sum(),
        LOSS_PER_REPORT: lambda rows: nats[rows].mean(),
    }


def contradiction_statistics(checked: Sequence[int], contradicted: Sequence[int]) -> dict[str, Statistic]:
    """Share of the statements that can be measured which the record's own signal contradicts; NaN where there are none.

    Args:
        checked: per report, how many of its statements have a measurement.
        contradicted: per report, how many of these disagree with it.
    """
    checked, contradicted = np.asarray(checked, dtype=np.int64), np.asarray(contradicted, dtype=np.int64)

    def share(rows: np.ndarray) -> float:
        total = checked[rows].sum()
        return float(contradicted[rows].sum() / total) if total else math.nan

    return {CONTRADICTED: share}
