"""What the benchmark measures: the model, and baselines that need no training."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from dataset_builder.digest import sha256_of
from dataset_builder.instructions import INSTRUCTIONS_VERSION, instruction_for
from evaluation.baselines import NearestNeighbourReports, most_frequent_report
from evaluation.ecg_features import FEATURE_NAMES, FEATURE_WEIGHTS, ecg_features
from processing import ECGDataCollator, row_recording
from reporting.draft import ReportDrafter, end_tokens
from reporting.report_loss import report_losses

from .showing import Row, is_flat


class System(Protocol):
    """Drafts reports.

    Attributes:
        name: in tables.
        label: the same for file names.
        kind: "model" or "baseline".
        settings: whatever its drafts depend on, ready for JSON.
    """

    name: str
    label: str
    kind: str
    settings: Mapping[str, Any]

    def draft(self, rows: Sequence[Row]) -> list[str]:
        """A report for the ECG of each row."""


class ModelSystem:
    """A trained model.

    Args:
        drafter: holds it.
        max_new_tokens: length of a draft at most.
    """

    kind = label = "model"

    def __init__(self, drafter: ReportDrafter, max_new_tokens: int):
        self.name = shown_name(drafter.name)
        config = drafter.model.config
        text_model = drafter.text_model or config.text_model_id or config.text_config._name_or_path
        self.text_model = shown_name(text_model) if text_model else None
        self.settings = {
            "model": fingerprint(drafter.name),
            "text_model": self.text_model,
            "dtype": str(drafter.model.model.language_model.dtype),
            "max_new_tokens": max_new_tokens,
            "instruction": drafter.instruction,
            "instructions_version": INSTRUCTIONS_VERSION,
        }
        self._drafter, self._max_new_tokens = drafter, max_new_tokens
        self._collator = ECGDataCollator.for_model(drafter.model.config, drafter.processor, instruction_for)

    def draft(self, rows: Sequence[Row]) -> list[str]:
        """As `System.draft`; a flat line is zeros, which is what the model is given for 0 mV after padding."""
        extractor = self._drafter.processor.feature_extractor
        values = [
            torch.zeros(1, 12, extractor.num_samples)
            if is_flat(row)
            else extractor(row_recording(row), return_tensors="pt")["ecg_values"]
            for row in rows
        ]
        return self._drafter.draft_values(torch.cat(values), self._max_new_tokens)

    def losses(self, rows: Sequence[Row]) -> list[tuple[float, int]]:
        """Nats and tokens of each row's own report, given its ECG, under the instruction that training drew for it."""
        nats, tokens = report_losses(self._drafter.model, self._collate, [rows])
        return [(float(loss), int(count)) for loss, count in zip(nats, tokens, strict=True)]

    def _collate(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        flat = [is_flat(row) for row in rows]
        # The feature extractor refuses a flat line, as it should; a ramp stands in until the values are there.
        ramp = np.arange(np.asarray(rows[0]["ecg"]).shape[1]) % 1000
        inputs = self._collator(
            [
                {**row, "ecg": np.tile(ramp, (12, 1)).astype(np.int16)} if replaced else row
                for row, replaced in zip(rows, flat, strict=True)
            ]
        )
        inputs["ecg_values"][torch.tensor(flat)] = 0.0
        return inputs


class LanguageModelAlone:
    """The model's language model as it was published, with the same question and no ECG: not tuned on reports.

    Args:
        drafter: of the model; says where its language model is.
        max_new_tokens: length of a draft at most.

    Raises:
        OSError, ValueError: where the model does not say where its language model came from, or it cannot be loaded.
    """

    kind = "baseline"
    name = label = "language model alone"

    def __init__(self, drafter: ReportDrafter, max_new_tokens: int):
        config = drafter.model.config
        recorded = config.text_model_path
        place = drafter.text_model or (recorded if recorded and Path(recorded).is_dir() else config.text_model_id)
        if place is None:
            raise ValueError(
                f"{shown_name(drafter.name)} is a full checkpoint and does not say where its language model came from"
            )
        auto_class = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        language_model = drafter.model.model.language_model
        self._model = auto_class.from_pretrained(place, dtype=language_model.dtype).to(language_model.device).eval()
        self._drafter, self._max_new_tokens = drafter, max_new_tokens
        self.settings = {
            "text_model": config.text_model_id or Path(place).name,
            "dtype": str(language_model.dtype),
            "max_new_tokens": max_new_tokens,
            "instruction": drafter.instruction,
        }
        self._report: str | None = None

    def draft(self, rows: Sequence[Row]) -> list[str]:
        """As `System.draft`; the same for all, since nothing but the instruction is given."""
        if self._report is None:
            self._report = self._generate()
        return [self._report] * len(rows)

    @torch.no_grad()
    def _generate(self) -> str:
        tokenizer = self._drafter.processor.tokenizer
        asked = [{"role": "user", "content": self._drafter.instruction}]
        if tokenizer.chat_template is None:
            inputs = tokenizer(self._drafter.instruction, return_tensors="pt")
        else:
            inputs = tokenizer.apply_chat_template(
                asked, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
        inputs = inputs.to(self._model.device)
        generated = self._model.generate(
            **inputs,
            max_new_tokens=self._max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=end_tokens(self._model, self._drafter.processor),
            pad_token_id=tokenizer.pad_token_id,
        )
        if not self._model.config.is_encoder_decoder:
            generated = generated[:, inputs["input_ids"].shape[1] :]
        return tokenizer.decode(generated[0], skip_special_tokens=True).strip()


class MostFrequentReport:
    """Always the most frequent report of the training split.

    Args:
        reports: of the training split.
        corpus: which they are of.
    """

    kind = "baseline"

    def __init__(self, reports: Sequence[str], corpus: str):
        self.name = self.label = f"most frequent report, {corpus}"
        self._report = most_frequent_report(reports)
        self.settings = {"training_reports": digest_of_texts(reports)}

    def draft(self, rows: Sequence[Row]) -> list[str]:
        """As `System.draft`."""
        return [self._report] * len(rows)


class NearestNeighbour:
    """The report of the training record whose ECG is the most alike (`evaluation.ecg_features`).

    Args:
        rows: of the training split; each ECG is measured once, here.
        corpus: which they are of.
    """

    kind = "baseline"

    def __init__(self, rows: Iterable[Row], corpus: str):
        self.name = self.label = f"nearest neighbour, {corpus}"
        reports, features = [], []
        for row in rows:
            reports.append(row["report"])
            features.append(_features(row))
        self._neighbours = NearestNeighbourReports(np.array(features), reports, FEATURE_NAMES, FEATURE_WEIGHTS)
        digest = hashlib.sha256(np.array(features).tobytes()).hexdigest()
        self.settings = {"training_reports": digest_of_texts(reports), "training_features": digest}

    def draft(self, rows: Sequence[Row]) -> list[str]:
        """As `System.draft`."""
        return [self._neighbours.report(_features(row)) for row in rows]


def _features(row: Row) -> np.ndarray:
    recording = row_recording(row)
    return ecg_features(recording.signal, recording.sampling_rate)


def shown_name(model: str | Path) -> str:
    """What a model is called in results: of an absolute path its last part, for where it lies is nobody's business."""
    return Path(model).name if Path(model).is_absolute() else str(model)


def fingerprint(model: str | Path) -> dict[str, Any]:
    """What tells one model from another: its name, and the contents of its weights where it is a folder."""
    files = sorted(Path(model).glob("*.safetensors")) if Path(model).is_dir() else []
    return {"name": shown_name(model), "weights": {path.name: sha256_of(path) for path in files}}


def digest_of_texts(texts: Iterable[str]) -> str:
    """SHA-256 over texts in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8") + b"\0")
    return digest.hexdigest()
