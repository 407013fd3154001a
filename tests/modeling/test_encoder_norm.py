"""The encoder's norms: what they compute, that they save and load, and that two of them do not see the batch."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from modeling_meit import ECGEncoder, ECGEncoderConfig, ECGLlamaForCausalLM, ECGProjector
from modeling_meit.encoder_meit import NORMS, FrozenBatchNorm, group_norm

from .plain.ecg import resnet18_features
from .tiny import ecg, tiny_model

WIDTHS = (8, 16, 16, 32)
NOT_OF_THE_BATCH = ("group", "frozen_batch")


def model_with(norm, dtype=torch.float64, **overrides):
    return tiny_model(dtype=dtype, ecg_config={"widths": WIDTHS, "norm": norm}, **overrides)


def texts_of_8():
    """Reports of 3 to 10 tokens, padded on the right, their masks and labels."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(1, 59, (8, 10), generator=generator)
    mask = (torch.arange(10) < torch.arange(3, 11)[:, None]).long()
    return ids, mask, ids.masked_fill(mask == 0, -100)


def loss_and_gradients(model, parts):
    """Loss per token over 8 texts whose batch is split into `parts`, and all gradients that training would see.

    The model's own loss is computed in float32.
    """
    ids, mask, labels = texts_of_8()
    model.train().zero_grad()
    num_tokens = (labels[:, 1:] != -100).sum()
    total = 0.0
    for rows in torch.arange(8).chunk(parts):
        logits = model(input_ids=ids[rows], attention_mask=mask[rows], ecg_values=1 + ecg(8)[rows]).logits
        targets = labels[rows, 1:]
        mean = functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten())
        share = (targets != -100).sum() / num_tokens.double()
        (mean * share).backward()
        total += (mean * share).item()
    return total, {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("fusion", ["concat", "flamingo"])
@pytest.mark.parametrize("norm", NOT_OF_THE_BATCH)
def test_the_loss_does_not_depend_on_how_a_batch_is_split(norm, fusion):
    model = model_with(norm, fusion=fusion)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    loss, gradients = loss_and_gradients(model, 1)
    assert any("ecg_encoder.conv1" in name for name in gradients)
    assert any("ecg_projector.norm" in name for name in gradients)
    for parts in (2, 8):
        split_loss, split_gradients = loss_and_gradients(model, parts)
        assert split_loss == pytest.approx(loss, abs=1e-10)
        assert split_gradients.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert torch.allclose(split_gradients[name], gradient, rtol=0, atol=1e-10), name
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name


def test_with_batch_norm_the_loss_depends_on_it():
    model = model_with("batch")
    loss, gradients = loss_and_gradients(model, 1)
    split_loss, split_gradients = loss_and_gradients(model, 2)
    assert abs(split_loss - loss) > 1e-6
    name = "model.ecg_encoder.conv1.weight"
    assert not torch.allclose(split_gradients[name], gradients[name], rtol=1e-3, atol=0)
    with pytest.raises(ValueError, match="found 1 ECG in a training batch"):
        loss_and_gradients(model, 8)


def test_frozen_batch_norm_is_its_equation():
    generator = torch.Generator().manual_seed(0)
    norm = FrozenBatchNorm(5).double().train()
    hidden = torch.randn(3, 5, 7, generator=generator).double()
    assert torch.allclose(norm(hidden), hidden / (1 + norm.eps) ** 0.5)
    with torch.no_grad():
        for tensor in norm.state_dict().values():
            tensor.copy_(0.5 + torch.rand(5, generator=generator))
    state = {name: tensor.tolist() for name, tensor in norm.state_dict().items()}
    for rows in (hidden, hidden[:, :, 0]):
        found = norm(rows)
        for index, value in zip(torch.cartesian_prod(*map(torch.arange, rows.shape)), rows.flatten(), strict=True):
            channel = int(index[1])
            centred = (value.item() - state["running_mean"][channel]) / (state["running_var"][channel] + 1e-5) ** 0.5
            expected = centred * state["weight"][channel] + state["bias"][channel]
            assert found[tuple(index)].item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_frozen_batch_norm_is_batch_norm_in_evaluation(dtype):
    generator = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm1d(5)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.copy_(0.5 + torch.rand(5, generator=generator))
    frozen = FrozenBatchNorm(5)
    frozen.load_state_dict(norm.state_dict())  # strict: the counter is no unexpected key
    norm, frozen = norm.to(dtype).eval(), frozen.to(dtype).train()
    hidden = torch.randn(3, 5, 7, generator=generator).to(dtype)
    assert torch.equal(frozen(hidden), norm(hidden))
    if dtype in (torch.bfloat16, torch.float32):
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(frozen(hidden), norm(hidden))


def test_nothing_of_a_frozen_norm_becomes_a_synchronised_one():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model_with("frozen_batch"))
    assert not [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm)]
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model_with("batch"))
    assert isinstance(model.model.ecg_encoder.bn1, nn.SyncBatchNorm)


