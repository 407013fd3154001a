"""Decoding: every mode keeps the ECG, and encodes it once."""

import pytest
import torch
from transformers import DynamicCache
from transformers.generation.streamers import BaseStreamer

from .families import SEQ2SEQ, TEXT_CONFIGS
from .test_fusion import stock_model
from .tiny import TEXTS, ecg, inputs_of, tiny_model

FUSIONS = ("concat", "llava", "flamingo")
MODES = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 2.0},
    "beams": {"num_beams": 3, "do_sample": False},
    "several": {"num_return_sequences": 2, "do_sample": True, "temperature": 2.0},
}


def prompts_of(model, rows=slice(None), seed=0):
    """What a user passes to generate: texts padded as the family wants them, and ECGs."""
    inputs = inputs_of(model, "right" if model.config.text_config.model_type == "bart" else "left", rows, seed)
    return {name: value for name, value in inputs.items() if not name.startswith("decoder_")}


def generate(model, mode="greedy", rows=slice(None), ecg_seed=0, **kwargs):
    torch.manual_seed(0)
    options = {"max_new_tokens": 6, "eos_token_id": None} | MODES[mode] | kwargs
    return model.generate(**prompts_of(model, rows, ecg_seed), **options)


def float32_model(family, fusion="concat", **overrides):
    """In float32, in which stock BLOOM is no NaN beside padding on the left."""
    return tiny_model(family, dtype=torch.float32, fusion=fusion, **overrides)


@pytest.mark.support("beams")
@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_beams_are_cached_without_loss(family, fusion):
    model = float32_model(family, fusion)
    cached, uncached = (generate(model, "beams", use_cache=use_cache) for use_cache in (True, False))
    assert torch.equal(cached, uncached)


@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_encodes_the_ecg_once_and_reads_it_at_each_step(family, fusion, mode):
    model = float32_model(family, fusion)
    for use_cache in (True, False):
        calls = []
        hook = model.model.ecg_encoder.register_forward_hook(lambda _, args, __: calls.append(args[0].shape[0]))  # noqa: B023
        one, other = (
            generate(
                model, mode, ecg_seed=seed, use_cache=use_cache, return_dict_in_generate=True, output_logits=True
            ).logits
            for seed in (0, 1)
        )
        hook.remove()
        assert calls == [3, 3]  # once per call, and the three ECGs alone: no beam is encoded again
        # The first step's text is the same for both, so that every difference there is the ECG's.
        assert (one[0] - other[0]).abs().amax(-1).min() > 1e-4
        if mode == "greedy":
            assert_last_step_reads_the_ecg(model, use_cache)


def assert_last_step_reads_the_ecg(model, use_cache):
    """A step of decoding that lost the ECG would give what the text alone gives."""
    generated = generate(model, use_cache=use_cache, return_dict_in_generate=True, output_logits=True)
    last = generated.sequences[:, :-1]
    inputs = prompts_of(model)
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = last
    else:
        inputs["input_ids"] = last
        inputs["attention_mask"] = torch.nn.functional.pad(inputs["attention_mask"], (0, 5), value=1)
    with torch.no_grad():
        anew = model(**inputs, use_cache=False).logits[:, -1]
        elsewhere = model(**(inputs | {"ecg_values": ecg(3, 1, torch.float32)}), use_cache=False).logits[:, -1]
    assert torch.allclose(generated.logits[-1].float(), anew, rtol=0, atol=2e-5)
    assert (elsewhere - anew).abs().amax(-1).min() > 1e-4


@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("mode", ["greedy", "sampling"])
def test_cached_and_uncached_decoding_agree(family, fusion, mode):
    model = float32_model(family, fusion)
    assert torch.equal(generate(model, mode), generate(model, mode, use_cache=False))


@pytest.mark.support("static")
@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_static_cache_gives_the_same(family, fusion):
    for layers in [None] if fusion != "concat" else [None, [0], [1]]:
        model = float32_model(family, fusion, fusion_layers=layers)
        for mode in ("greedy", "beams"):
            assert torch.equal(generate(model, mode), generate(model, mode, cache_implementation="static"))


