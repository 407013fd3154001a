"""The module for `evaluate`, loaded from the checkout, gives what `evaluation.text_metrics` gives."""

from pathlib import Path

import evaluate
import pytest

from evaluation import text_metrics

MODULE = Path(__file__).resolve().parents[2] / "evaluation" / "report_metrics"
DRAFTS = ["Sinus rhythm.", "Atrial fibrillation.", ""]
REFERENCES = ["Sinus rhythm. Normal ECG.", "Atrial fibrillation, rate 90.", "Für den Rest normal."]


@pytest.fixture(scope="module")
def metric():
    return evaluate.load(str(MODULE))


def test_it_gives_the_same_figures(metric):
    assert metric.compute(predictions=DRAFTS, references=REFERENCES) == text_metrics(DRAFTS, REFERENCES)


def test_batches_count_as_one_corpus(metric):
    for draft, reference in zip(DRAFTS, REFERENCES, strict=True):
        metric.add(predictions=draft, references=reference)
    assert metric.compute() == text_metrics(DRAFTS, REFERENCES)


def test_an_empty_reference_is_refused(metric):
    with pytest.raises(ValueError, match="are empty"):
        metric.compute(predictions=["x"], references=[" "])
