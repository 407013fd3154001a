"""METEOR of each report."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from .tokens import check_reports, tokenize_all
from .wordnet import open_wordnet

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5


def meteor_per_report(
    drafts: Sequence[str], references: Sequence[str], wordnet: str | Path | None = None
) -> np.ndarray:
    """METEOR (Lavie and Agarwal 2007) of each report, as `nltk.translate.meteor_score` finds it.

    Words are paired from the last to the first: same word, then same stem (Porter), then synonyms (WordNet 3.0).
    With m pairs, P = m / tokens of the draft, R = m / tokens of the reference, Fmean = PR / (.9 P + .1 R), and c
    the number of chunks, runs of pairs that are adjacent in both: METEOR = Fmean * (1 - .5 * (c / m)^3), and 0
    where m is 0. A report that equals its reference so scores a little less than 1. Tokens:
    `tokenize(report, "13a")`.

    Args:
        wordnet: folder of WordNet 3.0; default: where `find_wordnet` finds it.
    Returns:
        float64 (reports,) in [0, 1].
    Raises:
        ValueError: what `check_reports` refuses.
        WordNetNotFoundError: no WordNet; the message says how to get it.
    """
    check_reports(drafts, references)
    return meteor_of_tokens(tokenize_all(drafts), tokenize_all(references), wordnet)


def meteor_of_tokens(
    drafts: Sequence[Sequence[str]], references: Sequence[Sequence[str]], wordnet: str | Path | None = None
) -> np.ndarray:
    """`meteor_per_report` of reports that are tokens already."""
    words = _Words(open_wordnet(wordnet).synonyms)
    return np.array([_score(words, *pair) for pair in zip(drafts, references, strict=True)])


class _Words:
    """Stems and synonyms of words, each found once."""

    def __init__(self, synonyms: Callable[[str], Collection[str]]):
        # Imported here: NLTK takes seconds to import.
        from nltk.stem.porter import PorterStemmer

        self.synonyms = synonyms
        self._stem = PorterStemmer().stem
        self._stems: dict[str, str] = {}

    def stem(self, word: str) -> str:
        if word not in self._stems:
            self._stems[word] = self._stem(word)
        return self._stems[word]


# A word with its place in the report.
_Placed = list[tuple[int, str]]


def _score(words: _Words, draft: Sequence[str], reference: Sequence[str]) -> float:
    pairs = _align(words, [token.lower() for token in draft], [token.lower() for token in reference])
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(draft), len(pairs) / len(reference)
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    chunks = 1 + sum(
        (draft_place + 1, reference_place + 1) != following
        for (draft_place, reference_place), following in zip(pairs, pairs[1:], strict=False)
    )
    return (1 - GAMMA * (chunks / len(pairs)) ** BETA) * mean


def _align(words: _Words, draft: list[str], reference: list[str]) -> list[tuple[int, int]]:
    """The pairs of places, by place in the draft."""
    pairs, draft_left, reference_left = _pair_equal(list(enumerate(draft)), list(enumerate(reference)))
    if draft_left and reference_left:
        stemmed, draft_left, reference_left = _pair_equal(
            [(place, words.stem(word)) for place, word in draft_left],
            [(place, words.stem(word)) for place, word in reference_left],
        )
        # NLTK looks up the synonyms of stems, not of the words themselves.
        pairs += stemmed + _pair_synonyms(words, draft_left, reference_left)
    return sorted(pairs)


def _pair_equal(draft: _Placed, reference: _Placed) -> tuple[list[tuple[int, int]], _Placed, _Placed]:
    """Pairs of equal words, each with the last one that is free, and what is left of both."""
    free: dict[str, list[int]] = {}
    for index, (_, word) in enumerate(reference):
        free.setdefault(word, []).append(index)
    pairs, draft_left, taken = [], [], set()
    for place, word in reversed(draft):
        if indices := free.get(word):
            index = indices.pop()
            taken.add(index)
            pairs.append((place, reference[index][0]))
        else:
            draft_left.append((place, word))
    draft_left.reverse()
    return pairs, draft_left, [placed for index, placed in enumerate(reference) if index not in taken]


def _pair_synonyms(words: _Words, draft: _Placed, reference: _Placed) -> list[tuple[int, int]]:
    pairs, free = [], reference[::-1]
    for place, word in reversed(draft):
        synonyms = words.synonyms(word)
        for index, (reference_place, candidate) in enumerate(free):
            if candidate in synonyms:
                pairs.append((place, reference_place))
                del free[index]
                break
    return pairs
