"""Where a corpus' files come from: its folder, or a zip of it. Both are read by the same relative names.

Names come from tables and are trusted no more than the files: nothing outside the corpus is opened, nothing that
is not a regular file, and no more is read than the caller allows. A message of a `RecordError` holds no path above
the corpus, as it becomes part of a published build report, and is the same for a folder and for a zip of it.
"""

import errno
import functools
import io
import itertools
import os
import re
import shutil
import sqlite3
import stat
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, TextIO

from dataset_builder.errors import DatasetBuildError, RecordError
from dataset_builder.zip_directory import Member, ZipIndex, open_zip, write_zip_index

# A POSIX path below a folder: parts that are none of "", "." and "..", without marks that mean something elsewhere
# (a drive, a stream, a control character, half a character).
_NAME = re.compile(r"(?:(?!\.{1,2}(?:/|$))[^/\\:\x00-\x1f\x7f\ud800-\udfff]+(?:/(?!$)|$))+")
_MAX_FOLDERS = 32
_MAX_QUOTED = 200  # characters

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
# Without O_NONBLOCK, opening a named pipe waits until somebody writes to it.
_OPEN_FLAGS = (
    os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
# What opening a symbolic link with O_NOFOLLOW gives: ELOOP, but EMLINK on FreeBSD.
_IS_LINK = (errno.ELOOP, errno.EMLINK)

# `wget -r` puts a corpus into physionet.org/files/NAME/VERSION/: four folders down.
_SEARCH_DEPTH = 4
_SEARCH_FOLDERS = 10_000

_STORED, _DEFLATED = 0, 8
_LOCAL_HEADER_BYTES = 30
_CHUNK_BYTES = 1 << 18
_SEEK_LOCK = threading.Lock()


def open_corpus_files(path: str | os.PathLike, table: str, index_file: str | None = None) -> "FolderFiles | ZipFiles":
    """The files of a corpus from its folder or a zip of it, which is told by content and not by name.

    Args:
        path: a folder or a zip. The corpus' own folder may lie some folders below it (in a zip: anywhere).
        table: the file that marks the corpus' folder, such as `record_list.csv`; the shallowest one is taken.
        index_file: where a zip's list of files is kept. It is used again while the zip stays as it is; without
            it, it is a temporary file that goes with the returned object (in the process that called this).

    Raises:
        DatasetBuildError: there is no such table, or two at the same depth; or the zip is cut short, damaged,
            encrypted or none at all.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        return FolderFiles(_find_folder(path, table))
    if not os.path.exists(path):
        raise DatasetBuildError(f"{path}: no such file or folder; expected a folder or a zip that holds {table}")
    if index_file is not None:
        write_zip_index(path, index_file, table)
        return ZipFiles(path, index_file)
    folder = tempfile.mkdtemp(prefix="meit-ecg-")
    index_file = os.path.join(folder, "zip_index.sqlite")
    files = ZipFiles(path, index_file)
    weakref.finalize(files, _remove_folder, folder, os.getpid())
    write_zip_index(path, index_file, table)
    return files


def relative_path(text: str) -> str:
    """A path from a table as a POSIX path below the corpus' folder; Windows separators are understood.

    Raises:
        RecordError: it is empty, absolute or leads out of the folder.
    """
    text = text.strip()
    path = text if _is_name(text) else str(PurePosixPath(text.replace("\\", "/")))
    if not _is_name(path):
        raise RecordError("path leaves the folder", repr(text[:_MAX_QUOTED]))
    return path


class FolderFiles:
    """A corpus' files in a folder. Small and free of open files, so that it can go to other processes."""

    def __init__(self, folder: str | os.PathLike) -> None:
        self._root = os.path.realpath(folder)

    def read(self, name: str, max_bytes: int) -> bytes:
        """The content of a file.

        Args:
            name: its POSIX path below the corpus' folder.
            max_bytes: what the caller can take; a longer file is not read.

        Raises:
            RecordError: "missing file", "file too large", "path leaves the folder" (symbolic links included),
                "not a regular file" or "unreadable file".
        """
        handle, size = self._open(name)
        try:
            if size > max_bytes:
                raise RecordError("file too large", f"{_shown(name)}: {size} bytes; expected at most {max_bytes}")
            content = os.read(handle, size)
            while len(content) < size:
                piece = os.read(handle, size - len(content))
                if not piece:
                    raise RecordError("unreadable file", f"{_shown(name)}: {len(content)} bytes; expected {size}")
                content += piece
        except OSError as error:
            raise RecordError("unreadable file", f"{_shown(name)}: {error.strerror}") from error
        finally:
            os.close(handle)
        return content

    def open_text(self, name: str) -> TextIO:
        """Open a table as UTF-8, with or without a byte order mark, its line ends as they are.

        Raises:
            DatasetBuildError: it is missing, or one of the other reasons that `read` gives.
        """
        try:
            handle, _ = self._open(name)
        except RecordError as error:
            raise DatasetBuildError(f"{self._root}: {error.reason}: {error}; expected a CSV table") from error
        # By its path, which is the file's name in messages.
        path = os.path.join(self._root, name)
        return open(path, encoding="utf-8-sig", newline="", opener=lambda _path, _flags: handle)

    def exists(self, name: str) -> bool:
        """True if `read` finds a file of this name."""
        try:
            handle, _ = self._open(name)
        except RecordError:
            return False
        os.close(handle)
        return True

    def _open(self, name: str) -> tuple[int, int]:
        """A handle of the file and its size in bytes."""
        if not _is_name(name):
            raise RecordError("path leaves the folder", _shown(name))
        folder = name.rpartition("/")[0]
        if folder and not _stays_inside(self._root, folder):
            raise RecordError("path leaves the folder", f"{_shown(name)}: a symbolic link")
        path = f"{self._root}/{name}"
        try:
            try:
                if not _NO_FOLLOW:
                    path = self._linked(path, name)
                handle = os.open(path, _OPEN_FLAGS)
            except OSError as error:
                if error.errno not in _IS_LINK:
                    raise
                handle = os.open(self._linked(path, name), _OPEN_FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            raise RecordError("missing file", _shown(name)) from None
        except OSError as error:
            raise RecordError("unreadable file", f"{_shown(name)}: {error.strerror}") from error
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise RecordError("not a regular file", _shown(name))
        return handle, status.st_size

    def _linked(self, path: str, name: str) -> str:
        """Where a symbolic link leads to, which must be inside the folder."""
        real = os.path.realpath(path)
        if not real.startswith(os.path.join(self._root, "")):
            raise RecordError("path leaves the folder", f"{_shown(name)}: a symbolic link")
        return real


class ZipFiles:
    """A corpus' files in a zip, stored or deflated; as small and as free of open files as `FolderFiles`."""

    def __init__(self, path: str | os.PathLike, index_file: str | os.PathLike) -> None:
        """Read the zip by an index that `write_zip_index` wrote; both files are opened when they are first used."""
        self._path = os.path.abspath(path)
        self._index_file = os.path.abspath(index_file)
        self._opened: tuple[int, BinaryIO, ZipIndex] | None = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_opened": None}

    def read(self, name: str, max_bytes: int) -> bytes:
        """The content of a file, whose checksum has been compared.

        Args:
            name: its POSIX path below the corpus' folder.
            max_bytes: what the caller can take; a longer file is not read.

        Raises:
            RecordError: "missing file", "file too large", "path leaves the folder", "damaged zip member",
                "encrypted zip member", "zip method not known" or "unreadable file".
            DatasetBuildError: the zip itself is gone, or was changed since its index was written.
        """
        member = self._member(name)
        if member.size > max_bytes:
            raise RecordError("file too large", f"{_shown(name)}: {member.size} bytes; expected at most {max_bytes}")
        return b"".join(self._content(name, member))

    def open_text(self, name: str) -> TextIO:
        """Open a table as UTF-8, with or without a byte order mark, its line ends as they are.

        Raises:
            DatasetBuildError: it is missing, or one of the other reasons that `read` gives; reading on raises it
                too, where the damage lies further back.
        """
        try:
            chunks = self._content(name, self._member(name))
        except RecordError as error:
            raise DatasetBuildError(f"{self._path}: {error.reason}: {error}; expected a CSV table") from error
        raw = _ChunkReader(chunks, self._path, name)
        return io.TextIOWrapper(io.BufferedReader(raw, _CHUNK_BYTES), encoding="utf-8-sig", newline="")

    def exists(self, name: str) -> bool:
        """True if the zip lists a file of this name."""
        return _is_name(name) and self._find(name) is not None

    def _open(self) -> tuple[BinaryIO, ZipIndex]:
        """The zip and its index, opened anew after a fork: an SQLite connection must not be taken along."""
        if self._opened is None or self._opened[0] != os.getpid():
            file = open_zip(self._path)
            try:
                index = ZipIndex(self._index_file)
            except sqlite3.Error as error:
                file.close()
                raise DatasetBuildError(f"{self._index_file}: not the index of a zip ({error})") from error
            if not index.describes(os.fstat(file.fileno())):
                file.close()
                index.close()
                raise DatasetBuildError(f"{self._path}: the zip was changed since its files were listed")
            self._opened = os.getpid(), file, index
        return self._opened[1:]

    def _find(self, name: str) -> Member | None:
        _, index = self._open()
        try:
            return index.find(index.root + name)
        except sqlite3.Error as error:
            raise DatasetBuildError(f"{self._index_file}: the index of the zip is damaged ({error})") from error

    def _member(self, name: str) -> Member:
        """What the index says of a file, if that can be read."""
        if not _is_name(name):
            raise RecordError("path leaves the folder", _shown(name))
        member = self._find(name)
        if member is None:
            raise RecordError("missing file", _shown(name))
        if member.fault is not None:
            raise _damaged(name, member.fault)
        if member.is_encrypted:
            raise RecordError("encrypted zip member", _shown(name))
        if member.method not in (_STORED, _DEFLATED):
            found = f"{_shown(name)}: method {member.method}"
            raise RecordError("zip method not known", f"{found}; expected {_STORED} (stored) or {_DEFLATED} (deflated)")
        # Deflating adds a little where nothing can be saved. More is no data, but a way to keep a reader busy.
        if member.stored_size > member.size + member.size // 8 + 1024:
            raise _damaged(name, f"{member.stored_size} bytes are said to hold {member.size}")
        return member

    def _content(self, name: str, member: Member) -> Iterator[bytes]:
        """The member's content in pieces, its checksum compared behind the last one."""
        try:
            yield from self._pieces(name, member)
        except OSError as error:
            raise RecordError("unreadable file", f"{_shown(name)}: {error.strerror}") from error

    def _pieces(self, name: str, member: Member) -> Iterator[bytes]:
        """As `_content`. Never more than the member's stated size comes out, whatever went in."""
        file, _ = self._open()
        place = self._content_offset(name, member)
        end = place + member.stored_size
        inflater = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == _DEFLATED else None
        pending, size, crc = b"", 0, 0
        while not (inflater and inflater.eof):
            if not pending and place < end:
                pending = _read_at(file, place, min(end - place, _CHUNK_BYTES))
                if not pending:
                    break
                place += len(pending)
            if inflater is None:
                piece, pending = pending, b""
            else:
                try:
                    piece = inflater.decompress(pending, _CHUNK_BYTES)
                except zlib.error as error:
                    raise _damaged(name, str(error)) from error
                pending = inflater.unconsumed_tail
            if not piece and not pending and place >= end:
                break
            size += len(piece)
            if size > member.size:
                raise _damaged(name, f"it holds more than its {member.size} bytes")
            crc = zlib.crc32(piece, crc)
            yield piece
        if size != member.size or (inflater and not inflater.eof):
            raise _damaged(name, f"it holds {size} bytes; expected {member.size}")
        if crc != member.crc:
            raise _damaged(name, "its checksum does not fit its content")

    def _content_offset(self, name: str, member: Member) -> int:
        """Where the content begins: behind a header of its own, which must be there and bear the same name."""
        file, index = self._open()
        expected = (index.root + name).encode(member.name_encoding)
        header = _read_at(file, member.offset, _LOCAL_HEADER_BYTES + len(expected))
        name_length = int.from_bytes(header[26:28], "little")
        extra_length = int.from_bytes(header[28:30], "little")
        if (
            not header.startswith(b"PK\x03\x04")
            or name_length != len(expected)
            or header[_LOCAL_HEADER_BYTES:] != expected
        ):
            raise _damaged(name, "its header is not where the zip's list says")
        return member.offset + len(header) + extra_length


class _ChunkReader(io.RawIOBase):
    """An iterator of bytes as a file, for tables that are not read into memory whole."""

    def __init__(self, chunks: Iterator[bytes], path: str, name: str) -> None:
        self.name = f"{path}: {name}"  # for messages
        self._chunks = chunks
        self._path = path
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._left:
            try:
                self._left = memoryview(next(self._chunks))
            except StopIteration:
                return 0
            except RecordError as error:
                raise DatasetBuildError(f"{self._path}: {error.reason}: {error}") from error
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _remove_folder(folder: str, process: int) -> None:
    if os.getpid() == process:  # and not a forked one, which drops its copy of an object that others go on using
        shutil.rmtree(folder, ignore_errors=True)


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and name.count("/") <= _MAX_FOLDERS


def _shown(name: str) -> str:
    """A name for a message: as it is where it is short and harmless, else quoted and cut."""
    return name if len(name) <= _MAX_QUOTED and name.isprintable() else ascii(name[:_MAX_QUOTED])


def _damaged(name: str, detail: str) -> RecordError:
    return RecordError("damaged zip member", f"{_shown(name)}: {detail}")


def _read_at(file: BinaryIO, offset: int, count: int) -> bytes:
    """At most `count` bytes from there. The file's own position, which forked processes share, is not used."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), count, offset)
    with _SEEK_LOCK:  # Windows, which has no fork
        file.seek(offset)
        return file.read(count)


@functools.lru_cache(maxsize=4096)
def _stays_inside(root: str, folder: str) -> bool:
    """False if a symbolic link on the way leads out of the root; one that leads elsewhere within it is fine."""
    parent = folder.rpartition("/")[0]
    if parent and not _stays_inside(root, parent):
        return False
    path = f"{root}/{folder}"
    if _NO_FOLLOW and not os.path.islink(path):
        return True
    return os.path.join(os.path.realpath(path), "").startswith(os.path.join(root, ""))


def _find_folder(path: str, table: str) -> str:
    """The shallowest folder at or below `path` that holds the table."""
    level, looked_at = [path], 0
    for _ in range(_SEARCH_DEPTH + 1):
        found = [folder for folder in level if os.path.isfile(os.path.join(folder, table))]
        if len(found) > 1:
            raise DatasetBuildError(
                f"{path}: {table} is in {len(found)} folders ({found[0]} and {found[1]}, for two); expected one corpus"
            )
        if found:
            return found[0]
        looked_at += len(level)
        below = (entry.path for folder in level for entry in _entries(folder) if entry.is_dir(follow_symlinks=False))
        level = list(itertools.islice(below, _SEARCH_FOLDERS - looked_at))
    names = [ascii(entry.name[:80]) for entry in _entries(path)[:4]]
    raise DatasetBuildError(
        f"{path}: holds no {table}, nor do the folders in it; expected the folder of the corpus as published, found "
        f"{', '.join(names) or 'nothing in it'}"
    )


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:  # a folder that may not be looked into
        return []
