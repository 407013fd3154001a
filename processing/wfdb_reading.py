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
from .recording import DigitalRecording, ECGReadError, Recording, short
from .wfdb_plain import (
    MAX_HEADER_BYTES,
    RECORD_SUFFIXES,
    UNITS_PER_MILLIVOLT,
    check_length,
    checksum_error,
    decode_plain,
    header_path,
    parse_plain_header,
)

# Signal formats: bytes per sample (None: as many as it takes) and the code of an invalid sample, which format 8 lacks
# (WFDB Applications Guide, SIGNAL(5)).
_FORMATS_OF_16_BITS = {
    "8": (1.0, None),
    "16": (2.0, -(2**15)),
    "61": (2.0, -(2**15)),
    "80": (1.0, -(2**7)),
    "160": (2.0, -(2**15)),
    "212": (1.5, -(2**11)),
    "310": (4 / 3, -(2**9)),
    "311": (4 / 3, -(2**9)),
    "508": (None, -(2**7)),
    "516": (None, -(2**15)),
}
_WIDER_FORMATS = {"24": (3.0, -(2**23)), "32": (4.0, -(2**31)), "524": (None, -(2**23))}
_FORMATS = _FORMATS_OF_16_BITS | _WIDER_FORMATS
# What a compressed file may hold in all its leads: a day of twelve leads at 64 Hz.
_MAX_COMPRESSED_SAMPLES = 1 << 26


def read_wfdb(path: str | os.PathLike) -> DigitalRecording:
    """Read a single-segment WFDB record whose samples have 16 bits at most in its ADC units.

    A header of the plain form that PTB-XL and MIMIC-IV-ECG have is read by `wfdb_plain`, which takes a tenth of the
    time; any other goes through `wfdb`. Both give the same.

    Args:
        path: the record, with or without `.hea`, `.dat` or `.mat` at its end.

    Raises:
        ECGReadError: a file is missing, cut short, damaged or of a kind that is not read here.
        ImportError: the header is not plain and the package `wfdb` is not installed.
    """
    recording = _read(path)
    if isinstance(recording, Recording):
        raise ECGReadError(f"{path}: samples of more than 16 bits; expected 16 (read_ecg gives them in mV)")
    return recording


def read_wfdb_millivolts(path: str | os.PathLike) -> Recording:
    """Read a single-segment WFDB record of any signal format in mV; otherwise as `read_wfdb`."""
    recording = _read(path)
    return recording if isinstance(recording, Recording) else recording.to_recording()


def _read(path: str | os.PathLike) -> DigitalRecording | Recording:
    """ADC units where they fit 16 bits, else mV."""
    header_file = _existing_header(path)
    content = _header_content(header_file)
    plain = parse_plain_header(content)
    if plain is None:
        return _read_with_wfdb(path, header_file, content)
    signal_file = header_file.with_name(plain.signal_file)
    if not os.path.isfile(signal_file):  # which takes names that are too long, too
        raise ECGReadError(f"{header_file}: the signal file {signal_file} is missing")
    check_length(signal_file, signal_file.stat().st_size, 2.0, len(plain.lead_names), plain.samples)
    return decode_plain(plain, signal_file.read_bytes(), str(path), str(header_file), str(signal_file))


