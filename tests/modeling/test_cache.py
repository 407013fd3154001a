"""The cache that holds the ECG: step by step as in one go, counted as text alone, and never lost or taken twice."""

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, StaticCache

from modeling_meit import FAMILIES, ECGLlamaForCausalLM, ECGLlamaForConditionalGeneration

from .families import DECODERS, SEQ2SEQ, TEXT_CONFIGS
from .tiny import TARGETS, TEXTS, ecg, inputs_of, padded, tiny_config, tiny_model

FUSIONS = ("concat", "llava", "flamingo")
# In eager attention, and in GPT-Neo, GPT-J and T5's norms, some of the arithmetic is in float32.
TOLERANCE = 2e-6


def first_step(model, inputs, tokens, **kwargs):
    """A forward over the first tokens, and what the later ones are given."""
    if model.config.is_encoder_decoder:
        ids, mask = inputs["decoder_input_ids"], inputs["decoder_attention_mask"]
        rest = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        now = {"decoder_input_ids": ids[:, :tokens], "decoder_attention_mask": mask[:, :tokens]}
        return ids, mask, rest, model(**rest, **now, ecg_values=inputs["ecg_values"], **kwargs)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    now = {"input_ids": ids[:, :tokens], "attention_mask": mask[:, :tokens]}
    return ids, mask, {}, model(**now, ecg_values=inputs["ecg_values"], **kwargs)


def step_by_step(model, inputs, past_key_values=None):
    first = 1 + model.config.num_ecg_tokens * (model.config.fusion == "llava") + 2
    prefix = "decoder_" if model.config.is_encoder_decoder else ""
    ids, mask, rest, outputs = first_step(model, inputs, first, past_key_values=past_key_values)
    logits = [outputs.logits]
    for end in range(first + 1, ids.shape[1] + 1):
        now = {f"{prefix}input_ids": ids[:, end - 1 : end], f"{prefix}attention_mask": mask[:, :end]}
        if rest:
            rest = rest | {"encoder_outputs": (outputs.encoder_last_hidden_state,)}
        outputs = model(**rest, **now, past_key_values=outputs.past_key_values)
        logits.append(outputs.logits)
    return torch.cat(logits, dim=1), mask.bool()


def static_cache(model, text_tokens):
    config = model.config.get_text_config(decoder=True)
    cache = StaticCache(config=config, max_cache_len=text_tokens + 1)
    if not model.config.is_encoder_decoder:
        return cache
    return EncoderDecoderCache(cache, StaticCache(config=config, max_cache_len=inputs_of(model)["input_ids"].shape[1]))


@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion_layers", [None, (0,), (1,)])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_concat_step_by_step_equals_one_go(family, fusion_layers, side, kind):
    if family == "bart" and side == "left":
        side = "right"
    model = tiny_model(family, fusion_layers=fusion_layers)
    inputs = inputs_of(model, side)
    with torch.no_grad():
        whole = model(**inputs, use_cache=False).logits
        cache = static_cache(model, whole.shape[1]) if kind == "static" else None
        steps, real = step_by_step(model, inputs, cache)
    assert (steps[real] - whole[real]).abs().max() < TOLERANCE


@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion", ["llava", "flamingo"])
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_the_other_fusions_step_by_step_equal_one_go(family, fusion, kind):
    model = tiny_model(family, fusion=fusion)
    inputs = inputs_of(model, "right")
    with torch.no_grad():
        whole = model(**inputs, use_cache=False).logits
        cache = static_cache(model, whole.shape[1]) if kind == "static" else None
        steps, real = step_by_step(model, inputs, cache)
    assert (steps[real] - whole[real]).abs().max() < TOLERANCE


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_another_ecg_moves_every_logit(family, fusion, use_cache):
    model = tiny_model(family, fusion=fusion)
    with torch.no_grad():
        one, other = (
            model(**inputs_of(model, "right", seed=seed), use_cache=use_cache).logits.log_softmax(-1) for seed in (0, 1)
        )
    real = inputs_of(model, "right")["decoder_attention_mask" if family in SEQ2SEQ else "attention_mask"].bool()
    if fusion == "llava" and family in DECODERS:
        real[:, 0] = False  # the token in front of the placeholder
    assert ((one - other).abs().amax(-1)[real] > 1e-4).all()


