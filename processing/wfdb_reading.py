"""WFDB records in: a header and its signal files become a `DigitalRecording` in ADC units.

Nothing that a file says about itself is trusted: sizes are compared with the size of the file on disk before
anything is allocated, and a header may name signal files of its own folder alone.
"""

import importlib
import math
import os
from pathlib import Path

import numpy as np

from .adc import INVALID_SAMPLE
from .recording import DigitalRecording, ECGReadError

# Signal formats whose samples fit 16 bits: bytes per sample and the code of an invalid sample
# (WFDB Applications Guide, SIGNAL(5)).
_FORMATS = {"16": (2.0, -32768), "80": (1.0, -128), "212": (1.5, -2048)}
# How many of a unit make one mV.
_UNITS_PER_MILLIVOLT = {"mv": 1.0, "uv": 1e3, "µv": 1e3, "μv": 1e3, "v": 1e-3}
_MAX_HEADER_BYTES = 1 << 20
_MAX_QUOTED = 60  # characters
_RECORD_SUFFIXES = (".hea", ".dat", ".mat")


def read_wfdb(path: str | os.PathLike) -> DigitalRecording:
    """Read a single-segment WFDB record (formats 16, 80 and 212) in its ADC units.

    Args:
        path: the record, with or without `.hea`, `.dat` or `.mat` at its end.

    Raises:
        ECGReadError: a file is missing, cut short, damaged or of a kind that is not read here.
        ImportError: the package `wfdb` is not installed.
    """
    record = _record_path(path)
    wfdb = _import_wfdb(record)
    header_file = Path(f"{record}.hea")
    lines = _header_lines(header_file)
    _check_names(lines, header_file)
    header = _read_header(wfdb, record, header_file)
    sampling_rate = _check_record_line(header, lines, header_file)
    gain, baseline = _calibration(header, lines, header_file)
    _check_signal_files(header, header_file)

    try:
        read = wfdb.rdrecord(str(record.absolute()), physical=False, return_res=16)
    except Exception as error:  # wfdb raises many kinds for a damaged file; the cause stays attached.
        raise ECGReadError(f"{header_file}: the samples could not be read ({error})") from error
    adc = np.ascontiguousarray(read.d_signal.T, dtype=np.int16)
    _check_checksums(header, adc, header_file)
    for lead, fmt in enumerate(header.fmt):
        adc[lead, adc[lead] == _FORMATS[fmt][1]] = INVALID_SAMPLE
    return DigitalRecording(
        adc=adc,
        gain=gain,
        baseline=baseline,
        sampling_rate=sampling_rate,
        lead_names=tuple(name or "" for name in header.sig_name),
        source=str(path),
        start_time=getattr(header, "base_datetime", None),
    )


def _record_path(path: str | os.PathLike) -> Path:
    """The record's path without a suffix, once its header is known to exist."""
    given = Path(path)
    record = given.with_suffix("") if given.suffix.lower() in _RECORD_SUFFIXES else given
    if Path(f"{record}.hea").is_file():
        return record
    if given.is_dir():
        found = "it is a folder"
    elif given.suffix.lower() == ".npy":
        found = (
            "a NumPy file holds no lead names and no sampling rate (load it and pass the array with sampling_rate= "
            "and lead_names=)"
        )
    elif given.suffix.lower() in _RECORD_SUFFIXES or not given.exists():
        found = f"the header {record}.hea is missing"
    else:
        found = f"there is no header {record}.hea beside it"
    raise ECGReadError(f"{path}: not an ECG recording: {found}; expected a WFDB record (.hea with .dat)")


def _import_wfdb(record: Path):
    # By name and not by an import statement: remote code is refused where a package that its source imports
    # is missing, and a model must load where there is no wfdb.
    try:
        return importlib.import_module("wfdb")
    except ImportError as error:
        raise ImportError(f"{record}: reading a WFDB record needs the package wfdb (pip install wfdb)") from error


def _header_lines(header_file: Path) -> list[str]:
    """The header's lines without comments, as written; at least one.

    wfdb drops every character outside ASCII, so that "µV" reads as "V", and fills in 250 Hz and 200 units per
    mV where the header states none; both would be a silent guess, so these fields are looked up here.
    """
    size = header_file.stat().st_size
    if size > _MAX_HEADER_BYTES:
        raise ECGReadError(f"{header_file}: {size} bytes; expected a WFDB header of at most {_MAX_HEADER_BYTES}")
    content = header_file.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if "\0" in text:
        raise ECGReadError(f"{header_file}: not a WFDB header: it is not text")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise ECGReadError(f"{header_file}: not a WFDB header: it holds no record line")
    return lines


def _short(content: object) -> str:
    """The beginning of what a file says, for a message that quotes it."""
    text = str(content)
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}..."


def _check_names(lines: list[str], header_file: Path) -> None:
    """Refuse a record of several segments, and signal files that are not in the header's own folder."""
    record_name = lines[0].split()[0]
    if "/" in record_name:
        raise ECGReadError(f"{header_file}: a record of several segments ({_short(record_name)}); expected one segment")
    for line in lines[1:]:
        name = line.split()[0]
        if name != os.path.basename(name) or any(mark in name for mark in ("\\", ":", "~")) or name in (".", "..", "-"):
            raise ECGReadError(
                f"{header_file}: the header names the signal file {_short(name)!r}; expected one in the header's own "
                "folder"
            )


