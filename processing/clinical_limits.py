"""What a clinical file claims about its sizes, held against its bytes before a library believes it.

Each `check_` function raises a ValueError that says what was found and what was expected. A format is looked at no
further than that: its library reads the rest, and whatever it raises becomes an `ECGReadError`.
"""

import base64
import importlib
import io
import math
import struct
from collections.abc import Iterator
from pathlib import Path

from .xml_scan import scan_xml

_MAX_LEADS = 256  # a body-surface map has about 200
_MAX_ANNOTATION_BYTES = 1 << 22
_MAX_DEFINITIONS = 200_000
_MAX_ITEMS = 20_000
_MAX_UNPACKED_BYTES = 1 << 22
_MAX_WORDS = 1 << 14
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax that is unpacked as a whole
_PHILIPS_COUNTS = ("numberchannelsallocated", "numberchannelsvalid")
_PHILIPS_WORDS = ("mdsignatureline", "unparsedstatement", "listofecglead", "numericvalue")


def check_scp(path: Path) -> None:
    """Each lead's sample numbers fit the bits that the file has (EN 1064: at least one bit per sample)."""
    content = path.read_bytes()
    (stated,) = struct.unpack_from("<I", content, 2)
    if stated > len(content):
        raise ValueError(f"truncated: {len(content)} bytes, the header states {stated}")
    (pointers,) = struct.unpack_from("<I", content, 10)
    for position in range(22, min(6 + pointers, len(content)) - 9, 10):
        section, length, start = struct.unpack_from("<HII", content, position)
        if section == 3 and length:
            body = content[start + 15 : start - 1 + length]
            _check_leads(body[0])
            for lead in range(body[0]):
                first, last = struct.unpack_from("<II", body, 2 + 9 * lead)
                if last - first >= 8 * len(content):
                    raise ValueError(f"lead {lead + 1} claims samples {first} to {last} in {len(content)} bytes")


def check_dicom(path: Path) -> None:
    """Neither compressed as a whole (that expands without a bound) nor of absurd numbers of items or channels."""
    content = path.read_bytes()
    items = content.count(b"\xfe\xff\x00\xe0") + content.count(b"\xff\xfe\xe0\x00")
    if items > _MAX_ITEMS:
        raise ValueError(f"{items} sequence items; expected at most {_MAX_ITEMS}")
    if _DEFLATED in content:
        raise ValueError("deflated DICOM; expected an uncompressed transfer syntax")
    pydicom = importlib.import_module("pydicom")
    for group in pydicom.dcmread(_BoundedFile(content)).get("WaveformSequence") or ():
        _check_leads(int(group.NumberOfWaveformChannels))


class _BoundedFile(io.BytesIO):
    """A file that refuses to be asked for more than it has, for which memory would be taken first."""

    def read(self, size: int | None = -1) -> bytes:
        left = len(self.getbuffer()) - self.tell()
        if size is not None and size > left + io.DEFAULT_BUFFER_SIZE:
            raise ValueError(f"truncated: an element claims {size} bytes, {left} are left")
        return super().read(size)


def check_edf(path: Path) -> None:
    """The file is as long as its header says, and what would become annotations one by one is short."""
    with path.open("rb") as file:
        head = file.read(256)
        signals = int(head[252:256])
        _check_leads(signals)
        fields = file.read(256 * signals)
    if len(fields) < 256 * signals:
        raise ValueError(f"truncated: {signals} signals, and the header ends after {256 + len(fields)} bytes")
    samples = [int(fields[216 * signals + 8 * signal :][:8]) for signal in range(signals)]
    if min(samples) < 1:
        raise ValueError(f"a signal of {min(samples)} samples per data record; expected at least 1")
    records = int(head[236:244])
    if records < 1:  # -1: the recorder has not closed the file
        raise ValueError(f"{records} data records; expected at least 1")
    stated = len(head) + len(fields) + 2 * records * sum(samples)
    size = path.stat().st_size
    if size != stated:
        cause = "truncated" if size < stated else "longer than its header says"
        raise ValueError(f"{cause}: {size} bytes, and {records} data records make {stated}")
    annotations = (
        2
        * records
        * sum(samples[signal] for signal in range(signals) if fields[16 * signal :][:16].strip() == b"EDF Annotations")
    )
    if annotations > _MAX_ANNOTATION_BYTES:
        raise ValueError(f"{annotations} bytes of annotations; expected at most {_MAX_ANNOTATION_BYTES}")


