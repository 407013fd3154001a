"""Damages corpora, as folders and as zips, and builds them: `python -m tests.fuzzing.fuzz_builders SECONDS [SEED]`.

Nothing but a `DatasetBuildError` may come out. A record whose files and tables are whole is in the dataset as it was
recorded; any other is so too, or is in the build report with a reason. No file is opened but those of the corpus, of
the output and temporary ones, no build takes longer than `MAX_SECONDS`, and the process does not grow by more than
`MAX_GROWTH_BYTES` (a limit of the system, so that more is a MemoryError, which counts as a fault).
"""

import io
import json
import os
import shutil
import struct
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from dataset_builder import plan
from dataset_builder.build import build_config
from dataset_builder.corpus import Corpus
from dataset_builder.corpus_files import open_corpus_files
from dataset_builder.errors import DatasetBuildError
from dataset_builder.mimic_iv_ecg import MIMICIVECG
from dataset_builder.ptb_xl import PTBXL
from tests.dataset_builder.synthetic_mimic import make_signal, write_corpus, write_wfdb
from tests.fuzzing.fuzzer import bounded_growth, run_command

MAX_SECONDS = 10.0
MAX_GROWTH_BYTES = 1 << 31
RECORDS = 6
_LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
_MARKS = (
    b'"', b"'", b",", b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"\x1f", b"../", b"..\\", b"/", b"\\",
    b" ", b"-1", b"0", b"nan", b"inf", b"1e308", b"29999", b"9" * 20, b"9" * 5000, b"417000000", b"4294967296",
    b"{'A': 1e999}", b"{" * 300, b"\\ud800", b"/etc/passwd", b"../../secret", b"../../secret.dat", b"~/x", b"C:\\x",
    b"&#55296;", b"#", b"", b"16x2", b"16:3", b"16+24", b"8", b"24", b"80", b"160", b"212", b"310", b"311", b"508",
    b"516", b"524", b"/mV", b"/uV", "ä\u2028\u0085".encode(), b"x" * 70_000,
)  # fmt: skip
_SIZES = (0, 1, 1 << 10, (1 << 24) + 1, 10 << 30)


def _write_ptb_xl(folder: Path) -> None:
    """Records at 100 Hz, which are small."""
    lines = ["ecg_id,patient_id,age,sex,recording_date,report,scp_codes,validated_by_human,strat_fold,filename_lr"]
    for number in range(1, RECORDS + 1):
        name = f"records100/00000/{number:05d}_lr"
        write_wfdb(folder, name, _signal_of_ptb_xl(number), _LEADS, stated="100 1000", gain=1000.0)
        codes = "{'NORM': 80.0, 'SR': 0.0}"
        lines.append(f'{number},{number}.0,60.0,1,1984-11-09 09:17:34,"sinusrhythmus",{codes},True,{number},{name}')
        lines[-1] = lines[-1].replace(codes, f'"{codes}"')
    (folder / "ptbxl_database.csv").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "scp_statements.csv").write_text(
        ",description,form,rhythm,diagnostic_class,Statement Category\nNORM,normal ECG,,,NORM,Normal/abnormal\n"
        "SR,sinus rhythm,,1.0,,Rhythm\n",
        "utf-8",
    )


def _signal_of_ptb_xl(number: int) -> np.ndarray:
    return make_signal(number)[::5]


