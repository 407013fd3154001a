import copy

import numpy as np
import pytest
import torch

from processing import LEADS, ECGFeatureExtractor, ECGProcessor, Recording
from tests.processing.synthetic import make_ecg, make_tokenizer

ASK = "Write the report."
REPORT = "Sinus rhythm. Normal ECG."


def array_part(ecg):
    return {"type": "ecg", "ecg": ecg, "sampling_rate": 500, "lead_names": LEADS}


def ask(part, text=ASK):
    return [{"role": "user", "content": [part, {"type": "text", "text": text}]}]


def answer(text=REPORT):
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


def test_ecg_and_text_become_what_the_model_takes(processor, write_record):
    record = write_record()
    inputs = processor(ecg=record, text=ASK, return_tensors="pt")
    assert sorted(inputs) == ["attention_mask", "ecg_values", "input_ids"]
    assert inputs["ecg_values"].shape == (1, 12, 5000)
    assert inputs["ecg_values"].dtype == torch.float32
    assert inputs["input_ids"].tolist() == [processor.tokenizer(ASK)["input_ids"]]
    assert processor.decode(inputs["input_ids"][0], skip_special_tokens=True) == ASK
    assert sorted(processor.model_input_names) == sorted(inputs)
    torch.testing.assert_close(
        inputs["ecg_values"], processor.feature_extractor(record, return_tensors="pt")["ecg_values"]
    )


def test_a_batch_is_padded_at_the_left_and_holds_its_members(processor, ecg):
    texts, ecgs = ["Report.", "Write the whole report, please."], [ecg, make_ecg(seed=1)]
    kwargs = {"sampling_rate": 500, "lead_names": LEADS, "return_tensors": "pt"}
    batch = processor(ecg=ecgs, text=texts, **kwargs)
    for index in range(2):
        alone = processor(ecg=ecgs[index], text=texts[index], **kwargs)
        length = alone["input_ids"].shape[1]
        assert batch["attention_mask"][index].sum() == length
        torch.testing.assert_close(batch["input_ids"][index, -length:], alone["input_ids"][0])
        torch.testing.assert_close(batch["ecg_values"][index], alone["ecg_values"][0])
    assert batch["attention_mask"][0, 0] == 0
    right = processor(ecg=ecgs, text=texts, padding_side="right", **kwargs)
    assert right["attention_mask"][0, -1] == 0
    assert processor.tokenizer.padding_side == make_tokenizer().padding_side


def test_each_window_of_a_longer_recording_gets_the_text(processor):
    long = make_ecg(12_500)
    inputs = processor(
        ecg=[long, make_ecg()], text=["A", "B"], sampling_rate=500, lead_names=LEADS, start_s="all", return_tensors="pt"
    )
    assert inputs["ecg_values"].shape == (4, 12, 5000)
    assert processor.batch_decode(inputs["input_ids"], skip_special_tokens=True) == ["A", "A", "A", "B"]
    messages = ask(array_part(long))
    inputs = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", start_s="all"
    )
    assert inputs["ecg_values"].shape == (3, 12, 5000)
    assert len(inputs["input_ids"]) == 3
    with pytest.raises(ValueError, match="25 s long"):
        processor.apply_chat_template(messages, tokenize=True, return_dict=True)


def test_what_does_not_belong_together_is_refused(processor, ecg):
    kwargs = {"sampling_rate": 500, "lead_names": LEADS}
    with pytest.raises(ValueError, match="text without an ECG: expected ecg="):
        processor(text=ASK)
    with pytest.raises(ValueError, match="an ECG without a text: expected text="):
        processor(ecg=ecg, **kwargs)
    with pytest.raises(ValueError, match="2 ECGs came with 3 texts"):
        processor(ecg=[ecg, ecg], text=[ASK] * 3, **kwargs)
    with pytest.raises(ValueError, match="2 ECGs came with 1 texts"):
        processor(ecg=[ecg, ecg], text=ASK, **kwargs)
    with pytest.raises(TypeError, match="unknown keyword sample_rate"):
        processor(ecg=ecg, text=ASK, sample_rate=500, lead_names=LEADS)


def test_keywords_by_modality(processor, ecg):
    flat = processor(ecg=ecg, text=ASK, sampling_rate=500, lead_names=LEADS, padding="max_length", max_length=50)
    nested = processor(
        ecg=ecg,
        text=ASK,
        ecg_kwargs={"sampling_rate": 500, "lead_names": LEADS},
        text_kwargs={"padding": "max_length", "max_length": 50},
    )
    assert len(flat["input_ids"][0]) == 50
    assert flat["input_ids"] == nested["input_ids"]
    np.testing.assert_array_equal(flat["ecg_values"], nested["ecg_values"])


def test_the_assistant_mask_covers_the_report_and_its_end(processor, ecg):
    longer = "Atrial fibrillation with rapid ventricular response, rate 140 per minute."
    part = array_part(ecg)
    encoded = processor.apply_chat_template(
        [ask(part) + answer(), ask(part) + answer(longer)],
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        return_tensors="pt",
    )
    end = processor.tokenizer.eos_token
    for ids, mask, report in zip(encoded["input_ids"], encoded["assistant_masks"], (REPORT, longer), strict=True):
        assert processor.decode(ids[mask.bool()]) == report + end
        assert processor.decode(ids[~mask.bool()], skip_special_tokens=True).count(ASK) == 1


