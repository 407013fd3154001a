"""The tokens in whose place a LLaVA model puts the ECG: how many, where, and what never takes them away."""

import re

import numpy as np
import pytest
import torch

from processing import LEADS, ECGDataCollator, ECGFeatureExtractor, ECGProcessor
from processing.placeholders import Placeholders
from tests.processing.synthetic import make_ecg, make_tokenizer
from tests.processing.test_data_collator import instruction_for, make_row

COUNT = 3
ID = 999  # beyond what any of the tokenizers knows
TEXTS = ["Report.", "Write the whole report, please."]
TRAITS = [{"plain": True}, {"bos": True}, {"chatml": True}, {"eos": True, "pad": True}, {"bos": True, "eos": True}]


@pytest.fixture(params=TRAITS, ids=lambda traits: "+".join(traits))
def tokenizer(request):
    return make_tokenizer(**request.param)


@pytest.fixture
def llava(tokenizer):
    return ECGProcessor(ECGFeatureExtractor(), tokenizer, ecg_token_id=ID, num_ecg_tokens=COUNT)


@pytest.fixture
def without(tokenizer):
    """The same processor for a fusion that has no placeholders."""
    return ECGProcessor(ECGFeatureExtractor(), tokenizer)


def call(processor, texts, **kwargs):
    ecgs = [make_ecg(seed=index) for index in range(len(texts))]
    return processor(ecg=ecgs, text=texts, sampling_rate=500, lead_names=LEADS, **kwargs)


def ask(text, ecg=None):
    part = {"type": "ecg", "ecg": make_ecg() if ecg is None else ecg, "sampling_rate": 500, "lead_names": LEADS}
    return [{"role": "user", "content": [part, {"type": "text", "text": text}]}]


def with_placeholders(ids, bos_token_id):
    at = int(ids[0] == bos_token_id)
    return ids[:at] + [ID] * COUNT + ids[at:]


def test_they_stand_behind_the_first_token_or_in_front(llava, without, tokenizer):
    found, plain = (call(one, TEXTS, padding=False) for one in (llava, without))
    for ids, mask, expected in zip(found["input_ids"], found["attention_mask"], plain["input_ids"], strict=True):
        assert ids == with_placeholders(expected, tokenizer.bos_token_id)
        assert mask == [1] * len(ids)
    assert sorted(found) == sorted(plain)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_goes_around_them(llava, side):
    alone = call(llava, TEXTS, padding=False)["input_ids"]
    batch = call(llava, TEXTS, padding_side=side, return_tensors="pt")
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, max(map(len, alone)))
    for ids, row, mask in zip(alone, batch["input_ids"], batch["attention_mask"], strict=True):
        assert row[mask.bool()].tolist() == ids
        padding = len(row) - len(ids)
        assert mask.tolist() == ([0] * padding + [1] * len(ids) if side == "left" else [1] * len(ids) + [0] * padding)
        assert (row[~mask.bool()] == llava.tokenizer.pad_token_id).all()


def test_the_text_of_an_encoder_is_padded_behind_and_any_other_in_front(without):
    mask = call(without, TEXTS, return_tensors="pt")["attention_mask"][0]
    is_of_encoder = without.tokenizer("a")["input_ids"][-1] == without.tokenizer.eos_token_id
    assert (mask[0].item(), mask[-1].item()) == ((1, 0) if is_of_encoder else (0, 1))


def test_widths_that_are_asked_for_count_them(llava):
    assert len(call(llava, TEXTS[:1], padding="max_length", max_length=60)["input_ids"][0]) == 60
    ids = call(llava, TEXTS, pad_to_multiple_of=16, return_tensors="pt")["input_ids"]
    assert ids.shape[1] % 16 == 0
    assert (ids == ID).sum(1).tolist() == [COUNT, COUNT]


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncation_leaves_them_and_cuts_as_the_tokenizer_does(llava, without, tokenizer, side):
    tokenizer.truncation_side = side
    shorter = call(without, TEXTS, truncation=True, max_length=9)
    found = call(llava, TEXTS, truncation=True, max_length=9 + COUNT)
    assert found["input_ids"][1] == with_placeholders(shorter["input_ids"][1], tokenizer.bos_token_id)
    assert [len(ids) for ids in found["input_ids"]] == [9 + COUNT] * 2
    assert max(len(ids) for ids in call(llava, TEXTS, padding=False)["input_ids"]) > 9 + COUNT


def test_truncation_leaves_those_that_the_user_placed(tokenizer):
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|ecg|>"]}, replace_extra_special_tokens=False)
    own = tokenizer.convert_tokens_to_ids("<|ecg|>")
    processor = ECGProcessor(ECGFeatureExtractor(), tokenizer, ecg_token_id=own, num_ecg_tokens=2)
    text = "Here is the ECG: <|ecg|><|ecg|> Write the report."
    whole = call(processor, [text])["input_ids"][0]
    assert whole == tokenizer(text)["input_ids"]
    assert call(processor, [text], truncation=True, max_length=8)["input_ids"][0].count(own) == 2
    with pytest.raises(ValueError, match=rf"found 1 ECG placeholder tokens \(id {own}\) in a text; expected 2 or none"):
        call(processor, ["An <|ecg|>."])
    assert processor.decode(whole, skip_special_tokens=True) == "Here is the ECG:  Write the report."


def test_no_room_for_them_is_an_error(llava):
    with pytest.raises(ValueError, match=rf"max_length is 2; expected room for \d tokens, {COUNT} of them ECG"):
        call(llava, TEXTS, truncation=True, max_length=2)


