"""The records that a corpus holds and the dataset does not, and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DroppedRecord:
    """A record of the corpus that is not in the dataset. `reason` groups, `detail` says what was found."""

    id: str
    split: str | None
    reason: str
    detail: str = ""

    def sorting_key(self) -> tuple[int, str, str]:
        """By id, where numbers are ordered by their value, then by reason."""
        return len(self.id), self.id, self.reason
