import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_builder.thrift_compact import (
    BINARY,
    BYTE,
    DOUBLE,
    FALSE,
    I16,
    I32,
    I64,
    LIST,
    MAP,
    SET,
    STRUCT,
    TRUE,
    read_struct,
    varint,
    write_struct,
)
from tests.dataset_builder.plain_parquet import read_compact_struct

# From thrift-compact-protocol.md: a field's byte holds the step from the last field's id and the type; a zigzag number
# is doubled, and a negative one is 2 * -n - 1.
BY_HAND = [
    ({}, b"\x00"),
    ({1: (TRUE, True), 2: (FALSE, False)}, b"\x11\x12\x00"),
    ({1: (BYTE, -2)}, b"\x13\xfe\x00"),
    ({1: (I16, 1), 2: (I32, -1), 3: (I64, 150)}, b"\x14\x02\x15\x01\x16\xac\x02\x00"),
    ({15: (I32, 0), 16: (I32, -64), 17: (I32, 64)}, b"\xf5\x00\x15\x7f\x15\x80\x01\x00"),
    # A step of more than 15: the id itself follows as a zigzag number.
    ({1: (I32, 7), 17: (I32, 7)}, b"\x15\x0e\x05\x22\x0e\x00"),
    ({300: (I32, 7)}, b"\x05\xd8\x04\x0e\x00"),
    ({1: (DOUBLE, struct.pack("<d", 1.5))}, b"\x17\x00\x00\x00\x00\x00\x00\xf8\x3f\x00"),
    ({2: (BINARY, b"PAR1")}, b"\x28\x04PAR1\x00"),
    # A list: its length and the type of its elements in one byte, but for 15 elements and more.
    ({1: (LIST, (I32, []))}, b"\x19\x05\x00"),
    ({1: (LIST, (I32, [1, -1]))}, b"\x19\x25\x02\x01\x00"),
    ({1: (SET, (BINARY, [b"a"]))}, b"\x1a\x18\x01a\x00"),
    ({1: (LIST, (BYTE, [1] * 15))}, b"\x19\xf3\x0f" + b"\x01" * 15 + b"\x00"),
    ({1: (LIST, (TRUE, [True, False]))}, b"\x19\x21\x01\x02\x00"),
    ({3: (STRUCT, {1: (I32, 1)}), 4: (I32, 1)}, b"\x3c\x15\x02\x00\x15\x02\x00"),
    ({1: (LIST, (STRUCT, [{}, {1: (TRUE, True)}]))}, b"\x19\x2c\x00\x11\x00\x00"),
    ({1: (I64, 2**63 - 1), 2: (I64, -(2**63))}, b"\x16\xfe" + b"\xff" * 8 + b"\x01\x16" + b"\xff" * 9 + b"\x01\x00"),
]


@pytest.mark.parametrize(("fields", "content"), BY_HAND)
def test_bytes_by_hand(fields, content):
    assert write_struct(fields) == content
    assert read_struct(content) == (fields, len(content))
    assert read_struct(b"\xff" + content + b"\x99", 1) == (fields, len(content) + 1)


def test_fields_are_written_by_ascending_id():
    assert write_struct({5: (I32, 1), 2: (I32, 1)}) == b"\x25\x02\x35\x02\x00"


@pytest.mark.parametrize(
    ("number", "content"),
    [(0, b"\x00"), (1, b"\x01"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (16384, b"\x80\x80\x01")],
)
def test_varints(number, content):
    assert varint(number) == content


def footer(**options) -> bytes:
    """The footer that pyarrow writes for columns of many kinds."""
    table = pa.table(
        {
            "text": pa.array(["ä", None, "x" * 300, ""]),
            "number": pa.array([1.5, None, float("nan"), -1.0], pa.float32()),
            "whole": pa.array([1, -(2**62), None, 4], pa.int64()),
            "flag": pa.array([True, None, False, True]),
            "time": pa.array([0, 1, None, 2**40], pa.timestamp("ms")),
            "lists": pa.array([[[1], []], None, [None], [[1, 2, 3]]], pa.list_(pa.list_(pa.int16()))),
            "parts": pa.array([{"a": 1, "b": "x"}] * 4),
            **{f"column {number}": [number] * 4 for number in range(20)},
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=3, **options)
    content = sink.getvalue().to_pybytes()
    return content[-8 - int.from_bytes(content[-8:-4], "little") : -8]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zstd", "write_statistics": False},
        {"use_dictionary": False, "write_page_index": True, "sorting_columns": [pq.SortingColumn(2)]},
        {"version": "1.0", "write_page_checksum": True, "column_encoding": {"whole": "PLAIN"}, "use_dictionary": []},
    ],
)
def test_footers_of_pyarrow_come_back_byte_by_byte(options):
    content = footer(**options)
    fields, end = read_struct(content)
    assert end == len(content)
    assert write_struct(fields) == content
    assert plain(fields) == read_compact_struct(content)[0]


def plain(fields: dict) -> dict:
    """The values alone, as the other decoder gives them."""
    return {field: plain_value(kind, value) for field, (kind, value) in fields.items()}


def plain_value(kind: int, value: object) -> object:
    if kind == STRUCT:
        return plain(value)
    if kind in (LIST, SET):
        return [plain_value(value[0], item) for item in value[1]]
    return struct.unpack("<d", value)[0] if kind == DOUBLE else value


def test_maps_are_refused():
    with pytest.raises(ValueError, match="Thrift type 11"):
        write_struct({1: (MAP, {})})
    with pytest.raises(ValueError, match="Thrift type 11"):
        read_struct(b"\x1b\x00\x00")
