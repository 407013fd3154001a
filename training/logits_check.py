"""Logits of the trained model on a few records, for whoever loads it elsewhere to compare with."""

import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

CHECK_FILE = "check_logits.safetensors"
_LAST_POSITIONS = 8


@torch.no_grad()
def write_check_logits(
    model: PreTrainedModel, batch: dict[str, torch.Tensor], record_ids: list[str], folder: str | os.PathLike
) -> Path:
    """Write inputs and logits of `batch` into `folder`.

    The file holds `input_ids`, `attention_mask`, `ecg_values`, of an encoder-decoder `decoder_input_ids`, and for the
    last 8 positions of each text that is predicted `positions` (records, 8) and `logits` (records, 8, vocabulary),
    computed in eval mode without autocast. Its metadata names the language model's dtype, in which a loader gets the
    same logits, and the records.

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
    dtype = next(model.model.language_model.parameters()).dtype
    tensors = {**inputs, "positions": positions, "logits": logits}
    path = Path(folder) / CHECK_FILE
    save_file(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
        path,
        metadata={"dtype": str(dtype).removeprefix("torch."), "records": " ".join(record_ids)},
    )
    return path
