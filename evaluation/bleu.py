"""Corpus BLEU-1 to BLEU-4."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from .ngrams import NgramCounts, ngram_counts
from .tokens import check_reports, tokenize_all

MAX_ORDER = 4
# As in pycocoevalcap: what is added to matched and to drafted n-grams, so that nothing is divided by 0.
TINY, SMALL = 1e-15, 1e-9


def bleu_counts(drafts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """The counts that corpus BLEU is made of, one row per report.

    Rows may be summed over any selection of reports and given to `bleu_from_counts`, so that a bootstrap
    counts n-grams once instead of once per resample.

    Returns:
        int64 (reports, 10): draft length, reference length, matched 1- to 4-grams, drafted 1- to 4-grams.
    Raises:
        ValueError: what `check_reports` refuses. An empty draft is allowed and matches nothing.
    """
    check_reports(drafts, references)
    return bleu_counts_of_ngrams(ngram_counts(tokenize_all(drafts), tokenize_all(references), MAX_ORDER))


def bleu_counts_of_ngrams(orders: Iterable[NgramCounts]) -> np.ndarray:
    """`bleu_counts` from the n-grams of orders 1 to 4."""
    matched = []
    for counts in orders:
        lengths = counts.lengths
        matched.append(counts.matched)
    drafted = [np.maximum(lengths[:, 0] - order, 0) for order in range(MAX_ORDER)]
    return np.column_stack([lengths, *matched, *drafted])


def bleu_from_counts(counts: np.ndarray) -> dict[str, float]:
    """BLEU-1 to BLEU-4 of the reports whose rows of `bleu_counts` are given.

    Args:
        counts: int (reports, 10), one row per report; a row may occur more than once.
    Returns:
        `{"bleu_1": ..., "bleu_4": ...}`, each in [0, 1].
    """
    return bleu_from_totals(np.asarray(counts).sum(axis=0))


def bleu_from_totals(totals: Sequence[float]) -> dict[str, float]:
    """BLEU-1 to BLEU-4 from the ten sums over the reports, in the order of `bleu_counts`' columns."""
    draft_length, reference_length, *ngrams = (float(total) for total in totals)
    ratio = (draft_length + TINY) / (reference_length + SMALL)
    brevity = math.exp(min(0.0, 1 - 1 / ratio))
    scores, product = {}, 1.0
    for order, (matched, drafted) in enumerate(zip(ngrams[:MAX_ORDER], ngrams[MAX_ORDER:], strict=True), start=1):
        product *= (matched + TINY) / (drafted + SMALL)
        scores[f"bleu_{order}"] = brevity * product ** (1 / order)
    return scores


def bleu(drafts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU (Papineni et al. 2002) with the arithmetic of `pycocoevalcap`, one reference per report.

    BLEU-n = BP * (p_1 * ... * p_n)^(1/n). p_k is the number of k-grams of the drafts that occur in their own
    reference (each counted at most as often as there) + 1e-15, divided by the number of k-grams in the drafts +
    1e-9, both summed over the corpus. BP = min(1, exp(1 - r / c)) with r and c the total length of the references
    and of the drafts. Tokens: `tokenize(report, "13a")`. A corpus without a matching n-gram so scores nearly 0:
    at most about 2e-4 for BLEU-4.

    Returns:
        `{"bleu_1": ..., "bleu_2": ..., "bleu_3": ..., "bleu_4": ...}`, each in [0, 1].
    Raises:
        ValueError: what `check_reports` refuses.
    """
    return bleu_from_counts(bleu_counts(drafts, references))