def test_the_prompt_of_training_is_the_prompt_of_generation(processor, ecg):
    part = array_part(ecg)
    encode = {"tokenize": True, "return_dict": True}
    prompt = processor.apply_chat_template(ask(part), add_generation_prompt=True, **encode)["input_ids"][0]
    whole = processor.apply_chat_template(
        ask(part) + answer(" " + REPORT + " "), return_assistant_tokens_mask=True, **encode
    )
    assert whole["input_ids"][0][: len(prompt)] == prompt
    assert whole["assistant_masks"][0] == [0] * len(prompt) + [1] * (len(whole["input_ids"][0]) - len(prompt))
    raw = processor.apply_chat_template(ask(part), add_generation_prompt=True)
    called = processor(ecg=ecg, text=raw, sampling_rate=500, lead_names=LEADS)
    assert called["input_ids"][0] == prompt


def test_rendered_text():
    text = {"type": "text", "text": ASK}
    chatml = ECGProcessor(ECGFeatureExtractor(), make_tokenizer(chatml=True))
    conversation = [{"role": "user", "content": [{"type": "ecg"}, text]}, *answer()]
    assert chatml.apply_chat_template(conversation) == (
        f"<|im_start|>user\n{ASK}<|im_end|>\n<|im_start|>assistant\n{REPORT}<|im_end|>"
    )
    assert chatml.apply_chat_template(conversation[:1], add_generation_prompt=True) == (
        f"<|im_start|>user\n{ASK}<|im_end|>\n<|im_start|>assistant\n"
    )
    system = [{"role": "system", "content": "Be brief."}, *conversation]
    assert chatml.apply_chat_template(system).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user")

    plain = ECGProcessor(ECGFeatureExtractor(), make_tokenizer())
    rendered = f"### Instruction:\n{ASK}\n\n### Response:\n{REPORT}<|endoftext|>"
    assert plain.apply_chat_template(conversation) == rendered
    assert plain.apply_chat_template([{"role": "user", "content": ASK}, *answer()]) == rendered
    assert plain.apply_chat_template([conversation, conversation]) == [rendered, rendered]
    assert plain.apply_chat_template(conversation, continue_final_message=True) == rendered.removesuffix(
        "<|endoftext|>"
    )
    assert plain.apply_chat_template(system) == f"Be brief.\n\n{rendered}"
    bos = ECGProcessor(ECGFeatureExtractor(), make_tokenizer(bos=True))
    assert bos.apply_chat_template(conversation) == f"<s>{rendered}"


def test_a_conversation_takes_every_kind_of_ecg_and_stays_as_it_was(processor, write_record, ecg):
    record = write_record()
    parts = [
        {"type": "ecg", "ecg": str(record)},
        {"type": "ecg", "ecg": record},
        {"type": "ecg", "ecg": Recording(ecg, 500.0, LEADS, "bed 7")},
        array_part(ecg),
    ]
    conversations = [ask(part) for part in parts]
    before = copy.deepcopy(conversations)
    encoded = processor.apply_chat_template(conversations, tokenize=True, return_dict=True, return_tensors="pt")
    assert encoded["ecg_values"].shape == (4, 12, 5000)
    torch.testing.assert_close(encoded["ecg_values"][0], encoded["ecg_values"][1])
    torch.testing.assert_close(encoded["ecg_values"][2], encoded["ecg_values"][3])
    assert [list(one[0]["content"][0]) for one in conversations] == [list(one[0]["content"][0]) for one in before]
    ids = processor.apply_chat_template(conversations[0], tokenize=True)
    assert ids == encoded["input_ids"][:1].tolist()


def test_conversations_without_their_ecg(processor, ecg):
    encode = {"tokenize": True, "return_dict": True}
    for conversation, found in (
        ([{"role": "user", "content": ASK}], 0),
        (ask({"type": "ecg"}), 0),
        (ask(array_part(ecg)) + ask(array_part(ecg)), 2),
    ):
        with pytest.raises(ValueError, match=f"a conversation with {found} ECGs; expected one"):
            processor.apply_chat_template(conversation, **encode)
    with pytest.raises(ValueError, match="part of type 'image'; expected 'ecg' or 'text'"):
        processor.apply_chat_template(ask({"type": "image", "image": "x.png"}))
    with pytest.raises(ValueError, match="empty conversation"):
        processor.apply_chat_template([])


def test_a_template_of_the_users_own():
    template = "{% for message in messages %}{{ message.content[0].text }}{{ mark }}{% endfor %}"
    processor = ECGProcessor(ECGFeatureExtractor(), make_tokenizer(), chat_template=template)
    assert processor.apply_chat_template([{"role": "user", "content": ASK}], mark="!") == f"{ASK}!"


def test_a_tokenizer_must_be_able_to_end():
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no eos_token"):
        ECGProcessor(ECGFeatureExtractor(), tokenizer)


def test_several_ecgs_in_one_part_are_refused(processor, ecg):
    for several, count in (([ecg, ecg], 2), (np.stack([ecg] * 3), 3)):
        with pytest.raises(ValueError, match=f"one ecg part holds {count} ECGs; expected one per conversation"):
            processor.apply_chat_template(ask(array_part(several)), tokenize=True, return_dict=True)
