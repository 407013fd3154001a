"""The three fusions against their equations (tests/modeling/plain), for every family."""

import functools

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from . import plain
from .families import TEXT_CONFIGS, VARIANTS
from .tiny import TARGETS, TEXTS, ecg, inputs_of, padded, tiny_config, tiny_model, with_placeholders

# Against the equations: transformers takes its norms, rotary angles and eager softmax in float32 whatever the
# model's dtype. What the equations must tell apart lies a thousand times above it.
TOLERANCE = 5e-6
FLOAT32_TOLERANCE = 5e-5
WITHOUT_SDPA = ("gpt_neo", "gptj", "bloom")
CASES = [(family, attention) for family in TEXT_CONFIGS for attention in ("eager", "sdpa")]
CASES = [(family, attention) for family, attention in CASES if attention == "eager" or family not in WITHOUT_SDPA]
# BART's encoder counts positions by column, so that its text is padded on the right.
SIDED = [(*case, side) for case in CASES for side in ("left", "right") if (case[0], side) != ("bart", "left")]
FUSIONS = ("concat", "llava", "flamingo")
LONG_TEXT = [5, 9, 33, 12, 7, 50, 21, 8, 17, 4, 44, 3, 29, 30, 11, 58, 6, 23, 40, 12]


def stock_state(model):
    """The language model's state dict under the names of the stock text-only class."""
    family = model.config.text_config.model_type
    prefix = STOCK_PREFIXES.get(family, "model.")
    state = {f"{prefix}{k}": v for k, v in model.model.language_model.state_dict().items()}
    head = {f"lm_head.{name}": value.detach() for name, value in model.lm_head.named_parameters()}
    if getattr(model, "final_logits_bias", None) is not None:
        head["final_logits_bias"] = model.final_logits_bias
    return state | head


STOCK_PREFIXES = {
    "gpt2": "transformer.",
    "gpt_neo": "transformer.",
    "gptj": "transformer.",
    "bloom": "transformer.",
    "gpt_neox": "gpt_neox.",
    "t5": "",
}


def stock_model(model, attn_implementation="eager"):
    """The stock text-only model with the same weights."""
    text_config = model.config.text_config
    auto = AutoModelForSeq2SeqLM if model.config.is_encoder_decoder else AutoModelForCausalLM
    stock = auto.from_config(text_config, attn_implementation=attn_implementation)
    stock.load_state_dict(stock_state(model))
    return stock.to(model.lm_head.weight.dtype).eval()


def part(model, name):
    return {k: v.double() for k, v in getattr(model.model, name).state_dict().items()}


def plain_logits(model, row, ecg_values, text=None):
    """Logits of text `row` alone, (tokens, vocabulary), by the equations of the model's fusion."""
    config = model.config
    text_config, size = config.text_config, config.text_config.hidden_size
    text = with_placeholders(model, TEXTS)[row] if text is None else text
    along_time = plain.resnet18_features(ecg_values, part(model, "ecg_encoder"))
    projector = part(model, "ecg_projector")
    vector, hooks = None, {}
    if config.fusion == "concat" and config.ecg_projection == "head_dim":
        vector = plain.project(along_time.mean(-1), projector, size)[row]
    elif config.fusion == "concat":
        vector = plain.project_features(along_time.mean(-1), projector)[row]
        vector = vector / vector.norm()
    elif config.fusion == "llava":
        parts = along_time.chunk(config.num_ecg_tokens, dim=-1)
        rows = plain.project_features(torch.stack([one.mean(-1) for one in parts], dim=1), projector)[row]
        hooks["replace"] = {1 + index: value for index, value in enumerate(rows)}
    else:
        features = time_features(plain.project_features(along_time.transpose(1, 2), projector)[row])
        state = part(model, "ecg_cross_attention")

        def before_layer(index, stream):
            prefix = f"layers.{index}."
            if index not in config.ecg_layers:
                return stream
            layer = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            return plain.gated_cross_attention(stream, features, layer, text_config.num_attention_heads)

        hooks["before_layer"] = before_layer
    layers = config.fusion_layers if config.fusion == "concat" else None
    texts = (text, TARGETS[row]) if config.is_encoder_decoder else (text,)
    return plain.LOGITS[text_config.model_type](*texts, stock_state(model), text_config, vector, layers, **hooks)


