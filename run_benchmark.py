"""Measure a model on a dataset: `run_benchmark.py --model PATH --dataset meit-ecg --task quality`."""

import argparse
import sys
from pathlib import Path

from transformers.utils import logging

from dataset_builder.errors import DatasetBuildError
from dataset_builder.records import load_records
from evaluation.quality import quality_table, verdict
from reporting.benchmark import DRAFTS, FIGURES, run_quality
from reporting.model_options import add_model_options, load_drafter, positive
from reporting.notice import DRAFT_NOTICE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure a model on a dataset.", epilog=DRAFT_NOTICE)
    add_model_options(parser, batch_size=16)
    parser.add_argument(
        "--dataset", required=True, metavar="PATH", help="folder that `meit-ecg build` wrote, or Hub id"
    )
    parser.add_argument("--dataset-config", metavar="NAME", help="corpus in it: ptb-xl, simulated")
    parser.add_argument("--split", default="test", metavar="NAME", help="default: test")
    parser.add_argument(
        "--task",
        choices=("quality",),
        default="quality",
        help="quality: loss of the references, BLEU-1 to BLEU-4 and ROUGE-L, with the right and another patient's ECG",
    )
    parser.add_argument("--output", default="runs/quality", metavar="DIR", help="default: runs/quality")
    parser.add_argument("--limit", type=positive, metavar="N", help="N records, drawn with --seed; default: all")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the task and print its table; 0 if it ran, 1 if model or data are not usable, 2 for a wrong option."""
    arguments = _parser().parse_args(argv)
    logging.disable_progress_bar()
    try:
        rows, skipped = load_records(
            arguments.dataset, arguments.dataset_config, arguments.split, arguments.limit, arguments.seed
        )
        drafter = load_drafter(arguments)
        folder = Path(arguments.dataset)
        data = {
            "dataset": folder.resolve().name if folder.is_dir() else arguments.dataset,
            "config": arguments.dataset_config,
            "split": arguments.split,
        }
        figures = run_quality(drafter, rows, arguments.output, arguments.max_new_tokens, arguments.seed, data)
    except (OSError, ValueError, ImportError, DatasetBuildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    where = f"{arguments.dataset} {arguments.dataset_config or ''} {arguments.split}".replace("  ", " ")
    print(f"{len(rows)} records of {len(set(rows['patient_id']))} patients ({where}), {arguments.model}")
    if skipped:
        print(f"left out {skipped} records with an empty report")
    print(quality_table(figures))
    print(verdict(figures))
    print(f"wrote {arguments.output}/{DRAFTS} and {arguments.output}/{FIGURES}\n{DRAFT_NOTICE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
