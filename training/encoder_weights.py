"""Weights of the ECG encoder from a file: one of ours, or another 1-D ResNet's, such as MERL's."""

import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from modeling_meit import ECGEncoder, ECGEncoderConfig
from modeling_meit.encoder_meit import BLOCKS_PER_STAGE
from processing.leads import LEADS

_PICKLES = (".pt", ".pth", ".ckpt", ".bin")
_FOLDER_FILES = ("model.safetensors", "adapter_model.safetensors")
# Where a pickled dict keeps the weights, if not at its top.
_WRAPPINGS = ("state_dict", "model_state_dict", "model", "encoder")
# What may stand in front of the encoder's own names, any number of them: DDP, PEFT, our models, other people's.
_PREFIXES = ("module.", "base_model.", "model.", "ecg_encoder.", "encoder.", "modules_to_save.default.")
# A block's tensors: its stage and number, and what follows; MERL has a shortcut where torchvision and we downsample.
_IN_BLOCK = re.compile(r"layer([1-4])\.(\d{1,4})\.(.*)")
_MERL_NAME, _OUR_NAME = "shortcut.", "downsample."
# MERL was trained on MIMIC-IV-ECG as its files are, with aVF in front of aVL.
_MERL_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
# BatchNorm counts its batches; the count plays no part in what it computes.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class EncoderWeightsReport:
    """What `load_encoder_weights` loaded.

    Attributes:
        file: the file that was read.
        matched: names of the encoder's tensors that were loaded.
        unmatched: names in the file that found no place, counters of BatchNorm left out.
        missing: names of the encoder's tensors that keep their initial values, counters left out.
        exchanged_leads: whether aVL and aVF changed places, because the file has MERL's order.
    """

    file: Path
    matched: list[str]
    unmatched: list[str]
    missing: list[str]
    exchanged_leads: bool

    def __str__(self) -> str:
        lines = [f"{self.file}: {len(self.matched)} tensors of the encoder loaded"]
        if self.missing:
            lines.append(f"{len(self.missing)} keep their initial values: {_some(self.missing)}")
        if self.unmatched:
            lines.append(f"{len(self.unmatched)} of the file found no place: {_some(self.unmatched)}")
        if self.exchanged_leads:
            lines.append("aVL and aVF of the first convolution exchanged, from MERL's order to this encoder's")
        return "\n".join(lines)


def load_encoder_weights(encoder: ECGEncoder, path: str | Path) -> EncoderWeightsReport:
    """Load the encoder's weights from a file; all that fit, or none where something is wrong.

    The weights may be an `ECGEncoder`'s, those of one of our full checkpoints or adapters, of a 1-D ResNet with
    torchvision's names, or of MERL (Liu et al. 2024, arXiv 2403.06659; its `..._encoder.pth` and `..._ckpt.pth`).

    MERL's ResNet-18 is this encoder of depth 18 and default widths with `stem_pool=False`: it has no pooling behind
    the first convolution, so twice as many steps along time. Its leads are in the order of MIMIC-IV-ECG's files; the
    first convolution's channels are put into that of `LEADS`. MERL's input, 12 leads of 5,000 samples at 500 Hz scaled
    to 0 to 1 over all leads, is what the processor gives with the scaling "minmax". Its head (a 1x1 convolution and
    attention pooling) is not part of the encoder and is reported as unmatched; here the mean over time takes its place.

    Args:
        encoder: the encoder, whose tensors are filled in place.
        path: a folder with model.safetensors or adapter_model.safetensors, a .safetensors file, or a pickle (.pt,
            .pth, .ckpt, .bin), which is read as tensors alone: no code in it is run.

    Returns:
        What was loaded and what was not.

    Raises:
        FileNotFoundError: there is no such file, or the folder holds none.
        ValueError: the file is not readable as tensors alone, fits nowhere, is of another depth, kind of
            normalisation, pooling or shape, or holds numbers that are not finite.
    """
    file = _weights_file(Path(path))
    found = _tensors(file)
    own = encoder.state_dict()
    places = {name: _without_prefixes(name) for name in found}
    blocks = _in_blocks(places.values())
    is_merl = any(rest.startswith(_MERL_NAME) for _, _, rest in blocks)
    names = {}
    for name, place in places.items():
        place = place.replace(f".{_MERL_NAME}", f".{_OUR_NAME}")
        if place in own and place in names:
            raise ValueError(f"{file}: both {names[place]} and {name} would be the encoder's {place}; expected one")
        if place in own:
            names[place] = name
    if not names:
        raise ValueError(f"{file}: found {_some(found)}, none of which is the encoder's; expected {_some(own)}")
    _check_depth(file, encoder.config, blocks, _in_blocks(own))
    _check_stem(file, encoder.config, is_merl)
    _check_norm(file, encoder.config, blocks)
    matched = [place for place in own if place in names]
    values = {place: _checked(file, names[place], found[names[place]], own[place]) for place in matched}
    first = values.get("conv1.weight")
    exchanges_leads = is_merl and first is not None and first.shape[1] == len(LEADS)
    if exchanges_leads:
        values["conv1.weight"] = first[:, [_MERL_LEADS.index(lead) for lead in LEADS]]
    with torch.no_grad():
        for place, value in values.items():
            own[place].copy_(value)
    used = set(names.values())
    return EncoderWeightsReport(
        file=file,
        matched=matched,
        unmatched=[name for name in found if name not in used and not name.endswith(_COUNTER)],
        missing=[place for place in own if place not in names and not place.endswith(_COUNTER)],
        exchanged_leads=exchanges_leads,
    )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _weights_file(path: Path) -> Path:
    if path.is_dir():
        files = [path / name for name in _FOLDER_FILES if (path / name).is_file()]
        if not files:
            raise FileNotFoundError(f"{path}: found none of {', '.join(_FOLDER_FILES)} in the folder")
        return files[0]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of encoder weights")
    return path


