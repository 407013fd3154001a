"""English reports rendered from SCP-ECG statements, for recordings of PTB-XL that have no other English text."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from dataset_builder.csv_table import iterate_csv, table_name
from dataset_builder.errors import DatasetBuildError, RecordError

SCP_STATEMENTS = "scp_statements.csv"

# Far more than any cell of the published table has: what a report is made of, and what a message quotes.
_MAX_CHARACTERS = 500
_FLAG = {"": False, "0": False, "0.0": False, "1": True, "1.0": True}

# Descriptions that are no phrase of a report, as they stand in the table: what reads well instead.
_PHRASING = [
    (re.compile(r"\s*\((?:block|former \w+)\)"), ""),
    (re.compile(r"\(unknown origin, .*\)"), "of unknown origin"),
    (re.compile(r"\bischemic(?= in |$)"), "ischemic ST-T changes"),
    (re.compile(r"^electrolytic disturbance or drug$"), "ST-T changes compatible with electrolyte disturbance or drug"),
    (re.compile(r"-(?=effect$|interval$)"), " "),
    (re.compile(r"\bnormal functioning"), "normally functioning"),
    (re.compile(r"\bWolf-"), "Wolff-"),
    (re.compile(r"\s+present$"), ""),
]

# What comes first in a report; ectopic beats stand with the rhythm, whatever the table calls them.
_ORDER = ("rhythm", "ectopic beats", "CD", "HYP", "MI", "STTC", "form", "QRS", "NORM")


@dataclass(frozen=True)
class ScpStatement:
    """A statement of the table: a phrase for it, and the part of a report (one of `_ORDER`) that it belongs to."""

    phrase: str
    part: str


def read_scp_statements(table: str | os.PathLike | TextIO) -> dict[str, ScpStatement]:
    """Read PTB-XL's `scp_statements.csv`, by its path or opened as `iterate_csv` takes it: {code: statement}.

    Raises:
        DatasetBuildError: the file is missing, or no such table.
    """
    columns = ("", "description", "form", "rhythm", "diagnostic_class", "Statement Category")
    statements: dict[str, ScpStatement] = {}
    name = table_name(table)
    for row in iterate_csv(table, columns):
        row = {column: cell[:_MAX_CHARACTERS] for column, cell in row.items()}
        code, description = row[""].strip(), row["description"].strip()
        if not code or not description:
            raise DatasetBuildError(f"{name}: code {code!r} has the description {description!r}; expected both")
        if code in statements:
            raise DatasetBuildError(f"{name}: two lines for the code {code}; expected one")
        for pattern, replacement in _PHRASING:
            description = pattern.sub(replacement, description)
        statements[code] = ScpStatement(description, _part(row, f"{name}: code {code}"))
    return statements


def _part(row: dict[str, str], where: str) -> str:
    is_rhythm, is_form = (_FLAG.get(row[name].strip()) for name in ("rhythm", "form"))
    diagnostic_class = row["diagnostic_class"].strip()
    if is_rhythm is None or is_form is None or diagnostic_class not in ("", *_ORDER):
        found = {name: row[name] for name in ("form", "rhythm", "diagnostic_class")}
        raise DatasetBuildError(f"{where}: {found}; expected 1.0 or nothing, and one of {', '.join(_ORDER)}")
    if "ectopic" in row["Statement Category"] and not is_rhythm:
        return "ectopic beats"
    if "Normal/abnormal" in row["Statement Category"] and not diagnostic_class:
        return "QRS"
    return "rhythm" if is_rhythm else diagnostic_class or "form"


def render_scp_report(codes: Sequence[Mapping[str, str | float]], statements: Mapping[str, ScpStatement]) -> str:
    """Say SCP-ECG statements in English: "Sinus rhythm. Possible inferior myocardial infarction."

    The rhythm comes first, then conduction, hypertrophy, infarction, ST-T changes, form, and at last whether the ECG
    is normal. PTB-XL rates diagnoses with 15, 35, 50, 80 or 100 % (Wagner et al. 2020, Scientific Data 7, 154); here
    100 % is said as it is, from 80 % on "probable", from 50 % on "possible", and what is less likely than not "cannot
    be excluded". 0 stands for an unknown likelihood, which is the rule for statements on rhythm and form: they are
    said as they are, and so is a diagnosis without one. Nothing is concluded that no code says.

    Args:
        codes: `[{"code": "IMI", "likelihood": 50.0}, ...]`, likelihoods in percent.
        statements: of `read_scp_statements`.

    Returns:
        A sentence for each statement, or "" where there is none.

    Raises:
        RecordError: a code is not in the table. Without it the report might call an ECG normal that is not.
    """
    findings: dict[str, tuple[int, float, str]] = {}
    for entry in codes:
        code, likelihood = str(entry["code"]), float(entry["likelihood"])
        if code not in statements:
            raise RecordError("unknown SCP statement", code)
        statement = statements[code]
        findings[code] = (_ORDER.index(statement.part), -likelihood, _hedged(statement, likelihood))
    sentences = [sentence for _, _, sentence in sorted(findings.values(), key=lambda finding: finding[:2])]
    if "NORM" in findings and set(findings) - {"NORM", "SR"}:
        sentences[-1] = f"otherwise {sentences[-1]}"
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def _hedged(statement: ScpStatement, likelihood: float) -> str:
    is_normal = statement.part == "NORM"
    if likelihood >= 100 or likelihood <= 0:
        return statement.phrase
    if likelihood >= 80:
        return f"{'probably' if is_normal else 'probable'} {statement.phrase}"
    if is_normal or likelihood >= 50:
        return f"{'possibly' if is_normal else 'possible'} {statement.phrase}"
    return f"{statement.phrase} cannot be excluded"
