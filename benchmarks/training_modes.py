"""The training modes side by side: one backbone, the same records, order, updates and seed.

    python -m benchmarks.training_modes [--updates 20] [--modes lora dora qlora full encoder]

Each mode is `train_sft.py --config recipes/quickstart.yaml --tuning MODE` in a process of its own, on PTB-XL where
there are real recordings. Prints a Markdown table: trained parameters, the most memory that the process held (resident
set, everything in it), the median time from one update to the next, and the loss on the validation split afterwards.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.built_records import add_dataset_argument, built_corpus
from training.run_record import RUN_RECORD
from training.tuning import TUNINGS

RECIPE = "recipes/quickstart.yaml"


@dataclass(frozen=True)
class ModeFigures:
    """What one mode took.

    Attributes:
        trained: number of trained parameters.
        peak_bytes: most memory that its process held.
        seconds: median time of an update.
        eval_loss: after the last, nats per report token.
    """

    trained: int
    peak_bytes: int
    seconds: float
    eval_loss: float


def measured(mode: str, options: list[str], output: Path) -> ModeFigures:
    """Train in one mode, in a process of its own.

    Raises:
        RuntimeError: it ended with an error, which is on stderr.
    """
    command = [sys.executable, "train_sft.py", "--config", RECIPE, "--tuning", mode, "--output_dir", str(output)]
    # Threads that wait by spinning keep the work from the cores.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"} | os.environ
    logged = []
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            print(f"{mode}: {line}", end="", file=sys.stderr, flush=True)
            if line.startswith("{'loss'"):  # one for each update
                logged.append(time.perf_counter())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"training in mode {mode} ended with exit status {process.returncode}")
    outcome = json.loads((output / RUN_RECORD).read_text(encoding="utf-8"))["outcome"]
    seconds = statistics.median(after - before for before, after in zip(logged, logged[1:], strict=False))
    # Kibibytes on Linux, bytes on macOS.
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return ModeFigures(outcome["trainable_parameters"], peak_bytes, seconds, outcome["eval_loss"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--modes", nargs="+", choices=TUNINGS, default=list(TUNINGS))
    parser.add_argument("--updates", type=int, default=20, help="of 8 records each; default: 20")
    parser.add_argument("--eval-records", type=int, default=64, help="of the validation split; default: 64")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="in all modes but full; default: 1e-3")
    parser.add_argument("--full-learning-rate", type=float, default=2e-5, help="in the mode full; default: 2e-5")
    add_dataset_argument(parser)
    arguments = parser.parse_args()
    corpus = built_corpus(arguments.dataset)
    settings = {
        "dataset": arguments.dataset,
        "dataset_config": corpus,
        "max_steps": arguments.updates,
        "eval_split": "validation",
        "eval_strategy": "no",
        "max_eval_records": arguments.eval_records,
        "disable_tqdm": "true",
        "logging_steps": 1,
        "max_train_minutes": 60,
    }
    print(f"| mode | trained parameters | peak memory, GB | seconds per update | validation loss |\n|{'---|' * 5}")
    for mode in arguments.modes:
        rate = arguments.full_learning_rate if mode == "full" else arguments.learning_rate
        with tempfile.TemporaryDirectory() as output:
            options = {**settings, "learning_rate": rate}
            found = measured(
                mode, [part for name in options for part in (f"--{name}", str(options[name]))], Path(output)
            )
        print(
            f"| {mode} | {found.trained:,} | {found.peak_bytes / 1e9:.2f} | {found.seconds:.2f} | "
            f"{found.eval_loss:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
