"""What of the language model is trained: a low-rank update of it, all of it, or nothing beside what reads the ECG."""

import importlib.util

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.constants import DUMMY_TARGET_MODULES
from transformers import BitsAndBytesConfig, PreTrainedModel

from .arguments import TuningArguments
from .lora_targets import lora_targets, stores_transposed

# Trained and saved in full; the last is there with the fusion "flamingo".
TRAINED_WHOLE = ("ecg_encoder", "ecg_projector", "ecg_cross_attention")
LORA_TUNINGS = ("lora", "dora", "qlora")
TUNINGS = (*LORA_TUNINGS, "full", "encoder")


def check_tuning(tuning: TuningArguments, device: torch.device | str = "cpu") -> None:
    """Refuse what cannot run here, before anything is loaded.

    Args:
        device: where the language model will be.

    Raises:
        ValueError: a mode that there is not; or "qlora" where bitsandbytes is not installed or does not run on the
            device.
    """
    if tuning.tuning not in TUNINGS:
        raise ValueError(f"tuning is {tuning.tuning!r}; expected one of {', '.join(TUNINGS)}")
    if tuning.lora_target_modules is not None and tuning.tuning not in LORA_TUNINGS:
        raise ValueError(f"lora_target_modules is of {', '.join(LORA_TUNINGS)}; tuning is {tuning.tuning}")
    if tuning.tuning != "qlora":
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            "tuning qlora keeps the language model in 4 bits, which needs bitsandbytes: install the extra "
            "`quantised`, or choose lora"
        )
    try:
        # Not every device has its kernels; with those that lack, the first forward would be the one to say so.
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        dequantize_4bit(*quantize_4bit(torch.ones(64, 64, device=device), quant_type="nf4"))
    except Exception as error:  # whatever the library or a driver beneath it raises
        raise ValueError(f"tuning qlora: bitsandbytes does not run on {device} here ({error}); choose lora") from error


def quantization_config(tuning: TuningArguments, compute_dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """How the language model is packed: NF4 with quantised constants (Dettmers et al. 2023, arXiv 2305.14314).

    Args:
        compute_dtype: of the matrix products, for which weights are unpacked.

    Returns:
        The configuration for "qlora", None otherwise.
    """
    if tuning.tuning != "qlora":
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def keep_trainable(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from repacking 4-bit weights at an evaluation on a CPU.

    On one with AVX512-BF16 it does, for inference, and keeps the new layout: whatever is trained afterwards then has no
    gradient through these weights, and no error says so.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def adapter_config(model: PreTrainedModel, tuning: TuningArguments) -> LoraConfig | None:
    """The adapter that is trained: LoRA on the language model's layers, and in full what reads the ECG.

    Returns:
        None for "full", which has no adapter. For "encoder" it names no layer of the language model.

    Raises:
        ValueError: the language model has no projection of a name in `lora_target_modules`.
    """
    if tuning.tuning == "full":
        return None
    lora = {}
    if tuning.tuning in LORA_TUNINGS:
        lora = {
            "r": tuning.lora_r,
            "lora_alpha": tuning.lora_alpha,
            "lora_dropout": tuning.lora_dropout,
            "use_dora": tuning.tuning == "dora",
            "fan_in_fan_out": stores_transposed(model),
        }
    targets = lora_targets(model, tuning.lora_target_modules) if lora else DUMMY_TARGET_MODULES
    return LoraConfig(
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
        target_modules=targets,
        modules_to_save=[name for name in TRAINED_WHOLE if hasattr(model.model, name)],
        **lora,
    )


def for_tuning(model: PreTrainedModel, tuning: TuningArguments) -> PreTrainedModel | PeftModel:
    """The model with what `tuning` trains requiring gradients, and nothing else."""
    config = adapter_config(model, tuning)
    return model if config is None else get_peft_model(model, config)


def without_adapter(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Our model, whether or not an adapter is around it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model
