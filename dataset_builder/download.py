"""A PhysioNet database downloaded through `wfdb`: its tables first, then the files of the records that they name.

`wfdb.dl_files` itself does not serve here: it takes no version of a database (it looks for the newest on a page
of the website), asks the server for the size of each file that is there already (a day of questions for the 1.6
million files of MIMIC-IV-ECG), gives up at the first error, and writes under the final name, so that a kill leaves
part files that look whole. Below it, `wfdb` transfers single files, and that is what is used: its session, its
address of PhysioNet (`wfdb.set_db_index_url` leads to a mirror), its two connections at a time and its errors.

A file bears its name only once it is whole: it arrives as `NAME.part`, its length is compared with what the server
stated, and it is renamed. What other tools left behind is not trusted: a header is whole if it ends with a line end
and describes all its leads, a signal file if it is as long as the header beside it implies, a table if the server
states the same length. The official SHA256SUMS.txt is not used: it would have to be fetched (some 200 MB for
MIMIC-IV-ECG) and every file be read on each resume, while the build compares the checksums that each header states
of its samples anyway. `sha256sum -c SHA256SUMS.txt` checks a folder against it.
"""

import contextlib
import errno
import functools
import http.client
import itertools
import os
import posixpath
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import requests
from tqdm import tqdm
from wfdb.io import _url as wfdb_url
from wfdb.io import download as wfdb_download

from dataset_builder.corpus_files import relative_path
from dataset_builder.errors import DatasetBuildError, RecordError

_DATABASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*/[0-9][0-9.]*")
_TIMEOUT = (30.0, 60.0)  # s to connect, and without a byte
# Tables have up to 200 MB. `wfdb` takes a file into memory whole.
_MAX_FILE_BYTES = 1 << 30
_MAX_HEADER_BYTES = 1 << 20
_TEMPORARY_STATUS = (408, 425, 429, 500, 502, 503, 504)
_TEMPORARY_ERRORS = (
    requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)  # fmt: skip
# What a record's name, or what stands in its place, does to writing: no other record meets it.
_ERRORS_OF_ONE_NAME = (
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.EINVAL, errno.EILSEQ
)  # fmt: skip
_MAX_DELAY = 60.0  # s
_BATCH = 256  # records
# So many records in a row without an answer: the server or the network is gone, and not a file.
_GIVE_UP_AFTER = 20


@dataclass
class Download:
    """What a download did, in records; `failed` holds the name of each record that is not there whole, and why."""

    downloaded: int = 0
    already_there: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def download_corpus(
    database: str,
    folder: str | os.PathLike,
    tables: Sequence[str],
    records: Callable[[], Iterator[str]],
    suffixes: Sequence[str] = (".hea", ".dat"),
    *,
    total: int | None = None,
    connections: int = 2,
    attempts: int = 5,
    first_delay: float = 1.0,
) -> Download:
    """Download a PhysioNet database, or complete what an earlier call with the same arguments began.

    Args:
        database: its name and version, such as "ptb-xl/1.0.3".
        folder: where to; its layout becomes that of the database.
        tables: names of files that must be there before `records` is called.
        records: called once; yields the names of records as the tables spell them, without a suffix.
        suffixes: what the files of a record end with; a header comes before the signals that it describes.
        total: how many records there will be, for the progress bar.
        connections: files on their way at a time. Servers for all ask for few.
        attempts: how often a file is asked for, where the server or the network fails for a time.
        first_delay: seconds before the second attempt; each further one waits twice as long, a minute at most.

    Returns:
        The counts; a name that comes twice is one record. A record that fails, as it is not on the server or its
        name leads out of the folder, stops no other.

    Raises:
        DatasetBuildError: a table cannot be had, a file cannot be written, or the server no longer answers. What is
            there stays, and the same call goes on from it.
    """
    if _DATABASE.fullmatch(database) is None:
        raise DatasetBuildError(f"{database!r}: not a PhysioNet database; expected one such as 'ptb-xl/1.0.3'")
    transfer = _Transfer(database, os.path.realpath(folder), connections, attempts, first_delay)
    for table in tables:
        try:
            transfer.fetch_table(table)
        except _FetchError as error:
            raise DatasetBuildError(f"{transfer.url(table)}: cannot be downloaded: {error}") from error

    done = Download()
    unanswered = 0
    names = map(_spelt_alike, records())
    fetch = functools.partial(_fetch_record, transfer, tuple(suffixes))
    # A call that ends early, by an error or Ctrl+C, waits for the files on their way but begins no other.
    with ThreadPoolExecutor(connections) as pool, tqdm(desc=database, total=total, unit=" records") as bar:
        try:
            while batch := list(dict.fromkeys(itertools.islice(names, _BATCH))):
                for name, outcome in zip(batch, pool.map(fetch, batch), strict=True):
                    bar.update()
                    if isinstance(outcome, _FetchError):
                        done.failed.append((name, str(outcome)))
                        bar.set_postfix(failed=len(done.failed))
                    elif outcome:
                        done.downloaded += 1
                    else:
                        done.already_there += 1
                    unanswered = unanswered + 1 if isinstance(outcome, _NoAnswer) else 0
                    if unanswered == _GIVE_UP_AFTER:
                        raise DatasetBuildError(
                            f"{transfer.url('')}: no answer for {unanswered} records in a row ({outcome}); the same "
                            "command goes on from here"
                        )
        finally:
            transfer.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
    return done


