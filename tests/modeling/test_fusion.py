"""The fusion against its equations (tests/modeling/plain.py)."""

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, StaticCache

from . import plain
from .tiny import TEXTS, ecg, padded, tiny_config, tiny_model

# Against the equations: transformers takes its norms, rotary angles and eager softmax in float32 whatever the
# model's dtype. What the equations must tell apart lies a thousand times above it.
TOLERANCE = 5e-6
FLOAT64_TOLERANCE = {"eager": 1e-6, "sdpa": 1e-11}


def stock_state(model):
    """The language model's state dict under the names of the stock text-only class."""
    state = {f"model.{k}": v for k, v in model.model.language_model.state_dict().items()}
    return state | {"lm_head.weight": model.lm_head.weight.detach()}


def part(model, name):
    return {k: v.double() for k, v in getattr(model.model, name).state_dict().items()}


def plain_ecg_vectors(model, ecg_values):
    features = plain.resnet18(ecg_values, part(model, "ecg_encoder"))
    return plain.project(features, part(model, "ecg_projector"), model.config.text_config.hidden_size)


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_plain_implementation_equals_the_stock_text_model(family):
    model = tiny_model(family)
    stock = AutoModelForCausalLM.from_config(model.config.text_config).double().eval()
    stock.load_state_dict(stock_state(model))
    for text in TEXTS:
        with torch.no_grad():
            expected = stock(torch.tensor([text])).logits[0]
            found = plain.llama_logits(text, stock_state(model), model.config.text_config)
        assert (found - expected).abs().max() < TOLERANCE


def test_encoder_and_projector_equal_their_equations():
    model = tiny_model()
    found = model.model.get_ecg_embeds(ecg(3))
    assert torch.allclose(found, plain_ecg_vectors(model, ecg(3)), rtol=0, atol=1e-12)
    assert torch.allclose(found.norm(dim=-1), torch.tensor(2.0).double())  # 4 heads, each of norm 1


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("fusion_layers", [None, [0], [1]])
@pytest.mark.parametrize("use_cache", [True, False])
def test_logits_equal_the_equations(family, attn_implementation, side, fusion_layers, use_cache):
    model = tiny_model(family, attn_implementation, fusion_layers=fusion_layers)
    ids, mask = padded(TEXTS, side)
    with torch.no_grad():
        logits = model(ids, attention_mask=mask, ecg_values=ecg(3), use_cache=use_cache).logits
        vectors = plain_ecg_vectors(model, ecg(3))
        for row, text in enumerate(TEXTS):
            expected = plain.llama_logits(
                text, stock_state(model), model.config.text_config, vectors[row], fusion_layers
            )
            difference = (logits[row][mask[row].bool()] - expected).abs().max()
            assert difference < TOLERANCE


def test_the_equations_feel_what_the_test_above_must_tell_apart():
    """The layers, the ECG and its place each move the plain logits far beyond the tolerance."""
    model = tiny_model()
    state, config = stock_state(model), model.config.text_config
    vectors = plain_ecg_vectors(model, ecg(2))
    with torch.no_grad():
        variants = [plain.llama_logits(TEXTS[0], state, config, vectors[0], layers) for layers in (None, [0], [1])]
        variants += [
            plain.llama_logits(TEXTS[0], state, config, vectors[1]),
            plain.llama_logits(TEXTS[0], state, config),
        ]
    for i, one in enumerate(variants):
        for other in variants[:i]:
            assert (one - other).abs().max() > 1000 * TOLERANCE


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("fusion_layers", [None, [0], [1]])
@pytest.mark.parametrize("side", ["left", "right"])
def test_cached_decoding_equals_uncached(family, attn_implementation, fusion_layers, side):
    model = tiny_model(family, attn_implementation, fusion_layers=fusion_layers)
    ids, mask = padded(TEXTS, side)
    tolerance = FLOAT64_TOLERANCE[attn_implementation]
    with torch.no_grad():
        whole = model(ids, attention_mask=mask, ecg_values=ecg(3), use_cache=False).logits
        outputs = model(ids[:, :3], attention_mask=mask[:, :3], ecg_values=ecg(3))
        steps = [outputs.logits]
        for end in range(4, ids.shape[1] + 1):
            outputs = model(
                ids[:, end - 1 : end], attention_mask=mask[:, :end], past_key_values=outputs.past_key_values
            )
            steps.append(outputs.logits)
    real = mask.bool()
    assert (torch.cat(steps, dim=1)[real] - whole[real]).abs().max() < tolerance


def test_cache_counts_text_alone():
    model = tiny_model(fusion_layers=[1])
    ids = torch.tensor([TEXTS[0]])
    cache = DynamicCache(config=model.config.text_config)
    outputs = model(ids, ecg_values=ecg(1), past_key_values=cache)
    assert outputs.past_key_values is cache
    assert cache.get_seq_length() == cache.get_seq_length(1) == len(TEXTS[0])
    assert cache.get_query_offset() == len(TEXTS[0]) + 1
    assert cache.get_mask_sizes(1, 0) == (len(TEXTS[0]) + 2, 0)
    # Without a mask and without positions, the next token still takes the next text position.
    following = model(torch.tensor([[4]]), past_key_values=cache).logits
    whole = model(torch.tensor([TEXTS[0] + [4]]), ecg_values=ecg(1)).logits[:, -1:]
    assert torch.allclose(following, whole, rtol=0, atol=1e-11)


