import numpy as np
import pytest
import torch

from processing import INVALID_SAMPLE, LEADS, ECGDataCollator, ECGFeatureExtractor, ECGProcessor
from tests.processing.synthetic import make_ecg, make_tokenizer

REPORTS = ["Sinus rhythm.", "Atrial fibrillation with rapid ventricular response, rate 140 per minute."]


def make_row(index=0, report=None):
    adc = np.rint(make_ecg(seed=index) * 200).astype(np.int16) + 3
    adc[2, 10] = INVALID_SAMPLE
    return {
        "id": f"r{index}",
        "ecg": adc,
        "ecg_gain": [200.0] * 12,
        "ecg_baseline": [3] * 12,
        "sampling_rate": 500.0,
        "report": report if report is not None else REPORTS[index],
    }


def instruction_for(record_id):
    return f"Write the report of {record_id}."


def test_the_loss_is_on_the_report_and_its_end_alone(processor):
    batch = ECGDataCollator(processor, instruction_for)([make_row(0), make_row(1)])
    assert sorted(batch) == ["attention_mask", "ecg_values", "input_ids", "labels"]
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["labels"].shape
    assert batch["ecg_values"].dtype == torch.float32
    for index, report in enumerate(REPORTS):
        labels = batch["labels"][index]
        learned = labels != -100
        assert processor.decode(labels[learned]) == report + processor.tokenizer.eos_token
        torch.testing.assert_close(labels[learned], batch["input_ids"][index][learned])
        prompt = processor.decode(batch["input_ids"][index][~learned], skip_special_tokens=True)
        assert instruction_for(f"r{index}") in prompt
        assert report not in prompt
    assert batch["attention_mask"][0].tolist() == sorted(batch["attention_mask"][0].tolist(), reverse=True)
    assert batch["attention_mask"][0, -1] == 0
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()


def test_rows_go_the_way_of_every_recording(processor):
    row = make_row()
    batch = ECGDataCollator(processor, instruction_for)([row, make_row(1)])
    signal = (row["ecg"].astype(np.float64) - 3) / 200
    signal[2, 10] = np.nan
    expected = processor.feature_extractor(signal.astype(np.float32), 500, LEADS, return_tensors="pt")["ecg_values"]
    torch.testing.assert_close(batch["ecg_values"][:1], expected, rtol=0, atol=0)
    lists = {**row, "ecg": row["ecg"].tolist()}
    tensors = {**row, "ecg": torch.from_numpy(row["ecg"]), "ecg_gain": torch.full((12,), 200.0)}
    for other in (lists, tensors):
        alone = ECGDataCollator(processor, instruction_for)([other])
        torch.testing.assert_close(alone["ecg_values"], expected, rtol=0, atol=0)


def test_the_prompt_is_the_one_of_generation(processor):
    batch = ECGDataCollator(processor, instruction_for)([make_row()])
    signal = np.zeros((12, 10))
    signal[0, 0] = 1
    part = {"type": "ecg", "ecg": signal, "sampling_rate": 500, "lead_names": LEADS}
    message = {"role": "user", "content": [part, {"type": "text", "text": instruction_for("r0")}]}
    prompt = processor.apply_chat_template(
        [message], tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )["input_ids"][0]
    torch.testing.assert_close(batch["input_ids"][0, : len(prompt)], prompt)
    assert batch["labels"][0, len(prompt) - 1] == -100
    assert batch["labels"][0, len(prompt)] != -100


def test_a_long_report_loses_its_end_and_is_counted(processor):
    rows = [make_row(0), make_row(1)]
    whole = ECGDataCollator(processor, instruction_for)(rows)
    short_length = int(whole["attention_mask"][0].sum())
    collator = ECGDataCollator(processor, instruction_for, max_length=short_length)
    batch = collator(rows)
    assert collator.truncated_reports == 1
    for name in ("input_ids", "labels"):
        torch.testing.assert_close(batch[name], whole[name][:, :short_length])
    assert processor.tokenizer.eos_token_id in batch["labels"][0]
    assert processor.tokenizer.eos_token_id not in batch["labels"][1]
    collator(rows)
    assert collator.truncated_reports == 2


@pytest.mark.parametrize(("missing", "count"), [(0, 0), (1, 1)])
def test_losing_the_end_token_alone_counts(processor, missing, count):
    whole = ECGDataCollator(processor, instruction_for)([make_row()])["input_ids"].shape[1]
    collator = ECGDataCollator(processor, instruction_for, max_length=whole - missing)
    labels = collator([make_row()])["labels"][0]
    assert collator.truncated_reports == count
    assert (labels[-1] == processor.tokenizer.eos_token_id) == (count == 0)


def test_a_prompt_is_never_cut(processor):
    whole = ECGDataCollator(processor, instruction_for)([make_row()])
    prompt = int((whole["labels"][0] == -100).sum())
    with pytest.raises(ValueError, match=f"record r0: the prompt has {prompt} tokens, max_length is {prompt}"):
        ECGDataCollator(processor, instruction_for, max_length=prompt)([make_row()])
    assert (
        ECGDataCollator(processor, instruction_for, max_length=prompt + 1)([make_row()])["labels"].shape[1]
        == prompt + 1
    )


def test_the_tokenizer_is_left_as_it_was(processor):
    before = processor.tokenizer.padding_side, processor.tokenizer.truncation_side
    ECGDataCollator(processor, instruction_for, max_length=60)([make_row(0), make_row(1)])
    assert (processor.tokenizer.padding_side, processor.tokenizer.truncation_side) == before


def test_rows_that_teach_nothing(processor):
    with pytest.raises(ValueError, match="record r0: the report is empty"):
        ECGDataCollator(processor, instruction_for)([make_row(report=" \n")])
    flat = {**make_row(), "ecg": np.zeros((12, 5000), dtype=np.int16)}
    with pytest.raises(ValueError, match="record r0: flat recording"):
        ECGDataCollator(processor, instruction_for)([flat])


def test_a_template_that_marks_no_report():
    template = "{% for message in messages %}{{ message.content | map(attribute='text') | join }}{% endfor %}"
    processor = ECGProcessor(ECGFeatureExtractor(), make_tokenizer(), chat_template=template)
    with pytest.raises(ValueError, match="record r0: no token of the report is marked"):
        ECGDataCollator(processor, instruction_for)([make_row()])
