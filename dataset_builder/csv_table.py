"""CSV tables as corpora publish them, read row by row, so that a table of any length takes little memory."""

import csv
import os
import re
from collections.abc import Iterable, Iterator
from typing import TextIO

from dataset_builder.errors import DatasetBuildError

# In characters: far more than a row of any corpus takes. It bounds what a file without line ends, or a quote that is
# never closed, makes us hold. (The csv module bounds one cell, but any library may lift that for the whole process.)
_MAX_ROW = 1_000_000
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how errors="surrogateescape" spells a byte that it cannot decode


def iterate_csv(
    table: str | os.PathLike | TextIO, columns: Iterable[str], optional: Iterable[str] = ()
) -> Iterator[dict[str, str]]:
    """The rows of a CSV table, one at a time, with the named columns only. A cell that a short row lacks is "".

    Args:
        table: a file's path, or a text file open for reading (UTF-8, `newline=""`), which is left open. A byte order
            mark, which spreadsheet programs add, does not become part of the first name.
        columns: names of the columns that are wanted; others may be there.
        optional: further columns that are wanted; one that the table lacks is as if all its cells were empty.

    Raises:
        DatasetBuildError: the file cannot be read, is no CSV table in UTF-8, or lacks a column. It names file and line.
    """
    columns, optional = tuple(columns), tuple(optional)
    if not isinstance(table, str | os.PathLike):
        yield from _rows(table, table_name(table), columns, optional)
        return
    try:
        with open(table, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield from _rows(file, table, columns, optional)
    except DatasetBuildError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        raise DatasetBuildError(f"{table}: cannot be read ({error}); expected a CSV table") from error


def table_name(table: str | os.PathLike | TextIO) -> str | os.PathLike:
    """A table that `iterate_csv` takes, as messages name it."""
    return table if isinstance(table, str | os.PathLike) else getattr(table, "name", "table")


def _rows(
    file: TextIO, name: str | os.PathLike, columns: tuple[str, ...], optional: tuple[str, ...]
) -> Iterator[dict[str, str]]:
    line_number = characters = 0  # characters: of the row that is being read

    def lines() -> Iterator[str]:
        nonlocal line_number, characters
        while line := file.readline(_MAX_ROW + 1):
            line_number += 1
            characters += len(line)
            if characters > _MAX_ROW:
                raise csv.Error(f"a row of more than {_MAX_ROW} characters; is a quote never closed?")
            if "\0" in line:
                raise csv.Error("a NUL byte")
            if not line.isascii() and _NOT_UTF8.search(line):
                raise csv.Error("bytes that are no UTF-8")
            yield line.removeprefix("\ufeff") if line_number == 1 else line

    try:
        # strict: a quote that is never closed is an error and does not swallow the rows behind it.
        reader = csv.reader(lines(), strict=True)
        header = next(reader, [])
        if missing := [column for column in columns if column not in header]:
            found = [column[:100] for column in header[:100]]
            raise DatasetBuildError(f"{name}: the column(s) {', '.join(missing)} are missing; found {found}")
        if twice := [column for column in columns + optional if header.count(column) > 1]:
            raise DatasetBuildError(f"{name}: the column(s) {', '.join(twice)} appear twice; expected each once")
        present = columns + tuple(column for column in optional if column in header)
        absent = dict.fromkeys(set(optional) - set(present), "")
        places = [(column, header.index(column)) for column in present]
        for row in reader:
            characters = 0
            if row:
                yield {column: row[place] if place < len(row) else "" for column, place in places} | absent
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        where = f"line {max(line_number, 1)}"
        raise DatasetBuildError(f"{name}, {where}: {error}; expected a CSV table in UTF-8") from error