class _FetchError(Exception):
    """One file cannot be had; the message holds no path of this machine."""


class _NoAnswer(_FetchError):
    """Nor might any other: the network or the server fails."""


class _Transfer:
    """Fetches single files of one database into one folder."""

    def __init__(self, database: str, folder: str, connections: int, attempts: int, first_delay: float) -> None:
        self._database = database
        self._folder = folder
        self._attempts = attempts
        self._first_delay = first_delay
        self.stopped = threading.Event()
        # wfdb opens its session without a timeout, and no public function sets one: a connection that went
        # silent would stop a download for ever.
        session = wfdb_url._get_session()
        for scheme in ("https://", "http://"):
            session.mount(scheme, _WholeFiles(pool_maxsize=connections, pool_block=True))

    def url(self, name: str) -> str:
        return posixpath.join(wfdb_download.config.db_index_url, self._database, urllib.parse.quote(name))

    def path(self, name: str) -> str:
        """Where a file of the database belongs; _FetchError if that is not inside the folder."""
        try:
            path = os.path.join(self._folder, relative_path(name))
        except RecordError as error:
            raise _FetchError(f"{error.reason}: {error}") from error
        if not os.path.realpath(path).startswith(os.path.join(self._folder, "")):
            raise _FetchError("path leaves the folder: a symbolic link")
        return path

    def fetch(self, name: str) -> None:
        """Fetch a file, whatever is there."""
        path = self.path(name)
        part = f"{path}.part"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._ask(lambda: wfdb_download.dl_full_file(self.url(name), part))
            os.replace(part, path)
        except OSError as error:
            if error.errno in _ERRORS_OF_ONE_NAME:
                raise _FetchError(f"cannot be written: {error.strerror}") from error
            raise DatasetBuildError(f"{path}: cannot be written ({error.strerror or error})") from error

    def fetch_table(self, name: str) -> None:
        """Fetch a file unless one of the length that the server states is there."""
        path = self.path(name)
        if os.path.isfile(path):
            size = self._ask(lambda: wfdb_download._remote_file_size(url=self.url(name)))
            if size == os.path.getsize(path):
                return
        self.fetch(name)

    def _ask(self, request: Callable):
        """The request's result, asked for again where the failure may pass; an OSError is one of this machine."""
        delay = self._first_delay
        for attempt in itertools.count(1):
            try:
                return request()
            except OSError as error:
                found = _network_error(error)
                if found is None:
                    raise
                if not isinstance(found, _NoAnswer) or attempt >= self._attempts or self.stopped.wait(delay):
                    raise found from error
                delay = min(2 * delay, _MAX_DELAY)


