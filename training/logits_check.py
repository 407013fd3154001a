"""Logits of the trained model on a few records, for whoever loads it elsewhere to compare with."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

CHECK_FILE = "check_logits.safetensors"
_LAST_POSITIONS = 8


@dataclass(frozen=True)
class CheckLogits:
    """Inputs and logits of a few records.

    Attributes:
        tensors: `input_ids`, `attention_mask`, `ecg_values`, of an encoder-decoder `decoder_input_ids`, and for the
            last 8 positions of each text that is predicted `positions` (records, 8) and `logits` (records, 8,
            vocabulary), computed in eval mode without autocast.
        metadata: `dtype` of the language model, in which a loader gets the same logits; `quantization`, "nf4" where it
            was packed in 4 bits; and the `records`.
    """

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]


@torch.no_grad()
def check_logits(model: PreTrainedModel, batch: dict[str, torch.Tensor], record_ids: list[str]) -> CheckLogits:
    """Compute them.

    Args:
        model: the trained model.
        batch: a few records, as the collator returns them.
        record_ids: their ids.
    """
    was_training = model.training
    model.eval()
    inputs = {name: tensor.to(model.device) for name, tensor in batch.items() if name != "labels"}
    logits = model(**inputs, use_cache=False).logits
    model.train(was_training)
    is_text = batch["labels"] != -100 if model.config.is_encoder_decoder else batch["attention_mask"]
    last = is_text.to(logits.device).sum(dim=1, keepdim=True) - 1  # texts are padded on the right
    positions = (last - torch.arange(_LAST_POSITIONS - 1, -1, -1, device=last.device)).clamp(min=0)
    logits = logits.gather(1, positions.unsqueeze(-1).expand(-1, -1, logits.shape[-1]))
    tensors = {**inputs, "positions": positions, "logits": logits}
    embeddings = model.get_input_embeddings().weight
    metadata = {"dtype": str(embeddings.dtype).removeprefix("torch."), "records": " ".join(record_ids)}
    if getattr(model, "is_loaded_in_4bit", False):
        metadata["quantization"] = "nf4"
    return CheckLogits({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata)


def write_check_logits(check: CheckLogits, folder: str | os.PathLike) -> Path:
    """Write `check_logits.safetensors` into `folder`."""
    path = Path(folder) / CHECK_FILE
    save_file(check.tensors, path, metadata=check.metadata)
    return path
