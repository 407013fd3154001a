"""A bad recording of each kind in MIMIC-IV-ECG's layout: none stops a build, each is in the report with its reason."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset

from dataset_builder import plan
from dataset_builder.build import build_config
from dataset_builder.errors import DatasetBuildError
from tests.dataset_builder.synthetic_mimic import make_signal, write_recording, write_table

Line = dict[str, str]


def damage_of(function: Callable[[bytes], bytes], suffix: str) -> Callable[[Path, Line], None]:
    """Change the content of one of a recording's files."""

    def damage(folder: Path, line: Line) -> None:
        path = folder / f"{line['path']}{suffix}"
        path.write_bytes(function(path.read_bytes()))

    return damage


def replace(old: str, new: str) -> Callable[[Path, Line], None]:
    """Change a header."""

    def change(content: bytes) -> bytes:
        assert old.encode() in content
        return content.replace(old.encode(), new.encode())

    return damage_of(change, ".hea")


def cell(name: str, value: str) -> Callable[[Path, Line], None]:
    """Change a cell of `record_list.csv`."""

    def change(folder: Path, line: Line) -> None:
        line[name] = value.format(**line)

    return change


def remove(suffix: str) -> Callable[[Path, Line], None]:
    return lambda folder, line: (folder / f"{line['path']}{suffix}").unlink()


def link_out(folder: Path, line: Line) -> None:
    """The signal file becomes a symbolic link to a good one outside the corpus."""
    inside, outside = folder / f"{line['path']}.dat", folder.parent / "outside.dat"
    inside.rename(outside)
    inside.symlink_to(outside)


def link_folder_out(folder: Path, line: Line) -> None:
    inside, outside = (folder / line["path"]).parent, folder.parent / "outside-folder"
    inside.rename(outside)
    inside.symlink_to(outside, target_is_directory=True)


def make_pipe(folder: Path, line: Line) -> None:
    path = folder / f"{line['path']}.dat"
    path.unlink()
    os.mkfifo(path)


def make_folder(folder: Path, line: Line) -> None:
    path = folder / f"{line['path']}.dat"
    path.unlink()
    path.mkdir()


def grow(suffix: str, size: int) -> Callable[[Path, Line], None]:
    """A file that claims to be huge and takes no place."""
    return lambda folder, line: os.truncate(folder / f"{line['path']}{suffix}", size)


def record(signal: np.ndarray) -> Callable[[Path, Line], None]:
    """Write another signal, (samples, leads), under a header that fits it."""
    return lambda folder, line: write_recording(folder, line["path"], signal, int(line["subject_id"]))


def other_leads(folder: Path, line: Line) -> None:
    replace(" V6\n", " V7\n")(folder, line)


GOOD = make_signal(7)
BAD_RECORDINGS: dict[str, tuple[Callable[[Path, Line], None], str]] = {
    "no signal file": (remove(".dat"), "missing file"),
    "no header": (remove(".hea"), "missing file"),
    "truncated": (damage_of(lambda content: content[:1000], ".dat"), "unreadable recording"),
    "empty": (damage_of(lambda content: b"", ".dat"), "unreadable recording"),
    "one byte less": (damage_of(lambda content: content[:-1], ".dat"), "unreadable recording"),
    "one bit flipped": (
        damage_of(lambda content: content[:777] + bytes([content[777] ^ 4]) + content[778:], ".dat"),
        "unreadable recording",
    ),
    "a picture for a header": (damage_of(lambda content: b"\x89PNG\r\n\0\xff" * 20, ".hea"), "unreadable recording"),
    "an empty header": (damage_of(lambda content: b"", ".hea"), "unreadable recording"),
    "half a header": (damage_of(lambda content: content[:200], ".hea"), "unreadable recording"),
    "a header of 10 GB": (grow(".hea", 10 << 30), "file too large"),
    "a signal file of 10 GB": (grow(".dat", 10 << 30), "file too large"),
    "a claim of 10 GB": (replace("500 5000", "500 417000000"), "unreadable recording"),
    "a claim beyond any number": (replace("500 5000", f"500 {'9' * 5000}"), "unreadable recording"),
    "999,999,999 leads": (replace(" 12 500 5000", " 999999999 500 5000"), "unreadable recording"),
    "a signal file elsewhere": (replace("40", "../40"), "unreadable recording"),
    "a signal file of the system": (
        damage_of(lambda content: b"\n".join([b"1 12 500 5000", *[b"/etc/passwd 16"] * 12]), ".hea"),
        "unreadable recording",
    ),
    "a pipe": (make_pipe, "not a regular file"),
    "a folder": (make_folder, "not a regular file"),
    "a link out": (link_out, "path leaves the folder"),
    "a folder that is a link out": (link_folder_out, "path leaves the folder"),
    "another rate": (replace(" 12 500 5000", " 12 250 5000"), "not 10 s at 500 Hz"),
    "no rate": (replace(" 12 500 5000", " 12 0 5000"), "unreadable recording"),
    "9 s": (record(GOOD[:4500]), "unreadable recording"),
    "other leads": (other_leads, "not the twelve leads"),
    "a lead twice": (replace(" V6\n", " V5\n"), "not the twelve leads"),
    "no gain": (replace("200.0(0)/mV", "0(0)/mV"), "unreadable recording"),
    "another unit": (replace("/mV", "/mmHg"), "unreadable recording"),
    "flat": (record(np.zeros_like(GOOD)), "flat recording"),
    "flat but for invalid samples": (
        record(np.where(np.arange(5000)[:, None] < 50, -32768, 3) * np.ones_like(GOOD)),
        "flat recording",
    ),
    "a path out of the folder": (cell("path", "../{study_id}"), "path leaves the folder"),
    "an absolute path": (cell("path", "/etc/passwd"), "path leaves the folder"),
    "a path with a NUL's neighbour": (cell("path", "files/\x01/{study_id}"), "path leaves the folder"),
    "a path of 10,000 folders": (cell("path", "a/" * 10_000 + "{study_id}"), "path leaves the folder"),
    "a path of 100,000 characters": (cell("path", "a" * 100_000 + "/{study_id}"), "unreadable file"),
    "no path": (cell("path", ""), "path leaves the folder"),
    "no study": (cell("study_id", "study"), "no id"),
    "no patient": (cell("subject_id", ""), "no id"),
    "a study of the other table only": (cell("study_id", "47000000"), "no machine statements"),
    "another patient": (cell("subject_id", "10000001"), "patient differs between the tables"),
}


