"""The fixed statistics of an encoder and projector that do not normalise over the batch, measured before training."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from modeling_meit.encoder_meit import FrozenBatchNorm


def measure_norm_statistics(model: PreTrainedModel, batches: Iterable[torch.Tensor], keep_encoder: bool = False) -> int:
    """Set the fixed statistics of the encoder's and the projector's `FrozenBatchNorm` to those of these ECGs.

    All ECGs go through both as one batch, and each normalisation takes mean and unbiased variance of what reaches it
    before it normalises by them. It so sees what those in front of it have normalised, one pass measures all, and the
    result depends neither on how the ECGs are split into batches nor on what the statistics were. The price is memory:
    a few activations of all ECGs at a time, 2 MB per ECG of 5,000 samples for ResNet-18 and 8 MB for those with
    bottleneck blocks, twice that without the stem's pooling. A few hundred ECGs are enough. Processes that train
    together have to measure the same ECGs.

    A channel that is the same for all ECGs keeps a variance of 1. The smallest difference of another ECG would
    otherwise come out 300 times as large.

    Args:
        model: an ECG model whose encoder has the norm "group" or "frozen_batch", without PEFT around it.
        batches: ECGs, each (n, leads, samples), as the processor returns them.
        keep_encoder: leave the statistics of the encoder, such as those loaded from a file, and measure the
            projector's alone.

    Returns:
        The number of ECGs.

    Raises:
        ValueError: the encoder's norm is "batch", there are fewer than 2 ECGs, or one holds NaN or infinities.
    """
    norm = model.config.ecg_config.norm
    if norm == "batch":
        raise ValueError('the encoder\'s norm is "batch", which takes its statistics in training; expected another')
    base = model.base_model
    ecgs = list(batches)
    num_ecgs = sum(map(len, ecgs))
    if num_ecgs < 2:
        raise ValueError(f"found {num_ecgs} ECGs to measure statistics over; expected at least 2")
    ecg_values = torch.cat(ecgs).to(base.ecg_encoder.device)
    is_finite = ecg_values.isfinite().flatten(1).all(1)
    if not is_finite.all():
        raise ValueError(f"ECG {int(is_finite.logical_not().nonzero()[0])} of {num_ecgs} holds NaN or infinities")
    parts = [base.ecg_projector] if keep_encoder else [base.ecg_encoder, base.ecg_projector]
    hooks = [
        module.register_forward_pre_hook(_take_statistics)
        for part in parts
        for module in part.modules()
        if isinstance(module, FrozenBatchNorm)
    ]
    try:
        with torch.no_grad():
            base.get_ecg_embeds(ecg_values)
    finally:
        for hook in hooks:
            hook.remove()
    return num_ecgs


def _take_statistics(module: nn.Module, args: tuple[Any, ...]) -> None:
    [hidden] = args
    variance, mean = torch.var_mean(hidden, dim=[0, *range(2, hidden.ndim)])
    module.running_mean.copy_(mean)
    module.running_var.copy_(torch.where(variance > 0, variance, 1))
