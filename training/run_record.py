"""What a run was: the facts that its checkpoints and its result carry along, in `training_run.json`."""

import json
import os
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
import trl
from transformers.training_args import OptimizerNames

from dataset_builder.instructions import INSTRUCTIONS_VERSION

from .arguments import DataArguments, ModelArguments, TrainingConfig, TuningArguments
from .mixture import CorpusRecords
from .tuning import LORA_TUNINGS

RUN_RECORD = "training_run.json"
# A run that goes on with one of these changed would no longer be the run that it was.
_MUST_AGREE = ("model", "data", "tuning", "batch", "optimisation", "seed", "data_seed", "earlier_run")


def run_record(
    model: ModelArguments,
    data: DataArguments,
    tuning: TuningArguments,
    config: TrainingConfig,
    text_model_id: str | None,
    corpora: list[CorpusRecords],
) -> dict[str, Any]:
    """Describe a run: what it learns from, and how. It names no folder of this machine.

    Args:
        text_model_id: Hub id of the language model, where it is known.
        corpora: the training records.

    Raises:
        ValueError: `start_from` is no folder that training wrote.
    """
    return {
        "model": {
            "text_model": text_model_id or Path(model.text_model).name,
            "encoder_depth": model.encoder_depth,
            "encoder_widths": model.encoder_widths,
            "encoder_norm": model.encoder_norm,
            "encoder_stem_pool": model.encoder_stem_pool,
            "encoder": None if model.encoder is None else Path(model.encoder).name,
            "fusion": model.fusion,
            "fusion_layers": model.fusion_layers,
            "num_ecg_tokens": model.num_ecg_tokens if model.fusion == "llava" else None,
            "ecg_scaling": model.ecg_scaling,
        },
        "data": {
            "corpora": [corpus.to_dict() for corpus in corpora],
            "mixture_weights": data.mixture_weights,
            "split": data.train_split,
            "max_length": config.max_length,
            "records": sum(len(corpus.records) for corpus in corpora),
            "instructions_version": INSTRUCTIONS_VERSION,
        },
        "tuning": {
            "mode": tuning.tuning,
            **(
                {
                    "lora_r": tuning.lora_r,
                    "lora_alpha": tuning.lora_alpha,
                    "lora_dropout": tuning.lora_dropout,
                    "lora_target_modules": tuning.lora_target_modules,
                }
                if tuning.tuning in LORA_TUNINGS
                else {}
            ),
        },
        "batch": {
            "per_device_train_batch_size": config.per_device_train_batch_size,
            "gradient_accumulation_steps": config.gradient_accumulation_steps,
            "world_size": config.world_size,
            "train_sampling_strategy": config.train_sampling_strategy,
        },
        "seed": config.seed,
        "data_seed": config.data_seed,
        "optimisation": {
            "optim": str(OptimizerNames(config.optim).value),
            "learning_rate": config.learning_rate,
            "ecg_learning_rate": config.ecg_learning_rate,
            "lr_scheduler_type": str(config.lr_scheduler_type.value),
            "warmup_steps": config.warmup_steps,
            "weight_decay": config.weight_decay,
            "max_grad_norm": config.max_grad_norm,
            "label_smoothing_factor": config.label_smoothing_factor,
            "neftune_noise_alpha": config.neftune_noise_alpha,
            "bf16": config.bf16,
            "fp16": config.fp16,
        },
        "length": {
            "num_train_epochs": config.num_train_epochs,
            "max_steps": config.max_steps,
            "max_train_minutes": config.max_train_minutes,
            "early_stopping_patience": config.early_stopping_patience,
        },
        "earlier_run": None if model.start_from is None else read_run_record(model.start_from),
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, peft, trl)},
    }


def read_run_record(folder: str | os.PathLike) -> dict[str, Any]:
    """The record in a folder that training wrote.

    Raises:
        ValueError: there is none, or it is no JSON object.
    """
    path = Path(folder) / RUN_RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot tell what run this folder is of ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(record).__name__}")
    return record


def write_run_record(record: dict, folder: str | os.PathLike) -> None:
    """Write `record` into `folder`."""
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (Path(folder) / RUN_RECORD).write_text(text, encoding="utf-8")


def check_same_run(record: dict, checkpoint: str | os.PathLike) -> None:
    """Compare a run with the one that wrote `checkpoint`.

    Raises:
        ValueError: where they differ in anything but their length; the message names all differences.
    """
    earlier = read_run_record(checkpoint)
    differences = []
    for part in _MUST_AGREE:
        then, now = earlier.get(part), record[part]
        if not isinstance(now, dict):
            then, now, prefix = {part: then}, {part: now}, ""
        else:
            then, prefix = then if isinstance(then, dict) else {}, f"{part}."
        differences += [
            f"{prefix}{name}: {then.get(name)!r} then, {now[name]!r} now" for name in now if then.get(name) != now[name]
        ]
    if differences:
        raise ValueError(f"{checkpoint} is of another run:\n  " + "\n  ".join(differences))


def outcome_of(record: dict, folder: str | os.PathLike) -> dict[str, Any] | None:
    """The outcome of this very run, length included, where `folder` holds its result; None where it does not."""
    try:
        earlier = read_run_record(folder)
    except ValueError:
        return None
    is_same = all(earlier.get(part) == record[part] for part in (*_MUST_AGREE, "length"))
    return earlier.get("outcome") if is_same else None
