"""The task `expert`: what people who read ECGs, a judge model, and human-validated SCP statements say of the drafts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from evaluation.bootstrap import resample
from evaluation.judge import Judge
from evaluation.judgements import JudgeItem, judge_reports
from evaluation.rating_sheet import RatingItem, write_rating_sheets
from evaluation.ratings import RatingSummary, rating_summary, read_ratings
from evaluation.truth import report_truth, truth_statistics
from reporting.notice import DRAFT_NOTICE

from . import showing
from .ecg_picture import ecg_png
from .records import Records, findings_of
from .scoring import interval_json
from .session import Session

JUDGEMENTS = "judgements.jsonl"


def run(
    session: Session,
    config: str | None,
    raters: Sequence[str],
    rated_records: int,
    judge: Judge | None = None,
    ratings: str | None = None,
) -> dict[str, Any] | None:
    """Write rating sheets, have drafts judged, and hold findings against the statements that a person validated.

    Args:
        session: of the run.
        config: the corpus of the records.
        raters: names of the people who will rate.
        rated_records: records that they are shown, with the drafts of every system.
        judge: a model that rates the same drafts; None for none.
        ratings: folder of sheets that were filled; None where there are none yet.

    Returns:
        The task's entry in `results.json`; None in a process that only helps to draft.
    """
    records = session.records(config)
    systems = session.systems(config)
    shown = showing.right(records.rows, records.ids)
    drafts = {system.name: session.drafting(system, records).drafts(shown) for system in systems}
    if not session.processes.is_main:
        return None
    folder = session.folder("expert", config)
    numbers = _drawn(records, rated_records, session.seed)
    write_rating_sheets(_rating_items(records, drafts, numbers), folder, raters, DRAFT_NOTICE, session.seed)
    expert: dict[str, Any] = {
        "validated_statements": _against_statements(records, drafts, session.seed),
        "sheets": {"raters": list(raters), "records": len(numbers), "drafts": len(numbers) * len(drafts)},
    }
    if judge is not None:
        judged = judge_reports(judge, _judge_items(records, drafts, numbers), folder / JUDGEMENTS)
        expert["judge"] = {
            "settings": dict(judged.settings),
            "judged": len(judged.judged),
            "failed": len(judged.failed),
            "scores": _summary_json(rating_summary(judged.as_ratings(), seed=session.seed))["scores"],
        }
    if ratings is not None:
        expert["ratings"] = _summary_json(rating_summary(read_ratings(ratings, folder / "key.json"), seed=session.seed))
    return {
        "task": "expert",
        "data": records.describe(),
        "systems": {system.name: {"kind": system.kind, **system.settings} for system in systems},
        "expert": expert,
    }


def _drawn(records: Records, count: int, seed: int) -> list[int]:
    everything = np.arange(len(records.ids))
    if count >= len(everything):
        return everything.tolist()
    return sorted(np.random.default_rng(seed).choice(everything, count, replace=False).tolist())


def _rating_items(records: Records, drafts: Mapping[str, Sequence[str]], numbers: Sequence[int]) -> list[RatingItem]:
    items = []
    for number in numbers:
        picture = ecg_png(records.rows[number])
        items += [
            RatingItem(
                records.ids[number],
                system,
                records.patient_ids[number],
                of[number],
                records.reports[number],
                picture,
            )
            for system, of in drafts.items()
        ]
    return items


def _judge_items(records: Records, drafts: Mapping[str, Sequence[str]], numbers: Sequence[int]) -> list[JudgeItem]:
    return [
        JudgeItem(records.ids[number], system, records.patient_ids[number], of[number], records.reports[number])
        for number in numbers
        for system, of in drafts.items()
    ]


def _against_statements(records: Records, drafts: Mapping[str, Sequence[str]], seed: int) -> dict[str, Any]:
    """Findings of drafts, and of the references, against the SCP statements of records that a person validated."""
    if not {"scp_codes", "validated_by_human"} <= set(records.rows.column_names):
        return {"records": 0}
    validated = [
        number
        for number, is_validated in enumerate(records.rows["validated_by_human"])
        if is_validated and records.scp[number]
    ]
    if not validated:
        return {"records": 0}
    patients = [records.patient_ids[number] for number in validated]
    figures = {}
    for name, reports in {"reference reports": records.reports, **drafts}.items():
        found = findings_of([reports[number] for number in validated])
        statistics = truth_statistics(
            [report_truth(stated or (), records.scp[number]) for stated, number in zip(found, validated, strict=True)]
        )
        drawn = resample(patients, statistics, seed=seed)
        figures[name] = {figure: interval_json(values.interval()) for figure, values in drawn.items()}
    return {"records": len(validated), "figures": figures}


def _summary_json(summary: RatingSummary) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(member) for name, member in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {
        "raters": list(summary.raters),
        "missing": dict(summary.missing),
        "scores": {
            system: {criterion: plain(asdict(score)) for criterion, score in of.items()}
            for system, of in summary.scores.items()
        },
        "agreement": {criterion: plain(asdict(agreement)) for criterion, agreement in summary.agreement.items()},
    }