def write_bad_corpus(folder: Path) -> dict[str, tuple[str, str]]:
    """A corpus of good recordings (the last four) and bad ones: {study: (kind, reason)} of the latter."""
    with open(folder / "record_list.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    bad = {}
    for (kind, (damage, reason)), line in zip(BAD_RECORDINGS.items(), lines, strict=False):
        damage(folder, line)
        bad[line["study_id"]] = kind, reason

    with open(folder / "machine_measurements.csv", encoding="utf-8", newline="") as file:
        measured = {line["study_id"]: line for line in csv.DictReader(file)}
    missing, contradicting, twice, other, empty, again = (line["study_id"] for line in lines[len(BAD_RECORDINGS) :][:6])
    bad[missing] = "no measurements", "no machine statements"
    bad[contradicting] = "contradicting measurements", "two different machine statements"
    bad[empty] = "no statements", "empty report"
    more = [measured.pop(contradicting) | {"rr_interval": "1"}, measured[twice], measured.pop(missing) and {}]
    measured[contradicting] = more[0] | {"rr_interval": "2"}
    measured[empty] |= {f"report_{number}": "" for number in range(18)}
    lines_of = {line["study_id"]: line for line in lines}
    lines_of[other]["path"] = lines_of[twice]["path"]
    bad[other] = "the path of another study", "path of another study"
    lines.append(lines_of[again] | {"ecg_time": "2150-01-01 00:00:00"})
    table = [*measured.values(), *filter(None, more)]
    write_table(folder / "machine_measurements.csv", list(table[0]), [list(line.values()) for line in table])
    write_table(folder / "record_list.csv", list(lines[0]), [list(line.values()) for line in lines])
    return bad | {f"{again} again": ("an id that comes again", "id used before")}


def test_none_stops_a_build_and_each_is_in_the_report(small_mimic, open_mimic, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "RECORDS_PER_SHARD", 5)
    records = len(BAD_RECORDINGS) + 10
    folder = small_mimic(records)
    expected = write_bad_corpus(folder)
    report = build_config(open_mimic(folder), tmp_path / "meit-ecg", num_proc=2)

    kinds = {study.split()[0]: kind for study, (kind, _) in expected.items()}
    kinds |= {"study": "no study", "47000000": "a study of the other table only"}
    found = sorted((kinds[record["id"]], record["reason"]) for record in report["dropped"]["list"])
    assert found == sorted(expected.values())
    assert report["dropped"]["records"] == len(expected)
    assert report["records_in_table"] == records + 1
    rows = [row for split in load_dataset(str(tmp_path / "meit-ecg"), "mimic-iv-ecg").values() for row in split["id"]]
    assert len(rows) == records + 1 - len(expected) == 6

    text = (tmp_path / "meit-ecg/mimic-iv-ecg/build_report.json").read_text("utf-8")
    assert json.loads(text) == report
    for place in (str(tmp_path), "/tmp", os.path.expanduser("~") + "/", "meit-ecg-", "pytest"):
        assert place not in text.replace("meit-ecg build", ""), (
            "a published report must not name folders of this machine"
        )
    assert max(len(record["detail"]) for record in report["dropped"]["list"]) < 1000


def test_a_surprise_of_the_reader_is_a_record_left_out(mimic_of_60, open_mimic, tmp_path):
    corpus = open_mimic(mimic_of_60)
    row = corpus.row

    def surprising_row(entry):
        if entry.id.endswith("11"):
            raise ZeroDivisionError("something that nobody thought of")
        if entry.id.endswith("22"):
            raise FileNotFoundError(2, "No such file or directory", str(tmp_path / "secret"))
        return row(entry)

    corpus.row = surprising_row
    report = build_config(corpus, tmp_path / "meit-ecg")
    assert [(record["reason"], record["detail"]) for record in report["dropped"]["list"]] == [
        ("unreadable record", "ZeroDivisionError: something that nobody thought of"),
        ("unreadable record", "FileNotFoundError: No such file or directory"),
    ]


@pytest.mark.parametrize("name", ["record_list.csv", "machine_measurements.csv"])
def test_a_bad_table_stops_a_build_before_it_begins(small_mimic, open_mimic, tmp_path, name):
    folder = small_mimic(3)
    (folder / name).write_bytes((folder / name).read_bytes() + b'1,"2\n')
    shutil.make_archive(str(tmp_path / "mimic"), "zip", folder)
    for source in (folder, tmp_path / "mimic.zip"):
        where = f"{source}.*{name}, line 5: unexpected end of data; expected a CSV table"
        with pytest.raises(DatasetBuildError, match=where):
            build_config(open_mimic(source), tmp_path / "meit-ecg")
    assert not (tmp_path / "meit-ecg").exists()
