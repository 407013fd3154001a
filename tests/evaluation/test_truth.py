"""Truth of a draft: known answers, closures, and figures against counts made by hand."""

import math
import time

import numpy as np
import pytest

from evaluation.bootstrap import resample
from evaluation.finding import Finding
from evaluation.finding_classes import FINDING_CLASSES
from evaluation.truth import _IMPLIES, _PATHOLOGICAL, harm, implied, per_finding, report_truth, truth_statistics

NORMAL = [Finding("SR"), Finding("NORM")]
AF = [Finding("AFIB"), Finding("TACH"), Finding("ABN")]
OLD_MI = [Finding("SR"), Finding("MI", ("inferior",), "old"), Finding("LAFB"), Finding("STE", is_negated=True)]
ACUTE_MI = [Finding("SR"), Finding("MI", ("anterior", "septal"), "acute"), Finding("STE")]


@pytest.mark.parametrize("report", [NORMAL, AF, OLD_MI, ACUTE_MI])
def test_a_draft_equal_to_its_reference_has_no_error(report):
    truth = report_truth(report, report)
    assert truth.precision == truth.recall == truth.f1 == 1
    assert not (truth.hallucinated | truth.omitted | truth.critical_missed | truth.contradicted)
    assert harm(truth) == 0


def test_always_normal_misses_atrial_fibrillation():
    truth = report_truth(NORMAL, AF)
    assert truth.critical == truth.critical_missed == {"AFIB"}
    assert truth.contradicted == {"NORM"}
    assert truth.hallucinated == {"SR", "NORM"}
    assert truth.omitted == {"AFIB", "TACH", "ABN"}


def test_a_no_put_before_a_statement_flips_it():
    draft = [Finding("SR"), Finding("AFIB", is_negated=True)]
    truth = report_truth(draft, AF)
    assert "AFIB" not in truth.stated
    assert truth.critical_missed == {"AFIB"}
    assert truth.contradicted == {"AFIB"}
    assert report_truth(AF, draft).contradicted == {"AFIB"}
    assert "AFIB" in report_truth(AF, draft).hallucinated


@pytest.mark.parametrize(
    ("denied", "asserted", "contradicted"),
    [
        (Finding("STC", is_negated=True), Finding("STE"), {"STC"}),
        (Finding("BRAD", is_negated=True), Finding("SBRAD"), {"BRAD"}),
        (Finding("MI", is_negated=True), Finding("MI", ("inferior",), "old"), {"MI"}),
        (Finding("MI", is_negated=True), Finding("MI", certainty="possible"), {"MI"}),
        (Finding("MI", ("inferior",), is_negated=True), Finding("MI", ("inferior",)), {"MI:inferior"}),
        (Finding("MI", ("inferior",), is_negated=True), Finding("MI", ("anterior",)), set()),
        (Finding("MI", age="acute", is_negated=True), Finding("MI", age="old"), set()),
        (Finding("MI", age="acute", is_negated=True), Finding("MI", age="acute"), {"MI"}),
        (Finding("STE", is_negated=True), Finding("STD"), set()),
    ],
)
def test_what_is_denied_contradicts_what_implies_it_and_no_more(denied, asserted, contradicted):
    assert report_truth([denied], [asserted]).contradicted == contradicted
    assert report_truth([asserted], [denied]).contradicted == contradicted


def test_normal_contradicts_certain_pathology_only():
    assert report_truth(NORMAL, [Finding("LVH")]).contradicted == {"NORM"}
    assert report_truth(NORMAL, [Finding("LVH", certainty="possible")]).contradicted == set()
    assert report_truth(NORMAL, [Finding("PVC"), Finding("NORM")]).contradicted == set()
    assert report_truth(NORMAL, [Finding("IRBBB"), Finding("LAX")]).contradicted == set()


def test_what_follows_from_the_reference_is_not_hallucinated_and_what_the_draft_implies_not_omitted():
    reference = [Finding("SBRAD"), Finding("LAFB"), Finding("TINV")]
    draft = [Finding("SR"), Finding("LAX"), Finding("TC"), Finding("ABN")]
    assert not report_truth(draft, reference).hallucinated
    assert report_truth(draft, reference).omitted == {"SBRAD", "LAFB", "TINV"}
    assert report_truth(reference, draft).hallucinated == {"SBRAD", "LAFB", "TINV"}
    assert not report_truth(reference, draft).omitted
    assert report_truth(draft, reference).precision == 0


def test_statements_of_the_recording_support_a_draft_beyond_its_reference():
    draft = [Finding("SR"), Finding("MI", ("inferior", "lateral"))]
    truth = report_truth(draft, [Finding("SR")], [Finding("MI", ("inferior",)), Finding("PACE")])
    assert truth.hallucinated == {"MI:lateral"}
    assert truth.critical_missed == {"PACE"}
    assert truth.correct == {"SR"}


@pytest.mark.parametrize(
    ("age", "is_missed"), [("acute", False), ("recent", False), (None, False), ("old", True), ("undetermined", True)]
)
def test_an_acute_infarction_is_missed_by_a_draft_that_calls_it_old(age, is_missed):
    truth = report_truth([Finding("MI", ("anterior",), age)], ACUTE_MI)
    assert truth.critical_missed == ({"MI"} if is_missed else set())


