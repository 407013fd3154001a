"""The figures on labelled reports are what is counted by hand, and the development half is read as it is labelled."""

import json

import pytest

from benchmarks.findings import LABELLED, LABELS, Counts, denied, details, kappa, labelled, micro, per_label, texts
from evaluation.finding import Finding
from evaluation.findings import find_findings


def findings(text: str) -> list[Finding]:
    return [Finding.parse(part) for part in text.split(", ")]


REFERENCE = {"a": findings("SR, MI[inferior;old], no STE"), "b": findings("AFIB, MI[anterior]"), "c": []}
RULES = {"a": findings("SR, MI[inferior;acute;possible], STE"), "b": findings("AFIB, MI[septal], no SR"), "c": []}


def test_labels_are_counted_per_class_and_together():
    counts = per_label(RULES, REFERENCE)
    assert counts["SR"] == Counts(1, 0, 0)
    assert counts["MI"] == Counts(2, 0, 0)
    assert counts["MI:anterior"] == Counts(0, 0, 1)
    assert counts["STE"] == Counts(0, 1, 0)
    total = micro(counts)
    assert total == Counts(5, 2, 1)
    assert total.f1 == pytest.approx(10 / 13)
    assert list(per_label(RULES, REFERENCE, {"SR"})) == ["SR"]


def test_denials_certainty_and_age_are_counted():
    assert denied(RULES, REFERENCE) == Counts(0, 1, 1)
    # SR and AFIB agree; the inferior infarction differs in both.
    assert details(RULES, REFERENCE) == {"certainty": (2, 3), "age": (0, 1)}


def test_a_class_without_a_statement_has_no_figure():
    assert Counts().row("SQT") == "| SQT | 0 | - | - | - |"


def test_kappa_is_that_of_the_table_of_cells():
    first, second = {"a": findings("SR, LAX")}, {"a": findings("SR, RAX")}
    cells = len(LABELS)
    observed, rate = (cells - 2) / cells, 2 / cells
    chance = rate**2 + (1 - rate) ** 2
    assert kappa(first, second) == pytest.approx((observed - chance) / (1 - chance))
    assert kappa(first, first) == 1
    with pytest.raises(ValueError, match="differ in 1 report"):
        kappa(first, {"a": [], "b": []})


def test_a_labelled_file_with_a_fault_is_refused_by_name(tmp_path):
    path = tmp_path / "reader.jsonl"
    row = json.dumps({"id": "x/1", "findings": ["SR"]})
    path.write_text(f"{row}\n{row}\n")
    with pytest.raises(ValueError, match=r"reader\.jsonl: x/1 occurs twice"):
        labelled(path)
    path.write_text(json.dumps({"id": "x/1", "findings": ["XYZ"]}))
    with pytest.raises(ValueError, match=r"reader\.jsonl: x/1: .*XYZ"):
        labelled(path)


def test_the_rules_read_the_development_half_as_it_is_labelled(ptb_xl, mimic_iv_ecg):
    reports = texts(ptb_xl.parent)
    reference = labelled(LABELLED / "development.jsonl")
    rules = {name: find_findings(reports[name]) for name in reference}
    assert micro(per_label(rules, reference)).f1 >= 0.98
