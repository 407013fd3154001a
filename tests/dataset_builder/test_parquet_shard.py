"""Shards as pyarrow and `datasets`, which had no part in putting them together, read them."""

import hashlib
import io
import json
import math
from datetime import datetime
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_builder.columns import MACHINE_MEASUREMENTS, arrow_schema, features
from dataset_builder.parquet_shard import ROWS_PER_GROUP, ShardFile, write_shard
from dataset_builder.signal_page import SignalPages
from tests.dataset_builder.plain_parquet import read_compact_struct, read_pages


def make_row(number: int, **values: object) -> dict:
    """All columns but the signal; what may be missing is missing in every second row."""
    is_there = number % 2 == 0
    row = {
        "id": str(number),
        "corpus": "made-up",
        "patient_id": f"p{number // 2}",
        "study_time": datetime(2100 + number % 100, 1, 2, 3, 4, 5, 678000) if is_there else None,
        "age": number / 4 if is_there else None,
        "sex": "female" if is_there else None,
        "ecg_gain": [200.0 + number + lead / 3 for lead in range(12)],
        "ecg_baseline": [number - lead for lead in range(12)],
        "sampling_rate": 500.0,
        "report": f"{number}: Schöner Sinusrhythmus, „µV“ 心電図 🫀\n" * (number % 3),
        "report_language": "en",
        "report_source": "corpus",
        "scp_codes": [{"code": f"C{index}", "likelihood": index / 2} for index in range(number % 3)],
        "validated_by_human": (True, False, None)[number % 3],
        "machine_measurements": dict.fromkeys(MACHINE_MEASUREMENTS, float(number)) if is_there else None,
        "signal_quality": ["noise", ""][: number % 3],
        "split": "train",
    }
    return row | values


def make_signals(rows: int, samples: int = 20) -> np.ndarray:
    return np.random.default_rng(rows).integers(-32768, 32768, (rows, 12, samples)).astype(np.int16)


def write(path: Path, rows: list[dict], signals: np.ndarray) -> ShardFile:
    pages = SignalPages(signals.shape[1:], ROWS_PER_GROUP)
    for signal in signals:
        pages.add(signal)
    return write_shard(path, rows, pages)


def expected(rows: list[dict], signals: np.ndarray) -> list[dict]:
    """What comes back: a structure that is missing is one of missing values or missing, as Arrow has it."""
    return [row | {"ecg": signal.tolist()} for row, signal in zip(rows, signals, strict=True)]


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 250])
def test_pyarrow_reads_every_column_of_every_row(tmp_path, count):
    rows, signals = [make_row(number) for number in range(count)], make_signals(count)
    write(tmp_path / "shard.parquet", rows, signals)
    table = pq.read_table(tmp_path / "shard.parquet")
    table.validate(full=True)
    assert table.to_pylist() == expected(rows, signals)
    assert table.schema.names == list(features(20))

    file = pq.ParquetFile(tmp_path / "shard.parquet")
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert groups == [min(100, count - start) for start in range(0, count, 100)]
    last = file.read_row_group(file.num_row_groups - 1).to_pylist()
    assert last == expected(rows, signals)[count - groups[-1] :]


def test_one_column_is_read_without_the_others(tmp_path):
    rows, signals = [make_row(number) for number in range(150)], make_signals(150)
    write(tmp_path / "shard.parquet", rows, signals)
    for name in ("ecg", "id", "signal_quality", "machine_measurements"):
        read = pq.read_table(tmp_path / "shard.parquet", columns=[name]).column(name).to_pylist()
        assert read == [row[name] for row in expected(rows, signals)]
    batches = pq.ParquetFile(tmp_path / "shard.parquet").iter_batches(batch_size=7, columns=["ecg"])
    assert [row for batch in batches for row in batch.column("ecg").to_pylist()] == signals.tolist()


@pytest.mark.parametrize("samples", [1, 2, 1000, 5000])
def test_signals_of_any_length(tmp_path, samples):
    signals = make_signals(3, samples)
    signals[1] = 7
    write(tmp_path / "shard.parquet", [make_row(number) for number in range(3)], signals)
    read = pq.read_table(tmp_path / "shard.parquet").column("ecg")
    np.testing.assert_array_equal(np.array(read.to_pylist()), signals)


def test_a_shard_without_rows(tmp_path):
    written = write(tmp_path / "shard.parquet", [], make_signals(0))
    table = pq.read_table(tmp_path / "shard.parquet")
    assert (table.num_rows, table.schema.names) == (0, list(features(20)))
    assert written.bytes == (tmp_path / "shard.parquet").stat().st_size


def test_columns_that_hold_nothing_at_all(tmp_path):
    nothing = dict.fromkeys(features(20).keys() - {"ecg", "id"})
    rows, signals = [make_row(number) | nothing for number in range(130)], make_signals(130)
    write(tmp_path / "shard.parquet", rows, signals)
    assert [row["id"] for row in rows] == pq.read_table(tmp_path / "shard.parquet").column("id").to_pylist()
    read = pq.read_table(tmp_path / "shard.parquet").to_pylist()
    assert {name for row in read for name in nothing if row[name] is not None} == set()