def _read_with_wfdb(path: str | os.PathLike, header_file: Path, content: bytes) -> DigitalRecording | Recording:
    record = header_file.with_suffix("")
    wfdb = _import_wfdb(record)
    lines = _header_lines(header_file, content)
    _check_names(lines, header_file)
    header = _read_header(wfdb, record, header_file)
    sampling_rate = _check_record_line(header, lines, header_file)
    gain, baseline = _calibration(header, lines, header_file)
    samples = _check_signal_files(header, header_file)

    is_wide = not _WIDER_FORMATS.keys().isdisjoint(header.fmt)
    try:
        read = wfdb.rdrecord(str(record.absolute()), physical=False, return_res=32 if is_wide else 16)
    except Exception as error:  # wfdb raises many kinds for a damaged file; the cause stays attached.
        raise ECGReadError(f"{header_file}: the samples could not be read ({short(error)})") from error
    if read.d_signal.shape != (samples, header.n_sig):
        raise ECGReadError(
            f"{header_file}: {read.d_signal.shape[0]} samples of {read.d_signal.shape[1]} leads could be read; "
            f"expected {samples} of {header.n_sig}"
        )
    adc = np.ascontiguousarray(read.d_signal.T, dtype=np.int32 if is_wide else np.int16)
    for lead, stated in enumerate(header.checksum):
        total = int(adc[lead].sum(dtype=np.int64))
        if stated is not None and (total - stated) % 65536:
            raise checksum_error(header.sig_name[lead], total, stated, header_file)
    invalid_code = np.array([_FORMATS[fmt][1] or INVALID_SAMPLE for fmt in header.fmt])
    invalid = adc == invalid_code[:, None]
    facts = {
        "sampling_rate": sampling_rate,
        "lead_names": tuple(name or "" for name in header.sig_name),
        "source": str(path),
        "start_time": getattr(header, "base_datetime", None),
    }
    if is_wide:
        return Recording(signal=_wide_to_millivolts(adc, gain, baseline, invalid), **facts)
    adc[invalid] = INVALID_SAMPLE
    return DigitalRecording(adc=adc, gain=gain, baseline=baseline, **facts)


def _wide_to_millivolts(adc: np.ndarray, gain: np.ndarray, baseline: np.ndarray, invalid: np.ndarray) -> np.ndarray:
    """As `to_millivolts`, in which -32768 would stand for an invalid sample and is a good one here."""
    millivolts = ((adc - baseline[:, None].astype(np.float64)) / gain[:, None]).astype(np.float32)
    millivolts[invalid] = np.nan
    return millivolts


def _existing_header(path: str | os.PathLike) -> Path:
    """The record's header, which is known to exist."""
    given = Path(path)
    header_file = header_path(given)
    if header_file.is_file():
        return header_file
    if given.is_dir():
        found = "it is a folder"
    elif given.suffix.lower() == ".npy":
        found = (
            "a NumPy file holds no lead names and no sampling rate (load it and pass the array with sampling_rate= "
            "and lead_names=)"
        )
    elif given.suffix.lower() in RECORD_SUFFIXES or not given.exists():
        found = f"the header {header_file} is missing"
    else:
        found = f"there is no header {header_file} beside it"
    raise ECGReadError(f"{path}: not an ECG recording: {found}; expected a WFDB record (.hea with .dat)")


def _import_wfdb(record: Path):
    # By name and not by an import statement: remote code is refused where a package that its source imports
    # is missing, and a model must load where there is no wfdb.
    try:
        return importlib.import_module("wfdb")
    except ImportError as error:
        raise ImportError(f"{record}: reading a WFDB record needs the package wfdb (pip install wfdb)") from error


def _header_content(header_file: Path) -> bytes:
    size = header_file.stat().st_size
    if size > MAX_HEADER_BYTES:
        raise ECGReadError(f"{header_file}: {size} bytes; expected a WFDB header of at most {MAX_HEADER_BYTES}")
    return header_file.read_bytes()


def _header_lines(header_file: object, content: bytes) -> list[str]:
    """The header's lines without comments, as written; at least one.

    wfdb drops every character outside ASCII, so that "µV" reads as "V", and fills in 250 Hz and 200 units per
    mV where the header states none; both would be a silent guess, so these fields are looked up here.
    """
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


def signal_file_names(content: bytes, header_name: str) -> tuple[str, ...]:
    """The signal files that a header names, each once; all lie in the header's own folder.

    Args:
        content: the header file.
        header_name: the header file, as messages name it.

    Raises:
        ECGReadError: it is no header, one of several segments, or one that names a file elsewhere.
    """
    lines = _header_lines(header_name, content)
    _check_names(lines, header_name)
    return tuple(dict.fromkeys(line.split()[0] for line in lines[1:]))


