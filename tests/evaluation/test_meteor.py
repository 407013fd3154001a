"""METEOR equals NLTK's."""

import numpy as np
import pytest
from nltk.translate.meteor_score import meteor_score

from evaluation.meteor import meteor_per_report
from evaluation.tokens import tokenize
from evaluation.wordnet import WordNetNotFoundError

from .report_pairs import real_pairs, wordnet_or_skip


class Lemma:
    def __init__(self, name):
        self.name = lambda: name


class Synset:
    def __init__(self, names):
        self.lemmas = lambda: [Lemma(name) for name in names]


class Dictionary:
    """What NLTK's METEOR asks of WordNet, from our synonyms; tests/evaluation/test_wordnet.py compares those."""

    def __init__(self, wordnet):
        self.synsets = lambda word: [Synset(wordnet.synonyms(word))]


def test_real_reports_score_as_with_nltk(ptb_xl, mimic_iv_ecg):
    dictionary = Dictionary(wordnet_or_skip())
    drafts, references = real_pairs(ptb_xl, mimic_iv_ecg)
    expected = [
        meteor_score([tokenize(reference)], tokenize(draft), wordnet=dictionary)
        for draft, reference in zip(drafts, references, strict=True)
    ]
    np.testing.assert_allclose(meteor_per_report(drafts, references), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("draft", "reference", "expected"),
    [
        ("normal", "normal", 0.5),  # one chunk of one pair
        ("a b c d", "a b c d", 1 - 0.5 / 4**3),
        ("a b", "b a", 0.5),  # two chunks
        ("a b c d", "a b", 0.5 / (0.9 * 0.5 + 0.1) * (1 - 0.5 / 2**3)),  # P = 1/2, R = 1
        ("hearts", "heart", 0.5),  # same stem
        ("fast", "quick", 0.5),  # synonyms
        ("fast now", "quick or firm now", 0.5 / (0.9 + 0.1 * 0.5) * (1 - 0.5 / 2**3)),  # the last of two synonyms
        ("x", "y", 0),
        ("", "y", 0),
    ],
)
def test_it_is_the_formula(draft, reference, expected):
    wordnet_or_skip()
    assert meteor_per_report([draft], [reference]) == pytest.approx([expected])


def test_a_folder_without_wordnet_is_named(tmp_path):
    with pytest.raises(WordNetNotFoundError, match=f"{tmp_path.name}: no WordNet"):
        meteor_per_report(["a"], ["a"], wordnet=tmp_path)
