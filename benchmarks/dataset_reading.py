"""Shuffled batches of float32 signals from the built dataset, beside a loop over `wfdb.rdsamp` of the same recordings.

    python benchmarks/dataset_reading.py [--data-dir FOLDER] [--rounds 10]

Builds the dataset of a MIMIC-IV-ECG or PTB-XL folder into a temporary folder, then takes turns: some batches by each
way, round after round, in one run, with every file in the page cache. Prints a Markdown table. The first two ways work
in one process and one thread; a worker also copies each batch into memory that it shares.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import torch
import wfdb
from torch.utils.data import DataLoader, RandomSampler

from dataset_builder.build import build_config
from dataset_builder.corpus import Corpus
from dataset_builder.corpus_files import open_corpus_files
from dataset_builder.csv_table import iterate_csv
from dataset_builder.mimic_iv_ecg import MIMICIVECG
from dataset_builder.mimic_iv_ecg_table import RECORDS
from dataset_builder.ptb_xl import PTBXL
from dataset_builder.ptb_xl_table import DATABASE
from dataset_builder.signals import ECGSignals, collate_millivolts
from processing.leads import LEADS, canonical_lead

BATCH_SIZE = 64
# A loop over `rdsamp` takes a tenth of a second for a batch; workers need some batches to get going.
LOOP_BATCHES, BATCHES = 2, 20


def corpus_of(folder: Path) -> tuple[Corpus, dict[str, str]]:
    """The corpus in the folder, and the path of each recording by its id."""
    if (folder / RECORDS).is_file():
        lines = iterate_csv(folder / RECORDS, ("study_id", "path"))
        return MIMICIVECG(open_corpus_files(folder, RECORDS)), {line["study_id"]: line["path"] for line in lines}
    lines = iterate_csv(folder / DATABASE, ("ecg_id", "filename_hr"))
    corpus = PTBXL(open_corpus_files(folder, DATABASE))
    return corpus, {str(int(float(line["ecg_id"]))): line["filename_hr"] for line in lines}


def loop_over_rdsamp(folder: Path, paths: dict[str, str], ids: list[str]) -> np.ndarray:
    """float32 (records, 12, samples) in mV, leads as the files order them."""
    return np.stack([wfdb.rdsamp(str(folder / paths[name]))[0].T.astype(np.float32) for name in ids])


def by_rdsamp(folder: Path, paths: dict[str, str], ids: list[str], rng: np.random.Generator) -> Iterator[int]:
    while True:
        drawn = rng.choice(len(ids), BATCH_SIZE).tolist()
        yield len(loop_over_rdsamp(folder, paths, [ids[index] for index in drawn]))


def by_loader(signals: ECGSignals, workers: int, rng: np.random.Generator) -> Iterator[int]:
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    sampler = RandomSampler(signals, replacement=True, num_samples=(BATCHES + 1) * BATCH_SIZE, generator=generator)
    loader = DataLoader(signals, BATCH_SIZE, sampler=sampler, num_workers=workers, collate_fn=collate_millivolts)
    for batch in loader:
        yield len(batch["millivolts"])


def records_per_second(batches: Iterator[int], number: int) -> float:
    """Of `number` batches after the first, which starts workers and opens files."""
    next(batches)
    start = time.perf_counter()
    records = sum(next(batches) for _ in range(number))
    return records / (time.perf_counter() - start)


def check_values(signals: ECGSignals, folder: Path, paths: dict[str, str]) -> None:
    """Refuse to compare what is not the same."""
    batch = collate_millivolts(signals.__getitems__(list(range(min(BATCH_SIZE, len(signals))))))
    names = wfdb.rdheader(str(folder / paths[batch["id"][0]])).sig_name
    order = [[canonical_lead(name) for name in names].index(lead) for lead in LEADS]
    expected = loop_over_rdsamp(folder, paths, batch["id"])[:, order]
    np.testing.assert_array_equal(batch["millivolts"].numpy(), expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    data = Path(os.environ.get("MEIT_DATA", "../shared/data"), "mimic-iv-ecg")
    parser.add_argument("--data-dir", type=Path, default=data, metavar="FOLDER", help=f"default: {data}")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="default: 10")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    corpus, paths = corpus_of(arguments.data_dir)
    with tempfile.TemporaryDirectory() as folder:
        build_config(corpus, Path(folder, "meit-ecg"))
        dataset = datasets.load_dataset(f"{folder}/meit-ecg", corpus.config, split="train", cache_dir=f"{folder}/cache")
        signals = ECGSignals(dataset, columns=("id",))
        check_values(signals, arguments.data_dir, paths)
        rng = np.random.default_rng(0)
        loop = partial(by_rdsamp, arguments.data_dir, paths, dataset["id"][:], rng)
        ways: dict[str, tuple[Callable[[], Iterator[int]], int]] = {
            "loop over wfdb.rdsamp": (loop, LOOP_BATCHES),
            "DataLoader, 0 workers": (partial(by_loader, signals, 0, rng), BATCHES),
            "DataLoader, 2 workers": (partial(by_loader, signals, 2, rng), BATCHES),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.rounds + 1):  # the first brings the files into the page cache
            for name, (start, number) in ways.items():
                found[name].append(records_per_second(start(), number))
    print(
        f"{len(dataset)} records of {corpus.config}, batches of float32 ({BATCH_SIZE}, 12, {corpus.samples}), "
        f"median of {arguments.rounds} rounds\n"
    )
    print("| | records per second | times the loop (lowest to highest round) |\n|---|---|---|")
    for name, speeds in found.items():
        times = [speed / base for speed, base in zip(speeds[1:], found["loop over wfdb.rdsamp"][1:], strict=True)]
        print(
            f"| {name} | {statistics.median(speeds[1:]):.0f} | {statistics.median(times):.1f} ({min(times):.1f} to "
            f"{max(times):.1f}) |"
        )


if __name__ == "__main__":
    main()
