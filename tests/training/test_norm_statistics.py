"""Fixed statistics are those of the ECGs that they were measured on."""

import pytest
import torch
from torch import nn

from modeling_meit.encoder_meit import FrozenBatchNorm
from tests.modeling.tiny import ecg, tiny_model
from training.norm_statistics import measure_norm_statistics

WIDTHS = (8, 16, 16, 32)


def fresh_model(norm="frozen_batch", depth=18, dtype=torch.float64, **overrides):
    """With the random weights that training starts from."""
    torch.manual_seed(0)
    model = tiny_model(dtype=dtype, ecg_config={"widths": WIDTHS, "norm": norm, "depth": depth}, **overrides)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, FrozenBatchNorm):
                module.init_weights()
    return model


def heart_beats(count, seed=0):
    """ECGs between 0 and 1 that differ in rate, amplitude and noise: alike, as real ones are."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 10, 512, dtype=torch.float64)
    rates = 0.8 + torch.rand(count, 1, 1, generator=generator).double()
    amplitudes = torch.rand(count, 12, 1, generator=generator).double()
    beats = torch.sin(torch.pi * rates * time) ** 20 * amplitudes
    return 0.2 + 0.6 * beats + 0.02 * torch.randn(count, 12, 512, generator=generator).double()


def statistics(model):
    return {name: buffer.clone() for name, buffer in model.named_buffers() if "running" in name}


def inputs_of_norms(model, ecg_values):
    """What reaches each fixed normalisation, by its name."""
    seen = {}
    modules = {name: module for name, module in model.named_modules() if isinstance(module, FrozenBatchNorm)}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
        for name, module in modules.items()
    ]
    with torch.no_grad():
        model.model.get_ecg_embeds(ecg_values)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("fusion", ["concat", "llava", "flamingo"])
@pytest.mark.parametrize("norm", ["group", "frozen_batch"])
def test_statistics_are_those_of_what_reaches_each_norm(norm, fusion):
    """Of what the measured norms in front let through, which only one set of statistics fulfils."""
    model = fresh_model(norm, fusion=fusion)
    values = heart_beats(6)
    assert measure_norm_statistics(model, [values]) == 6
    seen = inputs_of_norms(model, values)
    assert len(seen) == (1 if norm == "group" else 21)  # 20 convolutions in the encoder, and the projector
    for name, hidden in seen.items():
        rows = hidden.movedim(1, -1).flatten(0, -2)
        mean = rows.sum(0) / len(rows)
        variance = (rows - mean).square().sum(0) / (len(rows) - 1)
        module = model.get_submodule(name)
        assert torch.allclose(module.running_mean, mean, rtol=1e-10, atol=1e-12), name
        assert torch.allclose(module.running_var, variance, rtol=1e-9, atol=1e-12), name


def test_neither_the_split_nor_earlier_statistics_matter():
    values = heart_beats(7)
    first, second = fresh_model(), fresh_model()
    measure_norm_statistics(first, [values])
    measure_norm_statistics(second, [ecg(4)])
    measure_norm_statistics(second, (rows for rows in values.split([1, 4, 2])))
    for name, tensor in statistics(first).items():
        assert torch.equal(statistics(second)[name], tensor), name


def test_the_encoders_statistics_may_stay():
    model = fresh_model()
    measure_norm_statistics(model, [ecg(4)])
    before = statistics(model)
    measure_norm_statistics(model, [heart_beats(6)], keep_encoder=True)
    after = statistics(model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"model.ecg_projector.norm.running_mean", "model.ecg_projector.norm.running_var"}


def test_nothing_else_of_the_model_changes():
    model = fresh_model().train()
    model.model.ecg_projector.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    weights = {name: weight.clone() for name, weight in model.named_parameters()}
    random_state = torch.get_rng_state()
    measure_norm_statistics(model, [heart_beats(4)])
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, weights[name])
        assert weight.requires_grad
        assert weight.grad is None
    measured = statistics(model)
    model.model.get_ecg_embeds(ecg(4)).sum().backward()
    assert all(torch.equal(tensor, measured[name]) for name, tensor in statistics(model).items())


@pytest.mark.parametrize("norm", ["group", "frozen_batch"])
@pytest.mark.parametrize("depth", [18, 152])
def test_random_weights_tell_ecgs_apart_once_measured(depth, norm):
    """Through up to 152 layers the features stay of the order of 1, and ECGs do not point the same way."""
    model = fresh_model(norm, depth, dtype=torch.float32)
    values = heart_beats(16).float()

    def cosines():
        features = model.model.ecg_encoder(values).pooler_output
        normed = nn.functional.normalize(model.model.ecg_projector.norm(features), dim=-1)
        return features, (normed @ normed.T)[~torch.eye(16, dtype=torch.bool)]

    with torch.no_grad():
        _, before = cosines()
        assert not before.isfinite().all() or before.mean() > 0.9  # so that what follows can fail
        measure_norm_statistics(model, values.split(4))
        features, after = cosines()
    assert features.isfinite().all()
    assert features.abs().mean() < 100
    assert after.mean() < 0.1
    assert after.abs().mean() < 0.7


def test_a_channel_that_is_the_same_for_all_ecgs_is_not_blown_up():
    model = fresh_model()
    with torch.no_grad():
        model.model.ecg_encoder.conv1.weight[3] = 0
    measure_norm_statistics(model, [heart_beats(4)])
    norm = model.model.ecg_encoder.bn1
    assert norm.running_var[3] == 1
    assert norm.running_mean[3] == 0
    assert (norm.running_var[:3] != 1).all()


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match='norm is "batch"'):
        measure_norm_statistics(fresh_model("batch"), [ecg(4)])
    model = fresh_model()
    before = statistics(model)
    for batches in ([], [ecg(1)]):
        with pytest.raises(ValueError, match=f"found {len(batches)} ECGs"):
            measure_norm_statistics(model, batches)
    broken = ecg(4)
    broken[2, 5, 7] = torch.nan
    with pytest.raises(ValueError, match="ECG 2 of 4 holds NaN"):
        measure_norm_statistics(model, [broken])
    with pytest.raises(ValueError, match="expected \\(batch, 12 leads, samples\\)"):
        measure_norm_statistics(model, [ecg(4)[:, :8]])
    assert all(torch.equal(tensor, before[name]) for name, tensor in statistics(model).items())
    assert not any(module._forward_pre_hooks for module in model.model.ecg_encoder.modules())
