"""The records that a task scores drafts of: their reports, findings, SCP statements and measurements."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import datasets
import numpy as np
from tqdm import tqdm

from dataset_builder.records import load_records
from dataset_builder.usable_records import broken_recordings
from evaluation.finding import Finding
from evaluation.findings import UnknownLanguageError, find_findings
from evaluation.machine_intervals import machine_measurements, with_machine
from evaluation.measurements import Measurements
from evaluation.scp_findings import scp_findings
from evaluation.signal_measurements import measure
from processing import LEADS, row_recording


@dataclass
class Records:
    """One split of one corpus, whole or a draw of it, without what cannot be scored.

    Attributes:
        rows: of the dataset.
        dataset, config, split: where they are from.
        left_out: reason -> how many records were left out for it.
    """

    rows: datasets.Dataset
    dataset: str
    config: str | None
    split: str
    left_out: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def ids(self) -> list[str]:
        """Of the records, in their order."""
        return list(self.rows["id"])

    @cached_property
    def patient_ids(self) -> list[str]:
        """One per record."""
        return list(self.rows["patient_id"])

    @cached_property
    def reports(self) -> list[str]:
        """The references."""
        return list(self.rows["report"])

    @cached_property
    def findings(self) -> list[list[Finding] | None]:
        """What each reference states; None where it is in no language that findings are read in."""
        return findings_of(self.reports)

    @cached_property
    def scp(self) -> list[list[Finding]]:
        """What each record's SCP statements say; nothing where the corpus has none."""
        if "scp_codes" not in self.rows.column_names:
            return [[] for _ in self.ids]
        return [
            scp_findings({code["code"]: code["likelihood"] for code in codes or ()}) for codes in self.rows["scp_codes"]
        ]

    @cached_property
    def measurements(self) -> list[Measurements]:
        """Of each record: what the machine measured, where the corpus has that, and else what its signal gives."""
        measured = []
        for row in tqdm(self.rows, desc="measuring the signals", unit=" records"):
            recording = row_recording(row)
            of_signal = measure(recording.signal, recording.sampling_rate, LEADS)
            measured.append(with_machine(of_signal, machine_measurements(row.get("machine_measurements"))))
        return measured

    @cached_property
    def digest(self) -> str:
        """SHA-256 over ids, signals with their units, and reports: two corpora may use the same ids."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(row["id"].encode() + b"\n" + np.asarray(row["ecg"], dtype=np.int16).tobytes())
            scale = [list(map(float, row["ecg_gain"])), list(map(float, row["ecg_baseline"])), row["sampling_rate"]]
            digest.update(f"{scale} {row['report']}\n".encode())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """The same for `results.json`."""
        return {
            "dataset": self.dataset,
            "config": self.config,
            "split": self.split,
            "records": len(self.ids),
            "patients": len(set(self.patient_ids)),
            "left_out": dict(self.left_out),
            "sha256": self.digest,
        }


def load(dataset: str, name: str, config: str | None, split: str, limit: int | None = None, seed: int = 0) -> Records:
    """Load a split, and leave out, counted, what has no report or an ECG that no model can be given.

    Args:
        dataset: folder that `meit-ecg build` wrote, or a Hub id.
        name: what the dataset is called in results.
        config: corpus in it; None where there is but one.
        split: name of the split.
        limit: records at most, drawn with `seed`.
        seed: of the draw.

    Raises:
        FileNotFoundError, DatasetBuildError: as `load_records`.
        ValueError: two records have the same id, or no record is left.
    """
    rows, without_report = load_records(dataset, config, split, limit, seed)
    left_out = Counter({"no report": without_report} if without_report else {})
    broken = broken_recordings(rows)
    for reason in broken.values():
        left_out[f"ECG: {reason}"] += 1
    if broken:
        rows = rows.select([number for number in range(len(rows)) if number not in broken])
    where = f"{dataset} ({config or 'its only config'}, {split})"
    if not len(rows):
        raise ValueError(f"{where}: no record is left; left out were {dict(left_out)}")
    repeated = [record for record, count in Counter(rows["id"]).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{where}: {len(repeated)} ids occur more than once, such as {repeated[:5]}; expected one each"
        )
    return Records(rows, name, config, split, left_out)


def findings_of(reports: Sequence[str]) -> list[list[Finding] | None]:
    """What each report states, each text read once; None where it is in no language that findings are read in."""
    found: dict[str, list[Finding] | None] = {}
    for report in reports:
        if report not in found:
            try:
                found[report] = find_findings(report)
            except UnknownLanguageError:
                found[report] = None
    return [found[report] for report in reports]
