"""Recordings in CSV files: a column per lead under its name, with or without a column of time."""

import csv
import itertools
import math
import re
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from .leads import canonical_lead
from .recording import ECGReadError, Recording
from .voltage_units import check_unstated_unit, split_unit, units_per_millivolt

_MAX_COLUMNS = 256
_MAX_QUOTED = 40  # characters
_MAX_MESSAGE = 300
_MAX_HEADER = 1 << 14  # characters
_INDEX = ("", "index", "sample", "samples", "n", "#", "unnamed: 0")
# What Excel is told in a first line of its own.
_SEPARATOR_LINE = re.compile(r'"?sep=([,;\t])"?\s*', re.IGNORECASE)
_COMMENT = re.compile(r"#(?!\s*[,;\t])")  # not the index called "#"
# "time (s)", "time_ms", "t", "ms"
_TIME = re.compile(r"(?:time|t)?[\s_]*[(\[]?(s|sec|seconds|ms|msec|milliseconds)[)\]]?|time|t", re.IGNORECASE)


def read_csv(path: Path, sampling_rate: float | None, lead_names: Sequence[str] | None) -> Recording:
    """Read a table in UTF-8 or Latin-1, separated by commas, semicolons or tabs, a row per sample.

    A line "sep=;" and lines of comment may come first (`read_header`). The first row names the columns: leads in any
    spelling that `canonical_lead` knows, in mV or in the unit behind the name ("I (uV)", "II [mV]"); a time in s or ms
    ("time (s)", "time_ms"), which gives the rate; an index, which is left out. An empty field or "nan" is a sample
    that was not measured. Decimal commas are read where the separator is another.

    Args:
        path: the file.
        sampling_rate: in Hz, where no column of time tells it.
        lead_names: the columns to read, where there are others than those above; the names of all columns, where
            the file has no row of names.

    Raises:
        ECGReadError: there is a column that is none of these, or no rate; or a number, a unit or a time is wrong.
    """
    try:
        return _read(path, sampling_rate, lead_names)
    except Exception as error:  # csv and codecs have errors of their own
        raise ECGReadError(f"{path}: {str(error)[:_MAX_MESSAGE]}") from error


def read_header(file: TextIO) -> tuple[str, str]:
    """Read up to the first row: past a first line such as "sep=;" and past lines of comment, which begin with "#".

    Returns:
        The row as it stands, and what separates its fields. "" where the file ends before.
    """
    line = file.readline(_MAX_HEADER)
    separator = _SEPARATOR_LINE.fullmatch(line)
    if separator:
        line = file.readline(_MAX_HEADER)
    while _COMMENT.match(line):
        line = file.readline(_MAX_HEADER)
    return line, separator[1] if separator else max(",;\t", key=line.count)


def _encoding(path: Path) -> str:
    try:
        path.read_bytes().decode()  # 32 MiB at most
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"


def _read(path: Path, sampling_rate: float | None, lead_names: Sequence[str] | None) -> Recording:
    with path.open(encoding=_encoding(path), newline="") as file:
        first, delimiter = read_header(file)
        [header] = csv.reader([first], delimiter=delimiter, strict=True)
        header = [name.strip() for name in header]
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        if len(header) > _MAX_COLUMNS:
            raise ValueError(f"{len(header)} columns; expected at most {_MAX_COLUMNS}")
        if all(_number(name) is not None for name in header):
            if lead_names is None or len(lead_names) != len(header):
                raise ValueError(
                    f"{len(header)} columns without a row of names; expected that row, or lead_names= with a name each"
                )
            header, rows = list(lead_names), itertools.chain([header], rows)
        table = _table(rows, len(header), delimiter)
    time = [column for column, name in enumerate(header) if _TIME.fullmatch(name)]
    if lead_names is None:
        columns = [
            column for column in range(len(header)) if column not in time and header[column].lower() not in _INDEX
        ]
    else:
        columns = [_column(header, name) for name in lead_names]
    leads = [_lead(header[column], check=lead_names is None) for column in columns]
    rate = _rate(table, header, time, sampling_rate)
    signal = np.stack(
        [table[:, column] / units_per_millivolt(unit or "mV") for column, (_, unit) in zip(columns, leads, strict=True)]
    )
    check_unstated_unit(signal[[unit is None for _, unit in leads]])
    return Recording(signal.astype(np.float32), rate, tuple(lead_names or (name for name, _ in leads)), str(path))


def _table(rows: Iterable[list[str]], width: int, delimiter: str) -> np.ndarray:
    """float64 of shape (rows, columns)."""
    numbers = array("d")
    for row in rows:
        if not row:
            continue
        if len(row) != width:
            raise ValueError(f"row {len(numbers) // width + 1} has {len(row)} fields; expected {width}")
        for text in row:
            number = _number(text if delimiter == "," else text.replace(",", ".", 1))
            if number is None:
                raise ValueError(f"row {len(numbers) // width + 1} holds {text[:_MAX_QUOTED]!r}; expected a number")
            numbers.append(number)
    return np.array(numbers, dtype=np.float64).reshape(-1, width)


def _number(text: str) -> float | None:
    """The number that a field holds: NaN if it is empty, None if it is no number."""
    text = text.strip()
    try:
        return float(text) if text and "_" not in text else None if text else math.nan
    except ValueError:
        return None


def _lead(title: str, check: bool) -> tuple[str, str | None]:
    """Name and unit of a column; a name that is none of the twelve leads is an error if it is to be checked."""
    name, unit = split_unit(title)
    if check:
        try:
            canonical_lead(name)
        except ValueError as error:
            raise ValueError(
                f"the column {title[:_MAX_QUOTED]!r} is no lead, no time and no index; expected only these, or "
                "lead_names= with the columns to read"
            ) from error
    return name, unit


def _column(header: list[str], name: str) -> int:
    """The column that the caller names by its whole title or without its unit."""
    found = [column for column, title in enumerate(header) if name in (title, split_unit(title)[0])]
    if len(found) != 1:
        raise ValueError(f"{len(found)} columns called {name!r} among {', '.join(header)[:200]}; expected one")
    return found[0]


def _rate(table: np.ndarray, header: list[str], time: list[int], stated: float | None) -> float:
    """Samples per second: as the column of time says, or else as the caller states."""
    timed = [(column, match[1].lower()) for column in time if (match := _TIME.fullmatch(header[column]))[1]]
    if not timed:
        if stated is None:
            raise ValueError(
                "no column of time with its unit, such as 'time (s)'; expected one, or sampling_rate= in Hz"
            )
        return float(stated)
    column, unit = timed[0]
    seconds = table[:, column] * (1e-3 if unit.startswith("m") else 1.0)
    steps = np.diff(seconds)
    # Times are often rounded to whole ms, so that steps differ a little; a pause is a step more.
    step = steps.mean() if len(steps) else math.nan
    if not (step > 0 and np.all(steps > 0.5 * step) and np.all(steps < 1.5 * step)):
        raise ValueError(f"the times in {header[column]!r} are not evenly spaced; expected a sample at every step")
    rate = 1 / step
    rate = float(round(rate)) if math.isclose(rate, round(rate), rel_tol=1e-4) else rate
    if stated is None:
        return rate
    if not math.isclose(rate, stated, rel_tol=1e-3):
        raise ValueError(f"the times in {header[column]!r} make {rate:g} Hz; sampling_rate={stated}")
    return float(stated)