class _Sample:
    """A whole corpus: its files, and the signal of each of its records."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        if name == "mimic-iv-ecg":
            write_corpus(folder, RECORDS)
            self.table = "record_list.csv"
            order = [0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]
            self.signals = {str(40_000_000 + 11 * number): make_signal(number).T[order] for number in range(RECORDS)}
        else:
            _write_ptb_xl(folder)
            self.table = "ptbxl_database.csv"
            self.signals = {str(number): _signal_of_ptb_xl(number).T for number in range(1, RECORDS + 1)}
        paths = (path for path in folder.rglob("*") if path.is_file())
        self.files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}
        self.tables = [name for name in self.files if name.endswith(".csv")]

    def open(self, path: Path) -> Corpus:
        files = open_corpus_files(path, self.table)
        return MIMICIVECG(files) if self.name == "mimic-iv-ecg" else PTBXL(files, 100.0)

    def record_of(self, name: str) -> str:
        """The record that a file belongs to."""
        stem = name.rpartition("/")[2].partition(".")[0]
        return stem if self.name == "mimic-iv-ecg" else str(int(stem.partition("_")[0]))


def _damage(content: bytes, random: np.random.Generator, is_text: bool) -> bytes:
    """One to three changes of a kind that transfers, spreadsheets and attackers make."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 4)):
        if not changed:
            break
        place, kind = int(random.integers(len(changed))), random.integers(7)
        mark = _MARKS[random.integers(len(_MARKS))]
        if kind == 0:
            changed[place] ^= 1 << int(random.integers(8))
        elif kind == 1:
            del changed[place:]
        elif kind == 2:
            del changed[place : place + int(random.integers(1, 60))]
        elif kind == 3 and is_text:
            changed[:0] = mark
        elif kind == 4 and not is_text:
            number = struct.pack("<I", (0, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFF, 1 << 24)[random.integers(5)])
            changed[place : place + 4] = number
        elif is_text and kind == 5:
            changed[place:place] = mark
        elif is_text:
            # A whole cell or field, or a line.
            ends = b",\n" if kind == 6 else b" ,\n"
            start = max(changed.rfind(end, 0, place) for end in ends) + 1
            stops = [stop for end in ends if (stop := changed.find(end, place)) >= 0]
            changed[start : min(stops, default=len(changed))] = mark
        else:
            changed[place:place] = changed[place : place + 300]
    return bytes(changed)


def _choose(sample: _Sample, random: np.random.Generator) -> list[str]:
    """The files that are damaged: tables and headers more often than their number would have it."""
    kinds = (sample.tables, *([name for name in sample.files if name.endswith(end)] for end in (".hea", ".dat")))
    chosen = []
    for _ in range(random.integers(1, 4)):
        names = kinds[random.choice(3, p=(0.3, 0.45, 0.25))]
        chosen.append(names[random.integers(len(names))])
    return chosen


class _Folder:
    """The sample's own folder, in which some files are damaged for one build."""

    def __init__(self, sample: _Sample, secret: Path) -> None:
        self._sample, self._secret = sample, secret

    def write(self, random: np.random.Generator) -> tuple[Path, set[str]]:
        changed = set(_choose(self._sample, random))
        for name in changed:
            path = self._sample.folder / name
            kind = random.integers(12)
            path.unlink()
            if kind == 0:
                os.mkfifo(path)
            elif kind == 1:
                path.symlink_to(self._secret)
            elif kind == 2:
                path.mkdir()
            elif kind == 3:
                path.touch()
                os.truncate(path, _SIZES[random.integers(len(_SIZES))])
            elif kind != 4:
                path.write_bytes(_damage(self._sample.files[name], random, not name.endswith(".dat")))
        return self._sample.folder, changed

    def restore(self, changed: set[str]) -> None:
        for name in changed:
            path = self._sample.folder / name
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            path.write_bytes(self._sample.files[name])


def _write_zip(sample: _Sample, path: Path, random: np.random.Generator) -> set[str]:
    """A zip of the corpus with damaged members, or damaged itself; then everything counts as changed."""
    changed = set(_choose(sample, random)) if random.random() < 0.5 else set()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in sample.files.items():
            method = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[random.integers(2)]
            if name in changed:
                content = _damage(content, random, not name.endswith(".dat"))
            file.writestr(f"corpus/{name}", content, method, compresslevel=1)
    packed = buffer.getvalue()
    if not changed:
        # Half of the damage lies in the list of members, which is at the end.
        border = int(random.integers(len(packed))) if random.random() < 0.5 else len(packed) - 3000
        packed = packed[:border] + _damage(packed[border:], random, False)
        changed = set(sample.files)
    path.write_bytes(packed)
    return changed


class _OpenedPaths:
    """Where Python opens files while a corpus is built; installed once, for an audit hook cannot be taken away."""

    def __init__(self) -> None:
        self.paths: list[str] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.paths is None or event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.fsdecode(arguments[0])
        # Removing a folder opens those in it by their names alone, below a handle that is not told here.
        if os.path.isabs(path) or os.path.lexists(path):
            folder, name = os.path.split(path)
            # A symbolic link itself is not opened where it is not to be followed.
            follows = not arguments[2] & os.O_NOFOLLOW
            self.paths.append(os.path.realpath(path) if follows else os.path.join(os.path.realpath(folder), name))

    def outside(self, *allowed: Path) -> Iterator[str]:
        """Those that are none of these and in none of these, nor Python's own modules and packages."""
        own = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), *map(str, allowed))
        for path in self.paths or ():
            if not path.startswith(tuple(map(os.path.realpath, own))):
                yield path


