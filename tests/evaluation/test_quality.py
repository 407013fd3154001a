"""The task `quality`: its figures against counts made by hand."""

import numpy as np
import pytest

from evaluation.quality import LOSS, LOSS_PER_REPORT, Outcome, quality_figures, quality_table, reads_the_ecg, verdict

REFERENCES = [f"sinus rhythm number {n}" for n in range(20)]
PATIENTS = [str(n // 2) for n in range(20)]
TOKENS = np.full(20, 5)


def outcome(nats_per_report, drafts):
    return Outcome(np.asarray(nats_per_report, dtype=float), TOKENS, drafts)


def test_figures_of_a_system_that_reads_the_ecg():
    rng = np.random.default_rng(0)
    right = outcome(10 + rng.normal(size=20), REFERENCES)
    other = outcome(20 + rng.normal(size=20), REFERENCES[2:] + REFERENCES[:2])
    figures = quality_figures(REFERENCES, PATIENTS, right, other)
    assert figures[LOSS].right.estimate == pytest.approx(right.nats.sum() / 100)
    assert figures[LOSS_PER_REPORT].gap.estimate == pytest.approx(right.nats.mean() - other.nats.mean())
    assert figures["BLEU-4"].right.estimate == pytest.approx(1)
    # Three of four words agree with another patient's report; none of its 4-grams does.
    assert figures["BLEU-1"].other.estimate == pytest.approx(0.75)
    assert figures["BLEU-4"].other.estimate == 0
    assert figures["ROUGE-L"].gap.estimate == pytest.approx(0.25)
    assert reads_the_ecg(figures)
    assert "| BLEU-1 | 1.000 | 0.750 | +0.250 (" in quality_table(figures)


def test_figures_of_a_system_that_does_not():
    rng = np.random.default_rng(0)
    draft = ["sinus rhythm number 1"] * 20
    figures = quality_figures(
        REFERENCES, PATIENTS, outcome(rng.normal(10, 1, 20), draft), outcome(rng.normal(10, 1, 20), draft)
    )
    gap = figures[LOSS_PER_REPORT].gap
    assert gap.low < 0 < gap.high
    assert not reads_the_ecg(figures)
    assert figures["ROUGE-L"].gap.estimate == figures["ROUGE-L"].gap.low == 0


def test_a_system_that_does_better_with_the_wrong_ecg_is_not_one_that_reads_it():
    worse = outcome(np.full(20, 9.0), REFERENCES[2:] + REFERENCES[:2])
    better = outcome(np.full(20, 5.0), REFERENCES)
    assert not reads_the_ecg(quality_figures(REFERENCES, PATIENTS, worse, better))


def test_drafts_that_follow_the_ecg_are_a_sign_of_reading_where_the_loss_is_none():
    same = np.random.default_rng(0).normal(10, 1, 20)
    right, other = outcome(same, REFERENCES), outcome(same, REFERENCES[2:] + REFERENCES[:2])
    figures = quality_figures(REFERENCES, PATIENTS, right, other)
    assert figures[LOSS_PER_REPORT].gap.estimate == 0
    assert reads_the_ecg(figures)
    assert "a sign that the model reads it" in verdict(figures)
    assert ": no sign" in verdict(quality_figures(REFERENCES, PATIENTS, other, other))


def test_different_lengths_are_refused():
    short = Outcome(np.ones(19), np.ones(19), REFERENCES[:19])
    with pytest.raises(ValueError, match=r"'other'.*\[19, 20\]"):
        quality_figures(REFERENCES, PATIENTS, outcome(np.ones(20), REFERENCES), short)
