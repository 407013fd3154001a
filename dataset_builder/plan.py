"""The plan of a build: every record of the tables, its split and its shard, in a small database on disk.

A corpus of 800,000 records does not fit in memory twice, and its shards are built by several processes, in several
jobs, and again after a kill. All of them need the same list, so it is made by the same rules from the same tables, and
its fingerprint says whether two plans are one.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dataset_builder.columns import SPLITS
from dataset_builder.corpus import Corpus, Entry
from dataset_builder.dropped_records import DroppedRecord
from dataset_builder.errors import DatasetBuildError

# Large enough that a file is worth opening, small enough that a kill loses seconds: 30 to 50 MB.
RECORDS_PER_SHARD = 1000

_TABLES = """
CREATE TABLE records (
    position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, patient TEXT NOT NULL, split INTEGER NOT NULL,
    payload TEXT NOT NULL
);
CREATE TABLE dropped (id TEXT, split TEXT, reason TEXT, detail TEXT);
CREATE TABLE shards (split INTEGER, number INTEGER, first INTEGER, last INTEGER, records INTEGER);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT);
"""


@dataclass(frozen=True)
class Shard:
    """Records of one split, neighbours in the tables. `first` and `last` are positions in the plan."""

    split: str
    number: int
    first: int
    last: int
    records: int

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:05d}"


class Plan:
    """The plan in a SQLite file that was written by `write_plan`; safe to read from several processes."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)

    def _open(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(f"{Path(self.path).absolute().as_uri()}?mode=ro&immutable=1", uri=True))

    def fact(self, name: str) -> object:
        with self._open() as database:
            return json.loads(database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0])

    def shards(self) -> list[Shard]:
        with self._open() as database:
            rows = database.execute("SELECT * FROM shards ORDER BY split, number").fetchall()
        return [Shard(SPLITS[split], *rest) for split, *rest in rows]

    def entries(self, shard: Shard) -> Iterator[Entry]:
        with self._open() as database:
            rows = database.execute(
                "SELECT id, patient, payload FROM records WHERE position BETWEEN ? AND ? AND split = ? "
                "ORDER BY position",
                (shard.first, shard.last, SPLITS.index(shard.split)),
            )
            for record_id, patient, payload in rows:
                yield Entry(record_id, patient, shard.split, json.loads(payload))

    def dropped(self) -> list[DroppedRecord]:
        with self._open() as database:
            return [DroppedRecord(*row) for row in database.execute("SELECT * FROM dropped ORDER BY rowid")]

    def patients(self, without: set[str]) -> tuple[dict[str, int], int]:
        """Patients per split of the records but for the ids in `without`, and those in more than one split."""
        splits_of: dict[str, int] = {}
        with self._open() as database:
            for record_id, patient, split in database.execute("SELECT id, patient, split FROM records"):
                if record_id not in without:
                    splits_of[patient] = splits_of.get(patient, 0) | 1 << split
        counts = {
            name: sum(1 for splits in splits_of.values() if splits >> number & 1) for number, name in enumerate(SPLITS)
        }
        return counts, sum(1 for splits in splits_of.values() if splits.bit_count() > 1)


def write_plan(path: str | os.PathLike, corpus: Corpus, limit: int | None, made_with: dict[str, str]) -> Plan:
    """Read the tables of a corpus and write the plan.

    Args:
        path: the SQLite file to write; one that is there is replaced.
        corpus: the builder.
        limit: records per split at most, the first of the table.
        made_with: what else makes shards differ, such as the versions of packages.

    Raises:
        DatasetBuildError: see `Corpus.entries`; or no record is left.
    """
    path = os.fspath(path)
    if os.path.exists(path):
        os.remove(path)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            # Lost in a power cut, it is made anew: nothing rests on it but a running build.
            database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLES} BEGIN;")
            inputs = [corpus.config, corpus.version, limit, RECORDS_PER_SHARD, made_with]
            digest = hashlib.sha256(json.dumps(inputs).encode())
            _insert_entries(database, corpus, digest)
            corpus_facts = corpus.facts()
            digest.update(json.dumps(corpus_facts).encode())
            facts = {
                "fingerprint": digest.hexdigest(),
                "limit_per_split": limit,
                "patients_in_several_splits_of_the_table": _keep_patients_apart(database),
                "records_beyond_limit": _apply_limit(database, limit),
                "corpus": corpus_facts,
            }
            _cut_into_shards(database)
            database.executemany("INSERT INTO facts VALUES (?, ?)", [(k, json.dumps(v)) for k, v in facts.items()])
            database.execute("COMMIT")
    except sqlite3.Error as error:
        raise DatasetBuildError(f"{path}: the plan of the build could not be written ({error})") from error
    return Plan(path)