@pytest.mark.parametrize("fusion_layers", [None, [0], [1]])
@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
def test_gradients_are_the_same_with_activation_checkpointing(fusion_layers, attn_implementation):
    ids, mask = padded(TEXTS, "right")
    labels = ids.masked_fill(mask == 0, -100)
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(attn_implementation=attn_implementation, fusion_layers=fusion_layers).train()
        runs = count_calls(model.model.language_model.layers[1].self_attn)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model(ids, attention_mask=mask, ecg_values=ecg(3), labels=labels).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
        assert len(runs) == (2 if checkpointing else 1)
    for name, without in gradients[0].items():
        assert without is not None, name
        assert torch.equal(without, gradients[1][name]), name
    assert gradients[0]["model.ecg_encoder.conv1.weight"].abs().max() > 0


def count_calls(module):
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_a_batch_equals_its_members():
    model = tiny_model()
    ids, mask = padded(TEXTS, "left")
    with torch.no_grad():
        together = model(ids, attention_mask=mask, ecg_values=ecg(3)).logits
        for row, text in enumerate(TEXTS):
            alone = model(torch.tensor([text]), ecg_values=ecg(3)[row : row + 1]).logits[0]
            assert torch.allclose(together[row][mask[row].bool()], alone, rtol=0, atol=1e-11)


@pytest.mark.parametrize("use_cache", [True, False])
def test_another_ecg_moves_every_logit(use_cache):
    model = tiny_model()
    ids = torch.tensor([TEXTS[0]])
    with torch.no_grad():
        one, other = (
            model(ids, ecg_values=ecg(1, seed), use_cache=use_cache).logits.log_softmax(-1) for seed in (0, 1)
        )
    assert ((one - other).abs().amax(-1) > 1e-4).all()


def test_sliding_window_refuses_text_that_would_hide_the_ecg():
    model = tiny_model("mistral", text={"sliding_window": 8})
    text = torch.tensor([[5, 9, 33, 12, 7, 50, 21]])
    with torch.no_grad():
        whole = model(text, ecg_values=ecg(1)).logits
        assert torch.allclose(whole, model(text, ecg_values=ecg(1), use_cache=False).logits, rtol=0, atol=1e-11)
        expected = plain.llama_logits(
            text[0].tolist(),
            stock_state(model),
            model.config.text_config,
            plain_ecg_vectors(model, ecg(1))[0],
        )
        assert (whole[0] - expected).abs().max() < TOLERANCE
        with pytest.raises(ValueError, match=r"8 text tokens.*sliding window of 8.*at most 7"):
            model(torch.cat([text, text[:, :1]], 1), ecg_values=ecg(1))
        with pytest.raises(ValueError, match="sliding window"):
            model.generate(input_ids=text, ecg_values=ecg(1), max_new_tokens=4, eos_token_id=None)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "pass exactly one of ecg_values and ecg_embeds, found neither"),
        ({"ecg_values": ecg(1), "ecg_embeds": torch.zeros(1, 32)}, "found both"),
        ({"ecg_values": ecg(2)}, "found 2 ECGs for 1 texts"),
        ({"ecg_values": ecg(1)[:, :3]}, r"\(1, 3, 256\); expected \(batch, 12 leads, samples\)"),
        ({"ecg_values": ecg(1)[0]}, r"\(12, 256\); expected"),
        (
            {"ecg_values": ecg(1), "attention_mask": torch.ones(1, 8)},
            r"attention_mask has shape \(1, 8\); expected \(1, 7\)",
        ),
        ({"ecg_values": ecg(1), "inputs_embeds": torch.zeros(1, 7, 32)}, "exactly one of input_ids"),
    ],
)
def test_bad_input_is_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(torch.tensor([TEXTS[0]]), **inputs)


def test_caches_that_cannot_hold_the_slot_are_refused():
    model = tiny_model()
    ids = torch.tensor([TEXTS[0]])
    static = StaticCache(config=model.config.text_config, max_cache_len=16)
    with pytest.raises(TypeError, match="StaticCache"):
        model(ids, ecg_values=ecg(1), past_key_values=static)
    with pytest.raises(TypeError, match="StaticCache"):
        model.generate(input_ids=ids, ecg_values=ecg(1), max_new_tokens=2, cache_implementation="static")
    text_cache = DynamicCache(config=model.config.text_config)
    model.model.language_model(ids, past_key_values=text_cache, use_cache=True)
    with pytest.raises(ValueError, match="already holds 7 text tokens but no ECG"):
        model(ids, ecg_values=ecg(1), past_key_values=text_cache)
    seeded = model(ids, ecg_values=ecg(1)).past_key_values
    with pytest.raises(ValueError, match="already holds an ECG"):
        model(ids, ecg_values=ecg(1), past_key_values=seeded)


def test_a_family_that_is_not_supported_names_those_that_are():
    config = tiny_config()
    config.text_config.model_type = "gpt_bigcode"
    from modeling_meit import ECGLlamaForCausalLM

    with pytest.raises(ValueError, match='"gpt_bigcode" is not supported; supported: llama, mistral'):
        ECGLlamaForCausalLM(config)