@pytest.mark.parametrize(
    ("channels", "groups"), [(512, 32), (256, 32), (128, 32), (64, 16), (96, 24), (20, 5), (14, 2), (7, 1), (3, 1)]
)
def test_groups_divide_the_channels(channels, groups):
    norm = group_norm(channels)
    assert norm.num_groups == groups
    hidden = torch.randn(2, channels, 9)
    parts = hidden.view(2, groups, -1)
    expected = (parts - parts.mean(-1, keepdim=True)) / (parts.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    assert torch.allclose(norm(hidden), expected.view_as(hidden), atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_every_depth_runs_with_every_norm(depth, norm):
    encoder = ECGEncoder(ECGEncoderConfig(depth=depth, widths=WIDTHS, norm=norm)).train()
    names = {"bn1.weight", "layer4.1.bn2.bias", "layer2.0.downsample.1.weight"}
    assert names <= set(encoder.state_dict())
    kinds = {type(module) for name, module in encoder.named_modules() if "bn" in name or "downsample.1" in name}
    assert kinds == {type(NORMS[norm](8))}
    outputs = encoder(torch.randn(2, 12, 256))
    assert outputs.last_hidden_state.shape == (2, 8, encoder.config.hidden_size)
    outputs.pooler_output.mean().backward()
    assert all(weight.grad is not None for weight in encoder.parameters())


def test_the_projector_of_a_group_norm_has_fixed_statistics():
    assert type(ECGProjector(8, 4).norm) is nn.BatchNorm1d
    for norm in NOT_OF_THE_BATCH:
        projector = ECGProjector(8, 4, norm).train()
        assert type(projector.norm) is FrozenBatchNorm
        assert projector(torch.rand(1, 8)).shape == (1, 4)


def test_another_norm_is_refused():
    with pytest.raises(ValueError, match='norm is "layer"; supported: "batch", "group", "frozen_batch"'):
        ECGEncoderConfig(norm="layer")


def test_features_are_those_of_the_plain_network():
    encoder = model_with("frozen_batch").model.ecg_encoder.train()
    found = encoder(ecg(2)).last_hidden_state.transpose(1, 2)
    assert torch.allclose(found, resnet18_features(ecg(2), encoder.state_dict()), rtol=0, atol=1e-12)


def test_a_checkpoint_from_before_the_option_loads_as_batch(tmp_path):
    """Its config names neither norm nor pooling; its tensors have torchvision's names and BatchNorm's buffers."""
    model = model_with("batch", dtype=torch.float32)
    model.save_pretrained(tmp_path / "model")
    names = {name.rpartition(".")[2] for name in load_file(tmp_path / "model" / "model.safetensors") if ".bn1." in name}
    assert names == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    for field in ("norm", "stem_pool"):
        del config["ecg_config"][field]
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    loaded = ECGLlamaForCausalLM.from_pretrained(tmp_path / "model")
    assert type(loaded.model.ecg_encoder.bn1) is type(loaded.model.ecg_projector.norm) is nn.BatchNorm1d
    with torch.no_grad():
        found, expected = (part.model.get_ecg_embeds(ecg(3, dtype=torch.float32)) for part in (loaded, model))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("norm", NORMS)
def test_saved_and_loaded_it_is_the_same(norm, tmp_path):
    model = model_with(norm, dtype=torch.float32)
    model.save_pretrained(tmp_path / "model")
    model.model.ecg_encoder.save_pretrained(tmp_path / "encoder")
    loaded = ECGLlamaForCausalLM.from_pretrained(tmp_path / "model")
    encoder = ECGEncoder.from_pretrained(tmp_path / "encoder")
    assert loaded.config.ecg_config.norm == encoder.config.norm == norm
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    for name, tensor in model.model.ecg_encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], tensor), name


def test_weights_of_batch_norm_load_into_frozen_and_back(tmp_path):
    encoder = model_with("batch", dtype=torch.float32).model.ecg_encoder.eval()
    encoder.save_pretrained(tmp_path / "batch")
    frozen, unused = ECGEncoder.from_pretrained(tmp_path / "batch", norm="frozen_batch", output_loading_info=True)
    assert not any(unused.values())
    frozen.save_pretrained(tmp_path / "frozen")
    back = ECGEncoder.from_pretrained(tmp_path / "frozen", norm="batch")
    features = [part.train(part is frozen)(ecg(2, dtype=torch.float32))[0] for part in (encoder, frozen, back)]
    assert torch.equal(features[0], features[1])
    assert torch.equal(features[0], features[2])


def test_a_checkpoint_without_statistics_starts_with_none(tmp_path):
    """Tensors that a file lacks would otherwise hold whatever was in memory."""
    model = model_with("frozen_batch", dtype=torch.float32)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in weights.items() if "running" not in name}, tmp_path / "model.safetensors"
    )
    loaded, _ = ECGLlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    for part in ("ecg_encoder.bn1", "ecg_encoder.layer3.0.downsample.1", "ecg_projector.norm"):
        norm = loaded.model.get_submodule(part)
        assert torch.equal(norm.weight, model.model.get_submodule(part).weight)
        assert torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean))
        assert torch.equal(norm.running_var, torch.ones_like(norm.running_var))


@pytest.mark.parametrize("norm", NORMS)
def test_an_adapter_holds_weights_and_statistics(norm, tmp_path):
    lora = LoraConfig(
        target_modules=r".*language_model\..*\.q_proj",
        modules_to_save=["ecg_encoder", "ecg_projector"],
        task_type="CAUSAL_LM",
    )
    trained = get_peft_model(model_with(norm, dtype=torch.float32), lora)
    with torch.no_grad():
        for name, tensor in (
            trained.base_model.model.model.ecg_projector.modules_to_save["default"].state_dict().items()
        ):
            if tensor.is_floating_point():
                tensor.mul_(1.5 if "running" in name else 0.5)
    trained.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(model_with(norm, dtype=torch.float32), tmp_path)
    names = [name for name in trained.state_dict() if "modules_to_save" in name]
    assert any(name.endswith("ecg_projector.modules_to_save.default.norm.running_var") for name in names)
    assert any("ecg_encoder.modules_to_save.default.layer1.0.bn1.running_mean" in name for name in names) == (
        norm != "group"
    )
    for name in names:
        assert torch.equal(loaded.state_dict()[name], trained.state_dict()[name]), name
