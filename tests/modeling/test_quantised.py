"""Language models that are quantised as they are loaded: the ECG's parts stay as they are, and still matter."""

import importlib.util

import pytest
import torch
from transformers import BitsAndBytesConfig, TorchAoConfig

from modeling_meit import ECGLlamaForCausalLM, ECGLlamaForConditionalGeneration

from .families import SEQ2SEQ, TEXT_CONFIGS
from .test_plain import stock_model
from .tiny import inputs_of

# Sizes that 4-bit kernels can pack.
WIDE = {
    "vocab_size": 61,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}


def needs(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"not run: {package} is not installed")


def quantised(family, folder, quantization_config, fusion="concat"):
    model_class = ECGLlamaForConditionalGeneration if family in SEQ2SEQ else ECGLlamaForCausalLM
    torch.manual_seed(0)
    model = model_class.from_text_pretrained(
        folder,
        fusion=fusion,
        ecg_config={"widths": (4, 8, 8, 16)},
        quantization_config=quantization_config,
        dtype=torch.float32,
    )
    for name, weight in model.named_parameters():
        if name.endswith("_gate"):
            weight.data.fill_(0.5)
    return model


def saved(family, folder, **extra):
    model = stock_model(family, extra).float()
    model.save_pretrained(folder)
    return folder


def assert_close_and_reads_the_ecg(model, full, monkeypatch, similarity=0.98):
    if model.config.ecg_token_id is not None:
        monkeypatch.setattr("tests.modeling.tiny.ECG_TOKEN", model.config.ecg_token_id)
    with torch.no_grad():
        found = model(**inputs_of(model, "right")).logits.float()
        other = model(**inputs_of(model, "right", seed=1)).logits.float()
        expected = full(**inputs_of(full, "right")).logits
    assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > similarity
    assert (found - other).abs().max() > 1e-3


def share_the_ecg_s_parts(model, full):
    for name, part in full.model.named_children():
        if name != "language_model":
            getattr(model.model, name).load_state_dict(part.state_dict())


@pytest.mark.support("quantised")
@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion", ["concat", "llava", "flamingo"])
def test_bitsandbytes_8_bit(family, fusion, tmp_path, monkeypatch):
    needs("bitsandbytes")
    from bitsandbytes.nn import Linear8bitLt

    folder = saved(family, tmp_path)
    full = quantised(family, folder, None, fusion)
    model = quantised(family, folder, BitsAndBytesConfig(load_in_8bit=True), fusion)
    assert any(isinstance(module, Linear8bitLt) for module in model.model.decoder_layers.modules())
    outside = [part for name, part in model.model.named_children() if name != "language_model"]
    assert not any(isinstance(module, Linear8bitLt) for part in outside for module in part.modules())
    assert model.model.ecg_encoder.dtype == torch.float32
    assert model.is_loaded_in_8bit
    share_the_ecg_s_parts(model, full)
    assert_close_and_reads_the_ecg(model, full, monkeypatch)


def test_bitsandbytes_4_bit(tmp_path, monkeypatch):
    needs("bitsandbytes")
    from bitsandbytes.nn import Linear4bit

    folder = saved("llama", tmp_path, **WIDE)
    full = quantised("llama", folder, None)
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32, bnb_4bit_quant_type="nf4")
    model = quantised("llama", folder, config)
    assert any(isinstance(module, Linear4bit) for module in model.modules())
    assert model.is_loaded_in_4bit
    share_the_ecg_s_parts(model, full)
    assert_close_and_reads_the_ecg(model, full, monkeypatch, similarity=0.95)


@pytest.mark.parametrize("family", ["llama", "bloom", "gpt_neox", "t5"])
def test_torchao_8_bit(family, tmp_path, monkeypatch):
    needs("torchao")
    from torchao.quantization import Int8WeightOnlyConfig

    folder = saved(family, tmp_path)
    full = quantised(family, folder, None)
    model = quantised(family, folder, TorchAoConfig(Int8WeightOnlyConfig()))
    weights = [module.weight for module in model.model.decoder_layers.modules() if isinstance(module, torch.nn.Linear)]
    assert weights
    assert all(type(weight) is not torch.nn.Parameter for weight in weights)
    share_the_ecg_s_parts(model, full)
    assert_close_and_reads_the_ecg(model, full, monkeypatch)
