"""Drafts against their references: figures, findings, and one line per record of what went wrong."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from evaluation.bootstrap import Interval, Statistic, resample
from evaluation.finding import Finding
from evaluation.grounding import RIGHT, Grounding, contradiction_statistics, grounding, loss_statistics
from evaluation.signal_check import Check, checked
from evaluation.text_metrics import TITLES, text_metrics, text_statistics
from evaluation.truth import FindingFigures, ReportTruth, harm, per_finding, report_truth, truth_statistics

from .drafting import Drafting
from .records import Records, findings_of
from .showing import Showing
from .systems import System

RECORDS = "records.jsonl"


@dataclass(frozen=True)
class Scorer:
    """Scores drafts of one set of records.

    Attributes:
        records: with their references.
        metrics: arguments of `text_statistics`, such as the folder of WordNet.
        seed: of the bootstrap.
    """

    records: Records
    metrics: Mapping[str, Any]
    seed: int

    def score(self, drafts: Sequence[str]) -> "Scored":
        """Every figure of the drafts, and what each of them states."""
        records, findings = self.records, findings_of(drafts)
        truths = [
            report_truth((), ()) if reference is None else report_truth(draft or (), reference, scp)
            for draft, reference, scp in zip(findings, records.findings, records.scp, strict=True)
        ]
        checks = [
            checked(found or (), draft, measurements)
            for found, draft, measurements in zip(findings, drafts, records.measurements, strict=True)
        ]
        statistics = (
            text_statistics(drafts, records.reports, **self.metrics)
            | truth_statistics(truths)
            | contradiction_statistics(
                [len(of) for of in checks], [sum(check.is_contradicted for check in of) for of in checks]
            )
        )
        return Scored(drafts, findings, truths, checks, statistics)


@dataclass(frozen=True)
class Scored:
    """Drafts of every record, scored.

    Attributes:
        drafts: one per record.
        findings: what each states; None where it is in no language that findings are read in.
        truths: what each states rightly and wrongly; nothing where the reference is not read.
        checks: what of each can be measured, beside the measurement in the record's own ECG, whatever was shown.
        statistics: every figure, from the numbers of the records that count.
    """

    drafts: Sequence[str]
    findings: Sequence[list[Finding] | None]
    truths: Sequence[ReportTruth]
    checks: Sequence[list[Check]]
    statistics: Mapping[str, Statistic]


@dataclass(frozen=True)
class SystemScore:
    """One system on one set of records.

    Attributes:
        statistics: with the right ECGs, for tests against other systems.
        content: the system's entry in `results.json`.
    """

    statistics: Mapping[str, Statistic]
    content: dict[str, Any]


@dataclass(frozen=True)
class Drafted:
    """What a system has made of the records with one way of showing their ECGs: per record, a draft and its losses."""

    showing: Showing
    drafts: Sequence[str]
    losses: Sequence[tuple[float, int]] | None


def draft_all(drafting: Drafting, showings: Sequence[Showing]) -> list[Drafted]:
    """Drafts and losses for every way of showing the ECGs; all processes take part."""
    return [Drafted(showing, drafting.drafts(showing), drafting.losses(showing)) for showing in showings]


def score_system(scorer: Scorer, system: System, drafted: Sequence[Drafted], lines: TextIO) -> SystemScore:
    """Score what a system has drafted; the right ECGs come first. `lines` is the open `records.jsonl`."""
    statistics = {}
    for made in drafted:
        scored = scorer.score(made.drafts)
        losses = {} if made.losses is None else loss_statistics(*zip(*made.losses, strict=True))
        statistics[made.showing.name] = losses | scored.statistics
        write_lines(lines, record_lines(scorer.records, system.name, made.showing, scored))
        if made is drafted[0]:
            right = scored
    measured = grounding(scorer.records.patient_ids, statistics, scorer.seed)
    compat = text_metrics(right.drafts, scorer.records.reports, mode="paper_compat", **scorer.metrics)
    content = {
        "kind": system.kind,
        **system.settings,
        "figures": figures_json(measured),
        "paper_compat": {TITLES[name]: value for name, value in compat.items()},
        "findings": {code: _finding_json(figures) for code, figures in per_finding(right.truths).items()},
        "signal": {
            "checked": sum(map(len, right.checks)),
            "contradicted": sum(check.is_contradicted for checks in right.checks for check in checks),
        },
        "not_read": {
            "references": sum(found is None for found in scorer.records.findings),
            "drafts": sum(found is None for found in right.findings),
        },
        "distinct_drafts": len(set(right.drafts)),
        "reads_the_ecg": measured.reads_the_ecg,
        "verdict": measured.verdict,
    }
    return SystemScore(statistics[RIGHT], content)


def paired_tests(scorer: Scorer, first: SystemScore, second: SystemScore) -> dict[str, dict[str, float | None]]:
    """First minus second in every figure that both have, with the interval and p-value of a paired bootstrap."""
    names = [name for name in first.statistics if name in second.statistics]
    both = {("first", name): first.statistics[name] for name in names}
    both |= {("second", name): second.statistics[name] for name in names}
    drawn = resample(scorer.records.patient_ids, both, seed=scorer.seed)
    tested = {}
    for name in names:
        difference = drawn["first", name] - drawn["second", name]
        p = difference.p_value()
        tested[name] = interval_json(difference.interval()) | {"p": p if np.isfinite(p) else None}
    return tested


def record_lines(records: Records, system: str, showing: Showing, scored: Scored) -> Iterator[dict[str, Any]]:
    """What each record's draft states, and what of it is wrong."""
    for number, (draft, truth, checks) in enumerate(zip(scored.drafts, scored.truths, scored.checks, strict=True)):
        alone = np.array([number])
        yield {
            "id": records.ids[number],
            "patient_id": records.patient_ids[number],
            "system": system,
            "shown": showing.name,
            "ecg_of": showing.keys[number],
            "draft": draft,
            "reference": records.reports[number],
            "findings": {
                "draft": [str(finding) for finding in scored.findings[number] or ()],
                "reference": [str(finding) for finding in records.findings[number] or ()],
                "scp": [str(finding) for finding in records.scp[number]],
                "hallucinated": sorted(truth.hallucinated),
                "omitted": sorted(truth.omitted),
                "critical_missed": sorted(truth.critical_missed),
                "contradicted": sorted(truth.contradicted),
            },
            "signal": [_check_json(check) for check in checks if check.is_contradicted],
            "signal_checked": len(checks),
            "scores": {
                name: scored.statistics[name](alone) for name in ("ROUGE-L", "METEOR") if name in scored.statistics
            },
            "harm": harm(truth),
        }