def test_column_chunks_are_where_and_what_the_footer_says(tmp_path):
    """Without a gap between them, from the magic number to the footer; each begins with the page header it should."""
    rows, signals = [make_row(number) for number in range(230)], make_signals(230)
    write(tmp_path / "shard.parquet", rows, signals)
    content = (tmp_path / "shard.parquet").read_bytes()
    metadata = pq.read_metadata(tmp_path / "shard.parquet")
    assert content[:4] == content[-4:] == b"PAR1"
    position = 4
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        group_start, uncompressed = position, 0
        for index in range(group.num_columns):
            chunk = group.column(index)
            start = chunk.data_page_offset
            if chunk.has_dictionary_page:
                start = min(start, chunk.dictionary_page_offset)
            assert start == position
            position += chunk.total_compressed_size
            uncompressed += chunk.total_uncompressed_size
            header, _ = read_compact_struct(content, chunk.data_page_offset)
            assert header[1] == 0, "a data page"
            assert not chunk.is_stats_set
            if chunk.path_in_schema.startswith("ecg."):
                assert (chunk.compression, chunk.num_values) == ("UNCOMPRESSED", group.num_rows * 12 * 20)
                assert set(chunk.encodings) == {"RLE", "DELTA_BINARY_PACKED"}
                assert chunk.total_compressed_size == chunk.total_uncompressed_size
                pages = list(read_pages(content[start:position]))
                assert len(pages) == group.num_rows
                values = np.array([values for *_, values in pages]).reshape(-1, 12, 20)
                np.testing.assert_array_equal(values, signals[number * 100 : number * 100 + group.num_rows])
        assert group.total_byte_size == uncompressed
        # file_offset and total_compressed_size, which pyarrow does not show: fields 5 and 6 of RowGroup.
        length = int.from_bytes(content[-8:-4], "little")
        stored = read_compact_struct(content[-8 - length : -8])[0][4][number]
        assert (stored[5], stored[6]) == (group_start, position - group_start)
    assert position == len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert metadata.num_rows == 230


def test_the_same_rows_give_the_same_bytes_and_what_is_returned_describes_them(tmp_path):
    rows, signals = [make_row(number) for number in range(120)], make_signals(120)
    one = write(tmp_path / "one.parquet", rows, signals)
    two = write(tmp_path / "two.parquet", rows, signals)
    content = (tmp_path / "one.parquet").read_bytes()
    assert content == (tmp_path / "two.parquet").read_bytes()
    assert one == two
    assert (one.bytes, one.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    others = pq.read_table(tmp_path / "one.parquet").drop(["ecg"]).nbytes
    assert math.isclose(one.memory_bytes, others + signals.nbytes, rel_tol=0.05)
    changed = signals.copy()
    changed[119, 11, 19] ^= 1
    assert write(tmp_path / "three.parquet", rows, changed).sha256 != one.sha256


@pytest.mark.parametrize("samples", [20, 1000, 5000])
def test_datasets_reads_the_columns_that_columns_py_describes(tmp_path, samples):
    rows, signals = [make_row(number) for number in range(3)], make_signals(3, samples)
    write(tmp_path / "shard.parquet", rows, signals)
    described = datasets.Features.from_dict(features(samples))
    # With `datasets` imported, its extension types are registered, and pyarrow gives the columns these.
    assert pq.read_schema(tmp_path / "shard.parquet").remove_metadata() == described.arrow_schema.remove_metadata()
    assert datasets.Features.from_arrow_schema(pq.read_schema(tmp_path / "shard.parquet")) == described
    loaded = datasets.Dataset.from_parquet(str(tmp_path / "shard.parquet"), cache_dir=str(tmp_path / "cache"))
    assert loaded.features == described
    assert loaded.to_list() == expected(rows, signals)


def test_the_schema_is_as_datasets_itself_would_write_it(tmp_path):
    described = datasets.Features.from_dict(features(20))
    empty = {name: [] for name in described}
    datasets.Dataset.from_dict(empty, features=described).to_parquet(tmp_path / "theirs.parquet")
    write(tmp_path / "ours.parquet", [], make_signals(0))
    theirs, ours = (pq.read_schema(tmp_path / f"{name}.parquet") for name in ("theirs", "ours"))
    assert ours.remove_metadata() == theirs.remove_metadata()
    told, found = (json.loads(schema.metadata[b"huggingface"])["info"]["features"] for schema in (theirs, ours))
    assert found == told
    # Whoever has no `datasets` reads lists: the storage type, which the Parquet schema holds too.
    assert arrow_schema(20).field("ecg").type == pa.list_(pa.list_(pa.int16()))


def test_a_write_that_fails_midway_says_so(tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() > 1000:
                raise OSError(28, "No space left on device")
            return super().write(data)

    monkeypatch.setattr("builtins.open", lambda path, mode: Full(path, mode))
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "shard.parquet", [make_row(number) for number in range(10)], make_signals(10))
