"""The records of a run: one corpus or several, mixed, without those that nothing could be learnt from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from dataset_builder.errors import DatasetBuildError
from dataset_builder.records import load_records, with_signals_as_arrays
from dataset_builder.usable_records import broken_recordings

from .arguments import DataArguments


@dataclass(frozen=True)
class CorpusRecords:
    """What of one corpus is trained or evaluated on.

    Attributes:
        dataset: name of the folder, or the Hub id.
        config: name of the corpus in it, or None.
        records: its usable records.
        without_report: number of records left out as their report is empty.
        broken: id -> what is wrong, of the records left out as their recording is broken.
    """

    dataset: str
    config: str | None
    records: datasets.Dataset
    without_report: int
    broken: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The same for a run's record, the records by their number and a digest of their ids in order."""
        digest = hashlib.sha256()
        for record_id in self.records["id"]:
            digest.update(record_id.encode("utf-8") + b"\n")
        return {
            "dataset": self.dataset,
            "config": self.config,
            "records": len(self.records),
            "record_ids_sha256": digest.hexdigest(),
        }


def load_corpora(
    data: DataArguments, split: str, limit: int | None = None, seed: int = 0, progress: bool = False
) -> list[CorpusRecords]:
    """Load one split of each corpus and leave out what cannot be used.

    Args:
        data: which corpora.
        split: name of the split.
        limit: records of each corpus at most, drawn with `seed`.
        seed: seed of the draw.
        progress: whether to show a progress bar while recordings are checked.

    Raises:
        DatasetBuildError, FileNotFoundError: as of `load_records`, or where no recording of a corpus is whole.
    """
    corpora = []
    for dataset, config in data.corpora:
        records, without_report = load_records(dataset, config, split, limit, seed)
        broken = broken_recordings(records, progress=progress)
        reasons = {}
        if broken:
            ids = records["id"]
            reasons = {ids[row]: reason for row, reason in broken.items()}
            if len(broken) == len(records):
                record_id, reason = next(iter(reasons.items()))
                raise DatasetBuildError(
                    f"{dataset} ({config or 'its only config'}, {split}) holds no usable recording: {len(broken)} are "
                    f"broken, the first is {record_id}: {reason}"
                )
            records = records.select([row for row in range(len(records)) if row not in broken])
        name = Path(dataset).resolve().name if Path(dataset).is_dir() else dataset
        corpora.append(CorpusRecords(name, config, records, without_report, reasons))
    return corpora


def mix(corpora: list[CorpusRecords], weights: list[float] | None = None, seed: int = 0) -> datasets.Dataset:
    """One dataset of several corpora; no signal is copied.

    Args:
        corpora: at least one.
        weights: share of each corpus; its records are drawn in their order, from the start again where they end, until
            every record was drawn. Without, each record is there once.
        seed: seed of the draws.

    Raises:
        DatasetBuildError: the corpora differ in their columns or in the length of their signals.
    """
    parts = [corpus.records for corpus in corpora]
    if len(parts) == 1:
        return parts[0]
    parts = [part.with_format(None) for part in parts]
    for corpus, part in zip(corpora, parts, strict=True):
        if part.features != parts[0].features:
            raise DatasetBuildError(
                f"{corpus.config or corpus.dataset} cannot be mixed with {corpora[0].config or corpora[0].dataset}: "
                f"its columns are {part.features}, expected {parts[0].features}"
            )
    if weights is None:
        mixed = datasets.concatenate_datasets(parts)
    else:
        shares = [weight / sum(weights) for weight in weights]
        mixed = datasets.interleave_datasets(parts, probabilities=shares, seed=seed, stopping_strategy="all_exhausted")
    return with_signals_as_arrays(mixed)
