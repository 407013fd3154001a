"""CIDEr-D equals pycocoevalcap's."""

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from evaluation.cider import cider_d_per_report
from evaluation.tokens import tokenize

from .report_pairs import ODD, real_pairs


def of_pycocoevalcap(drafts, references):
    def texts(reports):
        return {index: [" ".join(tokenize(report))] for index, report in enumerate(reports)}

    return Cider().compute_score(texts(references), texts(drafts))[1]


def test_real_reports_score_as_with_pycocoevalcap(ptb_xl, mimic_iv_ecg):
    drafts, references = real_pairs(ptb_xl, mimic_iv_ecg)
    np.testing.assert_allclose(
        cider_d_per_report(drafts, references), of_pycocoevalcap(drafts, references), rtol=0, atol=1e-10
    )


def test_odd_reports_score_as_with_pycocoevalcap():
    drafts, references = (list(reports) for reports in zip(*ODD, strict=True))
    np.testing.assert_allclose(
        cider_d_per_report(drafts, references), of_pycocoevalcap(drafts, references), rtol=0, atol=1e-12
    )


def test_a_report_that_equals_its_rare_reference_scores_ten():
    references = ["sinus rhythm normal ecg", "atrial fibrillation left axis deviation"]
    assert cider_d_per_report(references, references) == pytest.approx([10, 10])


def test_what_every_reference_says_weighs_nothing():
    references = ["sinus rhythm normal ecg", "sinus rhythm left axis deviation today"]
    usual, rare = cider_d_per_report(["sinus rhythm", "left axis"], references)
    assert usual == 0
    assert rare > 1


@pytest.mark.parametrize("references", [["normal ecg"], ["normal ecg"] * 3])
def test_without_a_difference_between_references_every_score_is_zero(references):
    assert cider_d_per_report(references, references).tolist() == [0] * len(references)
