"""Encoder weights from files: other people's names and wrappings, and files that are refused whole."""

import os
import pickle
import random
import re
import zipfile

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from modeling_meit import ECGEncoder, ECGEncoderConfig
from tests.modeling.tiny import ecg, tiny_model
from training.encoder_weights import load_encoder_weights

WIDTHS = (8, 8, 16, 16)
# Of MIMIC-IV-ECG's files: aVF stands in front of aVL.
MERL_ORDER = [0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]


class PlainResidual(nn.Module):
    """A residual block from its list of convolutions (kernel, stride, channels), with MERL's names."""

    def __init__(self, channels, convolutions):
        super().__init__()
        self.count = len(convolutions)
        inner, total_stride = channels, 1
        for number, (kernel, stride, out) in enumerate(convolutions, 1):
            self.add_module(f"conv{number}", nn.Conv1d(inner, out, kernel, stride, (kernel - 1) // 2, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm1d(out))
            inner, total_stride = out, total_stride * stride
        is_same = (inner, total_stride) == (channels, 1)
        shortcut = [] if is_same else [nn.Conv1d(channels, inner, 1, total_stride, bias=False), nn.BatchNorm1d(inner)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, hidden):
        residual = hidden
        for number in range(1, self.count + 1):
            residual = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(residual))
            residual = residual.clamp(min=0) if number < self.count else residual
        return (residual + self.shortcut(hidden)).clamp(min=0)


class PlainMerl(nn.Module):
    """MERL's 1-D ResNet from its description: no pooling behind the stem, and a head that its features do not use."""

    def __init__(self, depth=18, widths=(64, 128, 256, 512)):
        super().__init__()
        blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
        channels = widths[0]
        self.conv1 = nn.Conv1d(12, channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm1d(channels)
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), 1):
            stack = []
            for number in range(count):
                stride = 2 if stage > 1 and number == 0 else 1
                basic = [(3, stride, width), (3, 1, width)]
                bottleneck = [(1, 1, width), (3, stride, width), (1, 1, 4 * width)]
                stack.append(PlainResidual(channels, basic if depth < 50 else bottleneck))
                channels = width if depth < 50 else 4 * width
            self.add_module(f"layer{stage}", nn.Sequential(*stack))
        self.linear = nn.Linear(channels, 10)

    def forward(self, hidden):
        hidden = self.bn1(self.conv1(hidden)).clamp(min=0)
        return self.layer4(self.layer3(self.layer2(self.layer1(hidden))))


