"""The task `quality` on a trained model: drafts and losses of a dataset's records, with right and other ECGs."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dataset_builder.digest import sha256_of
from dataset_builder.instructions import INSTRUCTIONS_VERSION, instruction_for
from evaluation import other_patients
from evaluation.drafts_file import DraftsFile
from evaluation.quality import Figure, Outcome, quality_figures, verdict
from processing import ECGDataCollator, row_recording

from .draft import ReportDrafter
from .report_loss import report_losses, with_ecg_of

DRAFTS = "drafts.jsonl"
FIGURES = "quality.json"


def run_quality(
    drafter: ReportDrafter,
    rows: Sequence[Mapping[str, Any]],
    output_dir: str | Path,
    max_new_tokens: int = 256,
    seed: int = 0,
    data: Mapping[str, str | None] | None = None,
) -> dict[str, Figure]:
    """Draft every record's report, and score drafts and losses with the right and another patient's ECG.

    Drafts are written to `drafts.jsonl` in `output_dir` as they come; a run that finds them there goes on. The
    figures go to `quality.json`.

    Args:
        drafter: the system.
        rows: records of the dataset, each with a report.
        output_dir: folder for both files.
        max_new_tokens: length of a draft at most.
        seed: of the exchange of ECGs and of the bootstrap.
        data: dataset, config and split that the records are of, for whoever reads the figures.

    Raises:
        ValueError: where the drafts in `output_dir` are of another model or other settings.
    """
    output_dir = Path(output_dir)
    donors = {"right": list(range(len(rows))), "other": other_patients([row["patient_id"] for row in rows], seed)}
    settings = {
        "model": fingerprint(drafter.name),
        "text_model": drafter.text_model,
        "ecgs": digest_of_ecgs(rows),
        "max_new_tokens": max_new_tokens,
        "instruction": drafter.instruction,
        "dtype": str(drafter.model.model.language_model.dtype),
    }
    drafts = DraftsFile(output_dir / DRAFTS, settings)
    outcomes = {name: _outcome(drafter, rows, ecgs, drafts, max_new_tokens, name) for name, ecgs in donors.items()}
    references, patients = [row["report"] for row in rows], [row["patient_id"] for row in rows]
    figures = quality_figures(references, patients, outcomes["right"], outcomes["other"], seed)
    content = {
        "settings": settings | {"instructions_version": INSTRUCTIONS_VERSION, "seed": seed},
        "data": dict(data or {}),
        "records": len(rows),
        "patients": len(set(patients)),
        "verdict": verdict(figures),
        "figures": {
            name: {kind: vars(getattr(figure, kind)) for kind in ("right", "other", "gap")}
            for name, figure in figures.items()
        },
    }
    (output_dir / FIGURES).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return figures


def _outcome(
    drafter: ReportDrafter,
    rows: Sequence[Mapping[str, Any]],
    ecgs: Sequence[int],
    drafts: DraftsFile,
    max_new_tokens: int,
    name: str,
) -> Outcome:
    pairs = list(zip(range(len(rows)), ecgs, strict=True))
    batches = [pairs[start : start + drafter.batch_size] for start in range(0, len(pairs), drafter.batch_size)]

    def shown() -> Iterator[list[dict[str, Any]]]:
        for batch in tqdm(batches, desc=f"loss, {name} ECGs"):
            yield [with_ecg_of(rows[record], rows[ecg]) for record, ecg in batch]

    collator = ECGDataCollator.for_model(drafter.model.config, drafter.processor, instruction_for)
    nats, tokens = report_losses(drafter.model, collator, shown())

    ids = [row["id"] for row in rows]
    for batch in tqdm(batches, desc=f"drafts, {name} ECGs"):
        missing = [(record, ecg) for record, ecg in batch if (ids[record], ids[ecg]) not in drafts.drafts]
        made = drafter.draft((row_recording(rows[ecg]) for _, ecg in missing), max_new_tokens=max_new_tokens)
        drafts.add(
            ((ids[record], ids[ecg]), _report(draft)) for (record, ecg), draft in zip(missing, made, strict=True)
        )
    return Outcome(nats, tokens, [drafts.drafts[ids[record], ids[ecg]] for record, ecg in pairs])


def _report(draft) -> str:
    if draft.report is None:
        raise ValueError(f"{draft.source}: no draft ({draft.error})")
    return draft.report


def digest_of_ecgs(rows: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 over the ids and signals of records: two corpora may use the same ids."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row["id"].encode() + b"\n" + np.asarray(row["ecg"], dtype=np.int16).tobytes())
    return digest.hexdigest()


def fingerprint(model: str | Path) -> dict[str, Any]:
    """What tells one model from another: its name, and the contents of its weights where it is a folder."""
    files = sorted(Path(model).glob("*.safetensors")) if Path(model).is_dir() else []
    return {"name": str(model), "weights": {path.name: sha256_of(path) for path in files}}
