"""Damages ECG files of every format and reads them: `python -m tests.fuzzing.fuzz_reading SECONDS [SEED]`.

Nothing but an `ECGReadError` that names the file may come out, no file outside the folder be opened, no file take
longer than `MAX_SECONDS`, and the process not grow by more than `MAX_GROWTH_BYTES` (a limit of the system, so that more
is a MemoryError, and a file that is refused for that reason counts as a fault).
"""

import os
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import wfdb

from processing import ECGReadError, read_ecg
from tests.fuzzing.fuzzer import bounded_growth, run_command
from tests.processing import ecg_file_writers as writers

MAX_SECONDS = 10.0
MAX_GROWTH_BYTES = 1 << 31
_ABSURD = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TEXTS = (
    b"nan",
    b"inf",
    b"-1",
    b"0",
    b"1e308",
    b"9" * 40,
    b"99999999",
    b"",
    b"../../x",
    b"\0",
    b"\xff",
    b"<a>",
    b"\x80",
)


def _counts(samples: int = 400) -> np.ndarray:
    counts = np.rint(np.random.default_rng(0).normal(size=(12, samples)).cumsum(axis=1) * 9).astype(np.int64)
    counts[2] = counts[1] - counts[0]
    return counts


def write_samples(folder: Path) -> dict[str, bytes]:
    """Small whole files of every format and variant: name to content."""
    counts, beats = _counts(), _counts(100)
    group, median = writers.dicom_group(counts), writers.dicom_group(beats, label="MEDIAN")
    edf = {"data_record_duration": 0.2}
    write: dict[str, Callable[[Path], None]] = {
        "scp": lambda path: writers.write_scp(path, counts),
        "scp-huffman": lambda path: writers.write_scp(
            path, counts, differences=2, huffman=True, beat=beats, complexes=(120, 260)
        ),
        "dicom": lambda path: writers.write_dicom(path, group, median),
        "aecg": lambda path: writers.write_aecg(path, counts, beats=beats),
        "muse": lambda path: writers.write_muse(path, counts, beats=beats),
        "philips": lambda path: writers.write_philips(path, counts),
        "philips-xli": lambda path: writers.write_philips(path, counts, xli=True),
        "edf": lambda path: writers.write_edf(path, counts, **edf),
        "ishne": lambda path: writers.write_ishne(path, counts),
        "mfer": lambda path: writers.write_mfer(path, counts),
        "mfer-little": lambda path: writers.write_mfer(path, counts, little=True, preamble=False),
        "csv": lambda path: path.write_text(
            "time (s),I,II,V1 (uV)\n" + "".join(f"{row / 500},{row % 7},{row % 5},{row}\n" for row in range(400))
        ),
        "npy": lambda path: np.lib.format.write_array(path.open("wb"), counts / 1000),
        "npz": lambda path: np.savez(path.open("wb"), ecg=counts / 1000, fs=500, leads=writers.LEADS, unit="mV"),
        "npz-packed": lambda path: np.savez_compressed(path.open("wb"), ecg=counts / 1000, fs=500, leads=writers.LEADS),
    }
    contents = {}
    for name, writer in write.items():
        writer(folder / name)
        contents[name] = (folder / name).read_bytes()
        (folder / name).unlink()
    wfdb.wrsamp(
        "record",
        fs=500,
        units=["mV"] * 12,
        sig_name=list(writers.LEADS),
        d_signal=np.ascontiguousarray(counts.T),
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(folder),
    )
    for suffix in (".hea", ".dat"):
        contents[f"wfdb{suffix}"] = (folder / f"record{suffix}").read_bytes()
        (folder / f"record{suffix}").unlink()
    return contents