def check_ishne(path: Path) -> None:
    """The file holds the samples that its header states: per lead, or all leads together, as writers differ."""
    with path.open("rb") as file:
        head = file.read(522)
    (notes, stated) = struct.unpack_from("<ii", head, 10)
    (leads,) = struct.unpack_from("<h", head, 156)
    _check_leads(leads)
    held, rest = divmod(path.stat().st_size - len(head) - notes, 2 * leads)
    if notes < 0 or held < 0 or rest or stated not in (held, held * leads):
        raise ValueError(f"truncated or damaged: it holds {held} samples for each of {leads} leads, not {stated}")


def check_mfer(path: Path) -> None:
    """Definitions that end within the file, a few deep, of at most so many channels, frames and definitions."""
    channels, frames, byteorder = 1, 0, "big"
    for count, (tag, value) in enumerate(_mfer_definitions(path.read_bytes())):
        if count == _MAX_DEFINITIONS:
            raise ValueError(f"more than {_MAX_DEFINITIONS} definitions")
        if tag == 0x01:
            byteorder = "little" if value == b"\x01" else "big"
        elif tag == 0x05:
            channels = int.from_bytes(value, byteorder) if value else 1
            _check_leads(channels)
        elif tag == 0x1E:
            frames += channels
            if frames > _MAX_DEFINITIONS:
                raise ValueError(f"more than {_MAX_DEFINITIONS} blocks of samples")


def _mfer_definitions(content: bytes, depth: int = 0) -> Iterator[tuple[int, bytes]]:
    """Tags and values in order, those of groups (0x3F, one channel; 0x67) in place of the group."""
    position = 0
    while position < len(content):
        tag = content[position]
        position += 1
        if tag == 0x00:
            continue
        if tag == 0x80:
            return
        if tag == 0x3F:  # its channel number, seven bits a byte
            while content[position] & 0x80:
                position += 1
            position += 1
        length = content[position]
        position += 1
        if length >= 0x80:
            width = length & 0x7F
            if not 1 <= width <= 4:
                raise ValueError(f"a length of {width} bytes at byte {position}; expected a definite length of up to 4")
            length = int.from_bytes(content[position : position + width], "big")
            position += width
        value = content[position : position + length]
        if len(value) < length:
            raise ValueError(f"truncated: definition 0x{tag:02x} claims {length} bytes, {len(value)} are left")
        if tag in (0x3F, 0x67):
            if depth == 3:
                raise ValueError("groups of definitions more than 3 deep")
            yield from _mfer_definitions(value, depth + 1)
        else:
            yield tag, value
        position += length


def check_philips(path: Path) -> None:
    """Plausible channel counts, statements of a page, and samples that unpack to no more than a recording holds."""
    words = 0
    for element in scan_xml(path.read_bytes(), _PHILIPS_COUNTS + _PHILIPS_WORDS + ("parsedwaveforms",))[1]:
        name, text = element.name.lower(), "".join(element.text)
        if name in _PHILIPS_WORDS:
            # The library searches these in quadratic time, and puts one of them into another wherever it is named.
            words += len(text)
            if words > _MAX_WORDS:
                raise ValueError(f"statements of more than {_MAX_WORDS} characters")
        elif name == "parsedwaveforms":
            _check_leads(len(element.attributes.get("leadlabels", "").split()) or 1)
            if any("XLI" in value.upper() for value in element.attributes.values()):
                _check_xli(base64.b64decode(text))
        elif text.strip():
            _check_leads(math.ceil(float(text)))


def _check_xli(content: bytes) -> None:
    """Add up what the chunks unpack to: a string of LZW can stand for hundreds of bytes in ten bits."""
    position = unpacked = 0
    while position < len(content):
        size = int.from_bytes(content[position : position + 4], "little")
        unpacked += _lzw_length(content[position + 8 : position + 8 + size])
        if unpacked > _MAX_UNPACKED_BYTES:
            raise ValueError(f"compressed samples of more than {_MAX_UNPACKED_BYTES} bytes")
        position += 8 + size


def _lzw_length(chunk: bytes) -> int:
    """How many bytes LZW codes of ten bits stand for; stops once it is too many."""
    lengths = [1] * 256 + [0] * 768
    free, total, previous = 256, 0, 0
    for position in range(0, len(chunk), 5):
        four = int.from_bytes(chunk[position : position + 5].ljust(5, b"\0"), "big")
        for shift in (30, 20, 10, 0):
            code = four >> shift & 1023
            length = lengths[code] = lengths[code] or previous + 1
            if previous and free < 1023:
                lengths[free] = previous + 1
                free += 1
            total, previous = total + length, length
        if total > _MAX_UNPACKED_BYTES:
            break
    return total


def _check_leads(count: int) -> None:
    if not 1 <= count <= _MAX_LEADS:
        raise ValueError(f"{count} leads; expected 1 to {_MAX_LEADS}")
