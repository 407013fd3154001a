"""The dataset that benchmarks train on: of real recordings where there are some, of simulated ones otherwise."""

import argparse
import subprocess
import sys
from pathlib import Path

from dataset_builder.dataset_folder import BUILD_REPORT
from quickstart import corpus_at_hand, ptb_xl_folder


def add_dataset_argument(parser: argparse.ArgumentParser) -> None:
    """Have a command take `--dataset FOLDER`."""
    parser.add_argument(
        "--dataset",
        type=Path,
        default=Path("runs/benchmarks/meit-ecg"),
        metavar="FOLDER",
        help="dataset folder, built first where it is not there; default: runs/benchmarks/meit-ecg",
    )


def built_corpus(folder: Path) -> str:
    """The corpus in the dataset folder, which is built where it is not there.

    PTB-XL where `MEIT_DATA` (default: ../shared/data) names a folder that holds ptb-xl/, else simulated ECGs.
    """
    corpus, build = corpus_at_hand(ptb_xl_folder())
    if not (folder / corpus / BUILD_REPORT).is_file():
        command = [sys.executable, "-m", "meit_ecg", *build, "--output", str(folder)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return corpus