def time_features(projected):
    """Each (size,) vector of mean 0 and variance 1, and the sinusoids of its place added."""
    time, size = projected.shape
    out = torch.empty_like(projected)
    for t, x in enumerate(projected):
        out[t] = (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-5)
        for i in range(size):
            angle = torch.tensor(t / 10000 ** (i // 2 * 2 / size), dtype=projected.dtype)
            out[t, i] += angle.sin() if i % 2 == 0 else angle.cos()
    return out


@functools.cache
def expected_logits(family, fusion, fusion_layers=None, num_ecg_tokens=1, variant=()):
    extra = {"num_ecg_tokens": num_ecg_tokens} if fusion == "llava" else {}
    model = tiny_model(family, text=dict(variant), fusion=fusion, fusion_layers=fusion_layers, **extra)
    with torch.no_grad():
        return [plain_logits(model, row, ecg(3)) for row in range(3)]


def real_tokens(model, inputs):
    return inputs["decoder_attention_mask" if model.config.is_encoder_decoder else "attention_mask"].bool()


def assert_equals_the_equations(model, inputs, expected, **kwargs):
    with torch.no_grad():
        logits = model(**inputs, **kwargs).logits
    real = real_tokens(model, inputs)
    tolerance = TOLERANCE if logits.dtype == torch.float64 else FLOAT32_TOLERANCE
    for row, rows in enumerate(expected):
        assert (logits[row][real[row]] - rows).abs().max() < tolerance


def usable_dtype(attn_implementation, side):
    """float64, but where a padding token sees nothing at all: there stock eager attention is NaN in float64."""
    return torch.float32 if (attn_implementation, side) == ("eager", "left") else torch.float64


def test_encoder_and_projector_equal_their_equations():
    model = tiny_model()
    found = model.model.get_ecg_embeds(ecg(3))
    features = plain.resnet18(ecg(3), part(model, "ecg_encoder"))
    assert torch.allclose(found, plain.project(features, part(model, "ecg_projector"), 32), rtol=0, atol=1e-12)
    assert torch.allclose(found.norm(dim=-1), torch.tensor(2.0).double())  # 4 heads, each of norm 1


@pytest.mark.support("concat")
@pytest.mark.parametrize(("family", "attn_implementation", "side"), SIDED)
@pytest.mark.parametrize("fusion_layers", [None, (0,), (1,)])
@pytest.mark.parametrize("use_cache", [True, False])
def test_concat_equals_the_equations(family, attn_implementation, side, fusion_layers, use_cache):
    model = tiny_model(family, attn_implementation, fusion_layers=fusion_layers)
    expected = expected_logits(family, "concat", fusion_layers)
    assert_equals_the_equations(model, inputs_of(model, side), expected, use_cache=use_cache)


@pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=str)
@pytest.mark.parametrize("use_cache", [True, False])
def test_concat_equals_the_equations_in_each_variant_of_a_family(family, variant, use_cache):
    model = tiny_model(family, "eager", text=variant)
    expected = expected_logits(family, "concat", variant=tuple(variant.items()))
    assert_equals_the_equations(model, inputs_of(model, "right"), expected, use_cache=use_cache)


@pytest.mark.support("llava")
@pytest.mark.parametrize(("family", "attn_implementation", "side"), SIDED)
@pytest.mark.parametrize("num_ecg_tokens", [1, 4])
def test_llava_equals_the_equations(family, attn_implementation, num_ecg_tokens, side):
    dtype = usable_dtype(attn_implementation, side)
    model = tiny_model(family, attn_implementation, dtype, fusion="llava", num_ecg_tokens=num_ecg_tokens)
    expected = expected_logits(family, "llava", num_ecg_tokens=num_ecg_tokens)
    assert_equals_the_equations(model, inputs_of(model, side), expected)


@pytest.mark.support("flamingo")
@pytest.mark.parametrize(("family", "attn_implementation", "side"), SIDED)
@pytest.mark.parametrize("fusion_layers", [None, (1,)])
def test_flamingo_equals_the_equations(family, attn_implementation, fusion_layers, side):
    dtype = usable_dtype(attn_implementation, side)
    model = tiny_model(family, attn_implementation, dtype, fusion="flamingo", fusion_layers=fusion_layers)
    expected = expected_logits(family, "flamingo", fusion_layers)
    assert_equals_the_equations(model, inputs_of(model, side), expected)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("family", TEXT_CONFIGS)
def test_the_equations_feel_what_the_tests_above_must_tell_apart(family, fusion):
    """The ECG, and the layers that see it, each move the plain logits far beyond the tolerance."""
    variants = [expected_logits(family, fusion)[0]]
    if fusion != "llava":
        variants += [expected_logits(family, fusion, layers)[0] for layers in ((0,), (1,))]
    model = tiny_model(family, fusion=fusion)
    with torch.no_grad():
        variants.append(plain_logits(model, 0, ecg(3, seed=1)))
    # T5's tied head divides its logits by the square root of the hidden size.
    felt = (300 if family == "t5" else 1000) * TOLERANCE
    for i, one in enumerate(variants):
        for other in variants[:i]:
            assert (one - other).abs().max() > felt


@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_without_an_ecg_the_model_is_the_stock_one(family, fusion, side):
    """Given the same position_ids; in float32, in which stock BLOOM is no NaN."""
    model = tiny_model(family, "eager", dtype=torch.float32, fusion=fusion)
    stock = stock_model(model)
    ids, mask = padded(TEXTS, side)
    inputs = {"input_ids": ids, "attention_mask": mask}
    positions = {}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"], inputs["decoder_attention_mask"] = padded(TARGETS, "right")
    elif family != "bloom":
        positions = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
    with torch.no_grad():
        expected = stock(**inputs, **positions).logits
        for kwargs in ({}, {"ecg_values": None, "use_cache": False}, {"use_cache": True}):
            tolerance = 1e-5 if family == "gpt_neo" else 0.0
            found = model(**inputs, **kwargs).logits
            real = real_tokens(model, inputs)
            assert (found[real] - expected[real]).abs().max() <= tolerance


@pytest.mark.parametrize("family", TEXT_CONFIGS)
def test_flamingo_begins_as_the_text_only_model(family):
    """With its gates at zero, as a new model has them."""
    model = tiny_model(family, "eager", dtype=torch.float32, fusion="flamingo")
    for name, gate in model.named_parameters():
        if name.endswith("gate") and "ecg_cross_attention" in name:
            gate.data.zero_()
    fresh = type(model)(tiny_config(family, fusion="flamingo"))
    gates = [gate for name, gate in fresh.named_parameters() if name.endswith("_gate") and "cross_attention" in name]
    assert len(gates) == 4
    assert all(gate.item() == 0 for gate in gates)
    inputs = inputs_of(model, "right")
    with torch.no_grad():
        with_ecg = model(**inputs).logits
        text_only = model(**{name: value for name, value in inputs.items() if name != "ecg_values"}).logits
    assert torch.equal(with_ecg, text_only)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("fusion_layers", [None, (0,), (1,)])
def test_gpt_neo_sees_the_slot_beyond_two_local_windows(use_cache, fusion_layers):
    model = tiny_model("gpt_neo", fusion_layers=fusion_layers)
    assert len(LONG_TEXT) > 2 * model.config.text_config.window_size
    with torch.no_grad():
        logits = model(torch.tensor([LONG_TEXT]), ecg_values=ecg(1), use_cache=use_cache).logits[0]
        expected = plain_logits(model, 0, ecg(1), LONG_TEXT)
        other = plain_logits(model, 0, ecg(1, seed=1), LONG_TEXT)
    assert (logits - expected).abs().max() < TOLERANCE
    assert (expected[-1] - other[-1]).abs().max() > 20 * TOLERANCE


@pytest.mark.parametrize("family", ["gpt_neo", "gpt2", "opt", "gptj"])
def test_a_text_of_all_positions_fits_beside_the_slot(family):
    model = tiny_model(family)
    ids = torch.tensor([[5 + i % 50 for i in range(64)]])
    with torch.no_grad():
        logits = model(ids, ecg_values=ecg(1)).logits[0]
        assert (logits - plain_logits(model, 0, ecg(1), ids[0].tolist())).abs().max() < TOLERANCE
