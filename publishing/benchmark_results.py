"""Figures that `meit-ecg benchmark` measured, with the conditions under which they hold."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from .upload import UploadError

UNKNOWN = "not recorded"
ABSENT = "n/a"
FORMAT_VERSION = 1
# Tasks whose figures the card shows; the others measure noise and raters.
TASKS = ("quality", "zero_shot")
# kind of a figure -> what the card calls it
KINDS = {"right": "right ECG", "gap_other": "gap to another patient's ECG", "gap_flat": "gap to a flat line"}
# name of a figure -> the Hub's name of the metric
METRICS = {
    "loss (nats per token)": "loss",
    "loss (nats per report)": "loss",
    "BLEU-1": "bleu",
    "BLEU-2": "bleu",
    "BLEU-3": "bleu",
    "BLEU-4": "bleu",
    "METEOR": "meteor",
    "ROUGE-1": "rouge",
    "ROUGE-2": "rouge",
    "ROUGE-L": "rouge",
    "CIDEr-D": "cider",
    "BERTScore F1": "bertscore",
    "findings precision": "precision",
    "findings recall": "recall",
    "findings F1": "f1",
}
TASK = ("text-generation", "12-lead ECG report generation")

# (estimate, low, high), the last two of a 95 % interval, each None where it is undefined
Interval = tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class BenchmarkResults:
    """What one task of the benchmark measured of one model.

    Attributes:
        dataset, config, split: the records, or "not recorded".
        conditions: further ones, by name.
        verdict: whether the model was seen to read the ECG.
        figures: name -> "right", "gap_other", "gap_flat" -> interval, or None where it was not measured.
        signal: of the drafts' statements that can be measured, how many, and how many of them the signal contradicts.
    """

    dataset: str
    config: str
    split: str
    conditions: Mapping[str, str | int]
    verdict: str
    figures: Mapping[str, Mapping[str, Interval | None]]
    signal: tuple[int, int]

    def evaluations(self) -> list[EvalResult]:
        """The estimates for a card's `model-index`."""
        return [
            EvalResult(
                task_type=TASK[0],
                task_name=TASK[1],
                dataset_type=self.dataset,
                dataset_name=f"{self.dataset} {self.config}",
                dataset_config=self.config,
                dataset_split=self.split,
                dataset_args=dict(self.conditions),
                metric_type=METRICS.get(name, name),
                metric_name=f"{name}, {KINDS[kind]}",
                metric_value=round(interval[0], 6),
            )
            for name, figure in self.figures.items()
            for kind, interval in figure.items()
            if interval is not None and interval[0] is not None
        ]

    def to_markdown(self) -> str:
        """Conditions, table, what the signal contradicts, and the verdict."""
        stated = ", ".join(f"{name} {value}" for name, value in self.conditions.items())
        lines = [
            f"**{self.dataset}, config {self.config}, split {self.split}**: {stated}.",
            "",
            f"| | {' | '.join(KINDS.values())} |",
            f"|---|{'---|' * len(KINDS)}",
        ]
        for name, figure in self.figures.items():
            cells = [_cell(figure[kind], ".3f" if kind == "right" else "+z.3f") for kind in KINDS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        checked, contradicted = self.signal
        if checked:
            lines += ["", f"Of {checked} statements that can be measured, the signal contradicts {contradicted}."]
        return "\n".join([*lines, "", self.verdict])


def _cell(interval: Interval | None, form: str) -> str:
    estimate, low, high = interval or (None, None, None)
    if estimate is None:
        return ABSENT
    return f"{estimate:{form}}" if low is None or high is None else f"{estimate:{form}} ({low:{form}} to {high:{form}})"


def read_results(path: str | Path, digests: Mapping[str, str], repo_id: str) -> list[BenchmarkResults]:
    """Read of a `results.json` what it measured of one model: one entry per task, in their order.

    Args:
        path: the file.
        digests: SHA-256 of each weights file that goes up, by name; the benchmark noted the same.
        repo_id: where they go; results of a model that was loaded from there count as its own.

    Raises:
        UploadError: the file cannot be read, is of another format, or holds no figures of this model.
    """
    try:
        content = json.loads(Path(path).read_text("utf-8"))
        version = content["format_version"]
        if version == FORMAT_VERSION:
            found = list(_results(content, digests, repo_id))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UploadError(
            f"{path}: not a results.json that `meit-ecg benchmark` wrote ({type(error).__name__}: {error})"
        ) from error
    if version != FORMAT_VERSION:
        raise UploadError(f"{path}: results of format {version!r}, expected {FORMAT_VERSION}")
    if not found:
        raise UploadError(
            f"{path}: figures of another model, or of none in the tasks {' and '.join(TASKS)}; the weights that were "
            "measured are not those that go up"
        )
    return found


def _results(content: Mapping[str, Any], digests: Mapping[str, str], repo_id: str) -> Iterator[BenchmarkResults]:
    settings = content["settings"]
    for task in content["tasks"].values():
        if task["task"] not in TASKS:
            continue
        for system in task["systems"].values():
            if system["kind"] == "model" and _is_same(system["model"], digests, repo_id):
                yield _result(task, settings | system, content["seed"])


def _is_same(model: Mapping[str, Any], digests: Mapping[str, str], repo_id: str) -> bool:
    weights, name = model["weights"], model["name"]
    # Of a repository the benchmark has no digests.
    return all(weights.get(file) == digest for file, digest in digests.items()) or (not weights and name == repo_id)


def _result(task: Mapping[str, Any], system: Mapping[str, Any], seed: int) -> BenchmarkResults:
    data = task["data"]
    where = (str(data.get(key) or UNKNOWN) for key in ("dataset", "config", "split"))
    conditions = {"task": task["task"], "records": data["records"], "patients": data["patients"]}
    conditions |= {key: system[key] for key in ("max_new_tokens", "instruction", "dtype")} | {"seed": seed}
    figures = {
        name: {kind: _interval(figure.get(kind)) for kind in KINDS} for name, figure in system["figures"].items()
    }
    if not figures:
        raise ValueError("no figures")
    signal = system["signal"]["checked"], system["signal"]["contradicted"]
    return BenchmarkResults(*where, conditions, str(system["verdict"]), figures, signal)


def _interval(interval: Mapping[str, float | None] | None) -> Interval | None:
    if interval is None:
        return None
    return _number(interval["estimate"]), _number(interval["low"]), _number(interval["high"])


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
