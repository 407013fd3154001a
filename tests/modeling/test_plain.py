"""The plain equations (tests/modeling/plain) against the stock text-only models of transformers."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.models.t5.modeling_t5 import T5Attention

from . import plain
from .families import DECODERS, SEQ2SEQ, VARIANTS, WINDOWED, text_config

FAMILIES = DECODERS + SEQ2SEQ
CASES = [(family, {}) for family in FAMILIES] + VARIANTS
ONE_TEXT = [5, 9, 33, 12, 7, 50, 21]
# More than two of GPT-Neo's windows, several of the others, and beyond T5's furthest bucket.
LONG_TEXT = [5, 9, 33, 12, 7, 50, 21, 8, 17, 4, 44, 3, 29, 30, 11, 58, 6, 23, 40, 12]
TARGET = [2, 44, 3, 29, 30, 11, 9, 60, 4, 4, 22, 13, 14, 15]
# transformers takes most norms, the rotary angles and many a softmax in float32 whatever the model's dtype.
TOLERANCE = 5e-6
EXACT_TOLERANCE = 1e-12
EXACT = {(family, attention) for family in ("gpt2", "bart") for attention in ("eager", "sdpa")} | {("opt", "sdpa")}
# What a test must tell apart lies this far beyond the tolerance.
FELT = 1000 * TOLERANCE
DECODER_LAYERS = {
    "gpt2": "transformer.h",
    "gpt_neo": "transformer.h",
    "gptj": "transformer.h",
    "bloom": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "opt": "model.decoder.layers",
    "bart": "model.decoder.layers",
    "t5": "decoder.block",
}


def name(value: object) -> str | None:
    """For pytest: the keywords of a variant."""
    return ",".join(f"{k}={v}" for k, v in value.items()) or "plain" if isinstance(value, dict) else None


def stock_model(family: str, extra: dict | None = None, attn_implementation: str = "eager") -> PreTrainedModel:
    """A stock model whose every weight and buffer is random and large enough to matter."""
    torch.manual_seed(0)
    auto = AutoModelForSeq2SeqLM if family in SEQ2SEQ else AutoModelForCausalLM
    model = auto.from_config(text_config(family, **(extra or {})), attn_implementation=attn_implementation)
    if family == "t5" and not model.config.scale_decoder_outputs:
        # Loading a v1.1 checkpoint leaves its two matrices apart, but no configuration makes a new model do so.
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(tensor + 0.2 * noise if tensor.ndim == 1 else noise / tensor[0].numel() ** 0.5)
    return model.double().eval()


def stock_logits(model: PreTrainedModel, text: list[int], **inputs: Tensor) -> Tensor:
    if not inputs:
        inputs["input_ids"] = torch.tensor([text])
    if model.config.model_type in SEQ2SEQ:
        inputs["decoder_input_ids"] = torch.tensor([TARGET])
    with torch.no_grad():
        return model(**inputs).logits[0]


def plain_logits(model: PreTrainedModel, text: list[int], *ecg, **hooks) -> Tensor:
    family = model.config.model_type
    texts = (text, TARGET) if family in SEQ2SEQ else (text,)
    with torch.no_grad():
        return plain.LOGITS[family](*texts, model.state_dict(), model.config, *ecg, **hooks)


def vectors(count: int, size: int) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(2)).double()


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize(("family", "extra"), CASES + WINDOWED, ids=name)
def test_plain_logits_equal_the_stock_ones(family, extra, attn_implementation):
    if attn_implementation == "sdpa" and family in ("gpt_neo", "gptj", "bloom"):
        with pytest.raises(ValueError, match="scaled_dot_product_attention"):
            stock_model(family, extra, attn_implementation)
        return
    model = stock_model(family, extra, attn_implementation)
    tolerance = EXACT_TOLERANCE if (family, attn_implementation) in EXACT else TOLERANCE
    for text in (ONE_TEXT, LONG_TEXT, [8]):
        difference = (plain_logits(model, text) - stock_logits(model, text)).abs().max()
        assert difference < tolerance


@pytest.mark.parametrize(("family", "extra"), CASES, ids=name)
def test_replaced_rows_are_rows_of_stock_inputs_embeds(family, extra):
    model = stock_model(family, extra)
    with torch.no_grad():
        embeds = model.get_input_embeddings()(torch.tensor([ONE_TEXT])).clone()
    new = vectors(2, embeds.shape[-1])
    embeds[0, [0, 3]] = new
    found = plain_logits(model, ONE_TEXT, replace={0: new[0], 3: new[1]})
    assert (found - stock_logits(model, ONE_TEXT, inputs_embeds=embeds)).abs().max() < TOLERANCE
    assert (found - plain_logits(model, ONE_TEXT)).abs().max() > FELT


@pytest.mark.parametrize("family", FAMILIES)
def test_before_layer_gets_and_gives_the_residual_stream(family):
    model = stock_model(family)
    change = vectors(2, model.config.hidden_size)
    layers = model.get_submodule(DECODER_LAYERS.get(family, "model.layers"))
    for layer, vector in zip(layers, change, strict=True):
        layer.register_forward_pre_hook(lambda _, args, vector=vector: (args[0] + vector, *args[1:]))
    calls = []

    def before_layer(index: int, stream: list[Tensor]) -> list[Tensor]:
        calls.append(index)
        return [x + change[index] for x in stream]

    found = plain_logits(model, ONE_TEXT, before_layer=before_layer)
    assert calls == [0, 1]
    assert (found - stock_logits(model, ONE_TEXT)).abs().max() < TOLERANCE


@pytest.mark.parametrize(("family", "extra"), CASES, ids=name)
def test_the_logits_feel_the_ecg_its_layers_and_the_replaced_rows(family, extra):
    model = stock_model(family, extra)
    one, other = vectors(2, model.config.hidden_size)
    variants = [plain_logits(model, ONE_TEXT, one, layers) for layers in (None, [0], [1])]
    variants += [plain_logits(model, ONE_TEXT, other), plain_logits(model, ONE_TEXT)]
    size = model.get_input_embeddings().weight.shape[1]
    variants += [plain_logits(model, ONE_TEXT, replace={3: vector}) for vector in vectors(2, size)]
    for first, second in itertools.combinations(variants, 2):
        assert (first - second).abs().max() > FELT


@pytest.mark.parametrize("family", ["bloom", "t5"])
def test_the_logits_feel_the_bias_of_the_slot(family, monkeypatch):
    model = stock_model(family)
    ecg = vectors(1, model.config.hidden_size)[0]
    right = plain_logits(model, ONE_TEXT, ecg)
    monkeypatch.setattr(plain.blocks, "SLOT_BIAS", 0.1)
    assert (plain_logits(model, ONE_TEXT, ecg) - right).abs().max() > FELT


def test_the_logits_feel_a_slot_that_pushes_the_positions_of_bloom(monkeypatch):
    model = stock_model("bloom")
    ecg = vectors(1, model.config.hidden_size)[0]
    right, without = plain_logits(model, ONE_TEXT, ecg), plain_logits(model, ONE_TEXT)
    monkeypatch.setattr(plain.decoders, "alibi", lambda slope, position: slope * (position + 1))
    assert (plain_logits(model, ONE_TEXT) - without).abs().max() < EXACT_TOLERANCE
    assert (plain_logits(model, ONE_TEXT, ecg) - right).abs().max() > FELT


@pytest.mark.parametrize(("family", "extra"), [("gpt_neo", {}), *WINDOWED], ids=name)
def test_every_token_sees_the_ecg_beyond_the_window(family, extra):
    """Fused into the last layer alone, it can come to a late token by no way but its slot."""
    model = stock_model(family, extra)
    one, other = (plain_logits(model, LONG_TEXT, e, [1]) for e in vectors(2, model.config.hidden_size))
    assert ((one - other).abs().amax(-1) > FELT).all()


@pytest.mark.parametrize("family", [f for f in FAMILIES if text_config(f).tie_word_embeddings])
def test_a_tied_head_may_be_absent(family):
    model = stock_model(family)
    expected = plain_logits(model, ONE_TEXT)
    state = model.state_dict()
    del state["lm_head.weight"]
    texts = (ONE_TEXT, TARGET) if family in SEQ2SEQ else (ONE_TEXT,)
    assert torch.equal(plain.LOGITS[family](*texts, state, model.config), expected)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (8, 12)])
def test_buckets_of_t5(bidirectional, buckets, furthest):
    distances = range(-300, 301)
    expected = T5Attention._relative_position_bucket(torch.tensor(distances), bidirectional, buckets, furthest)
    assert [plain.seq2seq.t5_bucket(d, buckets, furthest, bidirectional) for d in distances] == expected.tolist()


def test_gated_cross_attention():
    time, width, heads, head, hidden = 5, 12, 4, 6, 32
    generator = torch.Generator().manual_seed(3)
    shapes = {
        "attn_norm.weight": (hidden,),
        "attn_norm.bias": (hidden,),
        "q_proj.weight": (heads * head, hidden),
        "k_proj.weight": (heads * head, width),
        "v_proj.weight": (heads * head, width),
        "o_proj.weight": (hidden, heads * head),
        "attn_gate": (),
        "ff_norm.weight": (hidden,),
        "ff_norm.bias": (hidden,),
        "ff_in.weight": (48, hidden),
        "ff_out.weight": (hidden, 48),
        "ff_gate": (),
    }
    state = {key: torch.randn(shape, generator=generator).double() for key, shape in shapes.items()}
    stream, features = vectors(7, hidden), vectors(time, width)

    def norm(y: Tensor, prefix: str) -> Tensor:
        return functional.layer_norm(y, (hidden,), state[f"{prefix}.weight"], state[f"{prefix}.bias"], 1e-5)

    def split(x: Tensor) -> Tensor:
        return x.view(len(x), heads, head).transpose(0, 1)

    queries = split(norm(stream, "attn_norm") @ state["q_proj.weight"].T)
    keys, values = (split(features @ state[f"{key}_proj.weight"].T) for key in "kv")
    attended = functional.scaled_dot_product_attention(queries, keys, values).transpose(0, 1).flatten(1)
    expected = stream + state["attn_gate"].tanh() * (attended @ state["o_proj.weight"].T)
    inner = functional.gelu(norm(expected, "ff_norm") @ state["ff_in.weight"].T)
    expected = expected + state["ff_gate"].tanh() * (inner @ state["ff_out.weight"].T)
    found = torch.stack(plain.gated_cross_attention(list(stream), features, state, heads))
    assert torch.allclose(found, expected, rtol=0, atol=1e-11)
    closed = state | {"attn_gate": torch.zeros(()), "ff_gate": torch.zeros(())}
    assert torch.equal(torch.stack(plain.gated_cross_attention(list(stream), features, closed, heads)), stream)


@pytest.mark.parametrize("shape", [(3, 12), (3, 5, 12)])
def test_projected_features(shape):
    modules = nn.ModuleDict({"norm": nn.BatchNorm1d(12), "linear_1": nn.Linear(12, 16), "linear_2": nn.Linear(16, 8)})
    generator = torch.Generator().manual_seed(4)
    for tensor in modules.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator).abs())
    modules = modules.double().eval()
    features = torch.randn(shape, generator=generator).double()
    with torch.no_grad():
        hidden = modules["norm"](features.view(-1, 12))
        expected = modules["linear_2"](functional.gelu(modules["linear_1"](hidden))).view(*shape[:-1], 8)
    found = plain.project_features(features, modules.state_dict())
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    if len(shape) == 2:
        vector = plain.project(features, modules.state_dict(), 32)
        tiled = torch.cat([expected / expected.norm(dim=-1, keepdim=True)] * 4, dim=-1)
        assert torch.allclose(vector, tiled, rtol=0, atol=1e-12)
