"""One run of the benchmark: its options, and what its tasks share."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dataset_builder.errors import DatasetBuildError
from dataset_builder.records import load_records
from reporting.draft import ReportDrafter

from . import records as records_module
from .drafting import Drafting
from .processes import Processes
from .records import Records
from .scoring import Scorer
from .systems import LanguageModelAlone, ModelSystem, MostFrequentReport, NearestNeighbour, System

# Of a corpus with more training records, so many are drawn for the nearest neighbour.
NEIGHBOURS = 2000


@dataclass
class Session:
    """What the tasks are run with.

    Attributes:
        drafter: holds the model.
        dataset: folder that `meit-ecg build` wrote, or a Hub id.
        dataset_name: what it is called in results.
        split: of the records that are drafted for.
        output: folder of everything that is written.
        max_new_tokens: length of a draft at most.
        limit: records at most per corpus; None for all.
        seed: of every draw.
        metrics: arguments of `text_statistics`.
        with_baselines: whether baselines are measured too.
        processes: among which the work is shared.
        notes: what a reader of the results should know, such as a baseline that could not be run.
    """

    drafter: ReportDrafter
    dataset: str
    dataset_name: str
    split: str
    output: Path
    max_new_tokens: int
    limit: int | None
    seed: int
    metrics: dict[str, Any]
    with_baselines: bool
    processes: Processes
    notes: list[str] = field(default_factory=list)
    _records: dict[str | None, Records] = field(default_factory=dict)
    _baselines: dict[str | None, list[System]] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Note what a reader of the results should know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def records(self, config: str | None) -> Records:
        """The records of one corpus; read once."""
        if config not in self._records:
            self._records[config] = records_module.load(
                self.dataset, self.dataset_name, config, self.split, self.limit, self.seed
            )
        return self._records[config]

    @cached_property
    def model(self) -> ModelSystem:
        """The system that is measured."""
        return ModelSystem(self.drafter, self.max_new_tokens)

    @cached_property
    def language_model_alone(self) -> LanguageModelAlone | None:
        """Its language model without tuning and without ECG; None, and a note, where it cannot be had."""
        try:
            return LanguageModelAlone(self.drafter, self.max_new_tokens)
        except (OSError, ValueError) as error:
            self.note(f"the language model alone was not run: {error}")
            return None

    def systems(self, train_config: str | None) -> list[System]:
        """The model, then the baselines that need no training; two of them take what they say from `train_config`."""
        if not self.with_baselines:
            return [self.model]
        if train_config not in self._baselines:
            try:
                rows, _ = load_records(self.dataset, train_config, "train")
            except DatasetBuildError as error:
                raise DatasetBuildError(
                    f"two baselines need training reports, --no-baselines does not: {error}"
                ) from error
            drawn = rows
            if len(rows) > NEIGHBOURS:
                drawn = rows.select(
                    sorted(np.random.default_rng(self.seed).choice(len(rows), NEIGHBOURS, replace=False))
                )
            of = train_config or self.dataset_name
            self._baselines[train_config] = [MostFrequentReport(rows["report"], of), NearestNeighbour(drawn, of)]
        alone = self.language_model_alone
        return [self.model, *self._baselines[train_config], *([alone] if alone else [])]

    def drafting(self, system: System, records: Records) -> Drafting:
        """The system at work on the records; what it has made is kept in `drafts/` and shared by all tasks."""
        folder = self.output / "drafts" / file_name(records.config or "data") / file_name(system.label)
        lengths = [len(report) for report in records.reports]
        return Drafting(system, folder, records.digest, records.ids, lengths, self.drafter.batch_size, self.processes)

    def scorer(self, records: Records) -> Scorer:
        """Scores drafts for the records."""
        return Scorer(records, self.metrics, self.seed)

    def folder(self, task: str, config: str | None) -> Path:
        """Where a task writes."""
        return self.output / f"{task}-{file_name(config or 'data')}"


def file_name(text: str) -> str:
    """The text as a name that every file system takes."""
    return re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-.") or "unnamed"
