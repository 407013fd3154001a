"""Drafts and losses on disk, written as they come, so that an interrupted benchmark goes on where it stopped."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# (id of the record, what ECG was shown): the id of the record whose ECG it was, or what was done to it.
Key = tuple[str, str]


class KeptResults:
    """JSON-lines files in a folder, one per process: first the settings, then one result per line.

    Args:
        folder: made where it does not exist.
        what: kind of result, such as "draft": the files are `draft.jsonl`, of a second process `draft-1.jsonl`.
        settings: whatever the results depend on.
        process: number of this process; each writes its own file and reads all.

    Raises:
        ValueError: where a file holds results that were made with other settings, or is no such file.
    """

    def __init__(self, folder: str | Path, what: str, settings: Mapping[str, Any], process: int = 0):
        self.folder, self.what = Path(folder), what
        self.settings = json.loads(json.dumps(settings))
        self.path = self.folder / (f"{what}-{process}.jsonl" if process else f"{what}.jsonl")
        self.values: dict[Key, Any] = {}
        self._is_begun = False
        self.read()

    def read(self) -> None:
        """Take in what all processes have written."""
        for path in sorted(self.folder.glob(f"{self.what}*.jsonl")):
            found, values = read_results(path, self.what)
            if found is None:
                continue
            if found != self.settings:
                differing = sorted(
                    name for name in {*found, *self.settings} if found.get(name) != self.settings.get(name)
                )
                raise ValueError(
                    f"{path} holds {len(values)} results made with other settings ({', '.join(differing)}): remove it "
                    "or choose another output folder"
                )
            self.values |= values

    def add(self, results: Iterable[tuple[Key, Any]]) -> None:
        """Append results to this process' file."""
        if not self._is_begun:
            self._begin()
        with self.path.open("a", encoding="utf-8") as file:
            for key, value in results:
                self.values[key] = value
                file.write(json.dumps({"id": key[0], "ecg_of": key[1], self.what: value}, ensure_ascii=False) + "\n")

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines, cut = _lines(self.path) if self.path.exists() else ([], b"")
        if cut:
            # The process was killed within a line; that result is made again.
            with self.path.open("r+b") as file:
                file.truncate(self.path.stat().st_size - len(cut))
        if not lines:
            self.path.write_text(json.dumps({"settings": self.settings}) + "\n", encoding="utf-8")
        self._is_begun = True


def read_results(path: str | Path, what: str = "draft") -> tuple[dict[str, Any] | None, dict[Key, Any]]:
    """The settings and the results in a file that `KeptResults` wrote; a last line that was cut short is left out.

    Settings are None where the process was killed before it had written them.

    Raises:
        ValueError: where it is no such file.
    """
    lines, _ = _lines(Path(path))
    if not lines:
        return None, {}
    try:
        settings, *entries = map(json.loads, lines)
        return settings["settings"], {(entry["id"], entry["ecg_of"]): entry[what] for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a file of {what}s ({error!r}); remove it or choose another") from error


def _lines(path: Path) -> tuple[list[bytes], bytes]:
    """The whole lines of a file, and what stands behind the last line end."""
    # Bytes, as a file may be cut within a letter; not splitlines(), which would also split within a report.
    *lines, cut = path.read_bytes().split(b"\n")
    return lines, cut