def filled(module, seed=0):
    """Random weights and statistics, all large enough to matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.ndim > 1:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5)
        elif tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5 * (not name.endswith(("bias", "mean"))))
    return module


def encoder_of(depth=18, widths=WIDTHS, **config):
    config.setdefault("norm", "frozen_batch")
    return filled(ECGEncoder(ECGEncoderConfig(depth=depth, widths=widths, **config)), seed=1).eval()


def merl_file(path, depth=18, widths=WIDTHS, **changed):
    state = filled(PlainMerl(depth, widths)).state_dict()
    torch.save({**state, **changed}, path)
    return path


def saved_state(path, encoder, prefix="", wrapping=None):
    """A file of an encoder's tensors as someone else's training would write it."""
    state = {prefix + name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"epoch": 3, wrapping: state} if wrapping else state, path)
    return path


def assert_same(encoder, expected):
    state = expected.state_dict()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.fixture
def refuses(tmp_path):
    """That a file is refused by a message which names it, and that nothing of it is loaded."""

    def check(path, *words, **config):
        encoder = encoder_of(**config)
        before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
        with pytest.raises(ValueError, match=re.escape(str(path))) as refusal:
            load_encoder_weights(encoder, path)
        for word in words:
            assert word in str(refusal.value)
        for name, tensor in encoder.state_dict().items():
            assert torch.equal(tensor, before[name]), name

    return check


@pytest.mark.parametrize("norm", ["batch", "frozen_batch"])
@pytest.mark.parametrize(("depth", "widths"), [(18, (64, 128, 256, 512)), (50, WIDTHS)])
def test_merl_computes_the_same_features(depth, widths, norm, tmp_path):
    merl = filled(PlainMerl(depth, widths)).double().eval()
    torch.save(merl.state_dict(), tmp_path / "merl_encoder.pth")
    encoder = encoder_of(depth, widths, norm=norm, stem_pool=False).double()
    report = load_encoder_weights(encoder, tmp_path / "merl_encoder.pth")
    assert report.unmatched == ["linear.weight", "linear.bias"]
    assert report.missing == []
    assert report.exchanged_leads
    assert set(report.matched) == set(encoder.state_dict())
    assert str(report).splitlines()[0] == f"{report.file}: {len(report.matched)} tensors of the encoder loaded"
    assert "2 of the file found no place: linear.weight, linear.bias\naVL and aVF" in str(report)
    values = ecg(2).repeat(1, 1, 3)
    with torch.no_grad():
        found, expected = encoder(values), merl(values[:, MERL_ORDER])
    tolerance = {"rtol": 0, "atol": 1e-12 * expected.max().item()}
    assert torch.allclose(found.last_hidden_state.transpose(1, 2), expected, **tolerance)
    assert torch.allclose(found.pooler_output, expected.mean(-1), **tolerance)
    assert not torch.allclose(found.pooler_output, merl(values).mean(-1), rtol=1e-3)


def test_the_whole_of_merl(tmp_path):
    """A training checkpoint of the model under DDP, its text encoder and optimizer included."""
    merl = filled(PlainMerl(widths=WIDTHS))
    state = {f"module.ecg_encoder.{name}": tensor for name, tensor in merl.state_dict().items()}
    state |= {
        "module.lm_model.encoder.layer.0.output.dense.weight": torch.ones(2, 2),
        "module.downconv.weight": torch.ones(2, 2, 1),
    }
    optimizer = torch.optim.AdamW(merl.parameters())
    torch.save(
        {"epoch": 1, "model_state_dict": state, "optimizer_state_dict": optimizer.state_dict()}, tmp_path / "ckpt.pth"
    )
    report = load_encoder_weights(encoder_of(stem_pool=False), tmp_path / "ckpt.pth")
    assert report.missing == []
    assert [name.split(".")[1] for name in report.unmatched] == ["ecg_encoder", "ecg_encoder", "lm_model", "downconv"]


def test_merl_needs_an_encoder_without_pooling(tmp_path, refuses):
    refuses(merl_file(tmp_path / "merl.pth"), "MERL", "ECGEncoderConfig.stem_pool=False")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".ckpt", ".bin"])
@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "encoder.",
        "ecg_encoder.",
        "module.ecg_encoder.",
        "model.ecg_encoder.",
        "base_model.model.model.ecg_encoder.",
        "base_model.model.model.ecg_encoder.modules_to_save.default.",
    ],
)
def test_prefixes_and_kinds_of_file(prefix, suffix, tmp_path):
    source = filled(encoder_of(), seed=5)
    encoder = encoder_of()
    report = load_encoder_weights(encoder, saved_state(tmp_path / f"weights{suffix}", source, prefix))
    assert_same(encoder, source)
    assert report.missing == report.unmatched == []
    assert not report.exchanged_leads


@pytest.mark.parametrize("wrapping", ["state_dict", "model", "model_state_dict", "encoder"])
def test_wrappings(wrapping, tmp_path):
    source, encoder = filled(encoder_of(), seed=5), encoder_of()
    load_encoder_weights(encoder, saved_state(tmp_path / "weights.pt", source, wrapping=wrapping))
    assert_same(encoder, source)
    torch.save({"model": {"state_dict": source.state_dict()}}, tmp_path / "nested.pt")
    encoder = encoder_of()
    load_encoder_weights(encoder, str(tmp_path / "nested.pt"))
    assert_same(encoder, source)


def test_a_pickle_from_before_zip_archives(tmp_path):
    source, encoder = filled(encoder_of(), seed=5), encoder_of()
    torch.save(source.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(tmp_path / "old.pth")
    load_encoder_weights(encoder, tmp_path / "old.pth")
    assert_same(encoder, source)


@pytest.mark.parametrize("norm", ["batch", "group", "frozen_batch"])
def test_our_folders(norm, tmp_path):
    """An encoder's, a full checkpoint's and an adapter's, whose projector and language model have norms as well."""
    model = tiny_model(dtype=torch.float32, ecg_config={"widths": WIDTHS, "norm": norm})
    source = model.model.ecg_encoder
    source.save_pretrained(tmp_path / "encoder")
    model.save_pretrained(tmp_path / "full")
    lora = LoraConfig(target_modules=r".*q_proj", modules_to_save=["ecg_encoder", "ecg_projector"])
    get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
    model.save_config_and_code(tmp_path / "adapter")
    source = ECGEncoder.from_pretrained(tmp_path / "encoder")
    for folder in ("encoder", "full", "adapter"):
        encoder = encoder_of(norm=norm)
        report = load_encoder_weights(encoder, tmp_path / folder)
        assert_same(encoder, source)
        assert report.file.parent == tmp_path / folder
        assert report.missing == []
        assert all("ecg_encoder" not in name for name in report.unmatched)
        assert bool(report.unmatched) == (folder != "encoder")


