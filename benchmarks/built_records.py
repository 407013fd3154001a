"""The dataset that benchmarks train on: of real recordings where there are some, of simulated ones otherwise."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

SIMULATED_RECORDS = 480


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
    source = Path(os.environ.get("MEIT_DATA", "../shared/data"), "ptb-xl")
    corpus = "ptb-xl" if source.is_dir() else "simulated"
    if not (folder / corpus / "build_report.json").is_file():
        options = ["--data-dir", str(source)] if source.is_dir() else ["--num-records", str(SIMULATED_RECORDS)]
        command = [sys.executable, "-m", "meit_ecg", "build", corpus, *options, "--output", str(folder)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return corpus
