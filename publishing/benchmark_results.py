"""Figures that `meit-ecg benchmark` measured, with the conditions under which they hold."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult

from .upload import UploadError

UNKNOWN = "not recorded"
KINDS = {"right": "right ECG", "other": "another patient's ECG", "gap": "gap, right minus other"}
# name of a figure -> the Hub's name of the metric
METRICS = {
    "loss (nats per token)": "loss",
    "loss (nats per report)": "loss",
    "BLEU-1": "bleu",
    "BLEU-2": "bleu",
    "BLEU-3": "bleu",
    "BLEU-4": "bleu",
    "ROUGE-L": "rouge",
}
TASK = ("text-generation", "12-lead ECG report generation")


@dataclass(frozen=True)
class BenchmarkResults:
    """One run of the benchmark.

    Attributes:
        dataset, config, split: the records, or "not recorded".
        conditions: further ones, by name.
        verdict: whether the model was seen to read the ECG.
        figures: name -> "right", "other", "gap" -> (estimate, low, high), the last two of a 95 % interval.
    """

    dataset: str
    config: str
    split: str
    conditions: Mapping[str, str | int]
    verdict: str
    figures: Mapping[str, Mapping[str, tuple[float, float, float]]]

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
                metric_value=round(values[0], 6),
            )
            for name, figure in self.figures.items()
            for kind, values in figure.items()
        ]

    def to_markdown(self) -> str:
        """Conditions, table and verdict."""
        stated = ", ".join(f"{name} {value}" for name, value in self.conditions.items())
        lines = [
            f"**{self.dataset}, config {self.config}, split {self.split}**: {stated}.",
            "",
            "| | right ECG | another patient's ECG | gap (95 % interval) |",
            "|---|---|---|---|",
        ]
        for name, figure in self.figures.items():
            gap, low, high = figure["gap"]
            right, other = figure["right"][0], figure["other"][0]
            lines.append(f"| {name} | {right:.3f} | {other:.3f} | {gap:+.3f} ({low:+.3f} to {high:+.3f}) |")
        return "\n".join([*lines, "", self.verdict])


def read_results(path: str | Path, digests: Mapping[str, str], repo_id: str) -> BenchmarkResults:
    """Read a `quality.json`.

    Args:
        path: the file.
        digests: SHA-256 of each weights file that goes up, by name; the benchmark noted the same.
        repo_id: where they go; results of a model that was loaded from there count as its own.

    Raises:
        UploadError: the file cannot be read, or its figures are of another model.
    """
    try:
        content = json.loads(Path(path).read_text("utf-8"))
        settings, data = content["settings"], content.get("data", {})
        model = settings["model"]
        figures = {
            name: {kind: tuple(float(figure[kind][key]) for key in ("estimate", "low", "high")) for kind in KINDS}
            for name, figure in content["figures"].items()
        }
        conditions = {
            "records": content["records"],
            "patients": content["patients"],
            "max_new_tokens": settings["max_new_tokens"],
            "instruction": settings["instruction"],
            "dtype": settings["dtype"],
            "seed": settings["seed"],
        }
        verdict, weights, name = str(content["verdict"]), model["weights"], model["name"]
        is_same = all(weights.get(file) == digest for file, digest in digests.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UploadError(
            f"{path}: not a quality.json that `meit-ecg benchmark` wrote ({type(error).__name__}: {error})"
        ) from error
    # Of a repository the benchmark has no digests.
    if not is_same and (weights or name != repo_id):
        raise UploadError(f"{path}: figures of another model; the weights that were measured are not those that go up")
    where = (str(data.get(key) or UNKNOWN) for key in ("dataset", "config", "split"))
    return BenchmarkResults(*where, conditions, verdict, figures)
