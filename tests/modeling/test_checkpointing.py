"""Activation checkpointing: the same gradients, re-entrant or not, the ECG's included."""

import pytest
import torch

from .families import TEXT_CONFIGS
from .tiny import inputs_of, tiny_model


def gradients(family, use_reentrant, is_frozen=False, **overrides):
    """Of every weight after one backward, and how often layer 1's attention ran. None: no checkpointing."""
    model = tiny_model(family, **overrides).train()
    if is_frozen:
        model.model.language_model.requires_grad_(False)
    runs = []
    layer = model.model.decoder_layers[1]
    attention = layer.get_submodule(model.model.family.attention)
    attention.register_forward_hook(lambda *_: runs.append(1))
    if use_reentrant is not None:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
    inputs = inputs_of(model, "right")
    labels = inputs.get("decoder_input_ids", inputs["input_ids"])
    model(**inputs, labels=labels.masked_fill(labels == 0, -100)).loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters()}, len(runs)


def assert_equal(found, expected):
    assert expected["model.ecg_encoder.conv1.weight"].abs().max() > 1e-6
    for name, gradient in expected.items():
        assert (gradient is None) == (found[name] is None), name
        if gradient is not None:
            assert torch.allclose(found[name], gradient, rtol=0, atol=1e-10), name


@pytest.mark.support("checkpointing")
@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion", ["concat", "llava", "flamingo"])
def test_gradients_are_the_same(family, fusion):
    expected, runs = gradients(family, None, fusion=fusion)
    assert runs == 1
    for use_reentrant in (False, True):
        found, runs = gradients(family, use_reentrant, fusion=fusion)
        assert runs == 2  # forward, and again for backward
        assert_equal(found, expected)


@pytest.mark.support("checkpointing")
@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion_layers", [[0], [1]])
def test_gradients_are_the_same_where_some_layers_see_the_ecg(family, fusion_layers):
    expected, _ = gradients(family, None, fusion_layers=fusion_layers)
    for use_reentrant in (False, True):
        assert_equal(gradients(family, use_reentrant, fusion_layers=fusion_layers)[0], expected)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "t5"])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_frozen_language_model_sends_the_ecg_its_gradients(family, use_reentrant):
    """As with LoRA: re-entrant checkpointing then has nothing that asks for a gradient but the ECG."""
    expected, _ = gradients(family, None, is_frozen=True)
    assert_equal(gradients(family, use_reentrant, is_frozen=True)[0], expected)
