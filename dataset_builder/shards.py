"""The shards of a build in its work folder: each is written once, whole, and found again after a kill.

shards/train-00003.parquet    the rows
shards/train-00003.json       what is in them and what was left out; written last, so it marks a shard as finished
"""

import gc
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dataset_builder.corpus import Corpus, Entry
from dataset_builder.digest import sha256_of
from dataset_builder.dropped_records import DroppedRecord
from dataset_builder.errors import DatasetBuildError, RecordError
from dataset_builder.parquet_shard import ROWS_PER_GROUP, write_shard
from dataset_builder.plan import Plan, Shard
from dataset_builder.report_text import foreign_words
from dataset_builder.signal_page import SignalPages
from processing.leads import LEADS

_UNREADABLE = "unreadable record"
GOES_ON = "the same command goes on from the finished shards"
# Reasons that lie with the disk or the download, and may be gone when the build is started again.
_MAY_PASS = ("missing file", "unreadable file", _UNREADABLE)
# Progress is told after so many records: often enough to see, seldom enough to cost nothing.
TELL_EVERY = 25


@dataclass(frozen=True)
class FinishedShard:
    """A shard that lies in the work folder, as its JSON file says."""

    name: str
    records: int
    bytes: int
    sha256: str
    memory_bytes: int
    report_languages: dict[str, int]
    report_sources: dict[str, int]
    reports_with_foreign_words: int
    dropped: list[DroppedRecord]


def new_pages(corpus: Corpus) -> SignalPages:
    """Room for the signals of one shard after the other."""
    return SignalPages((len(LEADS), corpus.samples), ROWS_PER_GROUP)


def build_shard(
    corpus: Corpus,
    plan: Plan,
    shard: Shard,
    folder: str | os.PathLike,
    tell: Callable[[int], None],
    pages: SignalPages,
) -> None:
    """Write one shard; records that cannot be used are left out and noted, whatever is wrong with them.

    Args:
        corpus: the builder.
        plan: where the shard's entries are.
        shard: the shard.
        folder: the work folder of all shards.
        tell: called with the number of records that were done since the last call.
        pages: of `new_pages`, for one shard after the other.
    """
    with _no_garbage_collection():
        rows, dropped = _read(corpus, plan, shard, tell, pages)
    parquet, note = _paths(folder, shard)
    unfinished = part_of(parquet)
    try:
        file = write_shard(unfinished, rows, pages)
        os.replace(unfinished, parquet)
        half_translated = sum(1 for row in rows if row["report_language"] == "en" and foreign_words(row["report"]))
        finished = FinishedShard(
            name=shard.name,
            records=len(rows),
            bytes=file.bytes,
            sha256=file.sha256,
            memory_bytes=file.memory_bytes,
            report_languages=dict(sorted(Counter(row["report_language"] for row in rows).items())),
            report_sources=dict(sorted(Counter(row["report_source"] for row in rows).items())),
            reports_with_foreign_words=half_translated,
            dropped=dropped,
        )
        _write(note, json.dumps(asdict(finished), ensure_ascii=False))
    except OSError as error:
        with suppress(OSError):  # a full disk needs its place
            unfinished.unlink()
        raise DatasetBuildError(f"{parquet}: cannot be written ({error.strerror or error}); {GOES_ON}") from error


def _read(
    corpus: Corpus, plan: Plan, shard: Shard, tell: Callable[[int], None], pages: SignalPages
) -> tuple[list[dict], list[DroppedRecord]]:
    rows, dropped = [], []
    pages.clear()
    for done, entry in enumerate(plan.entries(shard), start=1):
        try:
            row, adc = _row(corpus, entry)
        except RecordError as error:
            dropped.append(DroppedRecord(entry.id, shard.split, error.reason, str(error)))
        else:
            pages.add(adc)
            rows.append(row | {"split": shard.split})
        if done % TELL_EVERY == 0:
            tell(TELL_EVERY)
    tell(shard.records % TELL_EVERY)
    return rows, dropped


def _row(corpus: Corpus, entry: Entry) -> tuple[dict[str, object], np.ndarray]:
    """As `Corpus.row`; whatever else a record does to its reader is a RecordError too, as one never stops a build."""
    try:
        return corpus.row(entry)
    except (RecordError, DatasetBuildError):  # DatasetBuildError: the corpus itself is gone
        raise
    except MemoryError as error:  # says nothing of the record, which the next build may well read
        raise DatasetBuildError(f"record {entry.id}: out of memory; {GOES_ON}") from error
    except Exception as error:
        # The report is published: not the path of this machine that an OSError names.
        detail = f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
        raise RecordError(_UNREADABLE, detail) from error


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Rows refer to nothing that refers to them; looking for such circles among them takes a tenth of a build."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def find_finished(
    folder: str | os.PathLike, shards: Iterable[Shard], compare_content: bool = False
) -> dict[str, FinishedShard]:
    """The shards that are whole, by name. A shard whose note is damaged, or whose file is not as noted, is not.

    Args:
        folder: the work folder of all shards.
        shards: those to look for.
        compare_content: compare each file with its checksum too. Nothing is synced to disk while building, so after a
            power cut a file may have its length and not its content.
    """
    finished = {}
    for shard in shards:
        parquet, note = _paths(folder, shard)
        try:
            found = json.loads(note.read_text("utf-8"))
            found["dropped"] = [DroppedRecord(**record) for record in found["dropped"]]
            found = FinishedShard(**found)
            if found.name != shard.name or parquet.stat().st_size != found.bytes:
                continue
            if compare_content and sha256_of(parquet) != found.sha256:
                continue
            finished[shard.name] = found
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return finished


def drops_too_much(corpus: Corpus, plan: Plan, shard: Shard, finished: FinishedShard) -> bool:
    """True if a record of a finished shard that was missing or unreadable, as on a disk that fails, is no longer so."""
    dropped = {record.id: record.reason for record in finished.dropped if record.reason in _MAY_PASS}
    if not dropped:
        return False
    for entry in plan.entries(shard):
        if entry.id in dropped:
            try:
                _row(corpus, entry)
            except RecordError as error:
                if error.reason == dropped[entry.id]:
                    continue
            return True
    return False


def part_of(path: Path) -> Path:
    """What this process writes until it is whole and takes the name `path`."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Remove the part files that a killed process left; only where no process writes there."""
    for path in Path(folder).iterdir():
        if re.fullmatch(r".+\.\d+\.part", path.name):
            path.unlink()


def _paths(folder: str | os.PathLike, shard: Shard) -> tuple[Path, Path]:
    return Path(folder, f"{shard.name}.parquet"), Path(folder, f"{shard.name}.json")


def _write(path: Path, text: str) -> None:
    unfinished = part_of(path)
    unfinished.write_text(text, "utf-8")
    os.replace(unfinished, path)
