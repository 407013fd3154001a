"""A tiny trained model, and a dataset of two corpora."""

import pytest
import yaml

from tests.training.tiny_run import record, run, write_backbone, write_dataset

CORPORA = ("ptb-xl", "mimic-iv-ecg")


def write_corpora(folder):
    """A dataset folder as `meit-ecg build` lays it out, with the same ten records in both corpora."""
    folder.mkdir()
    configs = []
    for corpus in CORPORA:
        rows = [record(number) | {"scp_codes": [{"code": "SR", "likelihood": 100.0}]} for number in range(10)]
        write_dataset(folder / corpus, train=rows, test=rows)
        files = [{"split": split, "path": f"{corpus}/{split}.parquet"} for split in ("train", "test")]
        configs.append({"config_name": corpus, "data_files": files})
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Folder with `model`, an adapter trained for six updates, and `dataset`."""
    folder = tmp_path_factory.mktemp("benchmark")
    rows = [record(number) for number in range(10)]
    for_training = write_dataset(folder / "for-training", train=rows, validation=rows[:2])
    run(write_backbone(folder / "backbone"), for_training, folder / "model", save_strategy="no")
    write_corpora(folder / "dataset")
    return folder


@pytest.fixture(scope="session")
def arguments(trained):
    """Options of `run_benchmark.py` for the tiny model."""

    def options(output, *more):
        where = ["--model", str(trained / "model"), "--dataset", str(trained / "dataset"), "--trained-on", "ptb-xl"]
        # METEOR needs WordNet, which not every machine has.
        short = ["--batch-size", "4", "--max-new-tokens", "6", "--no-meteor"]
        return [*where, "--output", str(output), *short, *more]

    return options