def test_an_acute_infarction_of_the_draft_alone_is_a_critical_hallucination():
    assert report_truth(ACUTE_MI, OLD_MI).critical_hallucinated == {"MI"}
    assert report_truth(ACUTE_MI, [Finding("MI")]).critical_hallucinated == set()
    assert report_truth(OLD_MI, NORMAL).critical_hallucinated == set()


def test_an_infarction_wrongly_said_to_be_acute_is_hallucinated_and_not_correct():
    truth = report_truth([Finding("MI", ("inferior",), "acute")], OLD_MI)
    assert truth.hallucinated == {"MI"}
    assert truth.correct == {"MI:inferior"}
    # A statement without an age says no other than the reference.
    assert report_truth(ACUTE_MI, OLD_MI, [Finding("MI")]).critical_hallucinated == {"MI"}
    assert report_truth(ACUTE_MI, NORMAL, [Finding("MI")]).critical_hallucinated == set()


def test_implications_name_findings_and_end():
    assert set(_IMPLIES) | {code for codes in _IMPLIES.values() for code in codes} | _PATHOLOGICAL <= set(
        FINDING_CLASSES
    )
    assert implied(["MI:septal"]) == {"MI:septal", "MI", "ABN"}
    assert implied(["VT"]) == {"VT", "TACH", "ABQRS", "ABN"}
    assert implied(["IRBBB"]) == {"IRBBB", "IVCD", "ABQRS"}
    for code in FINDING_CLASSES:
        assert implied(implied([code])) == implied([code])
        assert not implied([code]) & {"NORM"} or code == "NORM"


def truths():
    return [
        report_truth(NORMAL, AF),
        report_truth(AF, AF),
        report_truth([Finding("SR"), Finding("PAC")], [Finding("SR"), Finding("PRC")]),
        report_truth([], NORMAL),
    ]


def test_statistics_equal_counts_made_by_hand():
    everything = np.arange(4)
    figures = {name: statistic(everything) for name, statistic in truth_statistics(truths()).items()}
    # stated 2 + 3 + 2 + 0, expected 3 + 3 + 2 + 2, correct 0 + 3 + 1 + 0.
    assert figures["findings precision"] == pytest.approx(4 / 7)
    assert figures["findings recall"] == pytest.approx(4 / 10)
    assert figures["findings F1"] == pytest.approx(2 * (4 / 7) * (4 / 10) / (4 / 7 + 4 / 10))
    # Hallucinated: SR and NORM; PAC. Omitted: all of AF; SR and NORM; PRC follows from PAC.
    assert figures["hallucination rate"] == pytest.approx(3 / 7)
    assert figures["omission rate"] == pytest.approx(5 / 10)
    assert figures["critical-miss rate"] == pytest.approx(1 / 2)


def test_statistics_count_repeats_and_are_undefined_without_a_denominator():
    statistics = truth_statistics(truths())
    assert statistics["critical-miss rate"](np.array([0, 0, 1])) == pytest.approx(2 / 3)
    assert math.isnan(statistics["critical-miss rate"](np.array([2, 3])))
    assert math.isnan(statistics["findings precision"](np.array([3])))
    assert statistics["findings F1"](np.array([3])) == 0
    with pytest.raises(ValueError, match="no reports"):
        truth_statistics([])


def test_a_thousand_resamples_of_many_reports_are_cheap():
    many = truths() * 1000
    started = time.perf_counter()
    drawn = resample([str(number) for number in range(len(many))], truth_statistics(many), resamples=200)
    assert time.perf_counter() - started < 4
    assert drawn["findings F1"].interval().low < drawn["findings F1"].estimate < drawn["findings F1"].interval().high


def test_figures_of_each_finding_are_in_the_order_of_the_classes():
    figures = per_finding(truths())
    assert list(figures) == [code for code in FINDING_CLASSES if code in figures]
    assert set(figures) == {"SR", "AFIB", "TACH", "PAC", "PRC", "NORM", "ABN"}
    sinus = figures["SR"]
    assert (sinus.in_references, sinus.in_drafts, sinus.correct, sinus.hallucinated, sinus.omitted) == (2, 2, 1, 1, 1)
    assert sinus.precision == sinus.recall == sinus.f1 == 0.5
    assert math.isnan(figures["PAC"].recall)
    assert figures["PRC"].omitted == 0


def test_harm_sorts_by_the_gravest_error_however_many_lesser_ones():
    missed = report_truth([], [Finding("PACE")])
    invented = report_truth([Finding("VT"), Finding("SR")], [Finding("SR")])
    contradicted = report_truth([Finding("PVC", is_negated=True)], [Finding("PVC"), Finding("SR")])
    wordy = report_truth([Finding(code) for code in ("LVH", "RVH", "LAE", "RAE", "TINV", "LAX", "QWAVE")], [])
    silent = report_truth([], [Finding(code) for code in ("LVH", "RVH", "LAE", "RAE", "TINV", "LAX", "QWAVE")])
    order = [missed, invented, contradicted, wordy, silent]
    assert sorted(order, key=harm, reverse=True) == order
    assert len({harm(truth) for truth in order}) == 5
