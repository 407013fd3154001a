"""MIMIC-IV-ECG's tables, `record_list.csv` and `machine_measurements.csv`, joined by `study_id`.

Each has a row for each of 800,000 studies, in an order of its own; the join is a database on disk.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from operator import itemgetter
from typing import TextIO

from dataset_builder.cells import decimal, whole_number
from dataset_builder.columns import MACHINE_AXES, MACHINE_INTERVALS, MACHINE_MEASUREMENTS
from dataset_builder.csv_table import iterate_csv
from dataset_builder.mimic_statements import STATEMENT_COLUMNS

RECORDS = "record_list.csv"
MEASUREMENTS = "machine_measurements.csv"
_RECORD_COLUMNS = ("subject_id", "study_id", "file_name", "ecg_time", "path")
_MEASUREMENT_COLUMNS = ("subject_id", "study_id", *STATEMENT_COLUMNS[:1], *MACHINE_MEASUREMENTS)
# Fewer statements, or no settings of the filters, are no reason to refuse a table.
_OPTIONAL_COLUMNS = (*STATEMENT_COLUMNS[1:], "bandwidth", "filtering")
# What the carts write for "not measured" is mostly 29999, but also 32767 or 999 for the axis of a wave that is not
# there (atrial fibrillation has no P wave). None of them is possible: a recording lasts 10 s, and an angle ends at 360.
_LONGEST_INTERVAL, _LARGEST_ANGLE = 10_000.0, 360.0
_CELLS = (*_MEASUREMENT_COLUMNS, *_OPTIONAL_COLUMNS)
_cells = itemgetter(*_CELLS)
_BETWEEN_CELLS = "\x1f"  # the separator that ASCII has for it; quicker than JSON, and no cell needs it


@dataclass(frozen=True)
class Study:
    """A line of `record_list.csv`, and all lines of `machine_measurements.csv` that bear its `study_id`, packed."""

    line: dict[str, str]
    machine: list[str]


def join_tables(records: TextIO, measurements: TextIO) -> Iterator[Study]:
    """The studies in the order of `record_list.csv`.

    Raises:
        DatasetBuildError: a table is not what it must be.
    """
    with closing(sqlite3.connect("")) as database:  # a file that the system removes
        database.executescript("PRAGMA journal_mode = OFF; CREATE TABLE lines (study TEXT, line TEXT); BEGIN;")
        database.executemany(
            "INSERT INTO lines VALUES (?, ?)",
            (
                (_key(line["study_id"]), _pack(line))
                for line in iterate_csv(measurements, _MEASUREMENT_COLUMNS, _OPTIONAL_COLUMNS)
            ),
        )
        database.execute("CREATE INDEX by_study ON lines (study)")
        for line in iterate_csv(records, _RECORD_COLUMNS):
            found = database.execute("SELECT line FROM lines WHERE study = ?", (_key(line["study_id"]),))
            yield Study(line, [packed for (packed,) in found])


def unpack(machine: str) -> dict[str, str]:
    """A packed line of `machine_measurements.csv` by the names of its columns."""
    return dict(zip(_CELLS, machine.split(_BETWEEN_CELLS), strict=True))


def _pack(line: dict[str, str]) -> str:
    cells = _cells(line)
    packed = _BETWEEN_CELLS.join(cells)
    if packed.count(_BETWEEN_CELLS) < len(_CELLS):
        return packed
    return _BETWEEN_CELLS.join(cell.replace(_BETWEEN_CELLS, " ") for cell in cells)


def _key(study_id: str) -> str:
    return whole_number(study_id) or study_id


def parse_measurements(line: dict[str, str]) -> dict[str, float | None]:
    """Intervals in ms and axes in degrees; None for what was not measured, and for what is no number."""
    intervals = {name: _within(decimal(line[name]), 0.0, _LONGEST_INTERVAL) for name in MACHINE_INTERVALS}
    axes = {name: _within(decimal(line[name]), -_LARGEST_ANGLE, _LARGEST_ANGLE) for name in MACHINE_AXES}
    return intervals | axes


def _within(number: float | None, lowest: float, highest: float) -> float | None:
    return None if number is None or not lowest <= number <= highest else number


def recording_notes(line: dict[str, str]) -> list[str]:
    """How the cart filtered the signal, as it says: "bandwidth 0.005-150 Hz"."""
    return [f"{name} {cell}" for name in ("bandwidth", "filtering") if (cell := line[name].strip())]
