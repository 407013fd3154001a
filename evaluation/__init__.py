"""Reports in, numbers out. Imports no model."""

from .bootstrap import Interval, bootstrap_difference, bootstrap_interval
from .permutation import other_patients
from .text_metrics import bleu, bleu_counts, bleu_from_counts, rouge_l, rouge_l_per_report, text_metrics

__all__ = [
    "Interval",
    "bleu",
    "bleu_counts",
    "bleu_from_counts",
    "bootstrap_difference",
    "bootstrap_interval",
    "other_patients",
    "rouge_l",
    "rouge_l_per_report",
    "text_metrics",
]
