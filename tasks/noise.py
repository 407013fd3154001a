"""The task `noise`: what becomes of the drafts when the ECG is recorded badly."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.bootstrap import Interval, resample
from evaluation.grounding import RIGHT
from evaluation.noise import PERTURBATIONS, Perturbation, perturb

from . import showing
from .records import Records
from .robustness_plot import plot_robustness
from .scoring import interval_json, record_lines, records_file, write_lines
from .session import Session
from .systems import NearestNeighbour

PLOTTED = ("ROUGE-L", "findings F1")


def run(session: Session, config: str | None) -> dict[str, Any] | None:
    """Measure what reads ECGs under every perturbation; writes `records.jsonl` and a PNG per plotted figure.

    Returns:
        The task's entry in `results.json`; None in a process that only helps to draft.
    """
    records = session.records(config)
    rows, ids = records.rows, records.ids
    systems = [
        system for system in session.systems(config) if system is session.model or isinstance(system, NearestNeighbour)
    ]
    lowest = min(rows["sampling_rate"])
    perturbations = [perturbation for perturbation in PERTURBATIONS if _is_possible(perturbation, lowest)]
    if left_out := [perturbation.name for perturbation in PERTURBATIONS if perturbation not in perturbations]:
        session.note(f"{config or records.dataset}: {', '.join(left_out)} left out at {lowest:g} Hz")
    showings = [
        showing.right(rows, ids),
        *(showing.perturbed(rows, ids, perturbation, session.seed) for perturbation in perturbations),
    ]
    drafted = {}
    for system in systems:
        drafting = session.drafting(system, records)
        drafted[system.name] = {shown.name: drafting.drafts(shown) for shown in showings}
    if not session.processes.is_main:
        return None
    scorer, figures, folder = session.scorer(records), {}, session.folder("noise", config)
    with records_file(folder) as lines:
        for system, drafts_of in drafted.items():
            statistics = {}
            for shown in showings:
                scored = scorer.score(drafts_of[shown.name])
                statistics |= {(shown.name, name): statistic for name, statistic in scored.statistics.items()}
                write_lines(lines, record_lines(records, system, shown, scored))
            drawn = resample(records.patient_ids, statistics, seed=session.seed)
            figures[system] = {shown.name: {} for shown in showings}
            for (shown_name, name), resampled in drawn.items():
                figures[system][shown_name][name] = resampled.interval()
    for metric in PLOTTED:
        _plot(figures, metric, perturbations, records, folder / f"robustness-{metric.lower().replace(' ', '-')}.png")
    return {
        "task": "noise",
        "data": records.describe(),
        "systems": {system.name: {"kind": system.kind, **system.settings} for system in systems},
        "conditions": {
            system: {
                shown: {name: interval_json(interval) for name, interval in of.items()}
                for shown, of in conditions.items()
            }
            for system, conditions in figures.items()
        },
    }


def _is_possible(perturbation: Perturbation, sampling_rate: float) -> bool:
    """Whether the noise can be sampled at this rate."""
    try:
        perturb(np.zeros((12, math.ceil(sampling_rate))), sampling_rate, perturbation, key="a flat second")
    except ValueError:
        return False
    return True


def _plot(
    figures: Mapping[str, Mapping[str, Mapping[str, Interval]]],
    metric: str,
    perturbations: Sequence[Perturbation],
    records: Records,
    path: Path,
) -> None:
    curves: dict[str, dict[str, list]] = {}
    for perturbation in perturbations:
        for system, conditions in figures.items():
            point = (perturbation.level_text or perturbation.kind, conditions[perturbation.name][metric])
            curves.setdefault(perturbation.kind, {}).setdefault(system, []).append(point)
    title = f"{records.config or records.dataset}, {records.split} split, {len(records.ids)} records"
    plot_robustness(curves, {system: of[RIGHT][metric] for system, of in figures.items()}, metric, title, path)
