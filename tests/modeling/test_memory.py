"""The slot costs a training step next to nothing: allocation by allocation, and so without noise."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from benchmarks.training_memory import training_peaks
from modeling_meit import ECGLlamaConfig, ECGLlamaForCausalLM
from training.lora_targets import lora_targets, stores_transposed

from .families import DECODERS, TEXT_CONFIGS, text_config

# Large enough for activations to weigh more than what a step allocates once; each family by its own names.
SIZES = {"hidden_size": 256, "n_embd": 256, "head_dim": 64, "rotary_dim": 16, "vocab_size": 2000}
SIZES |= {name: 6 for name in ("num_hidden_layers", "num_layers", "n_layer")}
SIZES |= {name: 512 for name in ("intermediate_size", "n_inner", "ffn_dim")}
ATTENTION_OF_LAYERS = {"gpt_neo": {"attention_types": [[["global", "local"], 3]]}}


@pytest.mark.parametrize("family", DECODERS)
def test_a_training_step_takes_the_encoder_s_memory_and_three_percent(family):
    torch.manual_seed(0)
    sizes = {name: size for name, size in SIZES.items() if name in TEXT_CONFIGS[family]}
    config = text_config(family, **sizes, **ATTENTION_OF_LAYERS.get(family, {}))
    model = ECGLlamaForCausalLM(ECGLlamaConfig(text_config=config, ecg_config={"widths": (16, 16, 32, 32)}))
    lora = LoraConfig(
        target_modules=lora_targets(model),
        modules_to_save=["ecg_encoder", "ecg_projector"],
        task_type="CAUSAL_LM",
        fan_in_fan_out=stores_transposed(model),
    )
    peaks = training_peaks(get_peft_model(model, lora).train(), vocab_size=2000, samples=1000)
    assert peaks["text"] > 50 * 2**20
    assert peaks["text and ECG"] <= 1.03 * peaks["text"] + peaks["encoder"]