def _check(sample: _Sample, output: Path, report: dict, changed: set[str], is_zip: bool) -> int:
    """Compare what was built with what it was built from; returns how many records are there."""
    tables_are_whole = not changed.intersection(sample.tables)
    bad = {sample.record_of(name) for name in changed if name not in sample.tables}
    text = (output / report["config"] / "build_report.json").read_text("utf-8")
    assert json.loads(text) == report
    assert str(output.parent) not in text, "the report names a folder of this machine"
    rows = []
    for path in sorted((output / report["config"]).glob("*.parquet")):
        rows += pq.read_table(path).to_pylist()
    dropped = report["dropped"]["list"]
    assert len(rows) + len(dropped) == report["records_in_table"]
    assert all(record["reason"] and len(record["id"]) + len(record["detail"]) < 600 for record in dropped)
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        signal = sample.signals.get(row["id"])
        is_right = signal is not None and np.array_equal(np.array(row["ecg"]), signal)
        assert is_right or not tables_are_whole or row["id"] in bad, f"record {row['id']} is not as recorded"
    if tables_are_whole:
        missing = sample.signals.keys() - {row["id"] for row in rows} - bad
        assert not missing, f"the records {missing} are whole and missing"
        assert {row["id"] for row in rows} <= sample.signals.keys()
    return len(rows)


def fuzz(seconds: float, seed: int, folder: Path) -> Counter:
    """Build damaged corpora for so long; return how many were built, refused, and of which kind.

    Raises:
        AssertionError: a fault; the corpus is left in `folder`.
    """
    random = np.random.default_rng(seed)
    secret, output, packed = folder / "secret.dat", folder / "out", folder / "packed.zip"
    tempfile.tempdir = str(folder / "temporary")
    (folder / "temporary").mkdir()
    secret.write_bytes(make_signal(99).tobytes())
    samples = [_Sample(name, folder / name / "as published") for name in ("mimic-iv-ecg", "ptb-xl")]
    for sample in samples:  # also imports whatever the builders import
        report = build_config(sample.open(sample.folder), output)
        assert _check(sample, output, report, set(), False) == RECORDS
    opened, counted, end = _OpenedPaths(), Counter(), time.monotonic() + seconds
    with bounded_growth(MAX_GROWTH_BYTES):
        try:
            while time.monotonic() < end:
                sample = samples[random.integers(2)]
                shutil.rmtree(output, ignore_errors=True)
                plan.RECORDS_PER_SHARD = int(random.integers(1, 5))
                is_zip = random.random() < 0.4
                if is_zip:
                    source, damaged = packed, None
                    changed = _write_zip(sample, packed, random)
                else:
                    damaged = _Folder(sample, secret)
                    source, changed = damaged.write(random)
                opened.paths, start = [], time.monotonic()
                counted[_build(sample, source, output, changed, is_zip)] += 1
                taken, outside = time.monotonic() - start, list(opened.outside(source, output, folder / "temporary"))
                opened.paths = None
                assert taken < MAX_SECONDS, f"{taken:.1f} s"
                assert not outside, f"opened {outside}"
                assert os.listdir(folder / "temporary") == [], "temporary files were left"
                counted["cases"] += 1
                counted["zips"] += is_zip
                if damaged is not None:
                    damaged.restore(changed)
        finally:
            opened.paths = None
    return counted


def _build(sample: _Sample, source: Path, output: Path, changed: set[str], is_zip: bool) -> str:
    """Build one corpus; "built", "in part" or "refused". Anything else that happens is a fault."""
    try:
        report = build_config(sample.open(source), output)
    except DatasetBuildError as error:
        message = str(error)
        assert "out of memory" not in message, message
        assert len(message) < 20_000, f"a message of {len(message)} characters: {message[:200]}"
        assert changed, message
        whole = sample.signals.keys() - {sample.record_of(name) for name in changed if name not in sample.tables}
        assert changed.intersection(sample.tables) or not whole, f"refused for some bad records: {message}"
        return "refused"
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error
    return "built" if _check(sample, output, report, changed, is_zip) == RECORDS else "in part"


def main(seconds: float, seed: int = 0) -> Counter:
    """Fuzz in a folder of its own, which is left behind if there was a fault."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-builders-"))
    counted = fuzz(seconds, seed, folder)
    shutil.rmtree(folder)
    return counted


if __name__ == "__main__":
    run_command(main, __doc__)
