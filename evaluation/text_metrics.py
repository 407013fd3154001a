"""How much a drafted report's wording resembles its reference: BLEU, METEOR, ROUGE, CIDEr-D and BERTScore.

They compare words, not findings: "no ST elevation" and "ST elevation" differ by one word.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .bertscore import Encoder, bertscore_per_report
from .bleu import MAX_ORDER, bleu_counts_of_ngrams, bleu_from_counts, bleu_from_totals
from .bootstrap import Statistic
from .cider import cider_d_of_ngrams
from .meteor import meteor_of_tokens
from .ngrams import ngram_counts
from .paper_compat import BATCH_SIZE, paper_compat_metrics
from .rouge import rouge_per_report
from .tokens import check_reports, tokenize_all

MODES = ("standard", "paper_compat")
# key of a figure -> its name in tables
TITLES = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "meteor": "METEOR",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "cider_d": "CIDEr-D",
    "bertscore_precision": "BERTScore precision",
    "bertscore_recall": "BERTScore recall",
    "bertscore_f1": "BERTScore F1",
}


def scores_per_report(
    drafts: Sequence[str],
    references: Sequence[str],
    *,
    meteor: bool = True,
    wordnet: str | Path | None = None,
    bertscore: Encoder | None = None,
) -> dict[str, np.ndarray]:
    """The figures that are means over the reports, before the mean: all but BLEU, each float64 (reports,).

    Arguments and errors are those of `text_metrics`.
    """
    return _count(drafts, references, meteor, wordnet, bertscore)[1]


def _count(
    drafts: Sequence[str],
    references: Sequence[str],
    meteor: bool,
    wordnet: str | Path | None,
    bertscore: Encoder | None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """`bleu_counts`, and the figures of each report."""
    check_reports(drafts, references)
    tokens = tokenize_all(drafts), tokenize_all(references)
    scores = {"meteor": meteor_of_tokens(*tokens, wordnet)} if meteor else {}
    scores |= rouge_per_report(drafts, references)
    ngrams = list(ngram_counts(*tokens, MAX_ORDER))
    scores["cider_d"] = cider_d_of_ngrams(ngrams)
    if bertscore is not None:
        scores |= bertscore_per_report(drafts, references, bertscore)
    return bleu_counts_of_ngrams(ngrams), scores


def text_metrics(
    drafts: Sequence[str],
    references: Sequence[str],
    mode: str = "standard",
    *,
    meteor: bool = True,
    wordnet: str | Path | None = None,
    bertscore: Encoder | None = None,
    batch_size: int = BATCH_SIZE,
    truncate: Callable[[str], str] | None = None,
) -> dict[str, float]:
    """All figures of drafts against one reference each.

    Standard: BLEU over the corpus, CIDEr-D with the document frequencies of the references, and means over the reports;
    see `bleu`, `meteor_per_report`, `rouge_per_report`, `cider_d_per_report`, `bertscore_per_report`. Mode
    `paper_compat`: see `paper_compat_metrics`.

    Args:
        mode: "standard" or "paper_compat".
        meteor: False leaves METEOR out, which needs WordNet.
        wordnet: folder of WordNet 3.0; default: where `find_wordnet` finds it.
        bertscore: adds BERTScore with this encoder.
        batch_size, truncate: of `paper_compat` alone.
    Returns:
        `bleu_1` to `bleu_4`, `meteor`, `rouge_1`, `rouge_2`, `rouge_l` in [0, 1], `cider_d` in [0, 10], and with an
        encoder `bertscore_precision`, `bertscore_recall`, `bertscore_f1` (at most 1; negative where worse than
        unrelated reports).
    Raises:
        ValueError: an unknown mode, unequal lengths, no reports at all, a report that is no string, or an empty
            reference. An empty draft is allowed and scores 0.
        WordNetNotFoundError: no WordNet, and METEOR is not left out.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is unknown; expected one of {', '.join(MODES)}")
    if mode == "paper_compat":
        return paper_compat_metrics(
            drafts,
            references,
            batch_size=batch_size,
            truncate=truncate,
            meteor=meteor,
            wordnet=wordnet,
            bertscore=bertscore,
        )
    counts, scores = _count(drafts, references, meteor, wordnet, bertscore)
    return {**bleu_from_counts(counts), **{name: float(values.mean()) for name, values in scores.items()}}


def text_statistics(
    drafts: Sequence[str],
    references: Sequence[str],
    *,
    meteor: bool = True,
    wordnet: str | Path | None = None,
    bertscore: Encoder | None = None,
) -> dict[str, Statistic]:
    """The figures of `text_metrics` (standard) as functions of which reports are drawn, for a bootstrap.

    Everything is counted once, here. CIDEr-D keeps the document frequencies of all references in every resample.

    Arguments and errors are those of `text_metrics`.
    Returns:
        one function of the indices of reports (with repeats) per figure, under its name in tables ("BLEU-1", ...).
        Of BERTScore only F1.
    """
    counts, scores = _count(drafts, references, meteor, wordnet, bertscore)
    counts = counts.astype(np.float64)
    statistics: dict[str, Statistic] = {
        TITLES[name]: lambda indices, name=name: bleu_from_totals(_times_drawn(indices, len(counts)) @ counts)[name]
        for name in ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
    }
    for name, values in scores.items():
        if name not in ("bertscore_precision", "bertscore_recall"):
            statistics[TITLES[name]] = lambda indices, values=values: float(values[indices].mean())
    return statistics


def _times_drawn(indices: np.ndarray, reports: int) -> np.ndarray:
    return np.bincount(indices, minlength=reports).astype(np.float64)