def _network_error(error: OSError) -> _FetchError | None:
    """What went wrong between here and the server; None for an error of this machine, such as a full disk."""
    status = getattr(error, "status_code", None)  # of wfdb's NetFileError
    if status is not None:
        kind = _NoAnswer if status in _TEMPORARY_STATUS else _FetchError
        return kind(f"the server answers {status} {http.client.responses.get(status, '')}".rstrip())
    if isinstance(error, _TEMPORARY_ERRORS):
        return _NoAnswer(f"no whole answer ({type(error).__name__})")
    if isinstance(error, _RefusedAnswer):
        return _FetchError(str(error))
    # What is left of wfdb's own errors has an address, and no errno: a header that it cannot read.
    if isinstance(error, requests.RequestException) or hasattr(error, "url"):
        return _FetchError(type(error).__name__)
    return None


class _RefusedAnswer(requests.RequestException):
    """The server's answer is not taken."""


class _WholeFiles(requests.adapters.HTTPAdapter):
    """Answers that come in time, state their length, keep to it and fit into memory; or an error."""

    def send(self, request, stream=False, timeout=None, **options):
        # As it is: a length is that of the file, and nothing small unpacks to something huge.
        request.headers["Accept-Encoding"] = "identity"
        response = super().send(request, stream=stream, timeout=timeout or _TIMEOUT, **options)
        if response.status_code in (200, 206):
            length = response.headers.get("Content-Length", "")
            found = None
            if "Content-Encoding" in response.headers or re.fullmatch(r"\d{1,18}", length) is None:
                found = "the server does not state the file's length"
            elif int(length) > _MAX_FILE_BYTES:
                found = f"{length} bytes; expected at most {_MAX_FILE_BYTES}"
            if found is not None:
                response.close()
                raise _RefusedAnswer(found)
            response.raw.enforce_content_length = True  # urllib3 1 takes a body that was cut short for whole
        return response


def _spelt_alike(record: str) -> str:
    """One spelling of each record's name, as two connections must not write one file; a bad name stays as it is."""
    try:
        return relative_path(record)
    except RecordError:
        return record


def _fetch_record(transfer: _Transfer, suffixes: Sequence[str], record: str) -> bool | _FetchError:
    """Fetch what is missing of a record: True if that was anything. A failure is returned, as others go on."""
    fetched = False
    try:
        for suffix in suffixes:
            name = f"{record}{suffix}"
            if not _is_whole(transfer.path(name), suffix):
                transfer.fetch(name)
                fetched = True
    except _FetchError as error:
        return error
    return fetched


def _is_whole(path: str, suffix: str) -> bool:
    """True if a header or the signals (.dat) beside it are there to their end. What else there is, is not known."""
    with contextlib.suppress(OSError):
        size = os.path.getsize(path)
        if suffix in (".hea", ".dat"):
            with open(f"{path.removesuffix(suffix)}.hea", "rb") as file:
                described = _described_bytes(file.read(_MAX_HEADER_BYTES))
            return described is not None and (suffix == ".hea" or size == described)
    return False


def _described_bytes(header: bytes) -> int | None:
    """The length in bytes of the signals that a WFDB header describes; None if it is cut short.

    Known for format 16 alone, two bytes a sample; signals of another format are taken for missing.
    """
    lines = [line.split() for line in header.splitlines() if line.strip() and not line.startswith(b"#")]
    try:
        leads, samples = int(lines[0][1]), int(lines[0][3])
        formats = {line[1] for line in lines[1 : leads + 1]}
    except (IndexError, ValueError):
        return None
    if not header.endswith(b"\n") or not 0 < leads == len(lines) - 1 or formats != {b"16"}:
        return None
    return leads * samples * 2
