"""Which format an ECG file is in, told by its content."""

import codecs
import io
import re
import struct
from pathlib import Path

from .csv_files import read_header
from .leads import is_lead
from .recording import ECGReadError
from .voltage_units import split_unit
from .wfdb_plain import RECORD_SUFFIXES, header_path
from .xml_scan import looks_like_xml, scan_xml

WFDB = "WFDB"
SCP, DICOM, AECG, MUSE, PHILIPS = "SCP-ECG", "DICOM waveform", "HL7 aECG", "GE MUSE XML", "Philips XML"
EDF, ISHNE, MFER = "EDF", "ISHNE", "MFER"
CSV, NPY, NPZ = "CSV", "NumPy .npy", "NumPy .npz"

_EXPECTED = (
    "a WFDB record (.hea with .dat), SCP-ECG, DICOM waveform, HL7 aECG, GE MUSE XML, Philips XML, EDF, ISHNE, MFER, "
    "CSV in UTF-8 or Latin-1 with a header row of lead names, or NumPy (.npy, .npz)"
)
_START = 4096  # bytes
_MEBIBYTE = 1 << 20
_MAX_XML_BYTES = 16 * _MEBIBYTE
# A larger file is refused unread. What a byte of a file can become in memory differs: a sample of two bytes takes
# eight for a moment, an element of XML a few hundred; SCP-ECG addresses 64 KiB per lead.
MAX_FILE_BYTES = {
    SCP: 2 * _MEBIBYTE,
    DICOM: 16 * _MEBIBYTE,
    AECG: _MAX_XML_BYTES,
    MUSE: _MAX_XML_BYTES,
    PHILIPS: _MAX_XML_BYTES,
    EDF: 256 * _MEBIBYTE,
    ISHNE: 256 * _MEBIBYTE,
    MFER: 32 * _MEBIBYTE,
    CSV: 32 * _MEBIBYTE,
    NPY: 256 * _MEBIBYTE,
    NPZ: 256 * _MEBIBYTE,
}
_MAGIC = (
    (0, b"ISHNE1.0", ISHNE),
    (128, b"DICM", DICOM),
    (0, b"0       ", EDF),
    (0, b"\x93NUMPY", NPY),
    (0, b"PK\x03\x04", NPZ),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")  # characters of no text, in Latin-1 neither
_XML_ROOTS = {"annotatedecg": AECG, "restingecg": MUSE, "restingecgdata": PHILIPS}
# MFER's definitions that may stand before the samples, and the lengths that they can have (ISO 22077-1).
_MFER_LENGTHS = {
    0x01: (1,),  # byte order
    0x02: (3,),  # version
    0x03: range(1, 32),  # character set
    0x04: range(1, 5),  # block length
    0x05: range(1, 5),  # channels
    0x06: range(1, 5),  # sequences
    0x08: range(1, 128),  # kind of waveform
    0x0A: (1,),  # data type
    0x0B: range(3, 7),  # sampling interval
    0x0C: range(3, 7),  # sensitivity
    0x17: range(1, 128),  # manufacturer
    0x85: range(4, 12),  # time
}


def detect_format(path: Path) -> str:
    """Return the format of the recording at `path`: one of this module's names.

    A WFDB record is also its path without a suffix, and its signal file: told by the header beside it.

    Raises:
        ECGReadError: there is no such file, it holds nothing that is known, or is larger than is read of its format.
    """
    header = header_path(path)
    if header.is_file():
        # First: a signal file has no magic number, and its samples may look like anything.
        return WFDB
    if not path.is_file():
        found = "it is a folder" if path.is_dir() else f"no such file, and the header {header} is missing"
        raise ECGReadError(f"{path}: not an ECG recording: {found}; expected {_EXPECTED}")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_START)
    found = _format_of(path, start, size)
    if found is None:
        raise ECGReadError(f"{path}: not an ECG recording: {_beginning(path, start)}; expected {_EXPECTED}")
    if size > MAX_FILE_BYTES.get(found, size):
        raise ECGReadError(f"{path}: {size} bytes of {found}; expected at most {MAX_FILE_BYTES[found]}")
    return found


def _format_of(path: Path, start: bytes, size: int) -> str | None:
    for offset, magic, name in _MAGIC:
        if start[offset : offset + len(magic)] == magic:
            return name
    if looks_like_xml(start):
        return _xml_format(path, size)
    if _is_scp(start):
        return SCP
    if _is_mfer(start):
        return MFER
    return CSV if _is_csv(start) else None


def _xml_format(path: Path, size: int) -> str:
    if size > _MAX_XML_BYTES:
        raise ECGReadError(f"{path}: {size} bytes of XML; expected at most {_MAX_XML_BYTES}")
    try:
        root, _ = scan_xml(path.read_bytes())
    except ValueError as error:
        raise ECGReadError(f"{path}: {error}; expected a whole ECG file") from error
    if root.lower() not in _XML_ROOTS:
        raise ECGReadError(f"{path}: XML with the root {root[:40]!r}, which is no ECG format; expected {_EXPECTED}")
    return _XML_ROOTS[root.lower()]


def _is_scp(start: bytes) -> bool:
    """Whether section 0 comes first and its first pointer is to itself (EN 1064), or it bears the standard's name."""
    if len(start) < 32 or struct.unpack_from("<H", start, 8) != (0,):
        return False
    pointer = struct.unpack_from("<HII", start, 22)  # section, length, position from 1
    return start[16:22] == b"SCPECG" or pointer[::2] == (0, 7)


def _is_mfer(start: bytes) -> bool:
    """Whether the file begins with MFER's preamble, or with three definitions of a length that they can have."""
    if start[:1] == b"\x40" and start[2:6] == b"MFR ":
        return True
    position = 0
    for _ in range(3):
        tag, length = start[position : position + 1], start[position + 1 : position + 2]
        if not length or length[0] not in _MFER_LENGTHS.get(tag[0], ()):
            return False
        position += 2 + length[0]
    return True


def _is_csv(start: bytes) -> bool:
    """Whether the first row is text of several fields, one of them a lead or all of them numbers."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start)  # a character cut at the end is left out
    except UnicodeDecodeError:
        text = start.decode("latin-1")
    line, _ = read_header(io.StringIO(text, newline=""))
    fields = [field.strip(' "') for field in re.split(r"[,;\t]", line.strip())]
    if _CONTROL.search(line) or not fields[0] and len(fields) == 1:
        return False
    return any(is_lead(split_unit(field)[0]) for field in fields) or len(fields) > 1 and all(map(_is_number, fields))


def _is_number(field: str) -> bool:
    return re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?|nan", field.lower()) is not None


def _beginning(path: Path, start: bytes) -> str:
    if not start:
        return "it is empty"
    if path.suffix.lower() in RECORD_SUFFIXES:
        return f"the header {header_path(path)} is missing"
    if start.startswith(b"\xffBIOSEMI"):
        return "it is BDF, EDF's relative with samples of 24 bits"
    return f"it begins with {start[:16]!r}"
