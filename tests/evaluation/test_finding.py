"""A finding, how it is written, and what it is compared on."""

import pytest

from evaluation.finding import Finding, labels_of
from evaluation.finding_classes import CRITICAL, FINDING_CLASSES


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (Finding("SR"), "SR"),
        (Finding("1AVB", certainty="possible"), "1AVB[possible]"),
        (Finding("MI", ("septal", "anterior"), "old", "possible"), "MI[anterior,septal;old;possible]"),
        (Finding("MI", age="acute"), "MI[acute]"),
        (Finding("ISC", ("lateral",), is_negated=True), "no ISC[lateral]"),
    ],
)
def test_a_finding_is_read_back_from_its_text(finding, text):
    assert str(finding) == text
    assert Finding.parse(text) == finding


@pytest.mark.parametrize("text", ["", "XYZ", "SR[lateral]", "MI[old;inferior]", "MI[inferior", "MI[upper]", "not SR"])
def test_what_is_no_finding_is_refused(text):
    with pytest.raises(ValueError, match=r"finding|sites|order"):
        Finding.parse(text)


def test_labels_are_the_code_and_each_site_unless_negated():
    findings = [Finding("MI", ("septal", "anterior")), Finding("STE", is_negated=True), Finding("SR")]
    assert labels_of(findings) == {"MI", "MI:anterior", "MI:septal", "SR"}


def test_only_an_acute_infarction_is_critical():
    assert Finding("MI", age="acute", certainty="possible").is_critical
    assert not Finding("MI", age="old").is_critical
    assert Finding("AFIB").is_critical
    assert not Finding("AFIB", is_negated=True).is_critical
    assert not Finding("LAX").is_critical


def test_every_scp_statement_belongs_to_one_class_and_every_critical_code_is_known():
    statements = [statement for found in FINDING_CLASSES.values() for statement in found.scp]
    assert len(statements) == len(set(statements))
    assert set(CRITICAL) <= set(FINDING_CLASSES)
