"""Weights of an earlier run, or of an earlier stage of this one, for a run that begins with them."""

import json
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel

from .arguments import TuningArguments

_ADAPTER = "adapter_model.safetensors"
# Of config.json; of what else the two could differ in, names or shapes of weights tell.
_SAME_CONFIG = ("fusion", "fusion_layers", "num_ecg_tokens", "ecg_projection")


def begins_in_full(folder: str | Path, tuning: TuningArguments) -> bool:
    """Whether the earlier run trained the language model in full, so that its folder holds all weights.

    Raises:
        FileNotFoundError: the folder is not one that training wrote.
        ValueError: it did, and this run would train an adapter.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"start_from {folder}: no config.json; expected a folder that training wrote")
    if (folder / "adapter_config.json").is_file():
        return False
    if tuning.tuning != "full":
        raise ValueError(
            f"start_from {folder} holds a language model that was trained in full, and whoever loads an adapter has "
            f"the original one; expected tuning full, found {tuning.tuning}"
        )
    return True


def check_same_model(model: PreTrainedModel, folder: str | Path) -> None:
    """Compare a model with the one in an earlier run's folder.

    Raises:
        ValueError: where fusion or encoder differ; the message names all differences.
    """
    earlier = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    parts = [("", earlier, model.config.to_dict(), _SAME_CONFIG)]
    encoder = model.config.ecg_config
    parts.append(("ecg_config.", earlier.get("ecg_config") or {}, encoder.to_dict(), type(encoder).__annotations__))
    differences = [
        f"{prefix}{name}: {then.get(name)!r} then, {now[name]!r} now"
        for prefix, then, now, names in parts
        for name in names
        if name in then and _as_json(then[name]) != _as_json(now[name])
    ]
    if differences:
        raise ValueError(f"start_from {folder} is of another model:\n  " + "\n  ".join(differences))


def _as_json(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def take_over_adapter(model: PreTrainedModel | PeftModel, folder: str | Path) -> None:
    """Give `model` the weights of an earlier run's adapter: what reads the ECG, and LoRA where both have it.

    Args:
        model: as it will be trained, with its adapter, or without one to be trained in full.
        folder: of the earlier run.

    Raises:
        ValueError: the weights are unreadable, have other names or shapes, or hold a LoRA that `model` has no place
            for.
    """
    path = Path(folder) / _ADAPTER
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: no readable safetensors file ({error})") from error
    has_adapter = isinstance(model, PeftModel)
    if has_adapter:
        expected = get_peft_model_state_dict(model)
    else:
        found = {name.removeprefix("base_model.model."): tensor for name, tensor in found.items()}
        expected = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("model.ecg_")}
    if not any("lora_" in name for name in found):
        expected = {name: tensor for name, tensor in expected.items() if "lora_" not in name}
    if extra := sorted(found.keys() - expected.keys()):
        raise ValueError(
            f"{path} holds {len(extra)} tensors that this run has no place for, the first is {extra[0]}: a run goes on "
            "from LoRA with the same kind of LoRA, of the same projections"
        )
    if missing := sorted(expected.keys() - found.keys()):
        raise ValueError(f"{path} lacks {len(missing)} tensors of this run's model, the first is {missing[0]}")
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{path}: {name} has the shape {tuple(tensor.shape)}; expected {tuple(expected[name].shape)}"
            )
    if has_adapter:
        set_peft_model_state_dict(model, found)
    else:
        with torch.no_grad():
            model.load_state_dict(found, strict=False)
