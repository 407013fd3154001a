"""The mode `paper_compat` equals the packages, called as the published code calls them."""

import re

import numpy as np
import pytest
from nltk.tokenize import wordpunct_tokenize
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider_scorer import CiderScorer
from pycocoevalcap.rouge.rouge import Rouge as RougeL
from rouge import Rouge

from evaluation.meteor import meteor_of_tokens
from evaluation.paper_compat import paper_compat_metrics

from .report_pairs import real_pairs, wordnet_or_skip


def spaced(reports):
    return {str(index): [re.sub(" +", " ", report.replace(".", " ."))] for index, report in enumerate(reports)}


def batch_by_the_packages(drafts, references, frequencies):
    gts, res = spaced(references), spaced(drafts)
    scores = {f"bleu_{n}": score for n, score in enumerate(Bleu(4).compute_score(gts, res, verbose=0)[0], start=1)}
    scores["rouge_l"] = RougeL().compute_score(gts, res)[0]
    cider = CiderScorer()
    cider.document_frequency = frequencies
    for key in gts:
        cider += (res[key][0], gts[key])
    scores["cider_d"] = np.mean(cider.compute_cider())
    for order in (1, 2):
        scores[f"rouge_{order}"] = np.mean([rouge_n(*pair, order) for pair in zip(drafts, references, strict=True)])
    return scores


def rouge_n(draft, reference, order):
    try:
        return Rouge(metrics=[f"rouge-{order}"]).get_scores(draft, reference)[0][f"rouge-{order}"]["f"]
    except ValueError:  # without a word
        return 0.0


@pytest.mark.parametrize(("number", "batch_size"), [(1000, 8), (25, 12), (20, 29), (15, 1)])
def test_real_reports_score_as_with_the_packages(ptb_xl, mimic_iv_ecg, number, batch_size):
    drafts, references = real_pairs(ptb_xl, mimic_iv_ecg, number)
    # All references as those of one record, as the published code gives them.
    corpus = CiderScorer(refs=[" ".join(wordpunct_tokenize(reference.lower())) for reference in references])
    corpus.compute_doc_freq()
    expected = [
        batch_by_the_packages(
            drafts[start : start + batch_size], references[start : start + batch_size], corpus.document_frequency
        )
        for start in range(0, len(drafts), batch_size)
    ]
    found = paper_compat_metrics(drafts, references, batch_size=batch_size, meteor=False)
    assert set(found) == set(expected[0])
    for name, value in found.items():
        assert value == pytest.approx(np.mean([scores[name] for scores in expected]), abs=1e-9), name


def test_meteor_sees_the_tokens_of_word_tokenize():
    wordnet_or_skip()
    draft, reference = "Sinus rhythm. QT 4.5 (long), can't exclude MI.", "sinus rhythm. MI."
    tokens = ["Sinus", "rhythm", ".", "QT", "4.5", "(", "long", ")", ",", "ca", "n't", "exclude", "MI", "."]
    expected = meteor_of_tokens([tokens], [["sinus", "rhythm", ".", "MI", "."]])
    assert paper_compat_metrics([draft], [reference])["meteor"] == pytest.approx(expected[0])


def test_the_last_batch_counts_as_much_as_a_whole_one():
    drafts, references = ["normal ecg"] * 8 + ["pacing"], ["normal ecg"] * 8 + ["sinus rhythm"]
    assert paper_compat_metrics(drafts, references, meteor=False)["rouge_l"] == pytest.approx(0.5)


def test_references_are_truncated_and_drafts_are_not():
    scores = paper_compat_metrics(["a b"], ["a b c"], truncate=lambda report: report[:3], meteor=False)
    assert scores["rouge_l"] == pytest.approx(1)


def test_a_reference_that_is_truncated_to_nothing_is_refused():
    with pytest.raises(ValueError, match=r"references \[0\] \(1 in all\) are empty"):
        paper_compat_metrics(["a"], ["a"], truncate=lambda report: "", meteor=False)


def test_a_batch_without_reports_is_refused():
    with pytest.raises(ValueError, match="batch_size is 0, expected at least 1"):
        paper_compat_metrics(["a"], ["a"], batch_size=0)
