"""BLEU and ROUGE-L against plain implementations written here from the definitions."""

import math
import re
from collections import Counter

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from evaluation import bleu, bleu_counts, bleu_from_counts, rouge_l, rouge_l_per_report, text_metrics

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


def tokens_13a(text):
    """13a for text without numbers around punctuation, entities or hyphens: punctuation stands alone."""
    return re.sub(r"([.,])", r" \1 ", text.lower()).split()


def ngrams(tokens, order):
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


def plain_bleu(drafts, references, highest):
    log_sum, draft_length, reference_length = 0.0, 0, 0
    for draft, reference in zip(drafts, references, strict=True):
        draft_length += len(tokens_13a(draft))
        reference_length += len(tokens_13a(reference))
    for order in range(1, highest + 1):
        matched = drafted = 0
        for draft, reference in zip(drafts, references, strict=True):
            mine, theirs = ngrams(tokens_13a(draft), order), ngrams(tokens_13a(reference), order)
            matched += sum(min(count, theirs[gram]) for gram, count in mine.items())
            drafted += sum(mine.values())
        if matched == 0:
            return 0.0
        log_sum += math.log(matched / drafted) / highest
    return min(1.0, math.exp(1 - reference_length / draft_length)) * math.exp(log_sum)


def plain_rouge_l(draft, reference):
    mine, theirs = re.findall(r"\w+", draft.lower()), re.findall(r"\w+", reference.lower())
    table = [[0] * (len(theirs) + 1) for _ in range(len(mine) + 1)]
    for i, left in enumerate(mine):
        for j, right in enumerate(theirs):
            table[i + 1][j + 1] = table[i][j] + 1 if left == right else max(table[i][j + 1], table[i + 1][j])
    common = table[-1][-1]
    return 2 * common / (len(mine) + len(theirs)) if common else 0.0


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_equals_the_definition(order):
    assert bleu(DRAFTS, REFERENCES)[f"bleu_{order}"] == pytest.approx(plain_bleu(DRAFTS, REFERENCES, order))


def test_bleu_4_equals_sacrebleus_corpus_score():
    expected = sacrebleu.corpus_bleu(DRAFTS, [REFERENCES], lowercase=True, smooth_method="none").score / 100
    assert bleu(DRAFTS, REFERENCES)["bleu_4"] == pytest.approx(expected)


def test_brevity_is_penalised_over_the_corpus_not_per_report():
    drafts, references = ["sinus rhythm", "normal ecg and more"], ["sinus rhythm and more", "normal ecg"]
    assert bleu(drafts, references)["bleu_1"] == pytest.approx(plain_bleu(drafts, references, 1))
    assert bleu(drafts, references)["bleu_1"] == pytest.approx(4 / 6)


def test_bleu_without_a_matching_four_gram_is_zero():
    scores = bleu(["sinus rhythm with ectopy"], ["sinus rhythm without any ectopy"])
    assert scores["bleu_4"] == 0
    assert scores["bleu_1"] > 0


def test_counts_of_a_selection_give_the_bleu_of_that_selection():
    counts = bleu_counts(DRAFTS, REFERENCES)
    assert counts.shape == (4, 10)
    chosen = np.array([0, 2, 2, 3])
    expected = bleu([DRAFTS[i] for i in chosen], [REFERENCES[i] for i in chosen])
    assert bleu_from_counts(counts[chosen]) == pytest.approx(expected)


def test_rouge_l_equals_the_definition():
    expected = [plain_rouge_l(d, r) for d, r in zip(DRAFTS, REFERENCES, strict=True)]
    assert rouge_l_per_report(DRAFTS, REFERENCES) == pytest.approx(expected)
    assert rouge_l(DRAFTS, REFERENCES) == pytest.approx(sum(expected) / 4)


def test_rouge_l_of_ascii_reports_equals_rouge_scores_own_tokens():
    stock = RougeScorer(["rougeL"])
    expected = [stock.score(r, d)["rougeL"].fmeasure for d, r in zip(DRAFTS, REFERENCES, strict=True)]
    assert rouge_l_per_report(DRAFTS, REFERENCES) == pytest.approx(expected)


def test_rouge_l_keeps_words_with_umlauts_whole():
    assert rouge_l(["verdacht für block"], ["verdacht fxr block"]) == pytest.approx(2 / 3)


def test_the_same_report_scores_one_in_any_case():
    scores = text_metrics([report.upper() for report in REFERENCES], REFERENCES)
    assert scores == pytest.approx(dict.fromkeys(("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"), 1.0))


def test_an_empty_draft_scores_zero_and_counts():
    assert rouge_l(["", "normal ecg"], ["normal ecg", "normal ecg"]) == 0.5
    assert bleu([""], ["normal ecg"])["bleu_1"] == 0


@pytest.mark.parametrize("metric", [bleu, rouge_l, rouge_l_per_report, bleu_counts, text_metrics])
@pytest.mark.parametrize(
    ("drafts", "references", "message"),
    [
        (["a", "b"], ["a"], "2 drafts but 1 references"),
        ([], [], "no reports to score"),
        (["a", "b"], ["a", " \n"], r"references \[1\] \(1 in all\) are empty"),
        ("sinus", "sinus", "not one string"),
        ([None], ["a"], "draft 0 is NoneType"),
    ],
)
def test_bad_input_is_refused(metric, drafts, references, message):
    with pytest.raises(ValueError, match=message):
        metric(drafts, references)