@pytest.mark.support("compile")
@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_compiled_step_of_decoding_is_one_graph_that_serves_all_steps(family, fusion):
    """Captured by torch.compile and run as captured; test_compiled_to_machine_code goes on to the compiler."""
    model = float32_model(family, fusion)
    expected = generate(model, max_new_tokens=8)
    torch._dynamo.reset()
    captured = []

    def backend(graph, inputs):
        captured.append(graph)
        return graph.forward

    eager = model.forward
    compiled = torch.compile(eager, backend=backend, fullgraph=True)
    text = "decoder_input_ids" if family in SEQ2SEQ else "input_ids"
    model.forward = lambda **kwargs: (compiled if kwargs[text].shape[1] == 1 and is_seeded(kwargs) else eager)(**kwargs)
    model._validate_model_kwargs = lambda kwargs: None  # the lambda's signature names nothing
    found = generate(model, max_new_tokens=8, cache_implementation="static")
    assert torch.equal(found, expected)
    # Stock Mistral counts the tokens of its windowed cache in Python, and is captured anew once that number moves.
    assert 1 <= len(captured) <= (3 if family == "mistral" else 2)


def is_seeded(kwargs):
    cache = kwargs["past_key_values"]
    cache = getattr(cache, "self_attention_cache", cache)
    return type(cache).__name__.startswith("ECG")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "t5"])
def test_compiled_to_machine_code(family):
    model = float32_model(family)
    expected = generate(model)
    torch._dynamo.reset()
    model.forward = torch.compile(model.forward)
    assert torch.equal(generate(model, cache_implementation="static"), expected)


@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_assisted_decoding_gives_the_same(family, fusion):
    """One text at a time, which is all that transformers assists."""
    model = tiny_model(family, fusion=fusion)
    one = slice(0, 1)
    expected = generate(model, rows=one)
    assert torch.equal(generate(model, rows=one, prompt_lookup_num_tokens=2), expected)
    assistant = stock_model(model)
    if fusion == "llava":
        with pytest.raises(ValueError, match="does not know the placeholder token"):
            generate(model, rows=one, assistant_model=assistant)
    else:
        assert torch.equal(generate(model, rows=one, assistant_model=assistant), expected)


@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_batch_equals_its_members(family, fusion):
    model = float32_model(family, fusion)
    together = generate(model)
    for row in range(3):
        inputs = prompts_of(model, slice(row, row + 1))
        keep = inputs["attention_mask"][0].bool()
        inputs["input_ids"], inputs["attention_mask"] = inputs["input_ids"][:, keep], inputs["attention_mask"][:, keep]
        alone = model.generate(**inputs, max_new_tokens=6, eos_token_id=None, do_sample=False)
        assert torch.equal(together[row, -6:], alone[0, -6:])


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "gpt_neo", "opt"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_second_turn_goes_on_with_the_same_ecg(family, fusion):
    model = float32_model(family, fusion)
    inputs = prompts_of(model, slice(0, 1))
    options = {"max_new_tokens": 4, "eos_token_id": None, "do_sample": False}
    first = model.generate(**inputs, **options, return_dict_in_generate=True)
    question = torch.cat([first.sequences, torch.tensor([[7, 8]])], dim=1)
    second = model.generate(input_ids=question, past_key_values=first.past_key_values, **options)
    anew = model.generate(input_ids=question, ecg_values=inputs["ecg_values"], **options)
    assert torch.equal(second, anew)
    with pytest.raises(ValueError, match="already holds an ECG"):
        model.generate(second, past_key_values=first.past_key_values, ecg_values=ecg(1, dtype=torch.float32))


