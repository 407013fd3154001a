"""BLEU equals pycocoevalcap's in every case, and the definition where there is one."""

import math
from collections import Counter

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from evaluation.bleu import bleu, bleu_counts, bleu_from_counts
from evaluation.tokens import tokenize

from .report_pairs import ODD, real_pairs

REFERENCES = [
    "Sinus rhythm. Normal ECG.",
    "Atrial fibrillation with rapid ventricular response. Left axis deviation.",
    "Sinus bradycardia. Left bundle branch block. QRS duration 150 ms.",
    "sinus rhythm, first degree AV block, otherwise normal ecg.",
]
DRAFTS = [
    "sinus rhythm. normal ecg.",
    "Atrial fibrillation with rapid ventricular response. Right axis deviation.",
    "Sinus rhythm. Left bundle branch block. Left bundle branch block. Left bundle branch block.",
    "Sinus rhythm, otherwise normal.",
]


def of_pycocoevalcap(drafts, references):
    def texts(reports):
        return {index: [" ".join(tokenize(report))] for index, report in enumerate(reports)}

    scores, _ = Bleu(4).compute_score(texts(references), texts(drafts), verbose=0)
    return {f"bleu_{order}": score for order, score in enumerate(scores, start=1)}


def ngrams(tokens, order):
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


def plain_bleu(drafts, references, highest):
    log_sum, draft_length, reference_length = 0.0, 0, 0
    for draft, reference in zip(drafts, references, strict=True):
        draft_length += len(tokenize(draft))
        reference_length += len(tokenize(reference))
    for order in range(1, highest + 1):
        matched = drafted = 0
        for draft, reference in zip(drafts, references, strict=True):
            mine, theirs = ngrams(tokenize(draft), order), ngrams(tokenize(reference), order)
            matched += sum(min(count, theirs[gram]) for gram, count in mine.items())
            drafted += sum(mine.values())
        log_sum += math.log(matched / drafted) / highest
    return min(1.0, math.exp(1 - reference_length / draft_length)) * math.exp(log_sum)


def test_real_reports_score_as_with_pycocoevalcap(ptb_xl, mimic_iv_ecg):
    drafts, references = real_pairs(ptb_xl, mimic_iv_ecg)
    assert bleu(drafts, references) == pytest.approx(of_pycocoevalcap(drafts, references), abs=1e-12)


@pytest.mark.parametrize(("draft", "reference"), ODD)
def test_one_odd_report_scores_as_with_pycocoevalcap(draft, reference):
    assert bleu([draft], [reference]) == pytest.approx(of_pycocoevalcap([draft], [reference]), abs=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_it_equals_the_definition(order):
    assert bleu(DRAFTS, REFERENCES)[f"bleu_{order}"] == pytest.approx(plain_bleu(DRAFTS, REFERENCES, order))


def test_brevity_is_penalised_over_the_corpus_not_per_report():
    drafts, references = ["sinus rhythm", "normal ecg and more"], ["sinus rhythm and more", "normal ecg"]
    assert bleu(drafts, references)["bleu_1"] == pytest.approx(4 / 6)


def test_without_a_matching_four_gram_it_is_nearly_zero():
    scores = bleu(["sinus rhythm with ectopy"], ["sinus rhythm without any ectopy"])
    assert 0 < scores["bleu_4"] < 2e-4
    assert scores["bleu_1"] > 0.5


def test_counts_are_those_of_the_definition():
    counts = bleu_counts(["sinus sinus rhythm."], ["sinus rhythm. normal ecg"])
    assert counts.tolist() == [[4, 5, 3, 2, 1, 0, 4, 3, 2, 1]]


def test_counts_of_a_selection_give_the_bleu_of_that_selection():
    counts = bleu_counts(DRAFTS, REFERENCES)
    chosen = np.array([0, 2, 2, 3])
    expected = bleu([DRAFTS[i] for i in chosen], [REFERENCES[i] for i in chosen])
    assert bleu_from_counts(counts[chosen]) == pytest.approx(expected)
