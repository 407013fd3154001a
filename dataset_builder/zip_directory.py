"""A zip's list of members as a small SQLite file, so that a corpus of millions of files is read without holding it.

`zipfile.ZipFile` keeps one object per member: a gigabyte, in every process, for the 1.6 million files of
MIMIC-IV-ECG. Here the list is read once, as a stream, and looked up by name. The layout is that of PKWARE's
APPNOTE.TXT 6.3.10, sections 4.3.7 to 4.3.16 and 4.5.3; nothing that it states is believed without a check.
"""

import contextlib
import os
import sqlite3
import stat
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dataset_builder.errors import DatasetBuildError

# Each begins with the record's signature, and holds every field that it has before those of variable length.
_LOCAL_START = b"PK\x03\x04"
_ENTRY = struct.Struct("<4s6H3L5H2L")
_ENTRY_START = b"PK\x01\x02"
_END = struct.Struct("<4s4H2LH")
_END_START = b"PK\x05\x06"
_END_64_PLACE = struct.Struct("<4sLQL")
_END_64_PLACE_START = b"PK\x06\x07"
_END_64 = struct.Struct("<4sQ2H2L4Q")
_END_64_START = b"PK\x06\x06"

_MAX_COMMENT = 65535  # bytes: the field has 16 bits
# The list of MIMIC-IV-ECG takes some 0.3 GB; a list beyond this bound would fill a disk with its index.
_MAX_LIST_BYTES = 2 << 30
_UTF_8 = 1 << 11
_IN_EXTRA_FIELD = 0xFFFFFFFF
_VERSION = 1
_SCHEMA = """
CREATE TABLE about (version, zip_size, zip_time, corpus_table, root);
CREATE TABLE members (
    name TEXT PRIMARY KEY, offset INTEGER, stored_size INTEGER, size INTEGER, method INTEGER, crc INTEGER,
    flags INTEGER, fault TEXT
) WITHOUT ROWID;
"""
_ABOUT = "SELECT zip_size, zip_time, corpus_table, root FROM about WHERE version = ?"
# A name that is listed twice: tools differ in which of the two they take, so neither is taken.
_ADD = """
INSERT INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET fault = 'it is listed twice'
"""


class Member(NamedTuple):
    """One file of a zip: its place, its sizes in bytes, and `fault` where what the zip says of it cannot be."""

    offset: int
    stored_size: int
    size: int
    method: int
    crc: int
    flags: int
    fault: str | None

    @property
    def name_encoding(self) -> str:
        return "utf-8" if self.flags & _UTF_8 else "cp437"

    @property
    def is_encrypted(self) -> bool:
        return bool(self.flags & 1)


class ZipIndex:
    """An index that `write_zip_index` wrote, open for reading in this process.

    Attributes:
        root: the folder within the zip that holds the corpus, with "/" at its end; "" for the zip's own.
    """

    def __init__(self, index_file: str) -> None:
        """Open the index; sqlite3.Error if it is none, or not of this version."""
        # immutable: nobody writes it any more, so that no lock is taken and none is lost in a fork.
        place = f"{Path(index_file).absolute().as_uri()}?mode=ro&immutable=1"
        self._connection = sqlite3.connect(place, uri=True, check_same_thread=False)
        try:
            about = self._connection.execute(_ABOUT, (_VERSION,)).fetchone()
            if about is None:
                raise sqlite3.DatabaseError("an index of another version")
        except sqlite3.Error:
            self._connection.close()
            raise
        self._zip_size, self._zip_time, self._corpus_table, self.root = about

    def describes(self, status: os.stat_result, table: str | None = None) -> bool:
        """True if it was made of the zip in its present state (and for this table)."""
        return (self._zip_size, self._zip_time) == (status.st_size, status.st_mtime_ns) and table in (
            None,
            self._corpus_table,
        )

    def find(self, name: str) -> Member | None:
        """The member of this full name; None if the zip holds none."""
        row = self._connection.execute(
            "SELECT offset, stored_size, size, method, crc, flags, fault FROM members WHERE name = ?", (name,)
        ).fetchone()
        return None if row is None else Member(*row)

    def close(self) -> None:
        self._connection.close()


