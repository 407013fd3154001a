"""LoRA reaches every projection in the layers of each family, and nothing outside the language model."""

import re

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from modeling_meit import FAMILIES
from tests.modeling.families import TEXT_CONFIGS
from tests.modeling.tiny import tiny_config
from training.arguments import TuningArguments
from training.lora_targets import LORA_TARGETS, lora_targets, stores_transposed
from training.starting_model import model_class
from training.tuning import adapter_config

# Projections of embeddings and hidden states that some of OPT have around their layers.
AROUND_THE_LAYERS = {"project_in", "project_out"}


def build(family, fusion="flamingo", **text):
    with torch.device("meta"):
        return model_class(family)(tiny_config(family, fusion=fusion, text=text))


def projections(model):
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and name.startswith("model.language_model.")
    }


def targeted(model, names=None):
    pattern = lora_targets(model, names)
    return {name for name, _ in model.named_modules() if re.fullmatch(pattern, name)}


def test_every_family_has_targets():
    assert set(LORA_TARGETS) == set(FAMILIES)


@pytest.mark.parametrize("family", sorted(TEXT_CONFIGS))
def test_all_linear_layers_of_the_language_model_and_nothing_else(family):
    model = build(family)
    found = targeted(model)
    assert found == projections(model)
    assert not [name for name in found if "ecg_" in name or "lm_head" in name]
    # Cross-attention, encoder and projector hold linear layers too, some of the same names.
    assert [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and ".ecg_" in name]


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("t5", {"feed_forward_proj": "gated-gelu"}),
        ("opt", {"word_embed_proj_dim": 16}),
        ("llama", {"attention_bias": True}),
    ],
)
def test_variants_of_a_family(family, text):
    model = build(family, **text)
    expected = {name for name in projections(model) if name.rpartition(".")[2] not in AROUND_THE_LAYERS}
    assert targeted(model) == expected
    assert {name.rpartition(".")[2] for name in expected} <= set(LORA_TARGETS[family])


def test_both_stacks_of_an_encoder_decoder():
    for family in ("bart", "t5"):
        found = targeted(build(family, fusion="concat"))
        for stack in ("encoder", "decoder"):
            assert [name for name in found if name.startswith(f"model.language_model.{stack}.")]


def test_names_of_the_users_own():
    model = build("llama")
    assert targeted(model, ["q_proj", "v_proj"]) == {
        f"model.language_model.layers.{layer}.self_attn.{name}" for layer in (0, 1) for name in ("q_proj", "v_proj")
    }
    for names in (["c_attn"], ["q_proj", "lm_head"], ["linear_1"], [".*"], ["embed_tokens"]):
        with pytest.raises(ValueError, match=rf"of the name {re.escape(names[-1])}; expected .* q_proj, k_proj"):
            lora_targets(model, names)
    with pytest.raises(ValueError, match="expected one or more"):
        lora_targets(model, [])


def test_the_configuration_says_what_peft_must_know():
    flamingo, concat = build("gpt2"), build("t5", fusion="concat")
    arguments = TuningArguments()
    assert stores_transposed(flamingo)
    assert adapter_config(flamingo, arguments).fan_in_fan_out
    assert adapter_config(flamingo, arguments).task_type == "CAUSAL_LM"
    whole = ["ecg_encoder", "ecg_projector", "ecg_cross_attention"]
    assert adapter_config(flamingo, arguments).modules_to_save == whole
    assert not adapter_config(concat, arguments).fan_in_fan_out
    assert adapter_config(concat, arguments).task_type == "SEQ_2_SEQ_LM"
    assert adapter_config(concat, arguments).modules_to_save == ["ecg_encoder", "ecg_projector"]
