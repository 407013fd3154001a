"""How well `evaluation.findings` reads reports: against the labelled reports, and against PTB-XL's SCP-ECG statements.

    python -m benchmarks.findings [--data-dir FOLDER] [--held-out]

Prints Markdown tables: the agreement of the two readers of `labelled_reports/`, the rules on its development half (on
the held-out half only with `--held-out`), and the rules beside the statements of PTB-XL's recordings.
"""

import argparse
import ast
import csv
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.finding import Finding, labels_of
from evaluation.finding_classes import FINDING_CLASSES, SITES
from evaluation.findings import find_findings
from evaluation.scp_findings import scp_findings

LABELLED = Path(__file__).parent / "labelled_reports"
LABELS = tuple(
    label
    for code, found in FINDING_CLASSES.items()
    for label in (code, *(f"{code}:{site}" for site in SITES if found.has_site))
)
SCP_CODES = frozenset(code for code, found in FINDING_CLASSES.items() if found.scp or found.group == "axis")


@dataclass
class Counts:
    """What is stated by both, only by the rules, only by the reference."""

    both: int = 0
    only_rules: int = 0
    only_reference: int = 0

    @property
    def precision(self) -> float:
        return self.both / (self.both + self.only_rules) if self.both + self.only_rules else float("nan")

    @property
    def recall(self) -> float:
        return self.both / (self.both + self.only_reference) if self.both + self.only_reference else float("nan")

    @property
    def f1(self) -> float:
        stated = 2 * self.both + self.only_rules + self.only_reference
        return 2 * self.both / stated if stated else float("nan")

    def row(self, name: str) -> str:
        return (
            f"| {name} | {self.both + self.only_reference} | {_figure(self.precision)} | {_figure(self.recall)} | "
            f"{_figure(self.f1)} |"
        )


