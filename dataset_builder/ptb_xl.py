"""PTB-XL in its published folder layout -> the config `ptb-xl`.

Read are `ptbxl_database.csv`, the 500 Hz recordings that its `filename_hr` names and, where there is one, a CSV
of English reports. Everything is joined by `ecg_id`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

import datasets

from dataset_builder.corpus_builder import SPLITS, CorpusBuilder, CorpusConfig, Source
from dataset_builder.dropped_records import DroppedRecord
from dataset_builder.errors import RecordError
from dataset_builder.ptb_xl_table import parse_entry, read_database, read_reports, split_of
from dataset_builder.stored_signal import read_stored_signal

SOURCE = Source(
    name="PTB-XL, a large publicly available electrocardiography dataset (Wagner et al. 2020)",
    url="https://doi.org/10.13026/kfzx-aw45",
    licence="cc-by-4.0",
    citation=(
        "Wagner P., Strodthoff N., Bousseljot R.-D., Kreiseler D., Lunze F. I., Samek W., Schaeffter T. (2020). "
        "PTB-XL, a large publicly available electrocardiography dataset. Scientific Data 7, 154. "
        "Goldberger A. et al. (2000). PhysioBank, PhysioToolkit, and PhysioNet. Circulation 101 (23), e215-e220."
    ),
    notes=(
        "Splits are the corpus' own folds: `strat_fold` 1-8 train, 9 validation, 10 test.",
        "`age` is as published: 300 stands for a patient older than 89 years.",
        "`report` is as published, but for white space at its ends. `report_source` is `translation_csv` (a "
        "translation into English, joined by `ecg_id`) or `corpus` (the corpus' own text: German, English or "
        "Swedish). `report_language` is told from the words of the report.",
        'Empty and "trace only requested" reports are left out.',
    ),
)


@dataclass
class PTBXLConfig(CorpusConfig):
    """`data_dir` is the corpus' folder; `reports_csv` a CSV of `ecg_id,report_en`, or None for the corpus' text."""

    reports_csv: str | None = None


class PTBXL(CorpusBuilder):
    """Builds PTB-XL from its folder: int16 ADC units as recorded, reports and labels joined by `ecg_id`."""

    BUILDER_CONFIG_CLASS = PTBXLConfig
    SOURCE = SOURCE

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        database = read_database(self.config.data_dir)
        reports = None if self.config.reports_csv is None else read_reports(self.config.reports_csv)

        rows: dict[str, list[dict]] = {split: [] for split in SPLITS}
        seen: set[str] = set()
        for line, entry in enumerate(database, start=2):
            record_id = entry["ecg_id"].strip() or f"line {line}"
            try:
                split, row = parse_entry(entry, reports)
                if row["id"] in seen:
                    raise RecordError("ecg_id used before")
            except RecordError as error:
                self.drop(DroppedRecord(record_id, split_of(entry), error.reason, str(error)))
                continue
            seen.add(row["id"])
            rows[split].append(row)

        self._table_rows = len(database)
        self._straddling_patients = self._keep_patients_apart(rows)
        self._beyond_limit = {}
        for split in SPLITS:
            kept = rows[split][: self.config.limit]
            self._beyond_limit[split] = len(rows[split]) - len(kept)
            rows[split] = kept
        return [self.split_generator(split, rows=rows[split]) for split in SPLITS if rows[split]]

    def _generate_examples(self, rows: list[dict]) -> Iterator[tuple[str, dict]]:
        for row in rows:
            try:
                signal = read_stored_signal(self.config.data_dir, row["filename"])
            except RecordError as error:
                self.drop(DroppedRecord(row["id"], row["split"], error.reason, str(error)))
                continue
            example = {name: value for name, value in row.items() if name not in ("filename", "split")}
            yield row["id"], example | signal

    def _keep_patients_apart(self, rows: dict[str, list[dict]]) -> int:
        """Leave a patient in the last of his splits only (test before validation before train); count them.

        The published folds hold every patient in one fold. A table that was changed may not, and a patient seen
        in training would make the test lie.
        """
        last_split = {row["patient_id"]: split for split in SPLITS for row in rows[split]}
        straddling: set[str] = set()
        for split in SPLITS:
            kept = []
            for row in rows[split]:
                patient = row["patient_id"]
                if last_split[patient] == split:
                    kept.append(row)
                    continue
                straddling.add(patient)
                detail = f"patient {patient} is also in {last_split[patient]}"
                self.drop(DroppedRecord(row["id"], split, "patient is in a later split too", detail))
            rows[split] = kept
        return len(straddling)

    def facts(self) -> dict[str, object]:
        reports_csv = self.config.reports_csv
        return {
            "records_in_table": self._table_rows,
            "reports_csv": None if reports_csv is None else PurePath(reports_csv).name,
            "patients_in_several_splits_of_the_table": self._straddling_patients,
            "records_beyond_limit": self._beyond_limit,
        }