@pytest.mark.parametrize("family", TEXT_CONFIGS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_generate_from_inputs_embeds(family, fusion):
    model = float32_model(family, fusion)
    inputs = prompts_of(model, slice(0, 1))
    options = {"max_new_tokens": 5, "eos_token_id": None, "do_sample": False}
    expected = model.generate(**inputs, **options)[:, -5:]
    embeds = model.get_input_embeddings()(inputs.pop("input_ids"))
    assert torch.equal(model.generate(inputs_embeds=embeds, **inputs, **options)[:, -5:], expected)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
@pytest.mark.parametrize("fusion", ["concat", "flamingo"])
def test_chunked_prefill_keeps_the_ecg(family, fusion):
    model = float32_model(family, fusion)
    assert torch.equal(generate(model, rows=slice(0, 1), prefill_chunk_size=3), generate(model, rows=slice(0, 1)))


class Tokens(BaseStreamer):
    """What a streamer is handed."""

    def __init__(self):
        self.tokens = []

    def put(self, value):
        self.tokens += value.flatten().tolist()

    def end(self):
        self.tokens.append("end")


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_streaming(family):
    model = float32_model(family)
    streamer = Tokens()
    generated = generate(model, rows=slice(0, 1), streamer=streamer)
    assert streamer.tokens[-7:] == [*generated[0, -6:].tolist(), "end"]


@pytest.mark.parametrize(
    ("fusion", "options", "message"),
    [
        ("concat", {"penalty_alpha": 0.6, "top_k": 4}, "contrastive search"),
        ("llava", {"prefill_chunk_size": 3}, "may lie across two chunks"),
        ("concat", {"cache_implementation": "paged"}, "a paged cache is not supported"),
        ("concat", {"assistant_early_exit": 1}, "assistant_early_exit is not supported"),
        ("concat", {"assistant_model": "itself"}, "an assistant_model with an ECG encoder is not supported"),
    ],
)
def test_what_is_not_supported_is_refused(fusion, options, message):
    model = float32_model("llama", fusion)
    options = {name: model if value == "itself" else value for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        generate(model, rows=slice(0, 1), **options)


def test_what_the_model_s_own_settings_ask_for_is_refused_too():
    model = float32_model("llama")
    model.generation_config.penalty_alpha = 0.6
    with pytest.raises(ValueError, match="contrastive search"):
        generate(model)
    with pytest.raises(ValueError, match=r"continuous batching \(generate_batch\)"):
        model.generate_batch([TEXTS[0]], ecg_values=ecg(1))


def test_a_quantised_cache_is_refused():
    pytest.importorskip("optimum.quanto", reason="not installed; without it transformers itself refuses")
    with pytest.raises(TypeError, match="QuantizedCache"):
        generate(float32_model("llama"), cache_implementation="quantized")


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_the_placeholder_is_never_generated(family):
    model = float32_model(family, "llava")
    with torch.no_grad():
        model.lm_head.weight[model.config.ecg_token_id] = 50 * model.lm_head.weight[3]
        model.lm_head.weight[3] = 0
    generated = generate(model, do_sample=True, max_new_tokens=20)
    assert model.config.ecg_token_id not in generated[:, -20:]


def test_a_seed_repeats_a_sample():
    model = float32_model("llama")
    assert torch.equal(generate(model, "sampling"), generate(model, "sampling"))
    samples = generate(model, "several")
    assert not torch.equal(samples[0], samples[1])


def test_without_an_ecg_the_language_model_answers():
    model = float32_model("llama")
    prompt = torch.tensor([TEXTS[0]])
    stock = stock_model(model)
    options = {"max_new_tokens": 5, "eos_token_id": None, "do_sample": False}
    assert torch.equal(model.generate(prompt, **options), stock.generate(prompt, **options))


def test_a_user_s_own_cache_is_the_one_that_is_filled():
    model = float32_model("llama")
    cache = DynamicCache(config=model.config.text_config)
    generate(model, rows=slice(0, 1), past_key_values=cache)
    assert cache.get_seq_length() == len(TEXTS[0]) + 5
