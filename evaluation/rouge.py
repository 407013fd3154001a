"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004) of each report."""

from collections.abc import Sequence

import numpy as np

from .ngrams import ngram_counts
from .tokens import check_reports, tokenize_all


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, by bits of one integer per row of the table (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << place
    everything = (1 << len(first)) - 1
    row = everything
    for token in second:
        here = row & places.get(token, 0)
        row = ((row + here) | (row - here)) & everything
    return len(first) - row.bit_count()


def rouge_per_report(drafts: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L of each report, as `rouge_score` finds them, without stemming.

    With m the number of n-grams of the draft that the reference has (each counted at most as often as there), or
    for ROUGE-L the length of the longest common subsequence of tokens: P = m / n-grams of the draft, R = m / n-grams
    of the reference, F1 = 2PR / (P + R), and 0 where m is 0. Tokens: `tokenize(report, "words")`.

    Returns:
        `{"rouge_1": ..., "rouge_2": ..., "rouge_l": ...}`, each float64 (reports,) in [0, 1].
    Raises:
        ValueError: what `check_reports` refuses.
    """
    check_reports(drafts, references)
    drafted, referred = tokenize_all(drafts, "words"), tokenize_all(references, "words")
    words, bigrams = ngram_counts(drafted, referred, 2)
    longest = np.array([common_subsequence(*pair) for pair in zip(drafted, referred, strict=True)])
    return {
        "rouge_1": _f1(words.matched, words.lengths),
        "rouge_2": _f1(bigrams.matched, np.maximum(words.lengths - 1, 0)),
        "rouge_l": _f1(longest, words.lengths),
    }


def rouge_l_per_report(drafts: Sequence[str], references: Sequence[str]) -> list[float]:
    """ROUGE-L F1 of each report: that of `rouge_per_report`."""
    return rouge_per_report(drafts, references)["rouge_l"].tolist()


def _f1(matched: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    # 2PR / (P + R) = 2m / (draft + reference)
    return 2 * matched / np.maximum(lengths.sum(axis=1), 1)
