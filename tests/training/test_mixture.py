"""Several corpora in one run: their shares, what is left out of each, and what the run's record says of them."""

import json

import datasets
import numpy as np
import pytest

from dataset_builder.errors import DatasetBuildError
from training.arguments import DataArguments
from training.mixture import load_corpora, mix
from training.sft import train

from .tiny_run import FEATURES, options, record, run, write_dataset


def rows(corpus, numbers):
    return [record(number) | {"id": f"{corpus}-{number}", "corpus": corpus} for number in numbers]


@pytest.fixture(scope="module")
def large(folder):
    broken = rows("large", [12])[0] | {"ecg": np.zeros((12, 5000), dtype=np.int16)}
    silent = rows("large", [13])[0] | {"report": " "}
    return str(
        write_dataset(
            folder / "large", train=[*rows("large", range(12)), broken, silent], validation=rows("large", [20])
        )
    )


@pytest.fixture(scope="module")
def small(folder):
    return str(write_dataset(folder / "small", train=rows("small", range(3)), validation=rows("small", [21, 22])))


def test_without_weights_each_record_is_there_once(large, small):
    corpora = load_corpora(DataArguments(dataset=[large, small]), "train")
    mixed = mix(corpora)
    assert mixed["id"][:] == [f"large-{number}" for number in range(12)] + [f"small-{number}" for number in range(3)]
    assert isinstance(mixed[14]["ecg"], np.ndarray)
    assert np.array_equal(mixed[14]["ecg"], record(2)["ecg"])


@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [0.1, 0.3]])
def test_weights_are_shares_and_every_record_is_drawn(large, small, weights):
    corpora = load_corpora(DataArguments(dataset=[large, small], mixture_weights=weights), "train")
    mixed = mix(corpora, weights, seed=5)
    ids = mixed["id"][:]
    assert set(ids) == {f"large-{number}" for number in range(12)} | {f"small-{number}" for number in range(3)}
    share = np.mean([record_id.startswith("large") for record_id in ids])
    expected = weights[0] / sum(weights)
    assert abs(share - expected) < 3 * np.sqrt(expected * (1 - expected) / len(ids))
    assert ids == mix(corpora, weights, seed=5)["id"][:]
    assert ids != mix(corpora, weights, seed=6)["id"][:]
    # From the start again where a corpus ends, so that its records differ by one draw at most.
    counts = np.bincount([int(record_id[6:]) for record_id in ids if record_id.startswith("small")])
    assert counts.max() - counts.min() <= 1


def test_what_is_left_out_is_counted_per_corpus(large, small):
    first, second = load_corpora(DataArguments(dataset=[large, small]), "train")
    assert (len(first.records), first.without_report, list(first.broken)) == (12, 1, ["large-12"])
    assert (len(second.records), second.without_report, second.broken) == (3, 0, {})


def test_a_corpus_without_a_whole_recording_is_an_error(folder, small):
    flat = [row | {"ecg": np.zeros((12, 5000), dtype=np.int16)} for row in rows("flat", range(2))]
    dataset = str(write_dataset(folder / "flat", train=flat))
    with pytest.raises(DatasetBuildError, match=r"no usable recording: 2 are broken, the first is flat-0: every lead"):
        load_corpora(DataArguments(dataset=[small, dataset]), "train")


def test_a_file_that_is_cut_short_is_named(folder):
    dataset = write_dataset(folder / "cut", train=rows("cut", range(2)))
    content = (dataset / "train.parquet").read_bytes()
    (dataset / "train.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetBuildError, match=r"cut .* cannot be loaded: .*[Pp]arquet"):
        load_corpora(DataArguments(dataset=str(dataset)), "train")


def test_corpora_of_other_signals_are_not_mixed(folder, small):
    features = datasets.Features({**FEATURES, "ecg": datasets.Array2D((12, 1000), "int16")})
    short = [
        dict.fromkeys(FEATURES) | row | {"ecg": row["ecg"][:, :1000], "sampling_rate": 100.0}
        for row in rows("short", [0, 1])
    ]
    (folder / "short").mkdir()
    datasets.Dataset.from_list(short, features=features).to_parquet(folder / "short" / "train.parquet")
    corpora = load_corpora(DataArguments(dataset=[small, str(folder / "short")]), "train")
    with pytest.raises(DatasetBuildError, match="short cannot be mixed with small"):
        mix(corpora)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": ["a", "b"], "dataset_config": ["x", "y", "z"]}, "dataset names 2: a b; expected 1 or 3"),
        ({"dataset_config": ["x", "y"], "mixture_weights": [1.0]}, r"mixture_weights is \[1.0\]; expected 2 numbers"),
        ({"dataset_config": ["x", "y"], "mixture_weights": [1.0, 0.0]}, "above 0"),
        ({"dataset_config": ["x"], "mixture_weights": [1.0]}, "there is one"),
    ],
)
def test_numbers_that_do_not_belong_together_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DataArguments(**arguments)


def test_corpora_pair_datasets_with_configs():
    assert DataArguments().corpora == [("meit-ecg", None)]
    assert DataArguments(dataset_config=["x", "y"]).corpora == [("meit-ecg", "x"), ("meit-ecg", "y")]
    assert DataArguments(dataset=["a", "b"]).corpora == [("a", None), ("b", None)]
    assert DataArguments(dataset=["a", "b"], dataset_config=["x", "y"]).corpora == [("a", "x"), ("b", "y")]


def test_a_run_on_two_corpora(backbone, large, small, folder):
    mixture = {"dataset": [large, small], "eval_split": "validation"}

    def trained(output, weights, **config):
        model, _, tuning, config = options(backbone, large, folder / output, save_steps=1, **config)
        return train(model, DataArguments(**mixture, mixture_weights=weights), tuning, config)

    result = trained("run", [1.0, 2.0], max_steps=1)
    assert (result.records, result.skipped_records, list(result.broken_records)) == (15, 1, ["large-12"])
    described = json.loads((result.folder / "training_run.json").read_text())["data"]
    assert [(corpus["dataset"], corpus["records"]) for corpus in described["corpora"]] == [("large", 12), ("small", 3)]
    assert described["mixture_weights"] == [1.0, 2.0]
    checkpoint = str(result.folder / "checkpoint-1")
    with pytest.raises(ValueError, match=r"data\.mixture_weights: \[1.0, 2.0\] then, None now"):
        trained("other", None, max_steps=2, resume_from_checkpoint=checkpoint)


def test_broken_recordings_are_left_out_and_the_run_goes_on(backbone, large, folder):
    result = run(backbone, large, folder / "one", max_steps=1, save_strategy="no")
    assert result.broken_records == {"large-12": "every lead is constant"}
    assert result.updates == 1