def test_batch_norm_and_its_counter(tmp_path):
    """Weights of the one load into the other, with its counter or without."""
    batch, frozen = encoder_of(norm="batch"), encoder_of()
    batch.bn1.num_batches_tracked += 7
    saved_state(tmp_path / "batch.pt", batch)
    saved_state(tmp_path / "frozen.pt", frozen)
    encoder = encoder_of(norm="batch")
    assert load_encoder_weights(encoder, tmp_path / "batch.pt").unmatched == []
    assert encoder.bn1.num_batches_tracked == 7
    assert load_encoder_weights(frozen, tmp_path / "batch.pt").unmatched == []
    assert load_encoder_weights(encoder, tmp_path / "frozen.pt").missing == []


def test_what_is_missing_keeps_its_values_and_is_named(tmp_path):
    source, encoder = filled(encoder_of(), seed=5), encoder_of()
    before = encoder.conv1.weight.clone()
    state = source.state_dict()
    del state["conv1.weight"], state["bn1.bias"]
    torch.save(state | {"fc.weight": torch.ones(3)}, tmp_path / "part.pt")
    report = load_encoder_weights(encoder, tmp_path / "part.pt")
    assert report.missing == ["conv1.weight", "bn1.bias"]
    assert report.unmatched == ["fc.weight"]
    assert "2 keep their initial values: conv1.weight, bn1.bias" in str(report)
    assert torch.equal(encoder.conv1.weight, before)
    assert torch.equal(encoder.bn1.weight, source.bn1.weight)


def test_another_precision_is_converted(tmp_path):
    source, encoder = filled(encoder_of(), seed=5), encoder_of()
    load_encoder_weights(encoder, saved_state(tmp_path / "half.safetensors", source.half()))
    assert encoder.dtype == torch.float32
    assert_same(encoder, source.float())


@pytest.mark.parametrize(("found", "expected"), [(34, 18), (18, 34), (50, 34), (34, 50), (50, 101)])
def test_another_depth_is_refused(found, expected, tmp_path, refuses):
    path = saved_state(tmp_path / "other.pt", encoder_of(found))
    refuses(path, f"depth {found}", f"expected depth {expected}", depth=expected)


def test_a_network_of_no_known_depth_is_refused(tmp_path, refuses):
    state = encoder_of().state_dict()
    torch.save({name: value for name, value in state.items() if "layer3.1" not in name}, tmp_path / "odd.pt")
    refuses(tmp_path / "odd.pt", "(2, 2, 1, 2) basic blocks", "expected depth 18")


def test_other_shapes_are_refused(tmp_path, refuses):
    path = saved_state(tmp_path / "wide.safetensors", encoder_of(widths=(8, 8, 16, 32)))
    refuses(path, "layer4.0.conv1.weight", "(32, 16, 3)", "(16, 16, 3)")
    path = saved_state(tmp_path / "eight_leads.pt", encoder_of(in_channels=8))
    refuses(path, "conv1.weight", "(8, 8, 7)", "(8, 12, 7)")


@pytest.mark.parametrize("norm", ["batch", "frozen_batch"])
def test_another_kind_of_normalisation_is_refused(norm, tmp_path, refuses):
    refuses(saved_state(tmp_path / "batch.pt", encoder_of(norm=norm)), "batch normalisation", '"group"', norm="group")
    refuses(saved_state(tmp_path / "group.pt", encoder_of(norm="group")), "running_mean", f'"{norm}"', norm=norm)