def _read_header(wfdb, record: Path, header_file: Path):
    try:
        return wfdb.rdheader(str(record.absolute()))
    except Exception as error:  # Whatever text, an image or a broken number makes wfdb raise.
        raise ECGReadError(f"{header_file}: not a WFDB header ({_short(error)})") from error


def _check_record_line(header, lines: list[str], header_file: Path) -> float:
    """Check what the first line states against the rest of the header; return the sampling rate in Hz."""
    described = len(header.file_name or ())
    if not header.n_sig == described == len(lines) - 1 or described == 0:
        raise ECGReadError(
            f"{header_file}: the header states {header.n_sig} leads and describes {described}; "
            "expected one line per lead"
        )
    rate = "".join(lines[0].split()[2:3]).partition("/")[0]
    sampling_rate = _number(rate)
    if sampling_rate is None or sampling_rate <= 0 or not math.isclose(sampling_rate, header.fs):
        raise ECGReadError(f"{header_file}: sampling rate {_short(rate) or '(none)'} Hz; expected a number above 0 Hz")
    if header.sig_len == 0:
        raise ECGReadError(f"{header_file}: 0 samples; expected a recording that holds samples")
    return sampling_rate


def _calibration(header, lines: list[str], header_file: Path) -> tuple[np.ndarray, np.ndarray]:
    """ADC units per mV, and the ADC value of 0 mV, per lead."""
    gain = []
    for name, line, per_unit, zero in zip(header.sig_name, lines[1:], header.adc_gain, header.baseline, strict=True):
        if abs(zero) >= 2**31:
            raise ECGReadError(
                f"{header_file}: lead {_short(name)} has the baseline {_short(zero)}; expected 32 bits at most"
            )
        calibration, _, unit = "".join(line.split()[2:3]).partition("/")
        # The format's own default unit is mV; a gain that is absent or 0 means an uncalibrated signal.
        units_per_millivolt = _UNITS_PER_MILLIVOLT.get(unit.lower() or "mv")
        if units_per_millivolt is None:
            raise ECGReadError(f"{header_file}: lead {_short(name)} is in {_short(unit)!r}; expected mV, uV or V")
        stated = calibration.partition("(")[0]
        if not _number(stated) or _number(stated) != per_unit:
            raise ECGReadError(
                f"{header_file}: lead {_short(name)} has the gain {_short(stated) or '(none)'} (uncalibrated); "
                "expected ADC units per mV, a number other than 0"
            )
        gain.append(per_unit * units_per_millivolt)
    return np.array(gain, dtype=np.float64), np.array(header.baseline, dtype=np.int64)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _check_signal_files(header, header_file: Path) -> None:
    """Check that each signal file is there, in the header's folder, of a known format and as long as stated."""
    lengths = {}
    for name in dict.fromkeys(header.file_name):
        leads = [lead for lead, file_name in enumerate(header.file_name) if file_name == name]
        lengths[name] = _signal_file_length(header, header_file, name, leads)
    if len(set(lengths.values())) > 1:
        raise ECGReadError(f"{header_file}: the signal files differ in length: {lengths} samples per lead")


def _signal_file_length(header, header_file: Path, name: str, leads: list[int]) -> int:
    for field, usual in (("fmt", None), ("byte_offset", 0), ("samps_per_frame", 1), ("skew", 0)):
        values = {getattr(header, field)[lead] or usual for lead in leads}
        if len(values) > 1 or (field in ("samps_per_frame", "skew") and values != {usual}):
            raise ECGReadError(
                f"{header_file}: {field} of {name} is {sorted(values)}; "
                f"expected {'one value for all leads of a file' if len(values) > 1 else usual}"
            )
    fmt = header.fmt[leads[0]]
    if fmt not in _FORMATS:
        raise ECGReadError(f"{header_file}: {name} has the signal format {fmt}; expected one of {', '.join(_FORMATS)}")
    signal_file = header_file.with_name(name)
    if not signal_file.is_file():
        raise ECGReadError(f"{header_file}: the signal file {signal_file} is missing")

    offset = header.byte_offset[leads[0]] or 0
    size = signal_file.stat().st_size - offset
    bytes_per_sample = _FORMATS[fmt][0]
    if size <= 0:
        raise ECGReadError(f"{signal_file}: 0 samples ({size + offset} bytes); expected a recording")
    held = int(size / bytes_per_sample) // len(leads)
    stated = held if header.sig_len is None else header.sig_len
    if held != stated or size < math.ceil(stated * len(leads) * bytes_per_sample):
        cause = "the file is truncated" if held < stated else "the header does not describe this file"
        raise ECGReadError(
            f"{signal_file}: {cause}: it holds {held} samples for each of {len(leads)} leads ({size} bytes), "
            f"the header states {stated}"
        )
    return stated


def _check_checksums(header, adc: np.ndarray, header_file: Path) -> None:
    """The header's 16-bit sum of each lead tells a damaged file, or one that belongs to another header."""
    for lead, stated in enumerate(header.checksum):
        found = int(adc[lead].sum(dtype=np.int64)) % 65536
        if stated is not None and found != stated % 65536:
            raise ECGReadError(
                f"{header_file}: lead {_short(header.sig_name[lead])} has the checksum {found}, the header states "
                f"{stated}: the samples are damaged or belong to another recording"
            )
