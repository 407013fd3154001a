"""The three fusions side by side: one backbone, the same records, updates and seeds.

    python benchmarks/fusions.py [--updates 60] [--seeds 0 1 2] [--records 96]

Needs the PTB-XL dataset folder (`meit-ecg build ptb-xl --data-dir DIR --output meit-ecg`). Runs `meit-ecg train` on
each recipe and `meit-ecg benchmark` on what it wrote, below runs/fusions/; a run that is there already is not run
again. Prints a Markdown table.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from tasks.results import RESULTS
from training.run_record import RUN_RECORD

RECIPES = {
    "concat": "recipes/smollm2.yaml",
    "llava": "recipes/smollm2-llava.yaml",
    "flamingo": "recipes/smollm2-flamingo.yaml",
}
RUNS = Path("runs/fusions")
# Those of recipes/quickstart.yaml, in which some dozens of updates teach something.
SETTINGS = {
    "learning_rate": "1e-3",
    "ecg_learning_rate": "3e-3",
    "per_device_train_batch_size": "8",
    "gradient_accumulation_steps": "1",
    "save_strategy": "no",
    "eval_strategy": "no",
    "max_eval_records": "8",
    "overwrite_output_dir": "true",
    "resume_from_checkpoint": "false",
}
FIGURES_SHOWN = ("loss (nats per token)", "loss (nats per report)", "BLEU-4", "ROUGE-L")


def run(*arguments: str) -> None:
    """One `meit-ecg` command in a process of its own."""
    print(f"$ meit-ecg {' '.join(arguments)}", file=sys.stderr, flush=True)
    # Threads that wait by spinning keep the work from the cores.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ
    subprocess.run([sys.executable, "-m", "meit_ecg", *arguments], check=True, env=environment)


def quality(fusion: str, seed: int, updates: int, records: int) -> dict:
    """What `meit-ecg benchmark` wrote of one run, which is trained first where it is not there."""
    # What a run was made with is in its name, so that another recipe does not find it.
    made_with = json.dumps(SETTINGS) + Path(RECIPES[fusion]).read_text(encoding="utf-8")
    digest = hashlib.sha256(made_with.encode()).hexdigest()[:8]
    folder = RUNS / f"{fusion}-seed{seed}-{updates}-updates-{digest}"
    results = folder / f"benchmark-{records}-records" / RESULTS
    if not results.is_file():
        if not (folder / RUN_RECORD).is_file():
            settings = SETTINGS | {"max_steps": str(updates), "seed": str(seed), "output_dir": str(folder)}
            run(
                "train",
                "--config",
                RECIPES[fusion],
                *(part for name in settings for part in (f"--{name}", settings[name])),
            )
        where = ("--dataset", "meit-ecg", "--dataset-config", "ptb-xl", "--limit", str(records))
        options = ("--max-new-tokens", "64", "--no-baselines", "--no-meteor", "--output", str(results.parent))
        run("benchmark", "--model", str(folder), *where, *options)
    return json.loads(results.read_text(encoding="utf-8"))["tasks"]["quality/ptb-xl"]["systems"][str(folder)]


def spread(values: list[float]) -> str:
    """Mean and, of several seeds, their standard deviation."""
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--updates", type=int, default=60, help="of the weights, of 8 records each; default: 60")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--records", type=int, default=96, help="of the test split to measure on; default: 96")
    arguments = parser.parse_args()
    # Seed by seed, so that an early end still compares all three.
    results: dict[str, list[dict]] = {fusion: [] for fusion in RECIPES}
    for seed in arguments.seeds:
        for fusion, found in results.items():
            found.append(quality(fusion, seed, arguments.updates, arguments.records))
    print(f"| fusion | {' | '.join(FIGURES_SHOWN)} | gap, nats per report |\n|---|{'---|' * (len(FIGURES_SHOWN) + 1)}")
    for fusion, found in results.items():
        shown = [spread([one["figures"][name]["right"]["estimate"] for one in found]) for name in FIGURES_SHOWN]
        gaps = [one["figures"]["loss (nats per report)"]["gap_other"] for one in found]
        beyond = sum(gap["low"] > 0 or gap["high"] < 0 for gap in gaps)
        shown.append(f"{spread([gap['estimate'] for gap in gaps])} ({beyond} of {len(gaps)} beyond its interval)")
        print(f"| {fusion} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
