"""Measure a model on a dataset: `run_benchmark.py --model PATH --dataset meit-ecg --task quality`."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import datasets
from transformers.utils import logging

from dataset_builder.errors import DatasetBuildError
from dataset_builder.instructions import INSTRUCTIONS_VERSION
from evaluation.bertscore import Encoder, bertscore_per_report
from evaluation.endpoint_judge import EndpointJudge
from evaluation.judge import Judge, JudgeUnavailableError
from evaluation.wordnet import open_wordnet
from reporting.model_options import add_model_options, load_drafter, positive
from reporting.notice import DRAFT_NOTICE
from tasks import expert, noise, quality, zero_shot
from tasks.local_judge import LocalJudge
from tasks.plan import planned, trained_corpus
from tasks.processes import Processes
from tasks.result_table import result_tables
from tasks.results import RESULTS, TABLES, add_earlier, new_results, write_results
from tasks.session import Session, file_name
from tasks.systems import shown_name

TASKS = {
    "quality": "drafts against the reports of the corpus that the model was trained on",
    "zero_shot": "the same on every other corpus in the dataset",
    "noise": "drafts from ECGs with noise, lost leads and exchanged electrodes",
    "expert": "sheets for human raters, a judge model, and SCP statements that a person validated",
}


# Two reports, for a baseline needs two.
_TRIED = ("sinus rhythm", "atrial fibrillation")


def _parser() -> argparse.ArgumentParser:
    tasks = "\n".join(f"  {name:<10} {what}" for name, what in TASKS.items())
    parser = argparse.ArgumentParser(
        description="Measure a model on a dataset: wording, truth, and whether it reads the ECG.",
        epilog=f"tasks:\n{tasks}\n\n{DRAFT_NOTICE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser, batch_size=16)
    parser.add_argument(
        "--dataset", required=True, metavar="PATH", help="folder that `meit-ecg build` wrote, or Hub id"
    )
    parser.add_argument("--dataset-config", metavar="NAME", help="corpus to measure on; default: the task's own choice")
    parser.add_argument(
        "--trained-on", metavar="NAME", help="corpus that the model was trained on; default: what its folder says"
    )
    parser.add_argument("--split", default="test", metavar="NAME", help="default: test")
    parser.add_argument("--task", nargs="+", choices=(*TASKS, "all"), default=["quality"], help="default: quality")
    parser.add_argument("--output", default="runs/benchmark", metavar="DIR", help="default: runs/benchmark")
    parser.add_argument("--limit", type=positive, metavar="N", help="N records per corpus, drawn with --seed")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--no-baselines", action="store_true", help="measure the model alone")
    wording = parser.add_argument_group("wording")
    wording.add_argument("--wordnet", metavar="DIR", help="WordNet 3.0, for METEOR; default: where it is installed")
    wording.add_argument("--no-meteor", action="store_true", help="leave METEOR out")
    wording.add_argument("--bertscore", metavar="PATH", help="encoder of BERTScore; default: BERTScore is left out")
    wording.add_argument("--bertscore-layer", type=positive, metavar="N", help="of the encoder, counted from 1")
    rating = parser.add_argument_group("task expert")
    rating.add_argument("--raters", nargs="+", default=["rater-1", "rater-2"], metavar="NAME", help="a sheet for each")
    rating.add_argument("--rated-records", type=positive, default=20, metavar="N", help="on the sheets; default: 20")
    rating.add_argument("--ratings", metavar="DIR", help="folder of filled sheets")
    rating.add_argument("--judge", metavar="PATH", help="judge: folder or Hub id, or the model's name at --judge-url")
    rating.add_argument(
        "--judge-url", metavar="URL", help="OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1"
    )
    rating.add_argument("--judge-key", metavar="VARIABLE", default="OPENAI_API_KEY", help="variable that holds its key")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the tasks and print their tables; 0 if they ran, 1 if model or data are not usable, 2 for a wrong option."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.judge_url and not arguments.judge:
        parser.error("--judge-url needs --judge: the model's name there")
    if arguments.bertscore_layer and not arguments.bertscore:
        parser.error("--bertscore-layer needs --bertscore: the encoder")
    chosen = list(TASKS) if "all" in arguments.task else list(dict.fromkeys(arguments.task))
    if (arguments.judge or arguments.ratings) and "expert" not in chosen:
        parser.error("--judge and --ratings are of --task expert")
    logging.disable_progress_bar()
    try:
        results = _run(arguments, chosen, sys.argv if argv is None else ["meit-ecg benchmark", *argv])
    except (OSError, ValueError, ImportError, DatasetBuildError, JudgeUnavailableError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on with what is in {arguments.output}", file=sys.stderr)
        return 130
    if results is not None:
        print(result_tables(results))
        for note in results["notes"]:
            print(f"note: {note}")
        print(f"wrote {arguments.output}/: {RESULTS}, {TABLES}, and a folder per task\n{DRAFT_NOTICE}")
    return 0


def _run(arguments: argparse.Namespace, chosen: list[str], command: list[str]) -> dict[str, Any] | None:
    if not arguments.no_meteor:
        open_wordnet(arguments.wordnet)  # or the run would fail after an hour of drafting
    if arguments.ratings and not Path(arguments.ratings).is_dir():
        raise FileNotFoundError(f"--ratings {arguments.ratings}: no such folder")
    processes = Processes()
    arguments.device = arguments.device or processes.device
    corpora = _corpora(arguments)
    trained_on = arguments.trained_on or trained_corpus(arguments.model)
    work = planned(chosen, corpora, trained_on, arguments.dataset_config)
    drafter = load_drafter(arguments)
    judge = _judge(arguments, drafter.model.device) if "expert" in chosen and processes.is_main else None
    encoder = arguments.bertscore and Encoder(arguments.bertscore, arguments.bertscore_layer)
    if encoder and processes.is_main:
        bertscore_per_report(_TRIED, _TRIED, encoder)  # as for WordNet
    settings = {
        "max_new_tokens": arguments.max_new_tokens,
        "instruction": drafter.instruction,
        "instructions_version": INSTRUCTIONS_VERSION,
        "limit": arguments.limit,
        "bertscore": encoder
        and {"encoder": shown_name(encoder.path), "layer": encoder.layer, "baseline": encoder.baseline},
    }
    results = new_results(command, arguments.seed, processes.count, drafter.model.device, settings)
    if (left := add_earlier(results, arguments.output)) and processes.is_main:
        print(f"warning: {', '.join(left)} of other settings go from {RESULTS}; their drafts stay", file=sys.stderr)
    session = Session(
        drafter,
        arguments.dataset,
        Path(arguments.dataset).resolve().name if Path(arguments.dataset).is_dir() else arguments.dataset,
        arguments.split,
        Path(arguments.output),
        arguments.max_new_tokens,
        arguments.limit,
        arguments.seed,
        {"meteor": not arguments.no_meteor, "wordnet": arguments.wordnet, "bertscore": encoder or None},
        not arguments.no_baselines,
        processes,
        results["notes"],
    )
    for task, config in work:
        started = time.monotonic()
        if task == "quality":
            entry = quality.run(session, config)
        elif task == "zero_shot":
            entry = zero_shot.run(session, config, trained_on)
        elif task == "noise":
            entry = noise.run(session, config)
        else:
            entry = expert.run(session, config, arguments.raters, arguments.rated_records, judge, arguments.ratings)
        if entry is not None:
            entry["seconds"] = round(time.monotonic() - started, 1)
            results["tasks"][f"{task}/{file_name(config or 'data')}"] = entry
            write_results(results, arguments.output)
            (Path(arguments.output) / TABLES).write_text(result_tables(results), encoding="utf-8")
    processes.part()
    return results if processes.is_main else None


def _corpora(arguments: argparse.Namespace) -> list[str]:
    try:
        found = datasets.get_dataset_config_names(arguments.dataset)
    except (FileNotFoundError, ConnectionError, ValueError) as error:
        raise FileNotFoundError(
            f"{arguments.dataset}: neither a dataset folder nor a Hub dataset that can be reached; write one with "
            f"`meit-ecg build` ({error})"
        ) from error
    if arguments.dataset_config and arguments.dataset_config not in found:
        raise ValueError(f"{arguments.dataset}: no config {arguments.dataset_config!r}; found {', '.join(found)}")
    return found


def _judge(arguments: argparse.Namespace, device: Any) -> Judge | None:
    if arguments.judge is None:
        return None
    if arguments.judge_url:
        return EndpointJudge(arguments.judge_url, arguments.judge, api_key_env=arguments.judge_key)
    return LocalJudge(arguments.judge, device=device)


if __name__ == "__main__":
    sys.exit(main())