@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("attn_implementation", ["eager", None])
def test_no_mask_means_no_padding(family, use_cache, attn_implementation):
    model = tiny_model(family, attn_implementation)
    inputs = inputs_of(model, rows=slice(0, 1))
    unmasked = {name: value for name, value in inputs.items() if not name.endswith("mask")}
    with torch.no_grad():
        expected = model(**inputs, use_cache=use_cache).logits
        assert (model(**unmasked, use_cache=use_cache).logits - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("family", TEXT_CONFIGS)
def test_a_batch_equals_its_members(family, fusion):
    model = tiny_model(family, fusion=fusion)
    side = "right" if family in ("bart", "bloom") else "left"  # stock BLOOM in float64 is NaN beside left padding
    inputs = inputs_of(model, side)
    real = inputs["decoder_attention_mask" if family in SEQ2SEQ else "attention_mask"].bool()
    with torch.no_grad():
        together = model(**inputs).logits
        for row in range(3):
            alone = model(**inputs_of(model, rows=slice(row, row + 1))).logits[0]
            assert (together[row][real[row]] - alone).abs().max() < TOLERANCE


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


@pytest.mark.parametrize("family", ["mistral", "phi3", "qwen2", "qwen3"])
@pytest.mark.parametrize("fusion", ["concat", "llava"])
def test_a_sliding_window_refuses_text_that_would_hide_the_ecg(family, fusion):
    window = {"sliding_window": 9, "use_sliding_window": True, "max_window_layers": 0}
    text = {key: value for key, value in window.items() if family.startswith("qwen") or key == "sliding_window"}
    model = tiny_model(family, text=text, fusion=fusion)
    inputs = inputs_of(model, rows=slice(0, 1))
    unwindowed = tiny_model(family, fusion=fusion)
    with torch.no_grad():
        whole = model(**inputs).logits
        assert torch.allclose(whole, model(**inputs, use_cache=False).logits, rtol=0, atol=1e-11)
        assert torch.allclose(whole, unwindowed(**inputs).logits, rtol=0, atol=1e-11)
        ids = torch.cat([inputs["input_ids"], inputs["input_ids"][:, -2:]], dim=1)
        with pytest.raises(ValueError, match=r"text tokens.*sliding window of 9.*at most 8"):
            model(ids, ecg_values=inputs["ecg_values"])
        with pytest.raises(ValueError, match="sliding window"):
            model.generate(**inputs, max_new_tokens=4, eos_token_id=None)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
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


@pytest.mark.parametrize(
    ("ids", "with_ecg", "message"),
    [
        ([5, 60, 9], True, r"found \[1\] ECG placeholder tokens in the texts; expected 2"),
        ([5, 60, 60, 60, 9], True, r"found \[3\].*expected 2"),
        ([5, 9], True, r"found \[0\].*expected 2"),
        ([5, 60, 60, 9], False, "no ECG was given"),
    ],
)
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_placeholders_and_ecgs_must_agree(family, ids, with_ecg, message):
    model = tiny_model(family, fusion="llava", num_ecg_tokens=2)
    inputs = {"input_ids": torch.tensor([ids])} | ({"ecg_values": ecg(1)} if with_ecg else {})
    if family == "t5":
        inputs["decoder_input_ids"] = torch.tensor([TARGETS[0]])
    with pytest.raises(ValueError, match=message):
        model(**inputs)
    inputs.pop("decoder_input_ids", None)
    with pytest.raises(ValueError, match=message):
        model.generate(**inputs, max_new_tokens=2)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_cache_takes_one_ecg_and_only_in_front(family, fusion):
    model = tiny_model(family, fusion=fusion)
    inputs = inputs_of(model, rows=slice(0, 1))
    text_cache = DynamicCache(config=model.config.text_config)
    model.model.language_model(torch.tensor([TEXTS[0]]), past_key_values=text_cache, use_cache=True)
    with pytest.raises(ValueError, match="already holds 7 text tokens but no ECG"):
        model(inputs["input_ids"], ecg_values=ecg(1), past_key_values=text_cache)
    seeded = model(**inputs).past_key_values
    with pytest.raises(ValueError, match="already holds an ECG"):
        model(inputs["input_ids"], ecg_values=ecg(1), past_key_values=seeded)


class OtherCache(DynamicCache):
    """A kind of cache that nobody has taught about the ECG."""


def test_a_cache_of_another_kind_is_refused():
    model = tiny_model()
    with pytest.raises(TypeError, match="cannot be put into a OtherCache"):
        model(torch.tensor([TEXTS[0]]), ecg_values=ecg(1), past_key_values=OtherCache())


def test_a_static_cache_without_room_for_the_slot_is_refused():
    model = tiny_model()
    ids = torch.tensor([TEXTS[0]])
    cache = StaticCache(config=model.config.text_config, max_cache_len=len(TEXTS[0]))
    with pytest.raises(ValueError, match="7 text tokens do not fit a static cache that has room for 6 beside the ECG"):
        model(ids, ecg_values=ecg(1), past_key_values=cache)
    cache = StaticCache(config=model.config.text_config, max_cache_len=len(TEXTS[0]) + 1)
    model(ids, ecg_values=ecg(1), past_key_values=cache)
    with pytest.raises(ValueError, match="8 text tokens do not fit"):
        model(ids[:, :1], past_key_values=cache)


def test_an_encoder_that_counts_columns_refuses_padding_on_the_left():
    model = tiny_model("bart")
    with pytest.raises(ValueError, match=r"padded on the left.*padding_side=\"right\""):
        model(**inputs_of(model, "left"))


def test_layers_that_do_not_read_the_cache_are_found_out():
    """As flash attention would be, without an error of its own, in a release that drops a layer's cache argument."""
    model = tiny_model()

    def drop(layer, args, kwargs):
        return args, {**kwargs, "past_key_values": None, "attention_mask": None}

    for layer in model.model.decoder_layers:
        layer.register_forward_pre_hook(drop, with_kwargs=True)
    with pytest.raises(RuntimeError, match="the llama layers never read the cache that holds the ECG"):
        model(**inputs_of(model), use_cache=False)


def test_checkpointing_turned_on_at_the_language_model_loses_no_ecg_in_silence():
    """GPT-2 then takes the cache from its layers."""
    model = tiny_model("gpt2").train()
    model.model.language_model.gradient_checkpointing_enable()
    with pytest.raises(RuntimeError):
        model(**inputs_of(model, "right"))


@pytest.mark.parametrize("model_class", [ECGLlamaForCausalLM, ECGLlamaForConditionalGeneration])
def test_a_family_that_is_not_supported_names_those_that_are(model_class):
    config = tiny_config("llama" if model_class is ECGLlamaForCausalLM else "t5")
    config.text_config.model_type = "gpt_bigcode"
    names = ", ".join(sorted(FAMILIES))
    with pytest.raises(ValueError, match=f'"gpt_bigcode" is not supported; supported: {names}'):
        model_class(config)


def test_the_wrong_twin_names_the_right_one():
    with pytest.raises(ValueError, match='"t5" is an encoder-decoder: use ECGLlamaForConditionalGeneration'):
        ECGLlamaForCausalLM(tiny_config("t5"))
    with pytest.raises(ValueError, match='"gpt2" is decoder-only: use ECGLlamaForCausalLM'):
        ECGLlamaForConditionalGeneration(tiny_config("gpt2"))


def test_texts_are_told_apart_by_their_padding_alone():
    """The padding's own token ids change nothing."""
    model = tiny_model()
    ids, mask = padded(TEXTS, "left")
    with torch.no_grad():
        one, other = (
            model(ids.masked_fill(mask == 0, pad), attention_mask=mask, ecg_values=ecg(3)).logits for pad in (0, 9)
        )
    assert torch.equal(one[mask.bool()], other[mask.bool()])


@pytest.mark.parametrize("family", ["llama", "t5"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_rows_of_a_cache_take_their_ecg_along(family, fusion):
    model = tiny_model(family, fusion=fusion)
    inputs = inputs_of(model, "right")
    prefix = "decoder_" if family in SEQ2SEQ else ""
    token = torch.tensor([[7], [8], [9]])

    def next_logits(rows, change):
        outputs = model(**inputs)
        cache = outputs.past_key_values
        change(cache)
        now = {f"{prefix}input_ids": token[rows]}
        mask = torch.nn.functional.pad(inputs[f"{prefix}attention_mask"][rows], (0, 1), value=1)
        now[f"{prefix}attention_mask"] = mask
        if family in SEQ2SEQ:
            encoded = outputs.encoder_last_hidden_state[rows]
            now |= {"encoder_outputs": (encoded,), "attention_mask": inputs["attention_mask"][rows]}
        return model(**now, past_key_values=cache).logits

    with torch.no_grad():
        plain = next_logits([0, 1, 2], lambda cache: None)
        for rows, change in (
            ([2, 0], lambda cache: cache.batch_select_indices(torch.tensor([2, 0]))),
            ([1, 1, 0], lambda cache: cache.reorder_cache(torch.tensor([1, 1, 0]))),
            ([0, 0, 1, 1, 2, 2], lambda cache: cache.batch_repeat_interleave(2)),
        ):
            assert (next_logits(rows, change) - plain[rows]).abs().max() < TOLERANCE


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_a_cache_that_was_reset_takes_another_ecg(fusion, kind):
    model = tiny_model(fusion=fusion)
    cache = static_cache(model, 12) if kind == "static" else DynamicCache(config=model.config.text_config)
    plain_class = type(cache)
    with torch.no_grad():
        model(**inputs_of(model), past_key_values=cache)
        cache.reset()
        assert type(cache) is plain_class
        if cache.get_seq_length() > 0:
            pytest.skip("in this release a DynamicCache that is reset keeps its length, and is refused as not empty")
        again = model(**inputs_of(model, seed=1), past_key_values=cache).logits
        expected = model(**inputs_of(model, seed=1)).logits
    real = inputs_of(model)["attention_mask"].bool()
    assert (again - expected)[real].abs().max() < TOLERANCE


def test_cropping_leaves_the_slot():
    model = tiny_model()
    with torch.no_grad():
        cache = model(**inputs_of(model)).past_key_values
        cache.crop(-100)
        assert cache.get_seq_length() == 0
        again = model(**{k: v for k, v in inputs_of(model).items() if k != "ecg_values"}, past_key_values=cache).logits
        expected = model(**inputs_of(model)).logits
    real = inputs_of(model)["attention_mask"].bool()
    assert (again - expected)[real].abs().max() < TOLERANCE


def test_a_mask_too_short_for_a_static_cache_is_refused():
    model = tiny_model()
    inputs = inputs_of(model, rows=slice(0, 1))
    inputs["attention_mask"] = inputs["attention_mask"][:, :5]
    with pytest.raises(ValueError, match=r"\(1, 5\); expected \(1, 7\) or more columns"):
        model(**inputs, past_key_values=static_cache(model, 12))


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize("fusion_layers", [None, (0,), (1,)])
def test_layers_with_and_without_a_window_share_a_static_cache(family, fusion_layers):
    window = {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1}
    model = tiny_model(family, text=window, fusion_layers=fusion_layers)
    unwindowed = tiny_model(family, fusion_layers=fusion_layers)
    inputs = inputs_of(model, "right")
    with torch.no_grad():
        expected = unwindowed(**inputs, use_cache=False).logits
        for cache in (static_cache(model, 30), None):
            steps, real = step_by_step(model, inputs, cache)
            assert (steps - expected)[real].abs().max() < TOLERANCE


def test_a_window_is_watched_in_compiled_code_and_not_without_an_ecg():
    model = tiny_model("mistral", text={"sliding_window": 6})
    ids = torch.tensor([TEXTS[0]])
    with torch.no_grad():
        assert torch.isfinite(model(ids).logits).all()
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="eager")
        with pytest.raises(ValueError, match="sliding window of 6"):
            compiled(ids, ecg_values=ecg(1))
        with pytest.raises(ValueError, match=r"up to 10 tokens does not fit.*sliding window of 6"):
            model.generate(ids[:, :3], ecg_values=ecg(1), max_new_tokens=8, cache_implementation="static")


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_an_ecg_beside_what_already_holds_one_is_refused(family):
    model = tiny_model(family, fusion="llava")
    inputs = inputs_of(model, "right")
    prompt = {name: value for name, value in inputs.items() if not name.startswith("decoder_")}
    embeds = model.model.get_ecg_embeds(inputs["ecg_values"])
    with pytest.raises(ValueError, match="found both"):
        model.generate(**prompt, ecg_embeds=embeds, max_new_tokens=2)
    if family == "t5":
        encoded = model.get_encoder()(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        for call in (lambda: model(**inputs, encoder_outputs=encoded), lambda: generate_from(model, prompt, encoded)):
            with pytest.raises(ValueError, match="pass ecg_values or encoder_outputs"):
                call()


def generate_from(model, prompt, encoder_outputs):
    rest = {name: value for name, value in prompt.items() if name != "input_ids"}
    return model.generate(**rest, encoder_outputs=encoder_outputs, max_new_tokens=2)


def test_an_encoder_decoder_wants_a_cache_of_its_kind():
    with pytest.raises(TypeError, match="is a DynamicCache; expected an EncoderDecoderCache"):
        tiny_model("t5")(**inputs_of(tiny_model("t5"), "right"), past_key_values=DynamicCache())


@pytest.mark.parametrize(
    ("fusion", "shape", "expected"),
    [
        ("concat", (1, 1, 32), r"\(batch, 32\)"),
        ("concat", (1, 8), r"\(batch, 32\)"),
        ("llava", (1, 32), r"\(batch, vectors, 32\)"),
        ("flamingo", (1, 8, 16), r"\(batch, vectors, 32\)"),
    ],
)
def test_embeddings_of_another_shape_are_refused(fusion, shape, expected):
    with pytest.raises(ValueError, match=f"ecg_embeds has shape .*; expected {expected}"):
        tiny_model(fusion=fusion)(torch.tensor([[5, 60, 7]]), ecg_embeds=torch.zeros(shape).double())


def test_checkpointing_keeps_no_cache():
    model = tiny_model().train()
    model.gradient_checkpointing_enable()
    with pytest.raises(ValueError, match="keeps no cache: pass no past_key_values"):
        model(**inputs_of(model, "right"), past_key_values=DynamicCache())
