"""Attention implementations beside eager, and what attention weights and hidden states are returned."""

import functools
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from modeling_meit import FAMILIES
from modeling_meit.families_meit import LayerCall, layer_argument_names

from .families import SEQ2SEQ, TEXT_CONFIGS, text_config
from .tiny import TEXTS, ecg, inputs_of, tiny_model

IMPLEMENTATIONS = ("sdpa", "flex_attention", "flash_attention_2")


def skip_what_the_family_lacks(family, attn_implementation):
    auto = AutoModelForSeq2SeqLM if family in SEQ2SEQ else AutoModelForCausalLM
    text_class = auto._model_mapping[type(text_config(family))]
    flag = {"sdpa": "_supports_sdpa", "flex_attention": "_supports_flex_attn"}.get(attn_implementation)
    if not getattr(text_class, flag or "_supports_flash_attn"):
        if flag is not None:
            with pytest.raises(ValueError, match="does not support"):
                tiny_model(family, attn_implementation)
        pytest.skip("lacks: an attention implementation that transformers does not have for the family")
    if attn_implementation == "flash_attention_2":
        if family == "gpt_neo":
            pytest.skip("lacks: flash attention that keeps GPT-Neo's local windows (refused)")
        pytest.skip("not run: flash attention needs a GPU")
    if attn_implementation == "flex_attention":
        if shutil.which("c++") is None and shutil.which("g++") is None:
            pytest.skip("not run: flex attention compiles, and there is no C++ compiler")
        if family == "t5":
            pytest.skip("not run: stock T5 with flex attention fails on a CPU")
        torch._dynamo.reset()


@functools.cache
def eager_logits(family, fusion_layers):
    model = tiny_model(family, "eager", torch.float32, fusion_layers=fusion_layers)
    with torch.no_grad():
        return model(**inputs_of(model, "right")).logits


@pytest.mark.support("attn_implementation")
@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("attn_implementation", ["eager", *IMPLEMENTATIONS])
def test_an_implementation_keeps_the_ecg(family, attn_implementation):
    """Eager is shown equal to the equations in test_fusion.py; the others are held against it here."""
    if attn_implementation != "eager":
        skip_what_the_family_lacks(family, attn_implementation)
    layers = [None] if attn_implementation == "flex_attention" and family != "llama" else [None, (0,), (1,)]
    for fusion_layers in layers:
        model = tiny_model(family, attn_implementation, torch.float32, fusion_layers=fusion_layers)
        inputs = inputs_of(model, "right")
        real = inputs.get("decoder_attention_mask", inputs["attention_mask"]).bool()
        with torch.no_grad():
            found = model(**inputs).logits
            other = model(**inputs_of(model, "right", seed=1)).logits
        assert (found - eager_logits(family, fusion_layers))[real].abs().max() < 5e-5
        assert (found - other)[real].abs().amax(-1).min() > 1e-4


@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion", ["concat", "llava", "flamingo"])
def test_attentions_and_hidden_states(family, fusion):
    layers = {"fusion_layers": [1]} if fusion == "concat" else {}
    model = tiny_model(family, "eager", fusion=fusion, **layers)
    inputs = inputs_of(model, "right")
    prefix = "decoder_" if family in SEQ2SEQ else ""
    tokens = inputs[f"{prefix}input_ids"].shape[1]
    with torch.no_grad():
        outputs = model(**inputs, output_attentions=True, output_hidden_states=True)
        other = model(**inputs_of(model, "right", seed=1), output_attentions=True)
        as_tuple = model(**inputs, return_dict=False)
    attentions, hidden = outputs[f"{prefix}attentions"], outputs[f"{prefix}hidden_states"]
    ecg_columns = [0, 1] if fusion == "concat" else [0, 0]
    assert [one.shape for one in attentions] == [(3, 4, tokens, tokens + extra) for extra in ecg_columns]
    assert [one.shape for one in hidden] == [(3, tokens, 32)] * 3
    assert torch.equal(as_tuple[0], outputs.logits)
    if fusion == "concat":
        looked = attentions[1][..., 0]  # how much each token looked at the ECG
        assert (looked > 0).all()
        assert (looked - other[f"{prefix}attentions"][1][..., 0]).abs().max() > 1e-4
        assert torch.allclose(attentions[1].sum(-1), torch.ones_like(looked), atol=1e-6)


def test_gpt_neo_refuses_what_passes_no_whole_mask():
    """Its flash attention is given none, or a mask of the padding, and knows no local window."""
    layer = tiny_model("gpt_neo").model.decoder_layers[1]
    names = layer_argument_names(layer)
    for mask in (None, torch.ones(1, 7)):
        call = LayerCall(names, (torch.zeros(1, 7, 32),), {"attention_mask": mask})
        with pytest.raises(TypeError, match='local windows of "gpt_neo".*attn_implementation="eager"'):
            FAMILIES["gpt_neo"].adjust(call, layer, 1, ())


def test_the_default_implementation_is_the_family_s_own():
    assert tiny_model("llama").model.language_model.config._attn_implementation == "sdpa"
    assert tiny_model("bloom").model.language_model.config._attn_implementation == "eager"


def test_the_implementation_can_be_changed_later():
    model = tiny_model("llama", "sdpa")
    with torch.no_grad():
        before = model(torch.tensor([TEXTS[0]]), ecg_values=ecg(1)).logits
        model.set_attn_implementation("eager")
        after = model(torch.tensor([TEXTS[0]]), ecg_values=ecg(1)).logits
    assert model.model.language_model.config._attn_implementation == "eager"
    assert not torch.equal(before, after)  # eager takes its softmax in float32
    assert torch.allclose(before, after, rtol=0, atol=1e-6)