def test_another_pooling_is_refused(tmp_path, refuses):
    """No tensor tells: the configuration beside them does."""
    encoder_of(stem_pool=False).save_pretrained(tmp_path)
    refuses(tmp_path / "model.safetensors", "without pooling", "stem_pool=False")
    load_encoder_weights(encoder_of(stem_pool=False), tmp_path)
    for content in ("[]", "{", '{"ecg_config": 3}'):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ValueError, match="config.json: no readable configuration"):
            load_encoder_weights(encoder_of(), tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    load_encoder_weights(encoder_of(), tmp_path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_none_are_refused(value, suffix, tmp_path, refuses):
    source = encoder_of()
    with torch.no_grad():
        source.layer2[0].conv1.weight[1, 1, 1] = value
    refuses(saved_state(tmp_path / f"broken{suffix}", source), "layer2.0.conv1.weight", "NaN or infinities")


def test_a_negative_variance_is_refused(tmp_path, refuses):
    source = encoder_of()
    source.bn1.running_var[2] = -0.25
    refuses(saved_state(tmp_path / "negative.pt", source), "bn1.running_var", "-0.25")


def test_two_tensors_for_one_place_are_refused(tmp_path, refuses):
    state = encoder_of().state_dict()
    torch.save(state | {"module.conv1.weight": state["conv1.weight"]}, tmp_path / "two.pt")
    refuses(tmp_path / "two.pt", "both conv1.weight and module.conv1.weight")


@pytest.mark.parametrize(
    "value",
    [
        "a string",
        torch.ones(8, 12, 7).to_sparse(),
        torch.ones(8, 12, 7, dtype=torch.complex64),
        torch.ones(8, 12, 7, device="meta"),
    ],
    ids=["text", "sparse", "complex", "meta"],
)
def test_what_is_no_plain_tensor_is_refused(value, tmp_path, refuses):
    torch.save({**encoder_of().state_dict(), "conv1.weight": value}, tmp_path / "odd.pt")
    refuses(tmp_path / "odd.pt", "conv1.weight is no dense tensor")


def test_what_fits_nowhere_is_refused(tmp_path, refuses):
    torch.save({"cls_token": torch.ones(3), 5: torch.ones(1)}, tmp_path / "vit.pt")
    refuses(tmp_path / "vit.pt", "cls_token", "conv1.weight, bn1.weight")
    torch.save({}, tmp_path / "empty.pt")
    refuses(tmp_path / "empty.pt", "conv1.weight")
    for name, content in (("list.pt", [torch.ones(3)]), ("tensor.pt", torch.ones(3)), ("wrapped.pt", {"model": 3})):
        torch.save(content, tmp_path / name)
        refuses(tmp_path / name)


def test_a_wrapping_that_holds_itself_ends(tmp_path, refuses):
    content = {}
    content["model"] = content
    torch.save(content, tmp_path / "endless.pt")
    refuses(tmp_path / "endless.pt")


class Payload:
    """Its unpickling makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain pickle"])
def test_code_in_a_pickle_is_not_run(kind, tmp_path, refuses):
    trace, path = tmp_path / "trace", tmp_path / "hostile.pth"
    content = {"state_dict": encoder_of().state_dict(), "extra": Payload(trace)}
    if kind == "plain pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    refuses(path, "not readable as tensors alone", "would run code in it", "safetensors.torch.save_file")
    assert not trace.exists()
    torch.load(path, weights_only=False) if kind != "plain pickle" else pickle.loads(path.read_bytes())
    assert trace.exists()  # so that the file was one that does something


def test_a_pickled_module_is_refused(tmp_path, refuses):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    refuses(tmp_path / "module.pt", "not readable as tensors alone")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_damaged_files_are_refused_or_read(suffix, tmp_path):
    """Cut short or with other bytes, a file gives a `ValueError` that names it, or tensors."""
    rng = random.Random(0)
    whole = saved_state(tmp_path / f"whole{suffix}", encoder_of()).read_bytes()
    path = tmp_path / f"damaged{suffix}"
    refusals = []
    for attempt in range(60):
        damaged = bytearray(whole)
        if attempt % 3 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        else:
            # Headers and directories stand at the beginning and the end; the middle is numbers.
            for _ in range(attempt % 3 * 4):
                place = rng.randrange(3000) if rng.random() < 0.5 else -1 - rng.randrange(3000)
                damaged[place] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            load_encoder_weights(encoder_of(), path)
        except ValueError as error:
            refusals.append(str(error))
    assert len(refusals) >= 20
    assert all(refusal.startswith(f"{path}: ") for refusal in refusals)


def test_files_that_are_none(tmp_path):
    encoder = encoder_of()
    with pytest.raises(FileNotFoundError, match=r"absent\.pt: no such file"):
        load_encoder_weights(encoder, tmp_path / "absent.pt")
    with pytest.raises(FileNotFoundError, match=r"found none of model\.safetensors, adapter_model\.safetensors"):
        load_encoder_weights(encoder, tmp_path)
    (tmp_path / "weights.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"weights\.onnx: expected a file of encoder weights: \.safetensors, \.pt"):
        load_encoder_weights(encoder, tmp_path / "weights.onnx")


def test_a_file_is_not_changed(tmp_path):
    """It is mapped into memory, and the encoder's own tensors are copies."""
    path = saved_state(tmp_path / "weights.safetensors", encoder_of())
    before = path.read_bytes()
    encoder = encoder_of()
    load_encoder_weights(encoder, path)
    with torch.no_grad():
        encoder.conv1.weight.zero_()
    assert path.read_bytes() == before
    assert load_file(path)["conv1.weight"].abs().sum() > 0