def _insert_entries(database: sqlite3.Connection, corpus: Corpus, digest: "hashlib._Hash") -> None:
    for position, entry in enumerate(corpus.entries()):
        if isinstance(entry, DroppedRecord):
            _drop(database, entry)
            digest.update(repr(entry).encode())
            continue
        payload = json.dumps(entry.payload, ensure_ascii=False)
        digest.update(f"{entry.id}\n{entry.patient_id}\n{entry.split}\n{payload}\n".encode())
        added = database.execute(
            "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?)",
            (position, entry.id, entry.patient_id, SPLITS.index(entry.split), payload),
        )
        if not added.rowcount:
            _drop(database, DroppedRecord(entry.id, entry.split, "id used before"))


def _drop(database: sqlite3.Connection, record: DroppedRecord) -> None:
    database.execute("INSERT INTO dropped VALUES (?, ?, ?, ?)", (record.id, record.split, record.reason, record.detail))


def _keep_patients_apart(database: sqlite3.Connection) -> int:
    """Leave a patient in the last of his splits only (test before validation before train); count them.

    A corpus' own folds may hold a patient in two of them once its table was changed, and a patient seen in training
    would make the test lie.
    """
    database.execute(
        "CREATE TEMP TABLE straddling AS SELECT patient, MAX(split) AS last FROM records GROUP BY patient "
        "HAVING MIN(split) < MAX(split)"
    )
    database.execute("CREATE INDEX temp.straddling_patient ON straddling (patient)")
    found = database.execute(
        "SELECT position, id, patient, split, last FROM records JOIN straddling USING (patient) WHERE split < last "
        "ORDER BY position"
    ).fetchall()
    for position, record_id, patient, split, last in found:
        detail = f"patient {patient} is also in {SPLITS[last]}"
        _drop(database, DroppedRecord(record_id, SPLITS[split], "patient is in a later split too", detail))
        database.execute("DELETE FROM records WHERE position = ?", (position,))
    return database.execute("SELECT COUNT(*) FROM straddling").fetchone()[0]


def _apply_limit(database: sqlite3.Connection, limit: int | None) -> dict[str, int]:
    beyond = {}
    for number, split in enumerate(SPLITS):
        border = None
        if limit is not None:
            border = database.execute(
                "SELECT position FROM records WHERE split = ? ORDER BY position LIMIT 1 OFFSET ?", (number, limit)
            ).fetchone()
        if border is None:
            beyond[split] = 0
        else:
            removed = database.execute("DELETE FROM records WHERE split = ? AND position >= ?", (number, border[0]))
            beyond[split] = removed.rowcount
    return beyond


def _cut_into_shards(database: sqlite3.Connection) -> None:
    for split in range(len(SPLITS)):
        number = count = first = last = 0
        for (position,) in database.execute("SELECT position FROM records WHERE split = ? ORDER BY position", (split,)):
            if count == RECORDS_PER_SHARD:
                database.execute("INSERT INTO shards VALUES (?, ?, ?, ?, ?)", (split, number, first, last, count))
                number, count = number + 1, 0
            first = position if count == 0 else first
            last, count = position, count + 1
        if count:
            database.execute("INSERT INTO shards VALUES (?, ?, ?, ?, ?)", (split, number, first, last, count))
