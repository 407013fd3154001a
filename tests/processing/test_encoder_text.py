"""What an encoder-decoder is given: the instruction alone for the encoder, the report for the decoder."""

import pytest
import torch

from processing import ECGDataCollator, ECGFeatureExtractor, ECGProcessor
from tests.processing.synthetic import make_tokenizer
from tests.processing.test_data_collator import REPORTS, instruction_for, make_row

START = 7
KINDS = {"t5": {"eos": True, "pad": True}, "bart": {"bos": True, "eos": True, "pad": True}}


@pytest.fixture(params=KINDS)
def processor(request):
    return ECGProcessor(ECGFeatureExtractor(), make_tokenizer(**KINDS[request.param]))


@pytest.fixture
def collator(processor):
    return ECGDataCollator(processor, instruction_for, is_encoder_decoder=True, decoder_start_token_id=START)


def test_the_text_is_the_instruction_between_the_tokenizers_own_tokens(processor):
    tokenizer = processor.tokenizer
    messages = [{"role": "user", "content": [{"type": "ecg"}, {"type": "text", "text": "Write the report."}]}]
    for prompt in (False, True):
        ids = processor.apply_chat_template(messages, tokenize=True, add_generation_prompt=prompt)
        assert ids == [tokenizer("Write the report.")["input_ids"]]
    system = [{"role": "system", "content": "Be brief."}, *messages]
    assert (
        processor.decode(processor.apply_chat_template(system, tokenize=True)[0], skip_special_tokens=True)
        == "Be brief.\n\nWrite the report."
    )


def test_a_report_has_no_place_in_it(processor):
    messages = [{"role": "user", "content": "Write the report."}, {"role": "assistant", "content": "Normal ECG."}]
    with pytest.raises(Exception, match="an assistant message in the text of an encoder"):
        processor.apply_chat_template(messages)


def test_prompt_and_report_are_two_sequences(processor, collator):
    rows = [make_row(0), make_row(1)]
    batch = collator(rows)
    tokenizer = processor.tokenizer
    assert sorted(batch) == ["attention_mask", "decoder_input_ids", "ecg_values", "input_ids", "labels"]
    assert batch["labels"].shape == batch["decoder_input_ids"].shape
    for index, report in enumerate(REPORTS):
        prompt = batch["input_ids"][index][batch["attention_mask"][index].bool()]
        assert prompt.tolist() == tokenizer(instruction_for(f"r{index}"))["input_ids"]
        labels = batch["labels"][index]
        learned = labels[labels != -100]
        assert learned.tolist() == tokenizer(report)["input_ids"]
        assert learned[-1] == tokenizer.eos_token_id
        decoder = batch["decoder_input_ids"][index]
        assert decoder[0] == START
        assert decoder[1 : len(learned)].tolist() == learned[:-1].tolist()
        assert labels[len(learned) :].tolist() == [-100] * (len(labels) - len(learned))
    assert (batch["labels"][0] == -100).any()
    assert batch["decoder_input_ids"].min() >= 0


def test_a_report_ends_where_the_tokenizer_adds_no_end(processor):
    tokenizer = make_tokenizer(pad=True)
    collator = ECGDataCollator(
        ECGProcessor(ECGFeatureExtractor(), tokenizer),
        instruction_for,
        is_encoder_decoder=True,
        decoder_start_token_id=START,
    )
    batch = collator([make_row()])
    assert batch["labels"][0].tolist() == [*tokenizer(REPORTS[0])["input_ids"], tokenizer.eos_token_id]
    assert processor.tokenizer.eos_token_id == batch["labels"][0, -1]


def test_a_long_report_loses_its_end_and_a_long_prompt_is_an_error(processor, collator):
    rows = [make_row(0), make_row(1)]
    whole = collator(rows)
    longest = whole["labels"].shape[1]
    prompt = whole["input_ids"].shape[1]
    short = ECGDataCollator(processor, instruction_for, longest - 1, True, START)
    batch = short(rows)
    assert short.truncated_reports == 1
    torch.testing.assert_close(batch["labels"], whole["labels"][:, :-1])
    torch.testing.assert_close(batch["decoder_input_ids"], whole["decoder_input_ids"][:, :-1])
    exact = ECGDataCollator(processor, instruction_for, longest, True, START)
    exact(rows)
    assert exact.truncated_reports == 0
    with pytest.raises(ValueError, match=f"record r0: the prompt has {prompt} tokens, max_length is {prompt - 1}"):
        ECGDataCollator(processor, instruction_for, prompt - 1, True, START)([rows[0]])


def test_placeholders_are_in_the_prompt_alone(processor):
    llava = ECGProcessor(ECGFeatureExtractor(), processor.tokenizer, ecg_token_id=999, num_ecg_tokens=2)
    batch = ECGDataCollator(llava, instruction_for, is_encoder_decoder=True, decoder_start_token_id=START)(
        [make_row(0), make_row(1)]
    )
    assert (batch["input_ids"] == 999).sum(1).tolist() == [2, 2]
    for name in ("labels", "decoder_input_ids"):
        assert not (batch[name] == 999).any()


def test_a_decoder_must_start_with_something(processor):
    with pytest.raises(ValueError, match="decoder_start_token_id is None"):
        ECGDataCollator(processor, instruction_for, is_encoder_decoder=True)