def _finding_json(figures: FindingFigures) -> dict[str, float | None]:
    """One finding's figures for JSON."""
    ratios = {name: getattr(figures, name) for name in ("precision", "recall", "f1")}
    return {name: value if math.isfinite(value) else None for name, value in ratios.items()} | {
        "reference": figures.in_references,
        "drafts": figures.in_drafts,
        "hallucinated": figures.hallucinated,
        "omitted": figures.omitted,
    }


def _check_json(check: Check) -> dict[str, Any]:
    """A check for JSON; a bound that there is none of is null."""
    expected = [bound if math.isfinite(bound) else None for bound in check.expected]
    return asdict(check) | {"expected": expected}


def figures_json(measured: Grounding) -> dict[str, dict[str, dict[str, float | None] | None]]:
    """The figures for `results.json`; what is undefined is null."""
    return {
        name: {kind: interval and interval_json(interval) for kind, interval in vars(figure).items()}
        for name, figure in measured.figures.items()
    }


def interval_json(interval: Interval) -> dict[str, float | None]:
    """An interval for JSON, which has no NaN."""
    return {name: float(value) if np.isfinite(value) else None for name, value in vars(interval).items()}


@contextmanager
def records_file(folder: Path) -> Iterator[TextIO]:
    """`records.jsonl` in a folder, open for `write_lines`: whole or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{RECORDS}.tmp"
    with unfinished.open("w", encoding="utf-8") as file:
        yield file
    os.replace(unfinished, folder / RECORDS)


def write_lines(file: TextIO, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write entries as they come: of a large corpus, those of all systems are more than memory holds."""
    file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def read_lines(folder: Path) -> Iterator[dict[str, Any]]:
    """The entries of `records.jsonl` in a folder, one after the other."""
    with (folder / RECORDS).open(encoding="utf-8") as file:
        yield from map(json.loads, file)
