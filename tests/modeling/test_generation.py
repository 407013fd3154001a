"""Decoding: every mode keeps the ECG, and encodes it once."""

import pytest
import torch

from .tiny import TEXTS, ecg, padded, tiny_model

MODES = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 2.0},
    "beams": {"num_beams": 3, "do_sample": False},
    "several": {"num_return_sequences": 2, "do_sample": True, "temperature": 2.0},
}


def generate(model, ecg_values, mode, seed=0, **kwargs):
    ids, mask = padded(TEXTS, "left")
    torch.manual_seed(seed)
    return model.generate(
        input_ids=ids,
        attention_mask=mask,
        ecg_values=ecg_values,
        max_new_tokens=8,
        eos_token_id=None,
        **MODES[mode],
        **kwargs,
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("use_cache", [True, False])
def test_every_mode_encodes_the_ecg_once(mode, use_cache):
    model = tiny_model()
    calls = []
    model.model.ecg_encoder.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0].shape[0]))
    generate(model, ecg(3), mode, use_cache=use_cache)
    assert calls == [3]  # once, and the three ECGs alone: no beam is encoded again


@pytest.mark.parametrize("mode", MODES)
def test_cached_and_uncached_decoding_agree(mode):
    model = tiny_model()
    assert torch.equal(generate(model, ecg(3), mode), generate(model, ecg(3), mode, use_cache=False))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("fusion_layers", [None, [1]])
def test_every_mode_reads_the_ecg(mode, use_cache, fusion_layers):
    model = tiny_model(fusion_layers=fusion_layers)
    one, other = (
        generate(
            model,
            ecg(3, seed),
            mode,
            use_cache=use_cache,
            return_dict_in_generate=True,
            output_logits=True,
        )
        for seed in (0, 1)
    )
    # The first step's text is the same for both, and so every difference there is the ECG's; and a decoding step that
    # lost it would repeat a text-only model's logits.
    assert (one.logits[0] - other.logits[0]).abs().amax(-1).min() > 1e-4
    last = one.sequences[:, :-1]
    rows = len(one.sequences) // 3
    mask = torch.cat([padded(TEXTS, "left")[1].repeat_interleave(rows, 0), torch.ones(len(last), 7)], 1).long()
    with torch.no_grad():
        again = model(last, attention_mask=mask, ecg_values=ecg(3).repeat_interleave(rows, 0), use_cache=False).logits[
            :, -1
        ]
    if mode != "beams":  # its last step's rows are beams that may have been dropped since
        assert torch.allclose(one.logits[-1].double(), again, rtol=0, atol=1e-5)


def test_a_seed_repeats_a_sample_and_another_does_not():
    model = tiny_model()
    assert torch.equal(generate(model, ecg(3), "sampling", 3), generate(model, ecg(3), "sampling", 3))
    assert not torch.equal(generate(model, ecg(3), "sampling", 3), generate(model, ecg(3), "sampling", 4))


@pytest.mark.parametrize("mode", ["greedy", "beams"])
def test_a_batch_equals_its_members(mode):
    model = tiny_model()
    together = generate(model, ecg(3), mode)
    for row, text in enumerate(TEXTS):
        alone = model.generate(
            input_ids=torch.tensor([text]),
            ecg_values=ecg(3)[row : row + 1],
            max_new_tokens=8,
            eos_token_id=None,
            **MODES[mode],
        )
        assert torch.equal(together[row, -8:], alone[0, -8:])


def test_a_second_turn_goes_on_with_the_same_ecg():
    model = tiny_model()
    ids = torch.tensor([TEXTS[0]])
    first = model.generate(
        input_ids=ids, ecg_values=ecg(1), max_new_tokens=4, eos_token_id=None, return_dict_in_generate=True
    )
    question = torch.cat([first.sequences, torch.tensor([[7, 8]])], dim=1)
    second = model.generate(
        input_ids=question, past_key_values=first.past_key_values, max_new_tokens=4, eos_token_id=None
    )
    anew = model.generate(input_ids=question, ecg_values=ecg(1), max_new_tokens=4, eos_token_id=None)
    assert torch.equal(second, anew)
    with pytest.raises(ValueError, match="already holds an ECG"):
        model.generate(input_ids=second, past_key_values=first.past_key_values, ecg_values=ecg(1), max_new_tokens=1)


def test_generate_from_inputs_embeds():
    model = tiny_model()
    ids = torch.tensor([TEXTS[0]])
    embeds = model.get_input_embeddings()(ids)
    common = {"ecg_values": ecg(1), "max_new_tokens": 5, "eos_token_id": None}
    assert torch.equal(model.generate(inputs_embeds=embeds, **common), model.generate(input_ids=ids, **common)[:, 7:])


def test_chunked_prefill_keeps_the_ecg():
    model = tiny_model()
    ids = torch.tensor([TEXTS[0]])
    common = {"input_ids": ids, "ecg_values": ecg(1), "max_new_tokens": 5, "eos_token_id": None}
    assert torch.equal(model.generate(**common, prefill_chunk_size=3), model.generate(**common))


def test_generate_without_an_ecg_is_refused():
    with pytest.raises(ValueError, match="found neither"):
        tiny_model().generate(input_ids=torch.tensor([TEXTS[0]]), max_new_tokens=1)
