"""PTB-XL's statements as findings: the corpus' own table, real rows, and what is refused."""

import ast
import csv

import pytest

from evaluation.finding import Finding
from evaluation.scp_findings import scp_findings


def rows(path):
    with open(path, newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


def test_every_statement_of_the_corpus_says_a_finding(ptb_xl):
    statements = rows(ptb_xl / "scp_statements.csv")
    assert len(statements) == 71
    for statement in statements:
        code = next(iter(statement.values()))
        (finding,) = scp_findings({code: 100.0})
        assert finding.certainty == "certain"
        assert not finding.is_negated


@pytest.mark.parametrize("place", ["anterior", "septal", "lateral", "inferior", "posterior"])
def test_sites_are_those_that_the_statement_names_in_words(ptb_xl, place):
    for statement in rows(ptb_xl / "scp_statements.csv"):
        code, words = next(iter(statement.values())), statement["description"].replace("septal hypertrophy", "")
        (finding,) = scp_findings({code: 100.0})
        # "antero" and "infero" begin the names of combined sites.
        stem = {"anterior": "anter", "inferior": "infer", "posterior": "poster"}.get(place, place)
        is_named = stem in words and finding.code in ("MI", "INJ", "ISC")
        assert (place in finding.sites) == is_named, code


def test_all_rows_of_the_corpus_are_understood(ptb_xl):
    table = rows(ptb_xl / "ptbxl_database.csv")
    found = [
        scp_findings(
            ast.literal_eval(row["scp_codes"]),
            row["heart_axis"] or None,
            [row[column] for column in ("infarction_stadium1", "infarction_stadium2") if row[column]],
        )
        for row in table
    ]
    assert len(found) == 633
    assert sum(Finding("SR") in findings for findings in found) == 513
    # LAD 57, ALAD 17, AXL 3.
    assert sum(Finding("LAX") in findings for findings in found) == 77
    for findings in found:
        assert len({(finding.code, finding.sites) for finding in findings}) == len(findings)


def test_an_unknown_likelihood_is_no_doubt_and_a_low_one_is():
    assert scp_findings({"AFIB": 0.0}) == [Finding("AFIB")]
    assert scp_findings({"IMI": 35.0}) == [Finding("MI", ("inferior",), certainty="possible")]
    assert scp_findings({"IMI": 50.0}) == [Finding("MI", ("inferior",))]


def test_two_statements_of_one_finding_are_one_and_the_certain_one():
    assert scp_findings({"LVH": 15.0, "VCLVH": 0.0}) == [Finding("LVH")]
    assert scp_findings({"1AVB": 15.0, "LPR": 35.0}) == [Finding("1AVB", certainty="possible")]


def test_infarctions_get_the_stage_of_the_table_unless_there_are_two():
    assert [f.age for f in scp_findings({"IMI": 100.0, "NORM": 0.0}, None, ["Stadium I"])] == ["acute", None]
    assert scp_findings({"IMI": 100.0}, None, ["Stadium I"])[0].is_critical
    assert [f.age for f in scp_findings({"IMI": 100.0, "AMI": 15.0}, None, ["Stadium II", "Stadium II"])] == [
        "recent"
    ] * 2
    assert scp_findings({"IMI": 100.0}, None, ["Stadium I", "Stadium III"])[0].age is None
    assert scp_findings({"IMI": 100.0}, None, ["unknown"])[0].age == "undetermined"


def test_what_the_corpus_does_not_know_is_refused_by_name():
    with pytest.raises(ValueError, match="'FOO'.*NORM"):
        scp_findings({"SR": 0.0, "FOO": 100.0})
    with pytest.raises(ValueError, match="SR: likelihood nan"):
        scp_findings({"SR": float("nan")})
    with pytest.raises(ValueError, match="SR: likelihood 101"):
        scp_findings({"SR": 101})
    with pytest.raises(ValueError, match="heart_axis is 'left'.*LAD"):
        scp_findings({"SR": 0.0}, "left")
    with pytest.raises(ValueError, match="'Stadium IV'"):
        scp_findings({"IMI": 0.0}, None, ["Stadium IV"])
