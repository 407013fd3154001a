"""The records that a corpus holds and the dataset does not, and why."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class DroppedRecord:
    """A record of the corpus that is not in the dataset. `reason` groups, `detail` says what was found."""

    id: str
    split: str | None
    reason: str
    detail: str = ""


class DropLog:
    """Dropped records in a folder of JSON lines, one file per process, so that workers need no lock."""

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)

    def add(self, record: DroppedRecord) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / f"{os.getpid()}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")

    def __iter__(self) -> Iterator[DroppedRecord]:
        """All records, whichever process dropped them, ordered by id (numbers by their value)."""
        lines = [line for path in self.folder.glob("*.jsonl") for line in path.read_text("utf-8").splitlines()]
        return iter(sorted((DroppedRecord(**json.loads(line)) for line in lines), key=_by_id))


def _by_id(record: DroppedRecord) -> tuple[int, str, str]:
    return len(record.id), record.id, record.reason