def write_zip_index(path: str, index_file: str, table: str) -> None:
    """List the zip's members in `index_file`, unless it holds that list already.

    Args:
        path: the zip. It may have any size (zip64), but not several parts.
        index_file: written in one step, so that it is whole wherever it exists.
        table: the file that marks the corpus' folder; the shallowest one is taken.

    Raises:
        DatasetBuildError: it is no zip, is cut short or damaged, or `table` is missing, encrypted or there twice.
    """
    with open_zip(path) as file:
        status = os.fstat(file.fileno())
        with contextlib.suppress(sqlite3.Error), contextlib.closing(ZipIndex(index_file)) as index:
            if index.describes(status, table):
                return
        offset, size, members = _find_list(file, path, status.st_size)
        tables = _Tables(table)
        folder, name = os.path.split(os.path.abspath(index_file))
        handle, part = tempfile.mkstemp(prefix=f"{name}.", suffix=".part", dir=folder)
        os.close(handle)
        try:
            with contextlib.closing(sqlite3.connect(part)) as connection:
                # A part file that is lost with the machine is written again; until then speed counts.
                connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_SCHEMA}")
                connection.executemany(_ADD, tables.watch(_entries(file, path, offset, size, members)))
                about = (_VERSION, status.st_size, status.st_mtime_ns, table, tables.root(path))
                connection.execute("INSERT INTO about VALUES (?, ?, ?, ?, ?)", about)
                connection.commit()
            os.replace(part, index_file)
        except (sqlite3.Error, OSError) as error:
            raise DatasetBuildError(
                f"{index_file}: the list of the files in {path} cannot be written ({error})"
            ) from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)


def open_zip(path: str) -> BinaryIO:
    """Open a regular file for reading; anything else (a pipe would wait for ever) is a DatasetBuildError."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise DatasetBuildError(f"{path}: cannot be opened ({error.strerror}); expected a zip") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DatasetBuildError(f"{path}: not a regular file; expected a folder or a zip")
    return os.fdopen(handle, "rb")


def _find_list(file: BinaryIO, path: str, file_size: int) -> tuple[int, int, int]:
    """Where the list of members begins, its length in bytes, and how many members it should hold."""
    start = file.read(len(_LOCAL_START))
    tail_offset = max(0, file_size - _END.size - _MAX_COMMENT)
    file.seek(tail_offset)
    tail = file.read(_END.size + _MAX_COMMENT)
    place = len(tail)
    while True:
        place = tail.rfind(_END_START, 0, place)
        if place < 0:
            if start != _LOCAL_START:
                raise DatasetBuildError(f"{path}: not a zip (it begins with {start!r}); expected a zip or a folder")
            raise DatasetBuildError(
                f"{path}: this zip is cut short, its list of files is missing (an unfinished download?); expected a "
                f"whole one, found {file_size} bytes"
            )
        end = tail[place : place + _END.size]
        # The comment reaches to the end of the file, or these four bytes are part of a comment themselves.
        if len(end) == _END.size and place + _END.size + _END.unpack(end)[-1] == len(tail):
            break

    _, disk, list_disk, _, members, size, offset, _ = _END.unpack(end)
    limit = tail_offset + place
    place_64 = _unpack_at(file, limit - _END_64_PLACE.size, _END_64_PLACE)
    if place_64 and place_64[0] == _END_64_PLACE_START:
        limit = place_64[2]
        end_64 = _unpack_at(file, limit, _END_64)
        if not end_64 or end_64[0] != _END_64_START:
            raise DatasetBuildError(f"{path}: this zip is damaged: its zip64 end record is not where it should be")
        *_, disk, list_disk, _, members, size, offset = end_64
    if disk or list_disk:
        raise DatasetBuildError(f"{path}: one part of a zip of several parts; expected a zip in one file")
    if offset + size > limit:
        raise DatasetBuildError(
            f"{path}: this zip is damaged: its list of files should take {size} bytes from byte {offset} of {limit}"
        )
    if size > _MAX_LIST_BYTES:
        raise DatasetBuildError(
            f"{path}: the zip's list of files takes {size} bytes; expected at most {_MAX_LIST_BYTES}"
        )
    return offset, size, members


def _unpack_at(file: BinaryIO, offset: int, layout: struct.Struct) -> tuple | None:
    """The record at this offset; None beyond the file's ends, where not every file system lets one seek."""
    if not 0 <= offset <= os.fstat(file.fileno()).st_size:
        return None
    file.seek(offset)
    content = file.read(layout.size)
    return layout.unpack(content) if len(content) == layout.size else None


