"""The module for `evaluate`, loaded from the checkout, gives what `evaluation.text_metrics` gives."""

import sys
from pathlib import Path

import evaluate
import pytest

from evaluation import text_metrics
from evaluation.bertscore import Encoder

from .report_pairs import wordnet_or_skip

MODULE = Path(__file__).resolve().parents[2] / "evaluation" / "report_metrics"
DRAFTS = ["Sinus rhythm.", "Atrial fibrillation.", ""]
REFERENCES = ["Sinus rhythm. Normal ECG.", "Atrial fibrillation, rate 90.", "Für den Rest normal."]


@pytest.fixture(scope="module")
def metric():
    return evaluate.load(str(MODULE))


@pytest.mark.parametrize("mode", ["standard", "paper_compat"])
def test_it_gives_the_same_figures(metric, mode):
    wordnet_or_skip()
    expected = text_metrics(DRAFTS, REFERENCES, mode, batch_size=2)
    assert metric.compute(predictions=DRAFTS, references=REFERENCES, mode=mode, batch_size=2) == expected


def test_batches_count_as_one_corpus(metric):
    for draft, reference in zip(DRAFTS, REFERENCES, strict=True):
        metric.add(predictions=draft, references=reference)
    assert metric.compute(meteor=False) == text_metrics(DRAFTS, REFERENCES, meteor=False)


def test_an_encoder_adds_bertscore(metric, monkeypatch):
    asked = []

    def score(drafts, references, encoder):
        asked.append(encoder)
        return {}

    monkeypatch.setattr(sys.modules["evaluation.text_metrics"], "bertscore_per_report", score)
    options = {"encoder": "some/encoder", "layer": 9, "baseline": None}
    metric.compute(predictions=DRAFTS, references=REFERENCES, meteor=False, **options)
    assert asked == [Encoder("some/encoder", 9, None)]


def test_an_empty_reference_is_refused(metric):
    with pytest.raises(ValueError, match="are empty"):
        metric.compute(predictions=["x"], references=[" "])
