"""Where LoRA goes: every linear projection of attention and MLP in the language model's layers, and nothing else."""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

_LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_FUSED = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
_BART = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")

# model_type of the language model -> names of the projections in its layers; where it has an encoder and a decoder, in
# those of both.
LORA_TARGETS: dict[str, tuple[str, ...]] = {
    "bart": _BART,
    "bloom": _FUSED,
    "gemma": _LLAMA,
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "gpt_neo": ("q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj"),
    "gpt_neox": _FUSED,
    "gptj": ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "opt": _BART,
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    # wi in T5, wi_0 and wi_1 in its version 1.1.
    "t5": ("q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"),
}


def lora_targets(model: PreTrainedModel, names: Sequence[str] | None = None) -> str:
    """The regular expression by which PEFT finds the projections to adapt.

    It is bound to the layers of the language model: "all-linear" would also hit the projector, a bare `q_proj` the
    cross-attention of "flamingo", and TRL's fused head reads past a LoRA on `lm_head`.

    Args:
        model: the model with its ECG encoder.
        names: the projections; by default all of the language model's family.

    Raises:
        ValueError: the language model's layers have no linear projection of a name, or the family is not known.
    """
    present = _projections(model)
    if names is None:
        model_type = model.config.text_config.model_type
        if model_type not in LORA_TARGETS:
            known = ", ".join(LORA_TARGETS)
            raise ValueError(f'no LoRA targets are known for "{model_type}", only for {known}; name the projections')
        names = [name for name in LORA_TARGETS[model_type] if name in present]
    absent = [name for name in names if name not in present]
    if absent or not names:
        raise ValueError(
            f"no LoRA target of the name {', '.join(absent)}; expected one or more of the projections in the language "
            f"model's layers: {', '.join(present)}"
        )
    return rf"model\.language_model\.(\w+\.)+({'|'.join(names)})"


def stores_transposed(model: PreTrainedModel) -> bool:
    """Whether the projections keep their weight as (in, out), which PEFT wants to be told: GPT-2's do."""
    return any(isinstance(module, Conv1D) for module in model.model.language_model.modules())


def _projections(model: PreTrainedModel) -> list[str]:
    """Names of the linear projections in the layers of the language model, in their order."""
    linear = [
        name
        for layers in model.model.language_model.modules()
        if isinstance(layers, nn.ModuleList)
        for name, module in layers.named_modules()
        if isinstance(module, (nn.Linear, Conv1D))
    ]
    return list(dict.fromkeys(name.rpartition(".")[2] for name in linear))
