"""Reports in, numbers out. Imports no model."""

from .bertscore import Encoder
from .bleu import bleu, bleu_counts, bleu_from_counts
from .bootstrap import Interval, bootstrap_interval
from .permutation import other_patients
from .rouge import rouge_l_per_report
from .text_metrics import scores_per_report, text_metrics, text_statistics
from .tokens import tokenize
from .wordnet import WordNetNotFoundError

__all__ = [
    "Encoder",
    "Interval",
    "WordNetNotFoundError",
    "bleu",
    "bleu_counts",
    "bleu_from_counts",
    "bootstrap_interval",
    "other_patients",
    "rouge_l_per_report",
    "scores_per_report",
    "text_metrics",
    "text_statistics",
    "tokenize",
]
