"""The command `meit-ecg build`, which is `python -m dataset_builder` too."""

import argparse
import sys
from pathlib import Path

from dataset_builder.dataset_folder import BUILD_REPORT, build_config
from dataset_builder.errors import DatasetBuildError
from dataset_builder.ptb_xl import PTBXL
from dataset_builder.ptb_xl_table import REPORTS_EN


def main(argv: list[str] | None = None) -> int:
    """Build one config of the dataset; 0 if it was written, 2 if the input or an option is at fault."""
    arguments = _parser().parse_args(argv)
    try:
        report = _BUILDS[arguments.config](arguments)
    except (DatasetBuildError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(_summary(report, Path(arguments.output)))
    return 0


def _build_ptb_xl(arguments: argparse.Namespace) -> dict:
    reports_csv = arguments.reports_csv
    beside = Path(arguments.data_dir) / REPORTS_EN
    if reports_csv is None and not arguments.corpus_reports and beside.is_file():
        print(f"English reports: {beside}")
        reports_csv = str(beside)
    return build_config(
        PTBXL,
        "ptb-xl",
        arguments.output,
        num_proc=arguments.num_proc,
        data_dir=arguments.data_dir,
        reports_csv=reports_csv,
        limit=arguments.limit,
    )


def _build_simulated(arguments: argparse.Namespace) -> dict:
    from dataset_builder.simulated import Simulated  # here, as neurokit2 takes seconds to import

    return build_config(
        Simulated,
        "simulated",
        arguments.output,
        num_proc=arguments.num_proc,
        num_records=arguments.num_records,
        seed=arguments.seed,
        plain=arguments.plain,
        limit=arguments.limit,
    )


_BUILDS = {"ptb-xl": _build_ptb_xl, "simulated": _build_simulated}


def _summary(report: dict, output: Path) -> str:
    lines = [f"Wrote {output / report['config']}"]
    for split in ("train", "validation", "test"):
        counts = report["splits"].get(split)
        if counts is None:
            lines.append(f"  {split}: no records, so this split is left out")
        else:
            lines.append(f"  {split}: {counts['records']} records of {counts['patients']} patients")
    if report["limit_per_split"] is not None:
        lines.append(f"Limited to {report['limit_per_split']} records per split.")
    dropped = report["dropped"]
    lines.append(f"Left out: {dropped['records']} records")
    lines += [f"  {count}: {reason}" for reason, count in dropped["reasons"].items()]
    lines.append(f"All counts, and each record left out: {output / report['config'] / BUILD_REPORT}")
    lines.append(
        f"Read it: load_dataset({str(output)!r}, {report['config']!r}, split={next(iter(report['splits']))!r})"
    )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meit-ecg build", description="Build one config of the dataset folder; others in it stay."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--output", required=True, metavar="DIR", help="the dataset folder, such as meit-ecg")
    common.add_argument("--num-proc", type=_positive, default=1, metavar="N", help="processes (default: 1)")
    common.add_argument("--limit", type=_positive, metavar="N", help="at most N records per split")
    configs = parser.add_subparsers(dest="config", required=True, metavar="CONFIG")

    ptb_xl = configs.add_parser("ptb-xl", parents=[common], help="PTB-XL from its folder as published")
    ptb_xl.add_argument("--data-dir", required=True, metavar="DIR", help="holds ptbxl_database.csv and records500/")
    texts = ptb_xl.add_mutually_exclusive_group()
    texts.add_argument(
        "--reports-csv",
        metavar="FILE",
        help=f"CSV of English reports (ecg_id,report_en); default: {REPORTS_EN} in the data folder, if there",
    )
    texts.add_argument("--corpus-reports", action="store_true", help="keep the corpus' own, mostly German, reports")

    simulated = configs.add_parser("simulated", parents=[common], help="simulated ECGs with known findings")
    simulated.add_argument("--num-records", type=_positive, default=600, metavar="N", help="default: 600")
    simulated.add_argument("--seed", type=_not_negative, default=0, metavar="S", help="default: 0")
    simulated.add_argument(
        "--plain", action="store_true", help="sinus rhythm without any finding: the rate alone varies"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 1")
    return number


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 0")
    return number
