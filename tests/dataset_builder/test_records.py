"""Reading the dataset back."""

import datasets
import numpy as np
import pytest

from dataset_builder.cli import main
from dataset_builder.errors import DatasetBuildError
from dataset_builder.records import load_records


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records") / "meit-ecg"
    assert main(["simulated", "--output", str(folder), "--num-records", "30"]) == 0
    return str(folder)


def test_records_come_with_their_signals_as_arrays(dataset):
    records, skipped = load_records(dataset, "simulated", "train")
    assert (len(records), skipped) == (24, 0)
    assert isinstance(records[0]["ecg"], np.ndarray)
    assert records[0]["ecg"].shape == (12, 5000)
    assert records[0]["ecg"].dtype == np.int16
    assert isinstance(records[0]["report"], str)


def test_a_limit_draws_by_the_seed(dataset):
    def ids(seed):
        return load_records(dataset, "simulated", "train", limit=5, seed=seed)[0]["id"]

    assert len(set(ids(0))) == 5
    assert ids(0) == ids(0) == sorted(ids(0))
    assert ids(0) != ids(1)
    assert len(load_records(dataset, "simulated", "train", limit=99)[0]) == 24


def test_records_without_a_report_are_left_out_and_counted(dataset, tmp_path):
    rows = datasets.load_dataset(dataset, "simulated", split="train")
    reports = [("", " \n", None)[index] if index < 3 else text for index, text in enumerate(rows["report"])]
    rows = rows.remove_columns("report").add_column("report", reports)
    folder = tmp_path / "folder"
    folder.mkdir()
    rows.to_parquet(folder / "train.parquet")
    records, skipped = load_records(str(folder), None, "train")
    assert (len(records), skipped) == (21, 3)
    assert records["id"][:] == rows["id"][3:]
    rows.select(range(3)).to_parquet(folder / "train.parquet")
    with pytest.raises(DatasetBuildError, match="no usable record: 3 records, 3 with an empty report"):
        load_records(str(folder), None, "train")
    rows.remove_columns("ecg_gain").to_parquet(folder / "train.parquet")
    with pytest.raises(DatasetBuildError, match=r"lacks the columns \['ecg_gain'\]"):
        load_records(str(folder), None, "train")


@pytest.mark.parametrize(("config", "split"), [("ptb-xl", "train"), ("simulated", "fold-10")])
def test_what_is_not_in_the_dataset_is_named(dataset, config, split):
    with pytest.raises(DatasetBuildError, match=rf"\({config}, {split}\) cannot be loaded"):
        load_records(dataset, config, split)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="write one with `meit-ecg build`"):
        load_records(str(tmp_path / "absent"), "ptb-xl", "train")
