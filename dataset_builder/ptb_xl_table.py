"""PTB-XL's tables: `ptbxl_database.csv` and a CSV of translated reports. All they hold is text until it is parsed."""

import ast
import csv
import os
import re
from pathlib import Path, PurePosixPath

from dataset_builder.errors import DatasetBuildError, RecordError
from dataset_builder.report_text import is_empty_report, is_trace_only, report_language

DATABASE = "ptbxl_database.csv"
REPORTS_EN = "ptbxl_reports_en.csv"
DATABASE_COLUMNS = (
    "ecg_id", "patient_id", "age", "sex", "report", "scp_codes", "validated_by_human", "strat_fold", "filename_hr",
)  # fmt: skip

# The corpus' own recommendation (Wagner et al. 2020): folds 9 and 10 are of higher label quality.
_SPLIT_OF_FOLD = dict.fromkeys(range(1, 9), "train") | {9: "validation", 10: "test"}
_SEX = {"0": "male", "1": "female"}
_TRUTH = {"true": True, "false": False}
_MAX_SCP_CHARACTERS = 10_000


def read_database(folder: str | os.PathLike) -> list[dict[str, str]]:
    """Read `ptbxl_database.csv`: one dict of strings per recording.

    Raises:
        DatasetBuildError: the folder or the table is missing, or the table is not that of PTB-XL.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetBuildError(f"{folder}: no such folder; expected the folder of PTB-XL that holds {DATABASE}")
    if not (folder / DATABASE).is_file():
        raise DatasetBuildError(f"{folder}: holds no {DATABASE}; expected the folder of PTB-XL as published")
    return _read_csv(folder / DATABASE, DATABASE_COLUMNS)


def read_reports(path: str | os.PathLike) -> dict[str, str]:
    """Read a CSV of translated reports with the columns `ecg_id` and `report_en`: {ecg_id: report}.

    Raises:
        DatasetBuildError: the file is missing or no such CSV, or it gives two reports for one `ecg_id`.
    """
    reports: dict[str, str] = {}
    for row in _read_csv(Path(path), ("ecg_id", "report_en")):
        ecg_id = _whole_number(row["ecg_id"])
        if ecg_id is None:
            raise DatasetBuildError(f"{path}: ecg_id {row['ecg_id']!r}; expected a whole number")
        if reports.setdefault(ecg_id, row["report_en"]) != row["report_en"]:
            raise DatasetBuildError(f"{path}: two different reports for ecg_id {ecg_id}; expected one")
    return reports


def _read_csv(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        # utf-8-sig: a byte order mark, which spreadsheet programs add, must not become part of the first name.
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise DatasetBuildError(
                    f"{path}: the column(s) {', '.join(missing)} are missing; found {reader.fieldnames}"
                )
            return [{name: row[name] for name in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetBuildError(f"{path}: not a CSV table in UTF-8 ({error})") from error


def parse_entry(entry: dict[str, str], reports: dict[str, str] | None) -> tuple[str, dict]:
    """One line of the table -> its split, and the row of the dataset but for the signal (`filename` instead).

    Raises:
        RecordError: the line cannot be used.
    """
    ecg_id = _whole_number(entry["ecg_id"])
    patient_id = _whole_number(entry["patient_id"])
    if ecg_id is None or patient_id is None:
        raise RecordError("no id", f"ecg_id {entry['ecg_id']!r}, patient_id {entry['patient_id']!r}")
    split = split_of(entry)
    if split is None:
        raise RecordError("no fold", f"strat_fold {entry['strat_fold']!r}, expected 1 to 10")

    translation = (reports or {}).get(ecg_id)
    source = "corpus" if translation is None else "translation_csv"
    report = (entry["report"] if translation is None else translation).strip()
    if is_empty_report(report):
        raise RecordError("empty report")
    if is_trace_only(report):
        raise RecordError("trace only requested", report)
    # A translation whose words do not tell is taken for what the file says it is.
    language = report_language(report) or ("und" if source == "corpus" else "en")
    return split, {
        "id": ecg_id,
        "corpus": "ptb-xl",
        "patient_id": patient_id,
        "age": _age(entry["age"]),
        "sex": _SEX.get(_whole_number(entry["sex"]) or ""),
        "report": report,
        "report_language": language,
        "report_source": source,
        "scp_codes": parse_scp_codes(entry["scp_codes"]),
        "validated_by_human": _TRUTH.get(entry["validated_by_human"].strip().lower()),
        "filename": relative_path(entry["filename_hr"]),
        "split": split,
    }


def parse_scp_codes(text: str) -> list[dict[str, str | float]]:
    """`"{'NORM': 100.0, 'SR': 0.0}"` -> `[{"code": "NORM", "likelihood": 100.0}, ...]`, likelihoods in percent.

    0 means that the likelihood is unknown. The text is parsed as a literal and never run.

    Raises:
        RecordError: it is not a dictionary of numbers from 0 to 100.
    """
    try:
        codes = ast.literal_eval(text.strip()) if len(text) <= _MAX_SCP_CHARACTERS else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        codes = None
    if not isinstance(codes, dict) or not all(
        isinstance(code, str)
        and isinstance(likelihood, int | float)
        and not isinstance(likelihood, bool)
        and 0 <= likelihood <= 100
        for code, likelihood in codes.items()
    ):
        raise RecordError("unreadable scp_codes", text[:200])
    return [{"code": code, "likelihood": float(likelihood)} for code, likelihood in codes.items()]


def relative_path(text: str) -> str:
    """A path from the table as a POSIX path below the corpus' folder; Windows separators are understood.

    Raises:
        RecordError: it is empty, absolute or leads out of the folder.
    """
    path = PurePosixPath(text.strip().replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or re.search(r"[:\x00-\x1f]", str(path)):
        raise RecordError("path leaves the folder", repr(text[:200]))
    return str(path)


def split_of(entry: dict[str, str]) -> str | None:
    """The split of a line of the table; None where its fold is not one of 1 to 10."""
    fold = _whole_number(entry["strat_fold"])
    return None if fold is None else _SPLIT_OF_FOLD.get(int(fold))


def _whole_number(text: str) -> str | None:
    """ "15709.0", as a table writer spells an integer column with gaps, is "15709"; None if it is no such number."""
    match = re.fullmatch(r"\s*0*(\d{1,18})(?:\.0*)?\s*", text)
    return match[1] if match else None


def _age(text: str) -> float | None:
    match = re.fullmatch(r"\s*\d{1,3}(?:\.\d{1,3})?\s*", text)
    return float(text) if match else None
