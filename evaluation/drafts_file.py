"""Drafts on disk, written as they come, so that an interrupted benchmark goes on where it stopped."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Key = tuple[str, str]


def read_drafts(path: str | Path) -> tuple[dict[str, Any], dict[Key, str]]:
    """The settings and the drafts in a file that `DraftsFile` wrote.

    Raises:
        ValueError: where it is no such file.
    """
    try:
        with Path(path).open(encoding="utf-8") as lines:  # splitlines() would also split within a report
            settings, *entries = map(json.loads, lines)
        return settings["settings"], {(entry["id"], entry["ecg_of"]): entry["draft"] for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a file of drafts ({error!r}); remove it or choose another") from error


class DraftsFile:
    """A JSON-lines file of drafts: first the settings that they were made with, then one draft per line.

    Args:
        path: the file; begun where it does not exist.
        settings: whatever the drafts depend on.

    Raises:
        ValueError: where the file holds drafts that were made with other settings, or is no such file.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]):
        self.path = Path(path)
        self.drafts: dict[Key, str] = {}
        settings = json.loads(json.dumps(settings))
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")
            return
        *lines, last = self.path.read_text(encoding="utf-8").split("\n")
        if last:
            # The process was killed within a line; that draft is made again.
            self.path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        found, self.drafts = read_drafts(self.path)
        if found != settings:
            differing = sorted(name for name in {*found, *settings} if found.get(name) != settings.get(name))
            raise ValueError(
                f"{self.path} holds {len(self.drafts)} drafts made with other settings ({', '.join(differing)}): "
                "remove it or choose another output folder"
            )

    def add(self, drafts: Iterable[tuple[Key, str]]) -> None:
        """Append drafts; the key is (id of the record, id of the record whose ECG was shown)."""
        with self.path.open("a", encoding="utf-8") as file:
            for (record, ecg_of), draft in drafts:
                self.drafts[record, ecg_of] = draft
                file.write(json.dumps({"id": record, "ecg_of": ecg_of, "draft": draft}, ensure_ascii=False) + "\n")
