"""What processes that train one model together have to agree on, and the statistics that they share."""

import logging

import torch
from accelerate import PartialState
from torch import distributed, nn

logger = logging.getLogger(__name__)

_NORMALISED_PARTS = ("ecg_encoder", "ecg_projector")


def in_any_process(happened: bool) -> bool:
    """Whether something happened in one of the processes. All of them have to ask, and all get the same answer."""
    state = PartialState()
    if state.num_processes == 1:
        return happened
    flag = torch.tensor(int(happened), device=state.device)
    distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
    return bool(flag)


def synchronise_batch_norm(model: nn.Module) -> int:
    """Let encoder and projector normalise over the records of all processes, where several train on GPUs.

    Keys and values of the weights stay as they are. On CPUs torch has no such normalisation, and each process takes
    the statistics of its own records; a warning says so.

    Args:
        model: the ECG model, with or without an adapter around it.

    Returns:
        How many BatchNorms were exchanged.
    """
    state = PartialState()
    if state.num_processes == 1:
        return 0
    parts = [part for name, part in model.named_modules() if name.rpartition(".")[2] in _NORMALISED_PARTS]
    count = sum(_is_batch_norm(module) for part in parts for module in part.modules())
    if count and state.device.type != "cuda":
        if state.is_main_process:
            logger.warning(
                "BatchNorm is not synchronised on %s: each of the %d processes normalises over its own records; "
                "--encoder_norm group or frozen_batch depends on no batch",
                state.device.type,
                state.num_processes,
            )
        return 0
    for part in parts:
        nn.SyncBatchNorm.convert_sync_batchnorm(part)
    return count


def _is_batch_norm(module: nn.Module) -> bool:
    is_synchronised = isinstance(module, nn.SyncBatchNorm)
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and not is_synchronised