def _check_names(lines: list[str], header_file: object) -> None:
    """Refuse a record of several segments, and signal files that are not in the header's own folder."""
    record_name = lines[0].split()[0]
    if "/" in record_name:
        raise ECGReadError(f"{header_file}: a record of several segments ({short(record_name)}); expected one segment")
    for line in lines[1:]:
        name = line.split()[0]
        if name != os.path.basename(name) or any(mark in name for mark in ("\\", ":", "~")) or name in (".", "..", "-"):
            raise ECGReadError(
                f"{header_file}: the header names the signal file {short(name)!r}; expected one in the header's own "
                "folder"
            )


def _read_header(wfdb, record: Path, header_file: Path):
    try:
        return wfdb.rdheader(str(record.absolute()))
    except Exception as error:  # Whatever text, an image or a broken number makes wfdb raise.
        raise ECGReadError(f"{header_file}: not a WFDB header ({short(error)})") from error


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
        raise ECGReadError(f"{header_file}: sampling rate {short(rate) or '(none)'} Hz; expected a number above 0 Hz")
    if header.sig_len == 0:
        raise ECGReadError(f"{header_file}: 0 samples; expected a recording that holds samples")
    return sampling_rate


def _calibration(header, lines: list[str], header_file: Path) -> tuple[np.ndarray, np.ndarray]:
    """ADC units per mV, and the ADC value of 0 mV, per lead."""
    gain = []
    for name, line, per_unit, zero in zip(header.sig_name, lines[1:], header.adc_gain, header.baseline, strict=True):
        if abs(zero) >= 2**31:
            raise ECGReadError(
                f"{header_file}: lead {short(name)} has the baseline {short(zero)}; expected 32 bits at most"
            )
        calibration, _, unit = "".join(line.split()[2:3]).partition("/")
        # The format's own default unit is mV; a gain that is absent or 0 means an uncalibrated signal.
        units_per_millivolt = UNITS_PER_MILLIVOLT.get(unit.lower() or "mv")
        if units_per_millivolt is None:
            raise ECGReadError(f"{header_file}: lead {short(name)} is in {short(unit)!r}; expected mV, uV or V")
        stated = calibration.partition("(")[0]
        if not _number(stated) or _number(stated) != per_unit:
            raise ECGReadError(
                f"{header_file}: lead {short(name)} has the gain {short(stated) or '(none)'} (uncalibrated); "
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


def _check_signal_files(header, header_file: Path) -> int:
    """Check that each signal file is there, in the header's folder, of a known format and as long as stated.

    Returns:
        The samples per lead.
    """
    lengths = {}
    for name in dict.fromkeys(header.file_name):
        leads = [lead for lead, file_name in enumerate(header.file_name) if file_name == name]
        lengths[name] = _signal_file_length(header, header_file, name, leads)
    if len(set(lengths.values())) > 1:
        raise ECGReadError(f"{header_file}: the signal files differ in length: {lengths} samples per lead")
    return next(iter(lengths.values()))


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
    if not os.path.isfile(signal_file):  # which takes names that are too long, too
        raise ECGReadError(f"{header_file}: the signal file {signal_file} is missing")

    bytes_per_sample = _FORMATS[fmt][0]
    if bytes_per_sample is None:  # compressed: only reading it tells
        if not header.sig_len or header.sig_len * header.n_sig > _MAX_COMPRESSED_SAMPLES:
            raise ECGReadError(
                f"{header_file}: {header.sig_len} samples for each of {header.n_sig} leads in a compressed file; "
                f"expected a number, and {_MAX_COMPRESSED_SAMPLES} at most in all"
            )
        return header.sig_len
    size = signal_file.stat().st_size - (header.byte_offset[leads[0]] or 0)
    return check_length(signal_file, size, bytes_per_sample, len(leads), header.sig_len)
