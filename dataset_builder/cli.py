"""The command `meit-ecg build`, which is `python -m dataset_builder` too."""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from dataset_builder.build import TRANSLATIONS, WORK, build_config, build_job, merge_jobs
from dataset_builder.corpus import Corpus
from dataset_builder.corpus_files import open_corpus_files
from dataset_builder.csv_table import iterate_csv
from dataset_builder.dataset_folder import BUILD_REPORT
from dataset_builder.errors import DatasetBuildError
from dataset_builder.mimic_iv_ecg import MIMICIVECG
from dataset_builder.mimic_iv_ecg_table import MEASUREMENTS, RECORDS
from dataset_builder.ptb_xl import PTBXL
from dataset_builder.ptb_xl_table import DATABASE, FILENAMES, REPORTS_EN
from dataset_builder.scp_report import SCP_STATEMENTS
from dataset_builder.translation import Translator

# What PhysioNet calls the versions that `--download` fetches.
_PTB_XL_DATABASE, _MIMIC_DATABASE = "ptb-xl/1.0.3", "mimic-iv-ecg/1.0"


def main(argv: list[str] | None = None) -> int:
    """Build one config of the dataset; 0 if it was written, 2 if the input or an option is at fault."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.config == "ptb-xl" and arguments.translate is not None and arguments.corpus_reports:
        parser.error("argument --translate: not allowed with argument --corpus-reports")
    is_job = arguments.shard is not None or arguments.merge
    if is_job and getattr(arguments, "translate", None) is not None:
        # Each job would translate all of them, and one that differs in a word would make another plan.
        parser.error("argument --translate: not allowed with --shard or --merge; one job builds the corpus in a minute")
    if is_job and getattr(arguments, "download", False):
        parser.error("argument --download: not allowed with --shard or --merge; build with it once, or download before")
    output = Path(arguments.output)
    try:
        corpus = _CORPORA[arguments.config](arguments)
        if arguments.shard is not None:
            records = build_job(corpus, output, arguments.shard, arguments.num_proc, arguments.limit, print)
            index, jobs = arguments.shard
            print(f"Job {index} of {jobs}: its shards of {records} records are finished; --merge ends the build")
            return 0
        if arguments.merge:
            report = merge_jobs(corpus, output, arguments.limit, print)
        else:
            report = build_config(corpus, output, arguments.num_proc, arguments.limit, print)
    except (DatasetBuildError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from the finished shards.", file=sys.stderr)
        return 130
    print(_summary(report, output))
    return 0


def _ptb_xl(arguments: argparse.Namespace) -> Corpus:
    column = FILENAMES[arguments.sampling_rate]
    if arguments.download:
        tables = (DATABASE, SCP_STATEMENTS)
        _download(_PTB_XL_DATABASE, arguments.data_dir, tables, lambda: _names(arguments.data_dir, DATABASE, column))
    files = open_corpus_files(arguments.data_dir, DATABASE)
    if arguments.reports_csv is None and not arguments.corpus_reports and files.exists(REPORTS_EN):
        print(f"English reports: {REPORTS_EN} of {arguments.data_dir}")
    translator = None
    if arguments.translate is not None:
        cache = Path(arguments.output, WORK, TRANSLATIONS)
        cache.parent.mkdir(parents=True, exist_ok=True)
        translator = Translator(arguments.translate, cache_file=cache)
    return PTBXL(files, arguments.sampling_rate, arguments.reports_csv, translator, not arguments.corpus_reports)


def _mimic_iv_ecg(arguments: argparse.Namespace) -> Corpus:
    if arguments.download:
        tables = (RECORDS, MEASUREMENTS)
        _download(_MIMIC_DATABASE, arguments.data_dir, tables, lambda: _names(arguments.data_dir, RECORDS, "path"))
    return MIMICIVECG(open_corpus_files(arguments.data_dir, RECORDS))


def _simulated(arguments: argparse.Namespace) -> Corpus:
    from dataset_builder.simulated import Simulated  # here, as neurokit2 takes seconds to import

    return Simulated(arguments.num_records, arguments.seed, arguments.plain)


_CORPORA: dict[str, Callable[[argparse.Namespace], Corpus]] = {
    "ptb-xl": _ptb_xl,
    "mimic-iv-ecg": _mimic_iv_ecg,
    "simulated": _simulated,
}


def _names(folder: str, table: str, column: str) -> Iterator[str]:
    return (line[column] for line in iterate_csv(Path(folder) / table, (column,)))


def _download(database: str, folder: str, tables: tuple[str, ...], records: Callable[[], Iterator[str]]) -> None:
    from dataset_builder.download import download_corpus  # here, as wfdb and requests take a second to import

    done = download_corpus(database, folder, tables, records)
    print(f"{folder}: {done.downloaded} records downloaded, {done.already_there} were there")
    if done.failed:
        name, why = done.failed[0]
        print(f"warning: {len(done.failed)} records could not be downloaded, such as {name}: {why}", file=sys.stderr)


def _summary(report: dict, output: Path) -> str:
    lines = [f"Wrote {output / report['config']}"]
    for split in ("train", "validation", "test"):
        counts = report["splits"].get(split)
        if counts is None:
            lines.append(f"  {split}: no records, so this split is left out")
            continue
        lines.append(f"  {split}: {counts['records']} records of {counts['patients']} patients")
        foreign = sum(count for language, count in counts["report_languages"].items() if language not in ("en", "und"))
        if foreign or counts["reports_with_foreign_words"]:
            lines.append(
                f"    reports: {foreign} in German or Swedish, {counts['reports_with_foreign_words']} in English with "
                "words of these left"
            )
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
        prog="meit-ecg build",
        description="Build one config of the dataset folder; others in it stay. Killed at any moment, the same command "
        "goes on.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--output", required=True, metavar="DIR", help="the dataset folder, such as meit-ecg")
    common.add_argument("--num-proc", type=_positive, default=1, metavar="N", help="processes (default: 1)")
    common.add_argument("--limit", type=_positive, metavar="N", help="at most N records per split")
    jobs = common.add_mutually_exclusive_group()
    jobs.add_argument("--shard", type=_job, metavar="I/N", help="build the I-th of N parts (from 1), as in a job array")
    jobs.add_argument("--merge", action="store_true", help="end the build once all parts are there; reads no recording")
    configs = parser.add_subparsers(dest="config", required=True, metavar="CONFIG")

    published = argparse.ArgumentParser(add_help=False)
    published.add_argument(
        "--data-dir", required=True, metavar="DIR", help="the corpus' folder as published, or a zip of it"
    )
    published.add_argument(
        "--download", action="store_true", help="download the corpus from PhysioNet into DIR first, or what is missing"
    )

    ptb_xl = configs.add_parser("ptb-xl", parents=[common, published], help="PTB-XL 1.0.1 to 1.0.3")
    ptb_xl.add_argument(
        "--sampling-rate", type=float, choices=sorted(FILENAMES), default=500.0, metavar="HZ",
        help="500 (default) or 100, which becomes the config ptb-xl-100hz",
    )  # fmt: skip
    texts = ptb_xl.add_mutually_exclusive_group()
    texts.add_argument(
        "--reports-csv",
        metavar="FILE",
        help=f"CSV of English reports (ecg_id,report_en); default: {REPORTS_EN} of the corpus, if there",
    )
    texts.add_argument("--corpus-reports", action="store_true", help="keep the corpus' own, mostly German, reports")
    ptb_xl.add_argument(
        "--translate",
        metavar="MODEL",
        help="translate the reports that have no English text by this seq2seq model (a Hub id or a folder)",
    )

    configs.add_parser("mimic-iv-ecg", parents=[common, published], help="MIMIC-IV-ECG 1.0")

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


def _job(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text}: expected I/N with I from 1 to N, such as 3/16")
    return int(match[1]), int(match[2])
