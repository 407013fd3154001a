"""All figures together: their names, the two modes, and what a bootstrap draws from."""

import sys

import numpy as np
import pytest

from evaluation import text_metrics, text_statistics
from evaluation.bertscore import Encoder
from evaluation.bleu import bleu
from evaluation.cider import cider_d_per_report
from evaluation.paper_compat import paper_compat_metrics
from evaluation.rouge import rouge_per_report
from evaluation.text_metrics import TITLES, scores_per_report
from evaluation.wordnet import WordNetNotFoundError

from .report_pairs import ODD, real_pairs, wordnet_or_skip

DRAFTS, REFERENCES = (list(reports) for reports in zip(*ODD, strict=True))
STANDARD = ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_1", "rouge_2", "rouge_l", "cider_d"]


def test_the_figures_are_those_of_each_metric():
    scores = text_metrics(DRAFTS, REFERENCES, meteor=False)
    expected = bleu(DRAFTS, REFERENCES) | rouge_per_report(DRAFTS, REFERENCES)
    expected["cider_d"] = cider_d_per_report(DRAFTS, REFERENCES)
    assert scores == {name: pytest.approx(np.mean(values)) for name, values in expected.items()}


@pytest.mark.parametrize("mode", ["standard", "paper_compat"])
def test_both_modes_give_nine_figures(mode):
    wordnet_or_skip()
    scores = text_metrics(DRAFTS, REFERENCES, mode)
    assert set(scores) == set(STANDARD)
    assert all(type(value) is float for value in scores.values())


def test_paper_compat_is_that_module():
    options = {"batch_size": 3, "truncate": lambda report: report[:9]}
    expected = paper_compat_metrics(DRAFTS, REFERENCES, meteor=False, **options)
    assert text_metrics(DRAFTS, REFERENCES, "paper_compat", meteor=False, **options) == expected


def test_a_copy_of_the_references_scores_nearly_one(ptb_xl, mimic_iv_ecg):
    wordnet_or_skip()
    _, references = real_pairs(ptb_xl, mimic_iv_ecg)
    scores = text_metrics([reference.upper() for reference in references], references)
    assert [scores[name] for name in STANDARD if name not in ("meteor", "rouge_2", "cider_d")] == pytest.approx([1] * 6)
    assert scores["meteor"] > 0.95
    assert scores["cider_d"] > 8


def test_statistics_of_a_selection_are_the_figures_of_that_selection(ptb_xl, mimic_iv_ecg):
    wordnet_or_skip()
    drafts, references = real_pairs(ptb_xl, mimic_iv_ecg, 50)
    statistics = text_statistics(drafts, references)
    assert list(statistics) == [TITLES[name] for name in STANDARD]
    drawn = np.array([0, 3, 3, 7, 50, 59, 7])
    expected = text_metrics([drafts[index] for index in drawn], [references[index] for index in drawn])
    # CIDEr-D keeps the document frequencies of all references.
    expected["cider_d"] = scores_per_report(drafts, references)["cider_d"][drawn].mean()
    for name, value in expected.items():
        assert statistics[TITLES[name]](drawn) == pytest.approx(value), name


def test_without_wordnet_meteor_is_left_out_only_where_asked(tmp_path):
    with pytest.raises(WordNetNotFoundError):
        text_metrics(DRAFTS, REFERENCES, wordnet=tmp_path)
    assert "METEOR" not in text_statistics(DRAFTS, REFERENCES, meteor=False, wordnet=tmp_path)


def test_bertscore_is_added_where_an_encoder_is_given(monkeypatch):
    asked = []

    def score(drafts, references, encoder):
        asked.append(encoder)
        return {f"bertscore_{name}": np.arange(float(len(drafts))) for name in ("precision", "recall", "f1")}

    monkeypatch.setattr(sys.modules["evaluation.text_metrics"], "bertscore_per_report", score)
    scores = text_metrics(DRAFTS, REFERENCES, meteor=False, bertscore=Encoder("some/encoder", 2))
    assert scores["bertscore_f1"] == 4.5
    assert asked == [Encoder("some/encoder", 2)]
    statistics = text_statistics(DRAFTS, REFERENCES, meteor=False, bertscore=Encoder("some/encoder", 2))
    assert statistics["BERTScore F1"](np.array([1, 2])) == 1.5


@pytest.mark.parametrize("mode", ["standard", "paper_compat"])
def test_an_empty_draft_scores_zero(mode):
    wordnet_or_skip()
    scores = text_metrics(["", ""], ["sinus rhythm", "normal ecg"], mode)
    assert scores == pytest.approx(dict.fromkeys(STANDARD, 0.0), abs=1e-9)


@pytest.mark.parametrize("metric", [bleu, rouge_per_report, cider_d_per_report, text_metrics, text_statistics])
@pytest.mark.parametrize(
    ("drafts", "references", "message"),
    [
        (["a", "b"], ["a"], "2 drafts but 1 references"),
        ([], [], "no reports to score"),
        (["a", "b"], ["a", " \n"], r"references \[1\] \(1 in all\) are empty"),
        ("sinus", "sinus", "not one str"),
        ({"1": "sinus"}, {"1": "sinus"}, "not one dict"),
        ([None], ["a"], "draft 0 is NoneType"),
    ],
)
def test_bad_input_is_refused(metric, drafts, references, message):
    with pytest.raises(ValueError, match=message):
        metric(drafts, references)


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match="mode 'paper' is unknown; expected one of standard, paper_compat"):
        text_metrics(["a"], ["a"], "paper")
