"""CIDEr-D of each report."""

from collections.abc import Iterable, Sequence

import numpy as np

from .ngrams import NgramCounts, NgramTable, ngram_counts
from .tokens import check_reports, tokenize_all

MAX_ORDER = 4
SIGMA = 6.0


def cider_d_per_report(drafts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """CIDEr-D (Vedantam et al. 2015, equations 2 to 5) with the arithmetic of `pycocoevalcap`.

    For n = 1 to 4 the n-grams of a report make a vector of count * (ln N - ln max(1, df)), with N the number of
    reports and df the number of references that hold the n-gram. The score of order n is the cosine of the draft's
    and the reference's vector, the draft's entries cut at the reference's, times exp(-d^2 / (2 * 6^2)) with d the
    difference in length (in bigrams). CIDEr-D is 10 times the mean over n. It depends on all references: with one
    report, or where all references are the same, every weight and score is 0. Tokens: `tokenize(report, "13a")`.

    Returns:
        float64 (reports,) in [0, 10].
    Raises:
        ValueError: what `check_reports` refuses.
    """
    check_reports(drafts, references)
    return cider_d_of_ngrams(ngram_counts(tokenize_all(drafts), tokenize_all(references), MAX_ORDER))


def cider_d_of_ngrams(orders: Iterable[NgramCounts], weighted: bool = True) -> np.ndarray:
    """`cider_d_per_report` from the n-grams of orders 1 to 4.

    Args:
        weighted: False gives every n-gram the same weight, whatever its document frequency.
    """
    total = 0.0
    for counts in orders:
        bigrams = np.maximum(counts.lengths - 1, 0)
        total += _cosine(counts, _weights(counts) if weighted else np.ones(counts.ngrams))
    penalty = np.exp(-((bigrams[:, 0] - bigrams[:, 1]) ** 2) / (2 * SIGMA**2))
    return 10 * penalty * total / MAX_ORDER


def _weights(counts: NgramCounts) -> np.ndarray:
    documents = np.bincount(counts.references.ngram, minlength=counts.ngrams)
    return np.log(counts.pairs) - np.log(np.maximum(documents, 1))


def _cosine(counts: NgramCounts, weights: np.ndarray) -> np.ndarray:
    drafts = counts.drafts.count * weights[counts.drafts.ngram]
    references = counts.references.count * weights[counts.references.ngram]
    shared = references[counts.in_reference]
    product = np.minimum(drafts[counts.in_draft], shared) * shared
    dot = np.bincount(counts.drafts.report[counts.in_draft], product, counts.pairs)
    norm = _norm(counts.drafts, drafts, counts.pairs) * _norm(counts.references, references, counts.pairs)
    return np.divide(dot, norm, out=np.zeros(counts.pairs), where=norm > 0)


def _norm(table: NgramTable, values: np.ndarray, reports: int) -> np.ndarray:
    return np.sqrt(np.bincount(table.report, values**2, reports))
