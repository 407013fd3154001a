"""MIMIC-IV-ECG v1.0 in its published folder layout, or a zip of it -> the config `mimic-iv-ecg`.

Read are `record_list.csv`, `machine_measurements.csv` and the recordings that the first names. Everything is joined by
`study_id`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dataset_builder.cells import time_of, whole_number
from dataset_builder.corpus import Entry, Source
from dataset_builder.corpus_files import FolderFiles, ZipFiles, relative_path
from dataset_builder.dropped_records import DroppedRecord
from dataset_builder.errors import RecordError
from dataset_builder.mimic_iv_ecg_table import (
    MEASUREMENTS,
    RECORDS,
    Study,
    join_tables,
    parse_measurements,
    recording_notes,
    unpack,
)
from dataset_builder.mimic_statements import STATEMENT_COLUMNS, join_statements, quality_notes
from dataset_builder.stored_signal import SECONDS, read_stored_signal

SAMPLING_RATE = 500.0  # Hz

SOURCE = Source(
    name="MIMIC-IV-ECG: Diagnostic Electrocardiogram Matched Subset, version 1.0 (Gow et al. 2023)",
    url="https://doi.org/10.13026/4nqg-sb35",
    licence="odbl",
    citation=(
        "Gow B., Pollard T., Nathanson L. A., Johnson A., Moody B., Fernandes C., Greenbaum N., Waks J. W., "
        "Eslami P., Carbonati T., Chaudhari A., Herbst E., Moukheiber D., Berkowitz S., Mark R., Horng S. (2023). "
        "MIMIC-IV-ECG: Diagnostic Electrocardiogram Matched Subset (version 1.0). PhysioNet. "
        "Goldberger A. et al. (2000). PhysioBank, PhysioToolkit, and PhysioNet. Circulation 101 (23), e215-e220."
    ),
    creators=(
        "Gow B.",
        "Pollard T.",
        "Nathanson L. A.",
        "Johnson A.",
        "Moody B.",
        "Fernandes C.",
        "Greenbaum N.",
        "Waks J. W.",
        "Eslami P.",
        "Carbonati T.",
        "Chaudhari A.",
        "Herbst E.",
        "Moukheiber D.",
        "Berkowitz S.",
        "Mark R.",
        "Horng S.",
    ),  # fmt: skip
    published="2023-09-15",
    notes=(
        "A share-alike licence: what is derived from this config stays under the Open Database License 1.0.",
        "Splits are drawn by a hash of `subject_id`: 80 % train, 10 % validation, 10 % test.",
        "`report` is what the ECG machine stated, no physician's text: its numbered statements as sentences, without "
        "remarks on who signed, on the patient's data and on other ECGs. `validated_by_human` is therefore false.",
        "`machine_measurements` are in ms from the beginning of the averaged beat and in degrees; null for what was "
        "not measured (29999 in the corpus, and other numbers that no interval or angle has).",
        "`study_time` is shifted by the corpus into the years 2100 to 2200, by another span for each patient.",
        "`age` and `sex` are not in the corpus. `signal_quality` holds what the machine stated of the signal, its "
        "filters, and leads with invalid samples.",
    ),
)


@dataclass
class MIMICIVECG:
    """Builds MIMIC-IV-ECG: int16 ADC units as recorded, machine statements and measurements joined by `study_id`.

    Attributes:
        files: the corpus' files.
    """

    files: FolderFiles | ZipFiles
    config: str = "mimic-iv-ecg"
    version: str = "1.0.0"
    source: Source = SOURCE
    samples: int = round(SECONDS * SAMPLING_RATE)
    _table_rows: int = field(default=0, init=False)

    def entries(self) -> Iterator[Entry | DroppedRecord]:
        self._table_rows = 0
        with self.files.open_text(RECORDS) as records, self.files.open_text(MEASUREMENTS) as measurements:
            for study in join_tables(records, measurements):
                self._table_rows += 1
                try:
                    yield _entry(study)
                except RecordError as error:
                    record_id = study.line["study_id"].strip()[:40] or f"line {self._table_rows + 1}"
                    yield DroppedRecord(record_id, None, error.reason, str(error))

    def row(self, entry: Entry) -> tuple[dict[str, object], np.ndarray]:
        time, path, packed = entry.payload
        machine = unpack(packed)
        statements = [machine[name] for name in STATEMENT_COLUMNS]
        report = join_statements(statements)
        if not report:
            raise RecordError("empty report", "; ".join(filter(None, statements))[:200])
        name = relative_path(path)
        if name.rpartition("/")[2] != entry.id:
            raise RecordError("path of another study", f"{name}, expected one that ends with {entry.id}")
        signal, adc = read_stored_signal(self.files, name, SAMPLING_RATE)
        columns = {
            "id": entry.id,
            "corpus": "mimic-iv-ecg",
            "patient_id": entry.patient_id,
            "study_time": time_of(time),
            "age": None,
            "sex": None,
            "report": report,
            "report_language": "en",
            "report_source": "machine",
            "scp_codes": [],
            "validated_by_human": False,
            "machine_measurements": parse_measurements(machine),
        }
        notes = quality_notes(statements) + recording_notes(machine) + signal["signal_quality"]
        return columns | signal | {"signal_quality": notes}, adc

    def facts(self) -> dict[str, object]:
        return {"records_in_table": self._table_rows}


def split_of_subject(subject_id: str) -> str:
    """The split of a patient by a hash, so that it is the same in every build and for any part of the corpus."""
    digest = hashlib.sha256(f"mimic-iv-ecg/{subject_id}".encode()).digest()
    tenth = int.from_bytes(digest[:8], "big") % 10
    return {8: "validation", 9: "test"}.get(tenth, "train")


def _entry(study: Study) -> Entry:
    study_id, subject_id = whole_number(study.line["study_id"]), whole_number(study.line["subject_id"])
    if study_id is None or subject_id is None:
        raise RecordError("no id", f"study_id {study.line['study_id']!r}, subject_id {study.line['subject_id']!r}")
    if not study.machine:
        raise RecordError("no machine statements", f"{MEASUREMENTS} has no line of this study")
    if len(set(study.machine)) > 1:
        raise RecordError("two different machine statements", f"{MEASUREMENTS} has {len(study.machine)} lines")
    measured = unpack(study.machine[0])["subject_id"]
    if whole_number(measured) != subject_id:
        raise RecordError("patient differs between the tables", f"{subject_id} in {RECORDS}, {measured!r} in the other")
    payload = [study.line["ecg_time"], study.line["path"], study.machine[0]]
    return Entry(study_id, subject_id, split_of_subject(subject_id), payload)
