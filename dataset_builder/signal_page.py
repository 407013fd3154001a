"""The samples of one recording as one Parquet data page: nested-list levels and DELTA_BINARY_PACKED values.

Neighbouring samples of an ECG differ little, so Parquet's delta encoding stores 12 x 5000 int16 in about a third of
their bytes, without loss. The usual writers walk through each of the 60,000 values several times, the two levels of
each value included, although the levels of every recording are the same: that alone would take longer than all else in
a build. Here the levels are written once, and a compiled loop packs the differences.

Source: Apache Parquet format, Encodings.md (delta encoding, RLE / bit-packing hybrid) and parquet.thrift.
"""

from functools import lru_cache

import numpy as np

from dataset_builder import thrift_compact as thrift
from dataset_builder.compiled import compiled

# Values per block and per miniblock; the format asks for multiples of 128 and 32. Smaller ones take hardly less space.
_BLOCK, _MINIBLOCK = 128, 64
_MINIBLOCKS = _BLOCK // _MINIBLOCK
_MAX_WIDTH = 17  # bits of the difference of two int16, less another such difference
# A packed block, its smallest difference and its widths.
_BLOCK_BYTES = _MAX_WIDTH * _BLOCK // 8 + 5 + _MINIBLOCKS
_HEADER_BYTES = 16
# A page's header where its two sizes take three bytes each, as those of 10 s of twelve leads do.
_PAGE_HEADER_BYTES = 21
# optional list of optional lists of optional int16: a value that is there has definition level 5.
DEFINITION_LEVEL, _DEFINITION_BITS, _REPETITION_BITS = 5, 3, 2
# Enumerations of parquet.thrift.
ENCODING_RLE, ENCODING_DELTA_BINARY_PACKED = 3, 5
_DATA_PAGE = 0


