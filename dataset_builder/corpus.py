"""What a corpus must offer to be built: where it comes from, its entries, and one row of each.

A builder is one class with these members; `build.build_config` does all else.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dataset_builder.dropped_records import DroppedRecord


@dataclass(frozen=True)
class Source:
    """Where a config comes from.

    Attributes:
        licence: its id as the Hub spells it.
        creators: the corpus' authors.
        published: when the corpus was published, as YYYY-MM-DD.
    """

    name: str
    url: str
    licence: str
    citation: str
    creators: tuple[str, ...]
    published: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One record as the tables of its corpus name it. `payload` is JSON: what `Corpus.row` needs to know of it."""

    id: str
    patient_id: str
    split: str
    payload: object


class Corpus(Protocol):
    """One corpus, small enough to be handed to each process.

    Attributes:
        config: the name of the config that it becomes.
        version: changes whenever the same tables and recordings would give other rows.
        source: what the card says of it.
        samples: samples per lead of every record.
    """

    config: str
    version: str
    source: Source
    samples: int

    def entries(self) -> Iterator[Entry | DroppedRecord]:
        """All records in the order of the tables, and those that the tables alone show to be of no use.

        Called once per build, before any recording is read; holds no more than a table's line at a time.

        Raises:
            DatasetBuildError: a table is missing or not what it must be.
        """

    def row(self, entry: Entry) -> tuple[dict[str, object], np.ndarray]:
        """The columns of one record, but for `ecg`, and its int16 (12, samples) ADC units.

        Raises:
            RecordError: the record cannot be used.
        """

    def facts(self) -> dict[str, object]:
        """What the build report says beside its counts: the options, files read, counts of the tables.

        Called after `entries`.
        """
