"""PTB-XL's tables: `ptbxl_database.csv` and a CSV of translated reports. All they hold is text until it is parsed."""

import ast
import os
from functools import lru_cache
from typing import TextIO

from dataset_builder.cells import decimal, time_of, whole_number
from dataset_builder.csv_table import iterate_csv, table_name
from dataset_builder.errors import DatasetBuildError, RecordError

DATABASE = "ptbxl_database.csv"
REPORTS_EN = "ptbxl_reports_en.csv"
# Of 1.0.1 to 1.0.3, whose tables have the same columns. The recording's column is one of `FILENAMES`.
DATABASE_COLUMNS = (
    "ecg_id", "patient_id", "age", "sex", "report", "scp_codes", "validated_by_human", "strat_fold",
)  # fmt: skip
FILENAMES = {500.0: "filename_hr", 100.0: "filename_lr"}
# What the corpus' technical expert saw in the signals; each names the leads.
QUALITY_COLUMNS = ("baseline_drift", "static_noise", "burst_noise", "electrodes_problems")
OPTIONAL_COLUMNS = ("recording_date", *QUALITY_COLUMNS)

# The corpus' own recommendation (Wagner et al. 2020): folds 9 and 10 are of higher label quality.
_SPLIT_OF_FOLD = dict.fromkeys(range(1, 9), "train") | {9: "validation", 10: "test"}
_SEX = {"0": "male", "1": "female"}
_TRUTH = {"true": True, "false": False}
_MAX_SCP_CHARACTERS = 10_000


def read_reports(table: str | os.PathLike | TextIO) -> dict[str, str]:
    """Read a CSV of translated reports with the columns `ecg_id` and `report_en`, a file or one that is open.

    Returns:
        {ecg_id: report}.

    Raises:
        DatasetBuildError: the file is missing or no such CSV, or it gives two reports for one `ecg_id`.
    """
    name = table_name(table)
    reports: dict[str, str] = {}
    for row in iterate_csv(table, ("ecg_id", "report_en")):
        ecg_id = whole_number(row["ecg_id"])
        if ecg_id is None:
            raise DatasetBuildError(f"{name}: ecg_id {row['ecg_id']!r}; expected a whole number")
        if reports.setdefault(ecg_id, row["report_en"]) != row["report_en"]:
            raise DatasetBuildError(f"{name}: two different reports for ecg_id {ecg_id}; expected one")
    return reports


def parse_ids(line: dict[str, str]) -> tuple[str, str, str]:
    """The `ecg_id`, `patient_id` and split of a line of the table.

    Raises:
        RecordError: an id is no whole number, or the fold is not one of 1 to 10.
    """
    ecg_id, patient_id = whole_number(line["ecg_id"]), whole_number(line["patient_id"])
    if ecg_id is None or patient_id is None:
        raise RecordError("no id", f"ecg_id {line['ecg_id']!r}, patient_id {line['patient_id']!r}")
    split = split_of(line)
    if split is None:
        raise RecordError("no fold", f"strat_fold {line['strat_fold']!r}, expected 1 to 10")
    return ecg_id, patient_id, split


def parse_columns(line: dict[str, str]) -> dict[str, object]:
    """The columns of the dataset that a line of the table gives as it is, all but ids, report and signal.

    Raises:
        RecordError: see `parse_scp_codes`.
    """
    return {
        "study_time": time_of(line["recording_date"]),
        "age": decimal(line["age"]),
        "sex": _SEX.get(whole_number(line["sex"]) or ""),
        "scp_codes": parse_scp_codes(line["scp_codes"]),
        "validated_by_human": _TRUTH.get(line["validated_by_human"].strip().lower()),
        "signal_quality": [
            f"{name.replace('_', ' ')}: {note}" for name in QUALITY_COLUMNS if (note := line[name].strip(" ,"))
        ],
    }


def parse_scp_codes(text: str) -> list[dict[str, str | float]]:
    """`"{'NORM': 100.0, 'SR': 0.0}"` -> `[{"code": "NORM", "likelihood": 100.0}, ...]`, likelihoods in percent.

    0 means that the likelihood is unknown. The text is parsed as a literal and never run.

    Raises:
        RecordError: it is not a dictionary of numbers from 0 to 100.
    """
    return [{"code": code, "likelihood": likelihood} for code, likelihood in _likelihoods(text)]


@lru_cache(maxsize=4096)  # a third of the corpus has one of a dozen texts
def _likelihoods(text: str) -> tuple[tuple[str, float], ...]:
    try:
        codes = ast.literal_eval(text.strip()) if len(text) <= _MAX_SCP_CHARACTERS else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        codes = None
    if not isinstance(codes, dict) or not all(
        isinstance(code, str)
        and code.isprintable()  # half a character, which a literal can spell, cannot be stored
        and isinstance(likelihood, int | float)
        and not isinstance(likelihood, bool)
        and 0 <= likelihood <= 100
        for code, likelihood in codes.items()
    ):
        raise RecordError("unreadable scp_codes", text[:200])
    return tuple((code, float(likelihood)) for code, likelihood in codes.items())


def split_of(line: dict[str, str]) -> str | None:
    """The split of a line of the table; None where its fold is not one of 1 to 10."""
    fold = whole_number(line["strat_fold"])
    return None if fold is None else _SPLIT_OF_FOLD.get(int(fold))
