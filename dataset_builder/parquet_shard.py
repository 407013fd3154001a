"""One shard of the dataset: a Parquet file whose signals come as encoded pages, all other columns as rows.

pyarrow writes the other columns, with the signal left null. Its file is then put together anew with the pages of
`SignalPages` in the place of the null column: in Parquet a column's pages lie anywhere in the file, and the footer
says where.
"""

import hashlib
import os
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builder import thrift_compact as thrift
from dataset_builder.columns import arrow_schema
from dataset_builder.signal_page import ENCODING_DELTA_BINARY_PACKED, ENCODING_RLE, SignalPages

# 12 MB of signal when it is read: what a reader holds at a time.
ROWS_PER_GROUP = 100
SIGNAL = "ecg"
_MAGIC = b"PAR1"
_UNCOMPRESSED = 0
# Field numbers of parquet.thrift.
_ROW_GROUPS, _COLUMNS, _META_DATA = 4, 1, 3
_GROUP_BYTES, _GROUP_OFFSET, _GROUP_COMPRESSED = 2, 5, 6
_TYPE, _ENCODINGS, _PATH, _CODEC, _VALUES, _BYTES, _COMPRESSED, _DATA_OFFSET, _DICTIONARY_OFFSET = (
    1, 2, 3, 4, 5, 6, 7, 9, 11,
)  # fmt: skip


@dataclass(frozen=True)
class ShardFile:
    """What was written: file size, its SHA-256, and the bytes that its rows take in memory."""

    bytes: int
    sha256: str
    memory_bytes: int


def write_shard(path: str | os.PathLike, rows: list[dict], pages: SignalPages) -> ShardFile:
    """Write rows and their signal pages as one Parquet file; the same rows give the same bytes.

    Args:
        path: the file to write.
        rows: all columns but `ecg`.
        pages: the signal of each row, in groups of `ROWS_PER_GROUP`.
    """
    table = pa.Table.from_pylist([{SIGNAL: None} | row for row in rows], schema=arrow_schema(pages.shape[1]))
    others = _written_by_pyarrow(table)
    footer = _footer(others)
    groups = _field(footer, _ROW_GROUPS)[1]
    signals, samples = pages.groups, pages.shape[0] * pages.shape[1]
    del groups[len(signals) :]  # where there are no rows pyarrow writes an empty group
    digest, position = hashlib.sha256(), 0
    with open(path, "wb") as file:

        def write(data: bytes | bytearray | memoryview) -> None:
            nonlocal position
            digest.update(data)
            file.write(data)
            position += len(data)

        write(_MAGIC)
        for number, (group, signal) in enumerate(zip(groups, signals, strict=True)):
            group_offset = position
            for column in _field(group, _COLUMNS)[1]:
                meta = _field(column, _META_DATA)
                if _field(meta, _PATH)[1][0] == SIGNAL.encode():
                    values = min(ROWS_PER_GROUP, len(rows) - number * ROWS_PER_GROUP) * samples
                    column[_META_DATA] = (thrift.STRUCT, _signal_column(meta, values, len(signal), position))
                    write(signal)
                else:
                    write(_moved(meta, others, position))
            _set(group, _GROUP_OFFSET, group_offset)
            _set(group, _GROUP_COMPRESSED, position - group_offset)
            metas = [_field(column, _META_DATA) for column in _field(group, _COLUMNS)[1]]
            _set(group, _GROUP_BYTES, sum(_field(meta, _BYTES) for meta in metas))
        content = thrift.write_struct(footer)
        write(content + len(content).to_bytes(4, "little") + _MAGIC)
    memory_bytes = table.nbytes + len(rows) * samples * 2
    return ShardFile(bytes=position, sha256=digest.hexdigest(), memory_bytes=memory_bytes)


def _written_by_pyarrow(table: pa.Table) -> memoryview:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=ROWS_PER_GROUP, compression="zstd", write_statistics=False)
    return memoryview(sink.getvalue())


def _footer(file: memoryview) -> dict:
    length = int.from_bytes(file[-8:-4], "little")
    return thrift.read_struct(bytes(file[-8 - length : -8]))[0]


def _field(struct: dict, number: int) -> object:
    return struct[number][1]


def _set(struct: dict, number: int, value: object) -> None:
    struct[number] = (struct[number][0], value)


def _signal_column(meta: dict, values: int, length: int, position: int) -> dict:
    """Metadata of the signal's column chunk; pyarrow's statistics, which are those of nulls, are left out."""
    encodings = (thrift.I32, [ENCODING_RLE, ENCODING_DELTA_BINARY_PACKED])
    return {
        _TYPE: meta[_TYPE],
        _ENCODINGS: (thrift.LIST, encodings),
        _PATH: meta[_PATH],
        _CODEC: (thrift.I32, _UNCOMPRESSED),
        _VALUES: (thrift.I64, values),
        _BYTES: (thrift.I64, length),
        _COMPRESSED: (thrift.I64, length),
        _DATA_OFFSET: (thrift.I64, position),
    }


def _moved(meta: dict, file: memoryview, position: int) -> memoryview:
    """The bytes of a column chunk of `file`, whose metadata are changed to its new position."""
    offsets = [number for number in (_DATA_OFFSET, _DICTIONARY_OFFSET) if number in meta]
    start = min(_field(meta, number) for number in offsets)
    for number in offsets:
        _set(meta, number, _field(meta, number) - start + position)
    return file[start : start + _field(meta, _COMPRESSED)]