def _tensors(file: Path) -> dict[str, Any]:
    """What the file holds by name, in a pickle not tensors alone; the bytes are read when a tensor is."""
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file}: no readable safetensors file ({error})") from error
    if file.suffix not in _PICKLES:
        raise ValueError(f"{file}: expected a file of encoder weights: .safetensors, {', '.join(_PICKLES)}")
    try:
        # Only zip archives, which torch.save writes since 1.6, can be mapped.
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # a broken or hostile pickle makes the reader raise any
        raise ValueError(
            f"{file}: not readable as tensors alone ({str(error).splitlines()[0] if str(error) else repr(error)}). "
            "It is not unpickled further, as that would run code in it. If you trust it, load it with the code that "
            'wrote it and convert it: safetensors.torch.save_file(encoder.state_dict(), "encoder.safetensors")'
        ) from error
    for _ in _WRAPPINGS:
        inner = [content[key] for key in _WRAPPINGS if isinstance(content, Mapping) and key in content]
        content = next((value for value in inner if isinstance(value, Mapping)), content)
    if not isinstance(content, Mapping):
        raise ValueError(f"{file}: found a {type(content).__name__}; expected a dict of tensors by name")
    return {name: value for name, value in content.items() if isinstance(name, str)}


def _without_prefixes(name: str) -> str:
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return name


def _in_blocks(places: Iterable[str]) -> list[tuple[str, str, str]]:
    """(stage, number in the stage, rest of the name) of the tensors in residual blocks."""
    return [match.groups() for match in map(_IN_BLOCK.fullmatch, places) if match]


def _shape(blocks: list[tuple[str, str, str]]) -> tuple[tuple[int, ...], bool]:
    """Residual blocks in each stage, and whether they are bottlenecks."""
    numbers = {(stage, number) for stage, number, _ in blocks}
    per_stage = tuple(sum(in_stage == stage for in_stage, _ in numbers) for stage in "1234")
    return per_stage, any(rest.startswith("conv3.") for _, _, rest in blocks)


def _check_depth(
    file: Path, config: ECGEncoderConfig, blocks: list[tuple[str, str, str]], own: list[tuple[str, str, str]]
) -> None:
    found = per_stage, is_bottleneck = _shape(blocks)
    if found == _shape(own):
        return
    depths = [depth for depth, known in BLOCKS_PER_STAGE.items() if (known, depth >= 50) == found]
    kind = "bottleneck" if is_bottleneck else "basic"
    depth = f"a ResNet of depth {depths[0]}" if depths else f"{per_stage} {kind} blocks in the stages of a ResNet"
    raise ValueError(f"{file}: found {depth}; expected depth {config.depth}, the encoder's")


def _check_stem(file: Path, config: ECGEncoderConfig, is_merl: bool) -> None:
    """The pooling has no weights: another network would be computed, and nothing in the tensors says so."""
    stem_pool = False if is_merl else _recorded_stem_pool(file.parent / "config.json")
    if stem_pool not in (None, config.stem_pool):
        found = "with pooling" if stem_pool else "without pooling"
        raise ValueError(
            f"{file}: holds an encoder {found} behind the first convolution{' (MERL)' * is_merl}, and this one's "
            f"stem_pool is {config.stem_pool}: set ECGEncoderConfig.stem_pool={stem_pool}"
        )


def _recorded_stem_pool(config_file: Path) -> bool | None:
    """What an encoder's or an ECG model's config.json beside the weights says; None where there is none."""
    if not config_file.is_file():
        return None
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        config = config.get("ecg_config", config)
        is_ours = config.get("model_type") == ECGEncoderConfig.model_type
        return bool(config.get("stem_pool", True)) if is_ours else None
    except (AttributeError, ValueError) as error:
        raise ValueError(f"{config_file}: no readable configuration beside the weights ({error})") from error


def _check_norm(file: Path, config: ECGEncoderConfig, blocks: list[tuple[str, str, str]]) -> None:
    """Weights beside another kind of normalisation compute something else, although their shapes fit."""
    has_statistics = any(rest.endswith("running_mean") for _, _, rest in blocks)
    if has_statistics and config.norm == "group":
        raise ValueError(
            f'{file}: holds batch normalisation, and the encoder\'s norm is "group": set ECGEncoderConfig.norm to '
            '"frozen_batch" or "batch"'
        )
    if not has_statistics and config.norm != "group":
        raise ValueError(
            f"{file}: holds no statistics of batch normalisation (running_mean), which the encoder's norm "
            f'"{config.norm}" needs; of group normalisation there are none: set ECGEncoderConfig.norm to "group"'
        )


def _checked(file: Path, name: str, tensor: Any, own: torch.Tensor) -> torch.Tensor:
    """The tensor in the encoder's dtype, if it is one, of the right shape, whose numbers are all usable."""
    is_plain = type(tensor) in (torch.Tensor, nn.Parameter) and tensor.layout == torch.strided
    if not is_plain or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
        raise ValueError(f"{file}: {name} is no dense tensor of real numbers")
    if tensor.shape != own.shape:
        raise ValueError(f"{file}: {name} has shape {tuple(tensor.shape)}; expected {tuple(own.shape)}")
    value = tensor.detach().to(own.dtype)
    if not value.isfinite().all():
        raise ValueError(f"{file}: {name} holds NaN or infinities; expected finite numbers")
    if name.endswith("running_var") and value.min() < 0:
        raise ValueError(f"{file}: {name} holds {value.min():g}; a variance is not negative")
    return value
