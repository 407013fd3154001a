"""Draft a report for each ECG file: `python generate_report.py FILE... --model PATH`."""

import argparse
import json
import sys

import torch
from transformers.utils import logging

from dataset_builder.instructions import DEFAULT_INSTRUCTION
from reporting.model_options import add_model_options, load_drafter, positive
from reporting.notice import DRAFT_NOTICE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Draft a report for each ECG file. A recording of more than 10 s gives one draft per 10 s.",
        epilog=DRAFT_NOTICE,
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="an ECG file of any known format; a WFDB record with or without .hea or .dat",
    )
    add_model_options(parser, batch_size=8)
    parser.add_argument("--json", action="store_true", help="one JSON object per draft and line")
    rate_help = "of CSV and NumPy files that do not say it; a file that says another rate is refused"
    parser.add_argument("--sampling-rate", type=float, metavar="HZ", help=rate_help)
    names_help = "the rows of NumPy files, or the columns to read of CSV files; a file that says others is refused"
    parser.add_argument("--lead-names", type=_names, metavar="I,II,...", help=names_help)
    parser.add_argument("--start-s", type=float, metavar="S", help="draft only the 10 s that start at this second")
    parser.add_argument("--instruction", default=DEFAULT_INSTRUCTION, metavar="TEXT", help="what the model is asked")
    parser.add_argument("--num-beams", type=positive, default=1, metavar="N", help="beam search (default: 1, greedy)")
    parser.add_argument("--do-sample", action="store_true", help="sample instead of taking the likeliest token")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of --do-sample (default: 0)")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def main(argv: list[str] | None = None) -> int:
    """Draft and print; 0 if every file gave a report, 1 if one did not, 2 for a wrong option (by argparse)."""
    arguments = _parser().parse_args(argv)
    logging.disable_progress_bar()
    try:
        drafter = load_drafter(arguments, arguments.instruction)
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    torch.manual_seed(arguments.seed)
    failed = False
    for draft in drafter.draft(
        arguments.files,
        sampling_rate=arguments.sampling_rate,
        lead_names=arguments.lead_names,
        start_s=arguments.start_s,
        max_new_tokens=arguments.max_new_tokens,
        num_beams=arguments.num_beams,
        do_sample=arguments.do_sample,
    ):
        if draft.error is not None:
            failed = True
            named = draft.error.startswith(draft.source)
            print(f"error: {'' if named else f'{draft.source}: '}{draft.error}", file=sys.stderr)
        if arguments.json:
            print(json.dumps(draft.to_dict(), ensure_ascii=False), flush=True)
        elif draft.report is not None:
            window = f"{draft.start_s:g} to {draft.start_s + draft.seconds:.4g} s"
            if draft.undrafted_s > 0:
                window += f"; the last {draft.undrafted_s:.3g} s are too short for a draft of their own"
            print(f"{draft.source} ({window})\n{draft.report}\n{DRAFT_NOTICE}\n", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
