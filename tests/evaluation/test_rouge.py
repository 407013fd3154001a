"""ROUGE equals rouge_score's, and the definition."""

import random

import pytest
from rouge_score.rouge_scorer import RougeScorer

from evaluation.rouge import common_subsequence, rouge_l_per_report, rouge_per_report
from evaluation.tokens import tokenize

from .report_pairs import real_pairs

NAMES = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


class Words:
    def tokenize(self, text):
        return tokenize(text, "words")


def plain_common_subsequence(first, second):
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, left in enumerate(first):
        for j, right in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if left == right else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def test_real_reports_score_as_with_rouge_score(ptb_xl, mimic_iv_ecg):
    drafts, references = real_pairs(ptb_xl, mimic_iv_ecg)
    scorer = RougeScorer(list(NAMES.values()), tokenizer=Words())
    expected = [scorer.score(*pair) for pair in zip(references, drafts, strict=True)]
    found = rouge_per_report(drafts, references)
    for name, theirs in NAMES.items():
        assert found[name].tolist() == pytest.approx([scores[theirs].fmeasure for scores in expected], abs=1e-12)
    assert rouge_l_per_report(drafts, references) == found["rouge_l"].tolist()


def test_the_common_subsequence_is_the_longest():
    rng = random.Random(0)
    for _ in range(300):
        first, second = (rng.choices("abcd", k=rng.randrange(90)) for _ in range(2))
        assert common_subsequence(first, second) == plain_common_subsequence(first, second)


def test_words_in_another_order_count_for_rouge_1_alone():
    scores = rouge_per_report(["a b c d"], ["d c b a"])
    assert [scores[name][0] for name in NAMES] == pytest.approx([1, 0, 0.25])


def test_a_report_without_a_word_scores_zero():
    assert [values.tolist() for values in rouge_per_report(["", "..."], ["normal", "---"]).values()] == [[0, 0]] * 3
