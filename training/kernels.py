"""Liger's fused kernels for the layers of the language model."""

import importlib.util

import torch
from transformers import PreTrainedModel


def check_liger() -> None:
    """Refuse early what cannot run here.

    Raises:
        ValueError: liger-kernel is not installed, or there is no GPU for its Triton kernels.
    """
    if importlib.util.find_spec("liger_kernel") is None:
        raise ValueError("use_liger_kernel: liger-kernel is not installed; pip install liger-kernel, or leave it out")
    if not torch.accelerator.is_available():
        raise ValueError("use_liger_kernel: found no accelerator; Liger's kernels are written in Triton and need a GPU")


def apply_liger(language_model: PreTrainedModel) -> None:
    """Put Liger's kernels in the place of the norms, rotary embeddings and MLPs of `language_model`.

    transformers would look for kernels of our own model type, find none and train without them. The loss stays TRL's,
    which never holds all logits either.

    Raises:
        ValueError: there are none for its family.
    """
    from liger_kernel.transformers import _apply_liger_kernel_to_instance
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    model_type = language_model.config.model_type
    if model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        known = ", ".join(sorted(MODEL_TYPE_TO_APPLY_LIGER_FN))
        raise ValueError(f'use_liger_kernel: no kernels for language models of type "{model_type}", only for {known}')
    _apply_liger_kernel_to_instance(model=language_model, cross_entropy=False, fused_linear_cross_entropy=False)
