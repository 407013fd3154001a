"""Counts of the n-grams of drafts and of their references, as arrays: what BLEU, ROUGE-N and CIDEr-D are made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

Tokens = Sequence[Sequence[str]]


@dataclass(frozen=True)
class NgramTable:
    """How often each n-gram occurs in each report: one row per (report, n-gram) that occurs, sorted.

    Attributes:
        report: int32 (rows,), index of the report.
        ngram: int32 (rows,), number of the n-gram, the same in drafts and references.
        count: int32 (rows,).
    """

    report: np.ndarray
    ngram: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class NgramCounts:
    """The n-grams of one order in drafts and references.

    Attributes:
        drafts, references: their tables.
        in_draft, in_reference: int32 (shared,), rows of the two tables that hold the same n-gram of the same pair.
        lengths: int64 (pairs, 2), tokens of each draft and of its reference.
        ngrams: how many different n-grams there are.
    """

    drafts: NgramTable
    references: NgramTable
    in_draft: np.ndarray
    in_reference: np.ndarray
    lengths: np.ndarray
    ngrams: int

    @property
    def pairs(self) -> int:
        """How many drafts, and references."""
        return len(self.lengths)

    @property
    def matched(self) -> np.ndarray:
        """Per pair, the n-grams of the draft that the reference has, each counted at most as often as there (int64)."""
        shared = np.minimum(self.drafts.count[self.in_draft], self.references.count[self.in_reference])
        return np.bincount(self.drafts.report[self.in_draft], shared, self.pairs).astype(np.int64)


def ngram_counts(drafts: Tokens, references: Tokens, highest: int) -> Iterator[NgramCounts]:
    """The counts of orders 1 to `highest`, one after the other, so that no more than one need be in memory.

    Args:
        drafts, references: the tokens of each, in the same order.
    """
    pairs = len(drafts)
    reports = [*drafts, *references]
    lengths = np.fromiter(map(len, reports), np.int64, len(reports))
    number_of = {token: number for number, token in enumerate(dict.fromkeys(chain.from_iterable(reports)))}
    words = np.fromiter(map(number_of.__getitem__, chain.from_iterable(reports)), np.int64, lengths.sum())
    report = np.repeat(np.arange(len(reports)), lengths)
    # Tokens from here to the end of the report: an n-gram begins where at least n are left.
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words))
    ngram, start = words, np.arange(len(words))
    different = len(number_of)
    for order in range(1, highest + 1):
        if order > 1:
            goes_on = left[start] >= order
            start = start[goes_on]
            keys = ngram[goes_on] * len(number_of) + words[start + order - 1]
            found, ngram = np.unique(keys, return_inverse=True)
            different = len(found)
        keys = report[start] * different + ngram
        is_draft = report[start] < pairs
        of_drafts, drafted = np.unique(keys[is_draft], return_counts=True)
        of_references, referred = np.unique(keys[~is_draft] - pairs * different, return_counts=True)
        _, in_draft, in_reference = np.intersect1d(of_drafts, of_references, assume_unique=True, return_indices=True)
        yield NgramCounts(
            _table(of_drafts, drafted, different),
            _table(of_references, referred, different),
            in_draft.astype(np.int32),
            in_reference.astype(np.int32),
            lengths.reshape(2, pairs).T,
            different,
        )


def _table(keys: np.ndarray, count: np.ndarray, different: int) -> NgramTable:
    report, ngram = np.divmod(keys, max(different, 1))
    return NgramTable(report.astype(np.int32), ngram.astype(np.int32), count.astype(np.int32))