def _entries(file: BinaryIO, path: str, offset: int, size: int, members: int) -> Iterator[tuple]:
    """One row of the index per file that the list names; folders and names that are no text are passed over."""
    file.seek(offset)
    end, listed, read = offset + size, 0, 0
    while read < size:
        header = file.read(_ENTRY.size)
        if len(header) < _ENTRY.size or not header.startswith(_ENTRY_START):
            raise DatasetBuildError(f"{path}: this zip is damaged: its list of files breaks off after {listed} files")
        (
            _, _, _, flags, method, _, _, crc, stored_size, plain_size, name_length, extra_length, comment_length,
            _, _, _, place,
        ) = _ENTRY.unpack(header)  # fmt: skip
        rest = file.read(name_length + extra_length + comment_length)
        read += len(header) + name_length + extra_length + comment_length
        listed += 1
        if _IN_EXTRA_FIELD in (plain_size, stored_size, place):
            extra = rest[name_length : name_length + extra_length]
            plain_size, stored_size, place = _sizes_64(extra, plain_size, stored_size, place)
        try:
            name = rest[:name_length].decode("utf-8" if flags & _UTF_8 else "cp437")
        except UnicodeDecodeError:
            continue
        if name.endswith("/"):
            continue
        if place + stored_size > offset or plain_size >= 1 << 62:
            yield name, 0, 0, 0, method, crc, flags, "its stated place or size cannot be"
        else:
            yield name, place, stored_size, plain_size, method, crc, flags, None
    # Without zip64 the count has 16 bits, and some writers let a larger one wrap round.
    if offset + read != end or (listed - members) % 65536:
        raise DatasetBuildError(f"{path}: this zip is damaged: it lists {listed} files; expected {members}")


def _sizes_64(extra: bytes, *sizes: int) -> tuple[int, ...]:
    """The sizes, those that do not fit 32 bits taken from the zip64 extra field in the order that it keeps."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            values = struct.iter_unpack("<Q", extra[4 : 4 + length // 8 * 8])
            return tuple(next(values, (size,))[0] if size == _IN_EXTRA_FIELD else size for size in sizes)
        extra = extra[4 + length :]
    return sizes


class _Tables:
    """The shallowest members that are called `table`, noted while the list passes by."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._depth = 0
        self._found: list[tuple[str, int]] = []
        self._top: dict[str, None] = {}  # some names at the zip's top, for the message

    def watch(self, rows: Iterator[tuple]) -> Iterator[tuple]:
        for row in rows:
            name = row[0]
            if len(self._top) < 4:
                self._top[name[:80].split("/")[0]] = None
            if name.endswith(self._table) and name.rpartition("/")[2] == self._table:
                depth = name.count("/")
                if not self._found or depth < self._depth:
                    self._depth, self._found = depth, []
                if depth == self._depth and len(self._found) < 2:
                    self._found.append((name, row[6]))
            yield row

    def root(self, path: str) -> str:
        if not self._found:
            raise DatasetBuildError(
                f"{path}: this zip holds no {self._table}; expected the corpus as published, found "
                f"{', '.join(map(repr, self._top)) or 'no file'}"
            )
        if len(self._found) > 1:
            raise DatasetBuildError(
                f"{path}: this zip holds {self._table} twice: {self._found[0][0]!r} and {self._found[1][0]!r}; "
                "expected one corpus"
            )
        name, flags = self._found[0]
        if flags & 1:
            raise DatasetBuildError(f"{path}: this zip is encrypted; expected it as published, without a password")
        return name[: -len(self._table)]
