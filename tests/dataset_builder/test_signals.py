"""Batches in mV against `wfdb`, and what a `DataLoader` does with the rows."""

import pickle

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
import wfdb
from torch.utils.data import DataLoader

from dataset_builder.build import build_config
from dataset_builder.signals import ECGSignals, collate_millivolts
from processing.data_collator_meit import row_recording

# Gain and baseline. 204.8 and 0.1 are no float32 numbers; from 2^23 on, not every difference is one.
CALIBRATIONS = [(1000.0, 0), (200.0, -37), (204.8, 12), (0.1, 0), (3.0, 2**24 + 1), (4.875, 32767)]


@pytest.fixture
def published(small_ptb_xl, entry, random_adc, write_recording):
    """A PTB-XL folder of a recording for each calibration, three of them with invalid samples."""
    folder = small_ptb_xl(*(entry(number) for number in range(len(CALIBRATIONS))))
    for number, (gain, baseline) in enumerate(CALIBRATIONS):
        adc = random_adc(number)
        if number % 2:
            adc[3, 100:200] = adc[11, -1] = -32768
        write_recording(folder, f"records500/00000/{number:05d}_hr", adc, gain=gain, baseline=baseline)
    return folder


@pytest.fixture
def records(published, open_ptb_xl, tmp_path):
    build_config(open_ptb_xl(published), tmp_path / "meit-ecg")
    return datasets.load_dataset(str(tmp_path / "meit-ecg"), "ptb-xl", split="train")


def as_wfdb_reads(folder, ids) -> np.ndarray:
    """float32 (records, 12, samples) in mV."""
    read = [wfdb.rdrecord(str(folder / f"records500/00000/{int(name):05d}_hr"), physical=True) for name in ids]
    return np.stack([record.p_signal.T for record in read]).astype(np.float32)


def made(ecg: list, samples: int = 3) -> datasets.Dataset:
    """A dataset of these signals and nothing else."""
    features = datasets.Features(
        {
            "ecg": datasets.Array2D((12, samples), "int16"),
            "ecg_gain": datasets.List(datasets.Value("float64"), 12),
            "ecg_baseline": datasets.List(datasets.Value("int64"), 12),
        }
    )
    calibration = {"ecg_gain": [[200.0] * 12] * len(ecg), "ecg_baseline": [[0] * 12] * len(ecg)}
    return datasets.Dataset.from_dict({"ecg": ecg} | calibration, features=features)


def test_a_batch_is_what_wfdb_reads(records, published):
    batch = collate_millivolts(ECGSignals(records).__getitems__([4, 0, 5, 3, 1, 2]))
    assert batch["id"] == ["4", "0", "5", "3", "1", "2"]
    assert batch["millivolts"].dtype == torch.float32
    expected = as_wfdb_reads(published, batch["id"])
    assert np.isnan(expected).sum() == 3 * 101
    np.testing.assert_array_equal(batch["millivolts"].numpy(), expected)


@pytest.mark.parametrize("baseline", [0, -1, 1027, 2**23 - 1, 2**23, 2**40])
def test_every_sample_is_rounded_as_float64_rounds_it(baseline):
    """All 65,536 samples for gains whose quotients need rounding, through whichever way they are computed."""
    gain = np.array([200.0, 1000.0, 204.75, 3.0, 7.0, -13.0, 1 / 1024, 999.5, 16777215.0, 1e18, 1e-18, 204.8])
    every = np.tile(np.arange(-32768, 32768).astype(np.int16), (12, 1))
    row = {"ecg": every, "ecg_gain": gain, "ecg_baseline": np.full(12, baseline)}
    exact = ((every.astype(np.float64) - baseline) / gain[:, None]).astype(np.float32)
    exact[:, 0] = np.nan
    for lead in range(12):  # twelve times, so that each gain decides once which way is taken
        alone = row | {"ecg_gain": np.full(12, gain[lead])}
        np.testing.assert_array_equal(collate_millivolts([alone])["millivolts"][0, lead], exact[lead])
    np.testing.assert_array_equal(collate_millivolts([row])["millivolts"][0], exact)


def test_a_row_shows_the_memory_of_the_file(records):
    row = ECGSignals(records)[2]
    column = records.data.column("ecg").chunk(0).storage.values.values
    mapped = np.frombuffer(column.buffers()[1], dtype=np.int16)
    assert np.shares_memory(row["ecg"], mapped)
    assert not row["ecg"].flags.writeable
    assert records.cache_files