def test_what_a_tokenizer_says_of_tokens_stays_aligned(llava):
    batch = call(llava, TEXTS, return_offsets_mapping=True, return_special_tokens_mask=True)
    for text, ids, offsets, special in zip(
        TEXTS, batch["input_ids"], batch["offset_mapping"], batch["special_tokens_mask"], strict=True
    ):
        assert len(ids) == len(offsets) == len(special)
        for token, (start, end) in zip(ids, offsets, strict=True):
            if end > start:
                assert llava.tokenizer.decode([token]) == text[start:end]
        assert all(is_special for token, is_special in zip(ids, special, strict=True) if token == ID)
    with pytest.raises(TypeError, match="length cannot be returned of texts with ECG placeholders"):
        call(llava, TEXTS, return_length=True)


def test_conversations_hold_them_however_they_are_returned(llava, without, tokenizer):
    kwargs = {"tokenize": True, "add_generation_prompt": True}
    conversations = [ask(text) for text in TEXTS]
    plain = without.apply_chat_template(conversations, padding=False, **kwargs)
    expected = [with_placeholders(ids, tokenizer.bos_token_id) for ids in plain]
    assert llava.apply_chat_template(conversations, padding=False, **kwargs) == expected
    batch = llava.apply_chat_template(conversations, return_dict=True, return_tensors="pt", **kwargs)
    for ids, mask, alone in zip(batch["input_ids"], batch["attention_mask"], expected, strict=True):
        assert ids[mask.bool()].tolist() == alone
    tensor = llava.apply_chat_template(conversations, return_tensors="pt", **kwargs)
    torch.testing.assert_close(tensor, batch["input_ids"])
    # The rendered text, passed to a call.
    raw = [llava.apply_chat_template(one, add_generation_prompt=True) for one in conversations]
    torch.testing.assert_close(call(llava, raw, return_tensors="pt")["input_ids"], batch["input_ids"])


@pytest.mark.parametrize("traits", [{"plain": True}, {"bos": True}, {"chatml": True}])
def test_the_loss_is_not_on_them(traits):
    tokenizer = make_tokenizer(**traits)
    extractor = ECGFeatureExtractor()
    llava = ECGProcessor(extractor, tokenizer, ecg_token_id=ID, num_ecg_tokens=COUNT)
    rows = [make_row(0), make_row(1)]
    found = ECGDataCollator(llava, instruction_for)(rows)
    plain = ECGDataCollator(ECGProcessor(extractor, tokenizer), instruction_for)(rows)
    for index in range(2):
        reports = [one["labels"][index][one["labels"][index] != -100] for one in (found, plain)]
        assert reports[0].tolist() == reports[1].tolist()
        learned = found["labels"][index] != -100
        assert found["input_ids"][index][learned].tolist() == reports[1].tolist()
    assert (found["input_ids"] == ID).sum(1).tolist() == [COUNT, COUNT]
    assert found["input_ids"].shape[1] == plain["input_ids"].shape[1] + COUNT


def test_they_are_not_decoded(llava):
    ids = call(llava, TEXTS, return_tensors="pt")["input_ids"]
    assert llava.batch_decode(ids, skip_special_tokens=True) == TEXTS
    for one in (ids[0], ids[0].tolist(), ids[0].numpy(), list(ids[0])):
        assert llava.decode(one, skip_special_tokens=True) == TEXTS[0]
    assert llava.batch_decode([[ID], [ID] * 2], skip_special_tokens=True) == ["", ""]
    assert llava.decode(llava.tokenizer.eos_token_id) == llava.tokenizer.eos_token


def test_windows_of_one_recording_each_hold_them(llava):
    batch = llava(ecg=make_ecg(12_500), text="A", sampling_rate=500, lead_names=LEADS, start_s="all")
    assert [ids.count(ID) for ids in batch["input_ids"]] == [COUNT] * 3
    assert np.shape(batch["ecg_values"])[0] == 3


def test_an_id_of_another_token_is_refused(tokenizer):
    end = make_tokenizer().eos_token
    with pytest.raises(ValueError, match=f"ecg_token_id is 0, which is the tokenizer's token '{re.escape(end)}'"):
        ECGProcessor(ECGFeatureExtractor(), make_tokenizer(), ecg_token_id=0)
    later = make_tokenizer()
    processor = ECGProcessor(ECGFeatureExtractor(), later, ecg_token_id=len(later))
    later.add_tokens(["<extra>"])
    with pytest.raises(ValueError, match="which is the tokenizer's token '<extra>'"):
        call(processor, ["a <extra> b"])
    with pytest.raises(ValueError, match="num_ecg_tokens is 0; expected at least 1"):
        ECGProcessor(ECGFeatureExtractor(), tokenizer, ecg_token_id=ID, num_ecg_tokens=0)


def test_special_tokens_of_a_text_are_no_reason_to_drop_its_placeholders():
    placeholders = Placeholders(token_id=9, count=2)
    row = placeholders.insert({"input_ids": [1, 5, 6, 7, 2], "special_tokens_mask": [1, 0, 0, 0, 1]}, bos_token_id=1)
    assert row["input_ids"] == [1, 9, 9, 5, 6, 7, 2]
    assert placeholders.truncate(row, 5, "right")["input_ids"] == [1, 9, 9, 5, 2]
    assert placeholders.truncate(row, 5, "left")["input_ids"] == [1, 9, 9, 7, 2]
    assert placeholders.truncate(row, 7, "right") == row