class SignalPages:
    """Recordings as Parquet data pages, one per row, joined to the column chunks of row groups.

    Made once and cleared for each shard: memory that the system has to hand out anew takes longer than packing into it.

    Attributes:
        shape: (leads, samples) of every recording.
        rows_per_group: recordings in a group; the last may hold fewer.
    """

    def __init__(self, shape: tuple[int, int], rows_per_group: int) -> None:
        self.shape = shape
        self.rows_per_group = rows_per_group
        self._levels = _levels(*shape)
        size = shape[0] * shape[1]
        self._largest_page = _PAGE_HEADER_BYTES + len(self._levels) + _HEADER_BYTES + -(-size // _BLOCK) * _BLOCK_BYTES
        self._bytes = np.empty(self._largest_page * rows_per_group, np.uint8)
        self.clear()

    def clear(self) -> None:
        """Begin anew; views of groups that were handed out are of no use afterwards."""
        self._ends: list[int] = []  # of each row

    @property
    def groups(self) -> list[memoryview]:
        """The bytes of each group: uncompressed data pages (version 1) with their headers."""
        view, groups = memoryview(self._bytes), []
        for first in range(0, len(self._ends), self.rows_per_group):
            last = min(first + self.rows_per_group, len(self._ends))
            groups.append(view[self._ends[first - 1] if first else 0 : self._ends[last - 1]])
        return groups

    def add(self, adc: np.ndarray) -> None:
        """Add a row.

        Args:
            adc: int16 of `shape`, C-contiguous.

        Raises:
            ValueError: the array is another.
        """
        if adc.shape != self.shape or adc.dtype != np.int16 or not adc.flags.c_contiguous:
            raise ValueError(f"{adc.dtype} {adc.shape}; expected C-contiguous int16 {self.shape}")
        start = self._ends[-1] if self._ends else 0
        if start + self._largest_page > self._bytes.size:
            grown = np.empty(2 * self._bytes.size, np.uint8)
            grown[:start] = self._bytes[:start]
            self._bytes = grown
        # The header says how long the page is and has its own length from that, so it comes last.
        values = start + _PAGE_HEADER_BYTES + len(self._levels)
        length = _pack_deltas(adc.reshape(-1), self._bytes[values:])
        head = _page_header(adc.size, len(self._levels) + length) + self._levels
        end = start + len(head) + length
        if start + len(head) != values:
            self._bytes[start + len(head) : end] = self._bytes[values : values + length].copy()
        self._bytes[start : start + len(head)] = np.frombuffer(head, np.uint8)
        self._ends.append(end)


def compile_encoder() -> None:
    """Compile or load the loop now, so that processes forked later share it."""
    SignalPages((1, 2), 1).add(np.zeros((1, 2), np.int16))


def _page_header(values: int, length: int) -> bytes:
    before, tail = _page_header_parts(values)
    size = thrift.varint(length << 1)  # as zigzag has it
    return before + size + bytes([1 << 4 | thrift.I32]) + size + tail


@lru_cache
def _page_header_parts(values: int) -> tuple[bytes, bytes]:
    """The header of a page but for its two sizes, uncompressed (field 2) and compressed (field 3)."""
    data_page = {1: values, 2: ENCODING_DELTA_BINARY_PACKED, 3: ENCODING_RLE, 4: ENCODING_RLE}
    fields = {name: (thrift.I32, value) for name, value in data_page.items()}
    header = {1: (thrift.I32, _DATA_PAGE), 2: (thrift.I32, 0), 3: (thrift.I32, 0), 5: (thrift.STRUCT, fields)}
    before = thrift.write_struct({1: header[1], 2: header[2]})[:-2]
    return before, thrift.write_struct(header)[len(before) + 3 :]


@lru_cache
def _levels(leads: int, samples: int) -> bytes:
    """Repetition and definition levels of one row, each as RLE runs after its length."""
    # A value begins a row (0), begins a lead (1) or goes on (2).
    runs = b"".join(
        _run(1, 0 if lead == 0 else 1, _REPETITION_BITS) + _run(samples - 1, 2, _REPETITION_BITS)
        for lead in range(leads)
    )
    definition = _run(leads * samples, DEFINITION_LEVEL, _DEFINITION_BITS)
    return b"".join(len(part).to_bytes(4, "little") + part for part in (runs, definition))


def _run(count: int, level: int, bits: int) -> bytes:
    return thrift.varint(count << 1) + level.to_bytes(-(-bits // 8), "little") if count else b""


@compiled
def _put_varint(out: np.ndarray, position: int, value: int) -> int:
    while value > 127:
        out[position] = (value & 127) | 128
        value >>= 7
        position += 1
    out[position] = value
    return position + 1


@compiled
def _put_zigzag(out: np.ndarray, position: int, value: int) -> int:
    return _put_varint(out, position, value << 1 if value >= 0 else (-value << 1) - 1)


@compiled
def _pack_deltas(values: np.ndarray, out: np.ndarray) -> int:
    """DELTA_BINARY_PACKED of int16 values into `out`; returns how many bytes were written."""
    position = _put_varint(out, 0, _BLOCK)
    position = _put_varint(out, position, _MINIBLOCKS)
    position = _put_varint(out, position, values.size)
    position = _put_zigzag(out, position, np.int64(values[0]))
    deltas = np.empty(_BLOCK, np.int32)
    words = np.empty(_MINIBLOCK * _MAX_WIDTH // 64 + 1, np.uint64)
    packed = words.view(np.uint8)
    for start in range(1, values.size, _BLOCK):
        count = min(_BLOCK, values.size - start)
        current, previous = values[start : start + count], values[start - 1 : start - 1 + count]
        smallest = np.int32(current[0]) - np.int32(previous[0])
        for index in range(count):
            delta = np.int32(current[index]) - np.int32(previous[index])
            deltas[index] = delta
            smallest = min(smallest, delta)
        # What fills the last block takes no bits where a miniblock holds nothing else.
        for index in range(count, _BLOCK):
            deltas[index] = smallest
        position = _put_zigzag(out, position, np.int64(smallest))
        widths = position
        position += _MINIBLOCKS
        for miniblock in range(_MINIBLOCKS):
            width = _pack_miniblock(deltas[miniblock * _MINIBLOCK : (miniblock + 1) * _MINIBLOCK], smallest, words)
            out[widths + miniblock] = width
            length = _MINIBLOCK * width // 8
            target, source = out[position : position + length], packed[:length]
            for index in range(length):
                target[index] = source[index]
            position += length
    return position


@compiled
def _pack_miniblock(deltas: np.ndarray, smallest: int, words: np.ndarray) -> int:
    """Pack differences, less the smallest of their block, into 64-bit words; returns the bits that each takes."""
    union = np.int32(0)
    for index in range(_MINIBLOCK):
        deltas[index] -= smallest
        union |= deltas[index]
    width = 0
    while union >> width:
        width += 1
    # Two values at a time: each step of the loop waits for the one before it.
    step, held, bits, word = np.uint64(width), np.uint64(0), np.uint64(0), 0
    for index in range(0, _MINIBLOCK, 2):
        pair = np.uint64(deltas[index]) | np.uint64(deltas[index + 1]) << step
        held |= pair << bits
        bits += step + step
        if bits >= np.uint64(64):
            words[word] = held
            word += 1
            bits -= np.uint64(64)
            held = pair >> (step + step - bits) if bits else np.uint64(0)
    words[word] = held
    return width