def test_rows_are_those_of_the_dataset(records):
    """Each way in which `datasets` picks rows: a mapping, a slice of the table, several tables, a written one."""
    joined = datasets.concatenate_datasets([records.select([5, 1]), records.select(range(2, 5))])
    for picked in (
        records,
        records.shuffle(seed=3),
        records.select([4, 2, 2]),
        records.select(range(1, 4)),
        records.filter(lambda row: row["id"] != "1"),
        records.shuffle(seed=3).select(range(4)).flatten_indices(),
        joined,
        joined.shuffle(seed=1),
        records.add_column("number", list(range(6))).select([3, 0]),
    ):
        rows = ECGSignals(picked, columns=("id", "scp_codes", "study_time")).__getitems__(list(range(len(picked))))
        assert len(rows) == len(picked)
        for row, expected in zip(rows, picked, strict=True):
            np.testing.assert_array_equal(row["ecg"], np.array(expected["ecg"]))
            assert {name: row[name] for name in ("id", "scp_codes", "study_time")} == {
                name: expected[name] for name in ("id", "scp_codes", "study_time")
            }
    signals = ECGSignals(records)
    assert signals[-1]["id"] == "5"
    with pytest.raises(IndexError):
        signals[6]


@pytest.mark.parametrize("start", ["here", "fork", "spawn"])
def test_a_loader_reads_every_record_once(records, published, start):
    signals = ECGSignals(records.shuffle(seed=0))
    signals[0]  # a worker must do with what has been opened here already
    assert len(pickle.dumps(signals)) < 50_000  # and not get the signals themselves
    workers = {} if start == "here" else {"num_workers": 2, "multiprocessing_context": start}
    loader = DataLoader(signals, batch_size=4, shuffle=True, collate_fn=collate_millivolts, **workers)
    batches = list(loader)
    assert [len(batch["id"]) for batch in batches] == [4, 2]
    ids = [name for batch in batches for name in batch["id"]]
    assert sorted(ids) == ["0", "1", "2", "3", "4", "5"]
    found = torch.cat([batch["millivolts"] for batch in batches]).numpy()
    np.testing.assert_array_equal(found, as_wfdb_reads(published, ids))


def test_streamed_rows_make_the_same_batches(records, tmp_path, published):
    streamed = datasets.load_dataset(str(tmp_path / "meit-ecg"), "ptb-xl", split="train", streaming=True)
    picked = streamed.select_columns(["id", "ecg", "ecg_gain", "ecg_baseline"]).with_format("numpy")
    batch = next(iter(DataLoader(picked, batch_size=6, collate_fn=collate_millivolts)))
    np.testing.assert_array_equal(batch["millivolts"].numpy(), as_wfdb_reads(published, batch["id"]))


def test_rows_suit_the_collator_of_training(records, published):
    row = ECGSignals(records, columns=("id", "sampling_rate", "report"))[1]
    recording = row_recording(row)
    assert recording.source == "record 1"
    np.testing.assert_array_equal(recording.signal, as_wfdb_reads(published, ["1"])[0])


ZEROS = [[0] * 3] * 12


@pytest.mark.parametrize(
    "second",
    [None, [[0] * 2] * 12, [[0] * 3] * 11, [[0, None, 0]] * 12],
    ids=["missing", "too short", "a lead too few", "null samples"],
)
def test_a_row_without_a_whole_signal_is_refused(second):
    whole = made([ZEROS, ZEROS])
    table = whole.data.table
    field = table.schema.field("ecg")
    storage = pa.array([ZEROS, second], field.type.storage_type)
    column = pa.ExtensionArray.from_storage(field.type, storage)
    table = table.set_column(table.schema.get_field_index("ecg"), field, column)
    broken = datasets.Dataset(datasets.table.InMemoryTable(table), info=whole.info)
    with pytest.raises(ValueError, match="missing or incomplete.*expected 12 x 3 per row"):
        ECGSignals(broken, columns=())[0]


def test_another_dataset_is_refused(records):
    with pytest.raises(ValueError, match=r"lacks the columns \['diagnosis'\]"):
        ECGSignals(records, columns=("id", "diagnosis"))
    wide = records.cast_column("ecg", datasets.Array2D((12, 5000), "int32"))
    with pytest.raises(ValueError, match="expected int16 of 12 leads"):
        ECGSignals(wide)
    with pytest.raises(ValueError, match="expected int16 of 12 leads"):
        ECGSignals(records.remove_columns("ecg").rename_column("report", "ecg"), columns=())


def test_rows_that_make_no_batch_are_refused():
    row = ECGSignals(made([ZEROS]), columns=())[0]
    short = ECGSignals(made([[[0] * 2] * 12], samples=2), columns=())[0]
    with pytest.raises(ValueError, match=r"\(12, 3\) and \[\(12, 2\)\] in one batch"):
        collate_millivolts([row, short])
    with pytest.raises(ValueError, match="no gain may be 0"):
        collate_millivolts([row, row | {"ecg_gain": np.zeros(12)}])
