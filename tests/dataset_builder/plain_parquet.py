"""A decoder of the parts of Parquet that the project writes itself, slow and plain, to compare with.

Written from Parquet's Encodings.md and parquet.thrift and from thrift-compact-protocol.md, and from none of the code.
"""

import struct
from collections.abc import Iterator


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """ULEB128: seven bits to a byte, the lowest first; the high bit says that another byte follows."""
    number, shift = 0, 0
    while True:
        number += (data[position] % 128) << shift
        position, shift = position + 1, shift + 7
        if data[position - 1] < 128:
            return number, position


def read_zigzag(data: bytes, position: int) -> tuple[int, int]:
    """0, -1, 1, -2, 2, ... are stored as 0, 1, 2, 3, 4, ..."""
    number, position = read_varint(data, position)
    return (-(number + 1) // 2 if number % 2 else number // 2), position


def read_compact_struct(data: bytes, position: int = 0) -> tuple[dict[int, object], int]:
    """A struct of Thrift's compact protocol as {field id: value}, and the position behind it."""
    fields: dict[int, object] = {}
    field = 0
    while True:
        delta, kind = divmod(data[position], 16)
        position += 1
        if kind == 0:
            return fields, position
        if delta == 0:
            field, position = read_zigzag(data, position)
        field += delta
        fields[field], position = (kind == 1, position) if kind in (1, 2) else _compact_value(kind, data, position)


def _compact_value(kind: int, data: bytes, position: int) -> tuple[object, int]:
    if kind == 3:
        return struct.unpack_from("b", data, position)[0], position + 1
    if kind in (4, 5, 6):
        return read_zigzag(data, position)
    if kind == 7:
        return struct.unpack_from("<d", data, position)[0], position + 8
    if kind == 8:
        length, position = read_varint(data, position)
        return data[position : position + length], position + length
    if kind == 9:
        length, element = divmod(data[position], 16)
        position += 1
        if length == 15:
            length, position = read_varint(data, position)
        values = []
        for _ in range(length):
            if element in (1, 2):
                value, position = data[position] == 1, position + 1
            else:
                value, position = _compact_value(element, data, position)
            values.append(value)
        return values, position
    assert kind == 12, f"type {kind}"
    return read_compact_struct(data, position)


def read_hybrid(data: bytes, bits: int, count: int) -> list[int]:
    """The RLE / bit-packing hybrid: `count` numbers of so many bits; nothing may be left over."""
    numbers: list[int] = []
    position, width = 0, (bits + 7) // 8
    while position < len(data):
        header, position = read_varint(data, position)
        if header % 2:
            groups = header // 2
            packed = int.from_bytes(data[position : position + groups * bits], "little")
            numbers += [packed >> index * bits & ((1 << bits) - 1) for index in range(8 * groups)]
            position += groups * bits
        else:
            assert header, "a run of no values"
            numbers += [int.from_bytes(data[position : position + width], "little")] * (header // 2)
            position += width
    assert len(numbers) == count
    return numbers


def read_deltas(data: bytes) -> list[int]:
    """DELTA_BINARY_PACKED to its end; nothing may be left over."""
    block, position = read_varint(data, 0)
    miniblocks, position = read_varint(data, position)
    count, position = read_varint(data, position)
    value, position = read_zigzag(data, position)
    assert block % 128 == 0
    assert block % miniblocks == 0
    in_miniblock = block // miniblocks
    assert in_miniblock % 32 == 0
    values = [value]
    while len(values) < count:
        smallest, position = read_zigzag(data, position)
        widths, position = data[position : position + miniblocks], position + miniblocks
        for width in widths:
            if len(values) >= count:
                assert width == 0, "a miniblock that holds nothing takes bits"
                continue
            length = in_miniblock * width // 8
            packed = int.from_bytes(data[position : position + length], "little")
            position += length
            for index in range(min(in_miniblock, count - len(values))):
                values.append(values[-1] + smallest + (packed >> index * width & ((1 << width) - 1)))
    assert position == len(data), "bytes behind the last value"
    return values


def read_pages(chunk: bytes) -> Iterator[tuple[dict[int, object], list[int], list[int], list[int]]]:
    """The pages of an uncompressed column chunk of optional lists of optional lists of optional integers.

    Yields the page's header, its repetition levels (0, 1 or 2), its definition levels (0 to 5) and its values.
    """
    position = 0
    while position < len(chunk):
        header, position = read_compact_struct(chunk, position)
        page, position = chunk[position : position + header[3]], position + header[3]
        assert len(page) == header[2] == header[3]
        count, levels = header[5][1], []
        for bits in (2, 3):
            length = int.from_bytes(page[:4], "little")
            levels.append(read_hybrid(page[4 : 4 + length], bits, count))
            page = page[4 + length :]
        yield header, *levels, read_deltas(page)
