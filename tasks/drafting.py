"""Drafts and losses of a system for a way of showing ECGs: what is missing is made, by all processes together."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .kept_results import KeptResults, Key
from .processes import Processes
from .showing import Row, Showing
from .systems import ModelSystem, System


class Drafting:
    """One system at work on the records of one split.

    Args:
        system: drafts.
        folder: where its results are kept.
        data: what tells these records' ECGs and reports from others.
        ids: of the records.
        lengths: of their reports in characters: records of a batch are of like length, so that little is padded.
        batch_size: records at a time. Results do not depend on it, nor on the number of processes.
        processes: among which the records are shared.
    """

    def __init__(
        self,
        system: System,
        folder: str | Path,
        data: str,
        ids: Sequence[str],
        lengths: Sequence[int],
        batch_size: int,
        processes: Processes,
    ):
        self.system = system
        settings = {**system.settings, "data": data}
        self._drafts = KeptResults(folder, "draft", settings, processes.number)
        self._losses = KeptResults(folder, "loss", settings, processes.number)
        self._ids, self._lengths, self._batch_size, self._processes = ids, lengths, batch_size, processes

    def drafts(self, showing: Showing) -> list[str]:
        """A draft per record, in the order of the records."""
        return self._all(self._drafts, showing, self.system.draft)

    def losses(self, showing: Showing) -> list[tuple[float, int]] | None:
        """Nats and tokens of each record's report; None of a baseline, which has no probabilities."""
        if not isinstance(self.system, ModelSystem):
            return None
        return self._all(self._losses, showing, self.system.losses)

    def _all(self, kept: KeptResults, showing: Showing, make: Callable[[Sequence[Row]], Sequence[Any]]) -> list[Any]:
        keys: list[Key] = list(zip(self._ids, showing.keys, strict=True))
        missing = [number for number, key in enumerate(keys) if key not in kept.values]
        # Every process has seen what there is before any of them adds to it.
        self._processes.wait()
        mine = self._processes.share(sorted(missing, key=lambda number: (self._lengths[number], number)))
        what = f"{self.system.name}: {kept.what}, {showing.name}"
        with tqdm(total=len(mine), desc=what, unit=" records", disable=not (mine and self._processes.is_main)) as bar:
            for start in range(0, len(mine), self._batch_size):
                batch = mine[start : start + self._batch_size]
                made = make([showing.row(number) for number in batch])
                kept.add(zip((keys[number] for number in batch), made, strict=True))
                bar.update(len(batch))
        self._processes.wait()
        if self._processes.count > 1:
            kept.read()
        return [kept.values[key] for key in keys]