def _figure(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


HEADER = "| | in the reference | precision | recall | F1 |\n|---|---|---|---|---|"
Findings = Mapping[str, Sequence[Finding]]


def texts(data: Path) -> dict[str, str]:
    """Every report of both corpora by its id, as the readers had it; empty ones left out."""
    reports: dict[str, str] = {}
    for row in _rows(data / "ptb-xl" / "ptbxl_database.csv"):
        reports[f"ptb-xl/{row['ecg_id']}/original"] = row["report"]
    for row in _rows(data / "ptb-xl" / "ptbxl_reports_en.csv"):
        reports[f"ptb-xl/{row['ecg_id']}/en"] = row["report_en"]
    for row in _rows(data / "mimic-iv-ecg" / "machine_measurements.csv"):
        statements = [row[f"report_{number}"].strip(" .") for number in range(18)]
        reports[f"mimic-iv-ecg/{row['study_id']}"] = ". ".join(filter(None, statements))
    return {name: text for name, text in reports.items() if text.strip()}


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def labelled(path: Path) -> dict[str, list[Finding]]:
    """A file of labelled reports: findings by the report's id.

    Raises:
        ValueError: an id that occurs twice, or a finding that is none; the message names the file and the id.
    """
    reports: dict[str, list[Finding]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["id"] in reports:
            raise ValueError(f"{path}: {row['id']} occurs twice")
        try:
            reports[row["id"]] = [Finding.parse(text) for text in row["findings"]]
        except ValueError as error:
            raise ValueError(f"{path}: {row['id']}: {error}") from error
    return reports


def kappa(first: Findings, second: Findings) -> float:
    """Cohen's kappa of two readers over the cells report x label, each stated or not.

    kappa = (p_o - p_e) / (1 - p_e) (Cohen 1960): p_o is the share of cells that agree, p_e the share that would by
    chance at the readers' own rates.

    Raises:
        ValueError: they did not read the same reports.
    """
    if first.keys() != second.keys():
        raise ValueError(f"readers differ in {len(first.keys() ^ second.keys())} reports, expected the same")
    cells = len(first) * len(LABELS)
    stated_first = {(name, label) for name in first for label in labels_of(first[name])}
    stated_second = {(name, label) for name in second for label in labels_of(second[name])}
    observed = 1 - len(stated_first ^ stated_second) / cells
    rates = len(stated_first) / cells, len(stated_second) / cells
    chance = rates[0] * rates[1] + (1 - rates[0]) * (1 - rates[1])
    return (observed - chance) / (1 - chance)


def per_label(rules: Findings, reference: Findings, codes: Collection[str] | None = None) -> dict[str, Counts]:
    """Counts of each label over the reports of the reference; only of the codes given, if any."""
    counts: dict[str, Counts] = {}
    for name, findings in reference.items():
        there, stated = labels_of(findings), labels_of(rules[name])
        for label in there | stated:
            if codes is not None and label.split(":")[0] not in codes:
                continue
            count = counts.setdefault(label, Counts())
            count.both += label in there and label in stated
            count.only_rules += label not in there
            count.only_reference += label not in stated
    return {label: counts[label] for label in LABELS if label in counts}


def micro(counts: Mapping[str, Counts]) -> Counts:
    """All labels together."""
    return Counts(
        sum(count.both for count in counts.values()),
        sum(count.only_rules for count in counts.values()),
        sum(count.only_reference for count in counts.values()),
    )


def denied(rules: Findings, reference: Findings) -> Counts:
    """The codes that reports deny."""
    total = Counts()
    for name, findings in reference.items():
        there = {finding.code for finding in findings if finding.is_negated}
        stated = {finding.code for finding in rules[name] if finding.is_negated}
        total.both += len(there & stated)
        total.only_rules += len(stated - there)
        total.only_reference += len(there - stated)
    return total


def details(rules: Findings, reference: Findings) -> dict[str, tuple[int, int]]:
    """Of findings that both state with the same code and sites: how many agree in certainty and in age, of how many.

    The age is that of infarctions. Where a report states the same code and sites several times, as many agree as have a
    match of their own.
    """
    agreed: Counter[str] = Counter()
    compared: Counter[str] = Counter()
    for name, findings in reference.items():
        for code, sites in {(finding.code, finding.sites) for finding in findings if not finding.is_negated}:
            there = [it for it in findings if (it.code, it.sites, it.is_negated) == (code, sites, False)]
            stated = [it for it in rules[name] if (it.code, it.sites, it.is_negated) == (code, sites, False)]
            fields = {"certainty": [it.certainty for it in there]}
            if code == "MI":
                fields["age"] = [str(it.age) for it in there]
            for field, values in fields.items():
                found = [str(getattr(it, field)) for it in stated]
                compared[field] += min(len(values), len(found))
                agreed[field] += (Counter(values) & Counter(found)).total()
    return {field: (agreed[field], compared[field]) for field in ("certainty", "age")}


def labelled_tables(name: str, reports: Mapping[str, str]) -> str:
    """The rules on one file of labelled reports."""
    reference = labelled(LABELLED / f"{name}.jsonl")
    rules = {report: find_findings(reports[report]) for report in reference}
    counts = per_label(rules, reference)
    agreement = details(rules, reference)
    lines = [
        f"## {name}: {len(reference)} labelled reports\n",
        HEADER,
        micro(counts).row("all labels (micro)"),
        denied(rules, reference).row("denied findings"),
        *(counts[label].row(label) for label in counts),
        "",
        "Of the findings that both state with the same sites, "
        + ", ".join(f"{agreed} of {compared} agree in {field}" for field, (agreed, compared) in agreement.items())
        + ".",
    ]
    return "\n".join(lines)


def scp_tables(data: Path, reports: Mapping[str, str]) -> str:
    """The rules on PTB-XL's reports, in English and as they were written, beside the recordings' statements."""
    statements = {row["ecg_id"]: _statements(row) for row in _rows(data / "ptb-xl" / "ptbxl_database.csv")}
    versions: dict[str, dict[str, Counts]] = {}
    numbers: dict[str, int] = {}
    for version in ("en", "original"):
        reference = {name: found for name, found in statements.items() if f"ptb-xl/{name}/{version}" in reports}
        rules = {name: find_findings(reports[f"ptb-xl/{name}/{version}"]) for name in reference}
        versions[version] = per_label(rules, reference, SCP_CODES)
        numbers[version] = len(reference)
    english, original = versions["en"], versions["original"]
    lines = [
        f"## SCP-ECG statements of {len(statements)} PTB-XL recordings\n",
        f"Reports: {numbers['en']} in English, {numbers['original']} as written. Only classes that have an SCP-ECG "
        "statement or are an axis. The statements are no transcript of the report: cardiologists added and dropped "
        "some when they looked at the signal, who entered them left out what a report says by the way, and wrote one "
        "statement for several words (NDT for most T changes). Low figures here are differences of the two sources "
        "at least as much as errors of the rules.\n",
        "| | in the statements | precision, English | recall, English | precision, as written | recall, as written |",
        "|---|---|---|---|---|---|",
        _scp_row("all labels (micro)", micro(english), micro(original)),
    ]
    for label in (label for label in LABELS if label in english or label in original):
        lines.append(_scp_row(label, english.get(label, Counts()), original.get(label, Counts())))
    return "\n".join(lines)


def _scp_row(name: str, english: Counts, original: Counts) -> str:
    figures = (english.precision, english.recall, original.precision, original.recall)
    return f"| {name} | {original.both + original.only_reference} | {' | '.join(map(_figure, figures))} |"


def _statements(row: Mapping[str, str]) -> list[Finding]:
    stadia = [row[column] for column in ("infarction_stadium1", "infarction_stadium2") if row[column]]
    return scp_findings(ast.literal_eval(row["scp_codes"]), row["heart_axis"] or None, stadia)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    data = Path(os.environ.get("MEIT_DATA", "../shared/data"))
    parser.add_argument("--data-dir", type=Path, default=data, metavar="FOLDER", help=f"holds both corpora ({data})")
    parser.add_argument("--held-out", action="store_true", help="also the half that is set aside")
    arguments = parser.parse_args()
    reports = texts(arguments.data_dir)
    first, second = (labelled(LABELLED / f"reader_{reader}.jsonl") for reader in "ab")
    print(
        f"Two readers of {len(first)} reports: Cohen's kappa {kappa(first, second):.3f} over {len(LABELS)} labels per "
        "report.\n"
    )
    for name in ("development", "held_out") if arguments.held_out else ("development",):
        print(labelled_tables(name, reports), end="\n\n")
    print(scp_tables(arguments.data_dir, reports))


if __name__ == "__main__":
    main()
