"""PTB-XL in its published folder layout, or a zip of it -> the config `ptb-xl`, or `ptb-xl-100hz`.

Read are `ptbxl_database.csv`, the recordings that its `filename_hr` or `filename_lr` names and, where there is one, a
CSV of English reports. Everything is joined by `ecg_id`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from dataset_builder.cells import whole_number
from dataset_builder.corpus import Entry, Source
from dataset_builder.corpus_files import FolderFiles, ZipFiles, relative_path
from dataset_builder.csv_table import iterate_csv
from dataset_builder.dropped_records import DroppedRecord
from dataset_builder.errors import RecordError
from dataset_builder.ptb_xl_table import (
    DATABASE,
    DATABASE_COLUMNS,
    FILENAMES,
    OPTIONAL_COLUMNS,
    REPORTS_EN,
    parse_columns,
    parse_ids,
    read_reports,
    split_of,
)
from dataset_builder.report_text import (
    has_label_note,
    is_empty_report,
    is_trace_only,
    report_language,
    without_label_notes,
)
from dataset_builder.scp_report import SCP_STATEMENTS, ScpStatement, read_scp_statements, render_scp_report
from dataset_builder.stored_signal import SECONDS, read_stored_signal
from dataset_builder.translation import Translator

SOURCE = Source(
    name="PTB-XL, a large publicly available electrocardiography dataset (Wagner et al. 2020)",
    url="https://doi.org/10.13026/kfzx-aw45",
    licence="cc-by-4.0",
    citation=(
        "Wagner P., Strodthoff N., Bousseljot R.-D., Kreiseler D., Lunze F. I., Samek W., Schaeffter T. (2020). "
        "PTB-XL, a large publicly available electrocardiography dataset. Scientific Data 7, 154. "
        "Goldberger A. et al. (2000). PhysioBank, PhysioToolkit, and PhysioNet. Circulation 101 (23), e215-e220."
    ),
    creators=(
        "Wagner P.",
        "Strodthoff N.",
        "Bousseljot R.-D.",
        "Kreiseler D.",
        "Lunze F. I.",
        "Samek W.",
        "Schaeffter T.",
    ),  # fmt: skip
    published="2020-05-25",
    notes=(
        "Splits are the corpus' own folds: `strat_fold` 1-8 train, 9 validation, 10 test.",
        "`age` is as published: 300 stands for a patient older than 89 years.",
        "`report` is as published, but for HTML entities and for what the corpus' editors wrote behind it: labels, at "
        "times with a remark (`Edit: NORM 100`), which `scp_codes` follow and the report does not.",
        "`report_source` is `translation_csv` (a translation into English, joined by `ecg_id`), `translation_model` "
        "(by the model that the build report names), `scp_statements` (sentences made of the SCP statements and their "
        "likelihoods) or `corpus` (the corpus' own text: German, English or Swedish). `report_language` is told from "
        "the words of the report.",
        'Reports that are empty or say no more than "trace only requested" are left out.',
        "`signal_quality` holds what the corpus' technical expert noted, and leads with invalid samples.",
    ),
)


@dataclass
class PTBXL:
    """Builds PTB-XL: int16 ADC units as recorded, reports and labels joined by `ecg_id`.

    Attributes:
        files: the corpus' files.
        sampling_rate: 500 or 100 Hz, of the two that the corpus holds of each recording.
        reports_csv: a CSV of `ecg_id,report_en`; None for the `ptbxl_reports_en.csv` among the files, if there is one.
        translator: translates what the CSV does not; None where no model shall.
        english: take the SCP statements where a report has no English text; else each report is the corpus' own.
    """

    files: FolderFiles | ZipFiles
    sampling_rate: float = 500.0
    reports_csv: str | None = None
    translator: Translator | None = None
    english: bool = True
    version: str = "2.0.0"
    source: Source = SOURCE
    _statements: dict[str, ScpStatement] | None = field(default=None, init=False)
    _table_rows: int = field(default=0, init=False)
    _label_notes: int = field(default=0, init=False)
    _reports_csv_name: str | None = field(default=None, init=False)

    @property
    def config(self) -> str:
        return "ptb-xl" if self.sampling_rate == 500 else f"ptb-xl-{self.sampling_rate:g}hz"

    @property
    def samples(self) -> int:
        return round(SECONDS * self.sampling_rate)

    def entries(self) -> Iterator[Entry | DroppedRecord]:
        csv_texts = self._csv_texts()
        if self.english and self.files.exists(SCP_STATEMENTS):
            with self.files.open_text(SCP_STATEMENTS) as table:
                self._statements = read_scp_statements(table)
        model_texts = self._translate(csv_texts)
        self._table_rows = self._label_notes = 0
        for line in self._lines():
            self._table_rows += 1
            try:
                ecg_id, patient_id, split = parse_ids(line)
            except RecordError as error:
                record_id = line["ecg_id"].strip()[:40] or f"line {self._table_rows + 1}"
                yield DroppedRecord(record_id, split_of(line), error.reason, str(error))
                continue
            texts = {"translation_csv": csv_texts.get(ecg_id), "translation_model": model_texts.get(line["report"])}
            self._label_notes += has_label_note(texts["translation_csv"] or line["report"])
            yield Entry(ecg_id, patient_id, split, {"line": line, "texts": texts})

    def _csv_texts(self) -> dict[str, str]:
        self._reports_csv_name = None
        if not self.english:
            return {}
        if self.reports_csv is not None:
            self._reports_csv_name = PurePath(self.reports_csv).name
            return read_reports(self.reports_csv)
        if not self.files.exists(REPORTS_EN):
            return {}
        self._reports_csv_name = REPORTS_EN
        with self.files.open_text(REPORTS_EN) as table:
            return read_reports(table)

    def _lines(self) -> Iterator[dict[str, str]]:
        columns = (*DATABASE_COLUMNS, FILENAMES[self.sampling_rate])
        with self.files.open_text(DATABASE) as table:
            yield from iterate_csv(table, columns, OPTIONAL_COLUMNS)

    def _translate(self, csv_texts: dict[str, str]) -> dict[str, str]:
        """By the text of the corpus: what the model makes of those that have no English text yet."""
        if self.translator is None:
            return {}
        texts: dict[str, str] = {}
        for line in self._lines():
            report = without_label_notes(line["report"])
            in_csv = without_label_notes(csv_texts.get(whole_number(line["ecg_id"]) or "", ""))
            if is_empty_report(report) or is_trace_only(report):
                continue
            if report_language(report) != "en" and report_language(in_csv) != "en":
                texts[line["report"]] = report
        translations = self.translator.translate(list(texts.values()))
        # What the model could not translate whole has no translation.
        return {own: text for own, text in zip(texts, translations, strict=True) if isinstance(text, str)}

    def row(self, entry: Entry) -> tuple[dict[str, object], np.ndarray]:
        line, translations = entry.payload["line"], entry.payload["texts"]
        own = without_label_notes(line["report"])
        if is_empty_report(own):
            raise RecordError("empty report")
        if is_trace_only(own):
            raise RecordError("trace only requested", own)
        columns = parse_columns(line)
        report, source, language = self._report(own, translations, columns["scp_codes"])
        name = relative_path(line[FILENAMES[self.sampling_rate]])
        signal, adc = read_stored_signal(self.files, name, self.sampling_rate)
        notes = columns["signal_quality"] + signal["signal_quality"]
        text = {"report": report, "report_language": language, "report_source": source}
        ids = {"id": entry.id, "corpus": "ptb-xl", "patient_id": entry.patient_id}
        return ids | columns | text | signal | {"signal_quality": notes}, adc

    def _report(
        self, own: str, translations: dict[str, str | None], codes: list[dict[str, str | float]]
    ) -> tuple[str, str, str]:
        """The text, its source and its language: the first that is English of those at hand."""
        if not self.english:
            return own, "corpus", report_language(own) or "und"
        for source in ("translation_csv", "corpus", "translation_model"):
            text = own if source == "corpus" else without_label_notes(translations[source] or "")
            if not is_empty_report(text) and not is_trace_only(text):
                language = report_language(text)
                # A translation whose words do not tell is taken for what it is said to be.
                if language == "en" or (language is None and source != "corpus"):
                    return text, source, "en"
        if self._statements is not None and codes:
            return render_scp_report(codes, self._statements), "scp_statements", "en"
        return own, "corpus", report_language(own) or "und"

    def facts(self) -> dict[str, object]:
        return {
            "records_in_table": self._table_rows,
            "sampling_rate": self.sampling_rate,
            "reports_csv": self._reports_csv_name,
            "reports_with_label_notes": self._label_notes,
            "translation_model": None if self.translator is None else self.translator.name,
            "english": self.english,
            "scp_statements_sha256": None if self._statements is None else _digest(self._statements),
        }


def _digest(statements: dict[str, ScpStatement]) -> str:
    return hashlib.sha256(repr(sorted(statements.items())).encode()).hexdigest()
