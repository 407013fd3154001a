"""WFDB records of the plain form that PTB-XL and MIMIC-IV-ECG have: parsed here, in a tenth of the time of `wfdb`."""

import math
import re
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .recording import DigitalRecording, ECGReadError, short
from .voltage_units import units_per_millivolt

# How many of a unit make one mV, for the units that a header may state.
UNITS_PER_MILLIVOLT = {unit: units_per_millivolt(unit) for unit in ("mv", "uv", "µv", "μv", "v")}
RECORD_SUFFIXES = (".hea", ".dat", ".mat")
MAX_HEADER_BYTES = 1 << 20
# The plain form of a header (WFDB Applications Guide, HEADER(5)): one file of 16-bit samples, nothing left out, no
# comment at the end of a line.
_RECORD_LINE = re.compile(
    r"[\w-]+ (?P<leads>\d{1,2}) (?P<rate>\d{1,6}(?:\.\d{0,9})?) (?P<samples>\d{1,9})"
    r"(?: (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d{1,6}))?"
    r"(?: (?P<day>\d\d)/(?P<month>\d\d)/(?P<year>\d{4}))?)?",
    re.ASCII,
)
_CALIBRATION = re.compile(r"(\d{1,9}(?:\.\d{0,9})?)\((-?\d{1,10})\)/(mV|uV|V)", re.ASCII)
_SIGNAL_LINE = re.compile(
    r'^(\w[\w.-]*) 16 (\S{1,40}) \d{1,9} -?\d{1,9} -?\d{1,9} (-?\d{1,5}) 0 ([!"$-~][ !"$-~]*)$', re.ASCII | re.MULTILINE
)


class PlainHeader(NamedTuple):
    """A header whose leads all lie in one file of 16-bit samples, each with its calibration and checksum."""

    signal_file: str
    lead_names: tuple[str, ...]
    samples: int
    sampling_rate: float
    gain: np.ndarray
    baseline: np.ndarray
    checksums: tuple[int, ...]
    start_time: datetime | None


def header_path(path: Path) -> Path:
    """The header of the record that `path` stands for, with or without one of `RECORD_SUFFIXES` at its end."""
    return Path(f"{path.with_suffix('') if path.suffix.lower() in RECORD_SUFFIXES else path}.hea")


def parse_plain_header(content: bytes) -> PlainHeader | None:
    """Parse a WFDB header of the plain form; None for any other, which `wfdb` may still know.

    Args:
        content: the header file. Its signal file is a bare name, so it lies in the header's own folder.
    """
    if len(content) > MAX_HEADER_BYTES or not content.isascii() or b"\0" in content:
        return None
    lines = [line for text in content.decode("ascii").splitlines() if (line := text.strip()) and line[0] != "#"]
    record = _RECORD_LINE.fullmatch(lines[0]) if lines else None
    if record is None or int(record["leads"]) != len(lines) - 1:
        return None
    signals = _SIGNAL_LINE.findall("\n".join(lines[1:]))
    if not signals or len(signals) < len(lines) - 1:
        return None
    files, calibrations, checksums, names = zip(*signals, strict=True)
    sampling_rate, samples = float(record["rate"]), int(record["samples"])
    calibration = _plain_calibration(calibrations)
    if len(set(files)) > 1 or calibration is None or not sampling_rate > 0 or not samples:
        return None
    try:
        start_time = _start_time(record)
    except ValueError:
        return None
    return PlainHeader(
        signal_file=files[0],
        lead_names=names,
        samples=samples,
        sampling_rate=sampling_rate,
        gain=calibration[0],
        baseline=calibration[1],
        checksums=tuple(map(int, checksums)),
        start_time=start_time,
    )


@lru_cache(maxsize=256)
def _plain_calibration(fields: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """ADC units per mV, and the ADC value of 0 mV, from fields such as "200.0(0)/mV"; a corpus has few different."""
    gain, baseline = [], []
    for field in fields:
        match = _CALIBRATION.fullmatch(field)
        if match is None or not float(match[1]) or abs(zero := int(match[2])) >= 2**31:
            return None
        gain.append(float(match[1]) * UNITS_PER_MILLIVOLT[match[3].lower()])
        baseline.append(zero)
    arrays = np.array(gain, dtype=np.float64), np.array(baseline, dtype=np.int64)
    for array in arrays:
        array.flags.writeable = False  # shared by all recordings of this calibration
    return arrays


def _start_time(record: re.Match[str]) -> datetime | None:
    if record["year"] is None:
        return None
    fields = (int(record[name]) for name in ("year", "month", "day", "hour", "minute", "second"))
    return datetime(*fields, int((record["fraction"] or "").ljust(6, "0")))


def decode_plain(
    header: PlainHeader, content: bytes, source: str, header_name: str, signal_name: str
) -> DigitalRecording:
    """The samples of a plain record, checked against its header.

    Args:
        header: from `parse_plain_header`.
        content: the signal file.
        source: what the recording says of where it comes from.
        header_name, signal_name: the two files, as messages name them.

    Raises:
        ECGReadError: the file is not as long as stated, or a lead's checksum is not as stated.
    """
    frames = plain_frames(header, content, signal_name)
    adc = np.empty((len(header.lead_names), header.samples), dtype=np.int16)
    for lead in range(len(adc)):
        adc[lead] = frames[:, lead]
    compare_checksums(header, adc.sum(axis=1, dtype=np.int16), header_name)
    return DigitalRecording(
        adc=adc,
        gain=header.gain,
        baseline=header.baseline,
        sampling_rate=header.sampling_rate,
        lead_names=header.lead_names,
        source=source,
        start_time=header.start_time,
    )


def plain_frames(header: PlainHeader, content: bytes, signal_name: str) -> np.ndarray:
    """A view of a signal file as int16 (samples, leads), which is how it holds them.

    Raises:
        ECGReadError: the file is not as long as stated.
    """
    leads = len(header.lead_names)
    check_length(signal_name, len(content), 2.0, leads, header.samples)
    return np.frombuffer(content, dtype="<i2", count=leads * header.samples).reshape(header.samples, leads)


def compare_checksums(header: PlainHeader, sums: np.ndarray, header_name: str) -> None:
    """Compare the sum of each lead modulo 65,536, which is what a sum of int16 that overflows is, with the header's.

    Raises:
        ECGReadError: one is not as stated.
    """
    for name, total, stated in zip(header.lead_names, sums.tolist(), header.checksums, strict=True):
        if (total - stated) % 65536:
            raise checksum_error(name, total, stated, header_name)


def check_length(signal_file: object, size: int, bytes_per_sample: float, leads: int, stated: int | None) -> int:
    """Compare the samples that a signal file holds with those that its header states; returns their number."""
    if size <= 0:
        raise ECGReadError(f"{signal_file}: 0 samples ({size} bytes); expected a recording")
    held = int(size / bytes_per_sample) // leads
    stated = held if stated is None else stated
    if held != stated or size < math.ceil(stated * leads * bytes_per_sample):
        cause = "the file is truncated" if held < stated else "the header does not describe this file"
        raise ECGReadError(
            f"{signal_file}: {cause}: it holds {held} samples for each of {leads} leads ({size} bytes), "
            f"the header states {stated}"
        )
    return stated


def checksum_error(lead: str, total: int, stated: int, header_file: object) -> ECGReadError:
    """The header's 16-bit sum of each lead tells a damaged file, or one that belongs to another header."""
    return ECGReadError(
        f"{header_file}: lead {short(lead)} has the checksum {total % 65536}, the header states {stated}: the samples "
        "are damaged or belong to another recording"
    )
