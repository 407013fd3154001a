"""The task `quality`: how well drafts match their references, and how much of that hangs on the ECG.

Each figure is computed twice: with the ECG of the record, and with that of another patient. A system that has
learnt only what reports usually say scores the same both times.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .bootstrap import Interval, Statistic, bootstrap_difference, bootstrap_interval
from .text_metrics import bleu_counts, bleu_from_counts, rouge_l_per_report

LOSS = "loss (nats per token)"
LOSS_PER_REPORT = "loss (nats per report)"
ROUGE_L = "ROUGE-L"


@dataclass(frozen=True)
class Figure:
    """One figure with the right ECG, with another patient's, and right minus other, each with its 95 % interval."""

    right: Interval
    other: Interval
    gap: Interval


@dataclass(frozen=True)
class Outcome:
    """What one system did on the records, with one choice of ECGs: per record, in the records' order."""

    nats: np.ndarray
    tokens: np.ndarray
    drafts: Sequence[str]


def quality_figures(
    references: Sequence[str], patient_ids: Sequence[str], right: Outcome, other: Outcome, seed: int = 0
) -> dict[str, Figure]:
    """Loss of the references, BLEU-1 to BLEU-4 and ROUGE-L of the drafts, with both choices of ECGs.

    Intervals: bootstrap over patients; that of the gap resamples both outcomes alike.

    Raises:
        ValueError: lengths differ, or a reference is empty.
    """
    for name, outcome in (("right", right), ("other", other)):
        lengths = {len(outcome.nats), len(outcome.tokens), len(outcome.drafts), len(references), len(patient_ids)}
        if len(lengths) != 1:
            raise ValueError(f"outcome {name!r}, references and patients have different lengths: {sorted(lengths)}")
    statistics = [_statistics(outcome, references) for outcome in (right, other)]
    return {
        name: Figure(
            bootstrap_interval(patient_ids, statistics[0][name], seed=seed),
            bootstrap_interval(patient_ids, statistics[1][name], seed=seed),
            bootstrap_difference(patient_ids, statistics[0][name], statistics[1][name], seed=seed),
        )
        for name in statistics[0]
    }


def _statistics(outcome: Outcome, references: Sequence[str]) -> dict[str, Statistic]:
    counts = bleu_counts(outcome.drafts, references)
    rouge = np.array(rouge_l_per_report(outcome.drafts, references))
    statistics: dict[str, Statistic] = {
        LOSS: lambda rows: outcome.nats[rows].sum() / outcome.tokens[rows].sum(),
        LOSS_PER_REPORT: lambda rows: outcome.nats[rows].mean(),
    }
    for order in range(1, 5):
        statistics[f"BLEU-{order}"] = lambda rows, order=order: bleu_from_counts(counts[rows])[f"bleu_{order}"]
    statistics[ROUGE_L] = lambda rows: rouge[rows].mean()
    return statistics


def reads_the_ecg(figures: dict[str, Figure]) -> bool:
    """Whether the right ECG makes the references less surprising or the drafts more like them.

    That is, beyond the 95 % interval, in the loss per report or in ROUGE-L: a system may draft from the ECG what its
    loss, the mean over all words, hardly shows.
    """
    return figures[LOSS_PER_REPORT].gap.high < 0 or figures[ROUGE_L].gap.low > 0


def verdict(figures: dict[str, Figure]) -> str:
    """What `reads_the_ecg` found, as a sentence."""
    if reads_the_ecg(figures):
        return "Loss or ROUGE-L is better with the right ECG, beyond its 95 % interval: a sign that the model reads it."
    return (
        "Neither loss nor ROUGE-L is better with the right ECG beyond its 95 % interval: no sign that the model "
        "reads it."
    )


def quality_table(figures: dict[str, Figure]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| | right ECG | another patient's ECG | gap (95 % interval) |",
        "|---|---|---|---|",
    ]
    for name, figure in figures.items():
        gap = figure.gap
        lines.append(
            f"| {name} | {figure.right.estimate:.3f} | {figure.other.estimate:.3f} | "
            f"{gap.estimate:+.3f} ({gap.low:+.3f} to {gap.high:+.3f}) |"
        )
    return "\n".join(lines)
