"""The task `quality`: how good drafts for one corpus are, how true, and how much of that hangs on the ECG."""

from collections.abc import Sequence
from typing import Any

from reporting.notice import DRAFT_NOTICE

from . import showing
from .ecg_picture import ecg_png
from .error_browser import write_error_browser
from .records import Records
from .scoring import draft_all, paired_tests, read_lines, records_file, score_system
from .session import Session
from .systems import System

ERRORS = "errors.html"


def run(session: Session, config: str | None) -> dict[str, Any] | None:
    """Measure the model and the baselines on one corpus.

    Returns:
        The task's entry in `results.json`; None in a process that only helps to draft.
    """
    return measure(session, "quality", session.records(config), session.systems(config))


def measure(session: Session, task: str, records: Records, systems: Sequence[System]) -> dict[str, Any] | None:
    """Every system with the right ECGs, those of other patients and flat lines; and the first against each."""
    rows, ids = records.rows, records.ids
    showings = [showing.right(rows, ids)]
    try:
        showings.append(showing.other(rows, ids, records.patient_ids, session.seed))
    except ValueError as error:
        session.note(f"{records.config or records.dataset}: ECGs were not exchanged between patients: {error}")
    showings.append(showing.flat(rows, ids))
    drafted = [draft_all(session.drafting(system, records), showings) for system in systems]
    if not session.processes.is_main:
        return None
    scorer, folder = session.scorer(records), session.folder(task, records.config)
    with records_file(folder) as lines:
        scores = [score_system(scorer, system, made, lines) for system, made in zip(systems, drafted, strict=True)]
    write_error_browser(
        read_lines(folder),
        folder / ERRORS,
        f"Drafts for {records.config or records.dataset}, the most harmful errors first",
        {
            "Task": task,
            "Model": f"{session.model.name} on {session.model.text_model}",
            "Records": f"{len(ids)} of {len(set(records.patient_ids))} patients, {records.split} split",
        },
        DRAFT_NOTICE,
        plot=lambda record: ecg_png(rows[ids.index(record)]),
    )
    return {
        "task": task,
        "data": records.describe(),
        "systems": {system.name: score.content for system, score in zip(systems, scores, strict=True)},
        "paired": {
            f"{systems[0].name} minus {system.name}": paired_tests(scorer, scores[0], score)
            for system, score in zip(systems[1:], scores[1:], strict=True)
        },
    }
