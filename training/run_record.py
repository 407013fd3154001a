"""What a run was: the facts that its checkpoints and its result carry along, in `training_run.json`."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import peft
import torch
import transformers
import trl

from dataset_builder.instructions import INSTRUCTIONS_VERSION

from .arguments import DataArguments, LoraArguments, ModelArguments, TrainingConfig

RUN_RECORD = "training_run.json"
# A run that goes on with one of these changed would no longer be the run that it was.
_MUST_AGREE = ("model", "data", "lora", "batch", "optimisation", "seed")


def run_record(
    model: ModelArguments,
    data: DataArguments,
    lora: LoraArguments,
    config: TrainingConfig,
    text_model_id: str | None,
    record_ids: Iterable[str],
) -> dict:
    """Describe a run: what it learns from, and how. It names no folder of this machine.

    Args:
        text_model_id: Hub id of the language model, where it is known.
        record_ids: ids of the training records in their order.
    """
    digest, count = hashlib.sha256(), 0
    for record_id in record_ids:
        digest.update(record_id.encode("utf-8") + b"\n")
        count += 1
    is_folder = Path(data.dataset).is_dir()
    return {
        "model": {
            "text_model": text_model_id or Path(model.text_model).name,
            "encoder_depth": model.encoder_depth,
            "encoder_widths": model.encoder_widths,
            "fusion": model.fusion,
            "fusion_layers": model.fusion_layers,
            "num_ecg_tokens": model.num_ecg_tokens if model.fusion == "llava" else None,
            "ecg_scaling": model.ecg_scaling,
        },
        "data": {
            "dataset": Path(data.dataset).resolve().name if is_folder else data.dataset,
            "config": data.dataset_config,
            "split": data.train_split,
            "records": count,
            "record_ids_sha256": digest.hexdigest(),
            "instructions_version": INSTRUCTIONS_VERSION,
        },
        "lora": {
            "r": lora.lora_r,
            "alpha": lora.lora_alpha,
            "dropout": lora.lora_dropout,
            "target_modules": lora.lora_target_modules,
        },
        "batch": {
            "per_device_train_batch_size": config.per_device_train_batch_size,
            "gradient_accumulation_steps": config.gradient_accumulation_steps,
            "world_size": config.world_size,
        },
        "seed": config.seed,
        "optimisation": {
            "learning_rate": config.learning_rate,
            "ecg_learning_rate": config.ecg_learning_rate,
            "lr_scheduler_type": str(config.lr_scheduler_type.value),
            "warmup_steps": config.warmup_steps,
            "weight_decay": config.weight_decay,
            "max_grad_norm": config.max_grad_norm,
            "bf16": config.bf16,
        },
        "length": {
            "num_train_epochs": config.num_train_epochs,
            "max_steps": config.max_steps,
            "max_train_minutes": config.max_train_minutes,
        },
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, peft, trl)},
    }


def write_run_record(record: dict, folder: str | os.PathLike) -> None:
    """Write `record` into `folder`."""
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (Path(folder) / RUN_RECORD).write_text(text, encoding="utf-8")


def check_same_run(record: dict, checkpoint: str | os.PathLike) -> None:
    """Compare a run with the one that wrote `checkpoint`.

    Raises:
        ValueError: where they differ in anything but their length; the message names all differences.
    """
    path = Path(checkpoint) / RUN_RECORD
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot tell what run this checkpoint is of ({error})") from error
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
