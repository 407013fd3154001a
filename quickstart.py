"""From a bare checkout to drafted reports: what `make report` runs. Each step is a command that users type."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dataset_builder.dataset_folder import BUILD_REPORT
from dataset_builder.records import load_records
from evaluation.wordnet import WordNetNotFoundError, open_wordnet
from processing import row_recording
from reporting.notice import DRAFT_NOTICE
from reporting.page import DraftedReport, write_page
from tasks.results import RESULTS

REPOSITORY = Path(__file__).resolve().parent
DATASET = "meit-ecg"
UNSEEN = "mimic-iv-ecg"
RECIPE = "recipes/quickstart.yaml"
RUN = Path("runs/quickstart")
MODEL = RUN / "model"
BENCHMARK = RUN / "benchmark"
SIMULATED_RECORDS = 480
BENCHMARK_RECORDS = 48
SHOWN = 12
PRINTED = 4


def main(argv: list[str] | None = None) -> int:
    """Build, train, draft, score, and write runs/quickstart/index.html; 0, or the exit status of a failed step."""
    argparse.ArgumentParser(description=__doc__, epilog=DRAFT_NOTICE).parse_args(argv)
    os.chdir(REPOSITORY)
    ptb_xl = ptb_xl_folder()
    corpus, build = corpus_at_hand(ptb_xl)
    commands = []
    try:
        if not (Path(DATASET) / corpus / BUILD_REPORT).is_file():
            commands.append(_run(*build, "--output", DATASET))
        commands.append(_run("train", "--config", RECIPE, "--dataset_config", corpus))
        shutil.rmtree(BENCHMARK, ignore_errors=True)  # of the model that an earlier run trained
        where = ("--dataset", DATASET, "--dataset-config", corpus, "--limit", str(BENCHMARK_RECORDS))
        output = ("--output", str(BENCHMARK), "--max-new-tokens", "64")
        commands.append(_run("benchmark", "--model", str(MODEL), *where, *output, *_without_meteor()))
        record = next((ptb_xl / "records500").rglob("*.hea"), None)
        if record is not None:
            commands.append(_run("report", str(record.with_suffix("")), "--model", str(MODEL)))
        # Not drafted for here; `meit-ecg benchmark --task zero_shot` then finds a corpus that the model has not seen.
        mimic = ptb_xl.with_name(UNSEEN)
        if mimic.is_dir() and not (Path(DATASET) / UNSEEN / BUILD_REPORT).is_file():
            commands.append(_run("build", UNSEEN, "--data-dir", str(mimic), "--output", DATASET))
    except subprocess.CalledProcessError as error:
        print(f"error: {' '.join(error.cmd[1:])} ended with exit status {error.returncode}", file=sys.stderr)
        return error.returncode
    page = _write_page(corpus, commands)
    print(f"wrote {page}\n{DRAFT_NOTICE}")
    return 0


def ptb_xl_folder() -> Path:
    """Where PTB-XL's recordings are, if there are any: in the folder that `MEIT_DATA` names."""
    return Path(os.environ.get("MEIT_DATA", "../shared/data")) / "ptb-xl"


def corpus_at_hand(ptb_xl: Path) -> tuple[str, list[str]]:
    """PTB-XL where its folder is there, else simulated ECGs; and the `meit-ecg` command that builds it."""
    if ptb_xl.is_dir():
        return "ptb-xl", ["build", "ptb-xl", "--data-dir", str(ptb_xl)]
    return "simulated", ["build", "simulated", "--num-records", str(SIMULATED_RECORDS)]


def _without_meteor() -> list[str]:
    """METEOR needs WordNet, which may not be had here; the other figures do not."""
    try:
        open_wordnet()
    except WordNetNotFoundError as error:
        print(f"METEOR is left out: {error}")
        return ["--no-meteor"]
    return []


def _run(*arguments: str) -> str:
    """Run one `meit-ecg` command in a process of its own; returns it as users type it."""
    shown = f"meit-ecg {' '.join(arguments)}"
    print(f"\n$ {shown}", flush=True)
    # Threads that wait by spinning keep the work from the cores: on two of them a step took up to five times as long.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ
    subprocess.run([sys.executable, "-m", "meit_ecg", *arguments], check=True, env=environment)
    return shown


def _write_page(corpus: str, commands: list[str]) -> Path:
    rows, _ = load_records(DATASET, corpus, "test", BENCHMARK_RECORDS)
    with (BENCHMARK / f"quality-{corpus}" / "records.jsonl").open(encoding="utf-8") as lines:
        drafted = [line for line in map(json.loads, lines) if (line["system"], line["shown"]) == (str(MODEL), "right")]
    row_of = dict(zip(rows["id"], range(len(rows)), strict=True))
    shown = []
    for line in drafted[:SHOWN]:
        recording = row_recording(rows[row_of[line["id"]]])
        name = f"{corpus} record {line['id']}"
        shown.append(
            DraftedReport(
                name, line["draft"], line["reference"], recording.signal, recording.sampling_rate, line["scores"]
            )
        )
    for report in shown[:PRINTED]:
        print(f"\n{report.id}\n  draft:     {report.draft}\n  reference: {report.reference}")
    run = json.loads((MODEL / "training_run.json").read_text(encoding="utf-8"))
    results = json.loads((BENCHMARK / RESULTS).read_text(encoding="utf-8"))
    quality = results["tasks"][f"quality/{corpus}"]
    system, data = quality["systems"][str(MODEL)], quality["data"]
    figures = {
        name: f"{figure['right']['estimate']:.3f} with the right ECG, {figure['other']['estimate']:.3f} with another "
        f"patient's, {figure['flat']['estimate']:.3f} with a flat line"
        for name, figure in system["figures"].items()
        if figure["right"]["estimate"] is not None
    }
    facts = {
        "Data": f"{corpus}, test split: {data['records']} records of {data['patients']} patients, drawn at "
        f"random; {len(shown)} of them are shown",
        "Backbone": run["model"]["text_model"],
        "Commands": "\n".join(commands),
        **figures,
        "Verdict": system["verdict"],
    }
    return write_page(shown, RUN / "index.html", "Drafted ECG reports", facts)


if __name__ == "__main__":
    sys.exit(main())
