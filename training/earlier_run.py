"""Weights of an earlier run, or of an earlier stage of this one, for a run that begins with them."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel

from .arguments import TuningArguments
from .tuning import LORA_TUNINGS

_ADAPTER = "adapter_model.safetensors"
# Of config.json; of what else the two could differ in, names or shapes of weights tell.
_SAME_CONFIG = ("fusion", "fusion_layers", "num_ecg_tokens", "ecg_projection")
# What neither names nor shapes of a LoRA's weights tell alone, and a rank that they tell late.
_SAME_LORA = ("lora_r", "lora_alpha", "lora_target_modules")


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


def check_order(earlier: TuningArguments, tuning: TuningArguments) -> None:
    """Refuse a stage that could not begin with the weights of the one before it, before either is trained.

    Raises:
        ValueError: the one before trains what this one has no place for.
    """
    if earlier.tuning == "encoder" or earlier.tuning == tuning.tuning == "full":
        return
    kinds = [settings.tuning == "dora" for settings in (earlier, tuning)]
    if not {earlier.tuning, tuning.tuning} <= set(LORA_TUNINGS) or kinds[0] != kinds[1]:
        raise ValueError(
            f"tuning {tuning.tuning} cannot begin with the weights of the stage before, whose tuning is "
            f"{earlier.tuning}; expected encoder there, or the same"
        )
    for name in _SAME_LORA:
        then, now = getattr(earlier, name), getattr(tuning, name)
        if then != now:
            raise ValueError(f"{name} is {now}; expected {then}, as in the stage before, from whose LoRA it goes on")


def check_same_input(run: dict[str, Any], folder: str | Path) -> None:
    """Refuse weights that were trained for another language model or another scale of the ECG.

    Both can differ where all names and shapes of weights agree.

    Args:
        run: the run's record, that of the earlier one in it.
        folder: of the earlier run.

    Raises:
        ValueError: the message names what differs.
    """
    then, now = run["earlier_run"].get("model") or {}, run["model"]
    for name in ("text_model", "ecg_scaling"):
        # A language model may be known by its Hub id to one of the runs, and by its folder to the other.
        if name in then and Path(str(then[name])).name != Path(now[name]).name:
            raise ValueError(f"start_from {folder}: its {name} is {then[name]!r}; expected {now[name]!r}, this run's")


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
            for or would scale in another way.
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
        scale = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))["lora_alpha"]
        own_scale = model.active_peft_config.lora_alpha
        if scale != own_scale and any("lora_" in name for name in found):
            raise ValueError(f"start_from {folder}: its lora_alpha is {scale}; expected {own_scale}, this run's")
        set_peft_model_state_dict(model, found)
    else:
        with torch.no_grad():
            model.load_state_dict(found, strict=False)