def damage(content: bytes, others: list[bytes], random: np.random.Generator) -> bytes:
    """One to four changes of a kind that transfers, disks and attackers make."""
    changed = bytearray(content)
    # Sizes and texts that matter stand at the beginning, or in a header behind it.
    for _ in range(random.integers(1, 5)):
        if not changed:
            return bytes(changed)
        reach = len(changed) if random.random() < 0.5 else min(len(changed), 700)
        place = int(random.integers(reach))
        kind = random.integers(8)
        if kind == 0:
            changed[place] ^= 1 << int(random.integers(8))
        elif kind == 1:
            del changed[place:]
        elif kind == 2:
            number = _ABSURD[random.integers(len(_ABSURD))]
            order, code = "<>"[random.integers(2)], "BHI"[random.integers(3)]
            packed = struct.pack(f"{order}{code}", number & (256 ** struct.calcsize(code) - 1))
            changed[place : place + len(packed)] = packed
        elif kind == 3:
            other = others[random.integers(len(others))]
            start = int(random.integers(len(other)))
            changed[place : place + int(random.integers(1, 300))] = other[start : start + int(random.integers(1, 300))]
        elif kind == 4:
            del changed[place : place + int(random.integers(1, 50))]
        elif kind == 5:
            changed[place:place] = changed[place : place + 200] * int(random.integers(1, 50))
        elif kind == 6:
            # A number in text, or a field of a binary file that looks like one, becomes another text.
            end = place
            while end < len(changed) and end < place + 12 and chr(changed[end]) in "0123456789.+-":
                end += 1
            changed[place : max(end, place + 1)] = _TEXTS[random.integers(len(_TEXTS))]
        else:
            changed[place : place + int(random.integers(1, 64))] = random.bytes(int(random.integers(1, 64)))
    return bytes(changed)


class _OpenedPaths:
    """What Python opens while a file is read; installed once, for an audit hook cannot be taken away."""

    def __init__(self) -> None:
        self.paths: list[str] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.paths is not None and event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            self.paths.append(os.fsdecode(arguments[0]))


def fuzz(seconds: float, seed: int, folder: Path) -> Counter:
    """Read damaged files for so long; return how many were read, refused, and of which kind.

    Raises:
        AssertionError: a fault; its message names the file, which is left in `folder`.
    """
    random = np.random.default_rng(seed)
    samples = write_samples(folder)
    names, contents = list(samples), list(samples.values())
    for name, content in samples.items():  # also imports whatever the readers import
        path = folder / (f"record{name[4:]}" if name.startswith("wfdb") else name)
        path.write_bytes(content)
    for name in names:
        read_ecg(folder / ("record" if name.startswith("wfdb") else name), **_stated(name))
        (folder / name).unlink(missing_ok=True)
    opened = _OpenedPaths()
    counted: Counter = Counter()
    end = time.monotonic() + seconds
    with bounded_growth(MAX_GROWTH_BYTES):
        try:
            while time.monotonic() < end:
                choice = int(random.integers(len(names)))
                name = names[choice]
                path = folder / (f"record{name[4:]}" if name.startswith("wfdb") else f"{name}-{seed}")
                path.write_bytes(damage(contents[choice], contents, random))
                counted[_read(path, name, opened)] += 1
                counted["cases"] += 1
                if name.startswith("wfdb"):
                    path.write_bytes(contents[choice])
                else:
                    path.unlink()
        finally:
            opened.paths = None
    return counted


def _stated(name: str) -> dict:
    return {"sampling_rate": 500, "lead_names": writers.LEADS} if name == "npy" else {}


def _read(path: Path, name: str, opened: _OpenedPaths) -> str:
    """Read one file and return "read" or "refused"; anything else that happens is a fault."""
    opened.paths, start, refusal = [], time.monotonic(), None
    try:
        recording = read_ecg(path, **_stated(name))
    except ECGReadError as error:
        refusal = error
    except Exception as error:
        raise AssertionError(f"{path}: {type(error).__name__}: {error}") from error
    paths, opened.paths = opened.paths, None
    seconds = time.monotonic() - start
    assert seconds < MAX_SECONDS, f"{path}: {seconds:.1f} s"
    outside = [one for one in paths if Path(one).resolve().parent != path.parent.resolve()]
    # Python's own: a traceback shows lines of source, and a codec is a module that is found by its name.
    outside = [one for one in outside if not one.endswith((".py", ".pyc"))]
    assert not outside, f"{path}: opened {outside}"
    if refusal is None:
        assert recording.signal.shape[0] == len(recording.lead_names), f"{path}: {recording.signal.shape}"
        assert recording.signal.dtype == np.float32, f"{path}: {recording.signal.dtype}"
        return "read"
    message = str(refusal)
    assert str(path.with_suffix("")) in message, f"{path} is not named: {message}"
    assert len(message) < 1200 + 4 * len(str(path)), f"{path}: a message of {len(message)} characters"
    cause: BaseException | None = refusal
    while cause is not None:
        assert not isinstance(cause, (MemoryError, RecursionError)), f"{path}: {cause!r}"
        cause = cause.__cause__
    return "refused"


def main(seconds: float, seed: int = 0) -> Counter:
    """Fuzz in a folder of its own, which is left behind if there was a fault."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-reading-"))
    counted = fuzz(seconds, seed, folder)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return counted


if __name__ == "__main__":
    run_command(main, __doc__)
