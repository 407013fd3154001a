"""Drafted reports: batches, bad files, long recordings, and the notice that never goes missing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import wfdb
from peft import get_peft_model

import generate_report
from modeling_meit import ECGEncoderConfig, ECGLlamaForCausalLM
from processing import LEADS, ECGFeatureExtractor, ECGProcessor, Recording, read_ecg
from reporting.draft import ReportDrafter
from reporting.notice import DRAFT_NOTICE
from tests.processing.synthetic import make_ecg, make_tokenizer
from tests.training.tiny_run import WIDTHS, write_backbone
from training.arguments import TuningArguments
from training.tuning import adapter_config


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter folder with random weights, in which the ECG decides what is written."""
    folder = tmp_path_factory.mktemp("draft")
    backbone = write_backbone(folder / "backbone")
    torch.manual_seed(3)
    model = ECGLlamaForCausalLM.from_text_pretrained(backbone, ecg_config=ECGEncoderConfig(widths=WIDTHS))
    signals = ECGFeatureExtractor()([_signal(number) for number in range(4)], 500, LEADS, return_tensors="pt")
    with torch.no_grad():
        # Random weights map all ECGs to nearly the same vector; what they have in common is taken out.
        features = model.model.ecg_encoder(signals["ecg_values"]).pooler_output
        projector = model.model.ecg_projector
        projector.linear_1.weight /= features.std(dim=0).clamp(min=1e-3)
        projector.linear_1.bias -= projector.linear_1(features).mean(dim=0)
        projector.linear_2.bias -= projector(features).mean(dim=0)
    lora = adapter_config(model, TuningArguments(lora_r=2, lora_alpha=8, lora_dropout=0.0))
    lora.init_lora_weights = False
    get_peft_model(model, lora).save_pretrained(folder / "adapter")
    model.save_config_and_code(folder / "adapter")
    ECGProcessor(ECGFeatureExtractor(), make_tokenizer(chatml=True)).save_pretrained(folder / "adapter")
    return folder / "adapter"


@pytest.fixture(scope="module")
def drafter(adapter):
    return ReportDrafter(adapter, batch_size=3)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Four recordings of 10 s as WFDB files, each unlike the others."""
    folder = tmp_path_factory.mktemp("records")
    for number in range(4):
        _write(folder, f"record{number}", _signal(number))
    return [folder / f"record{number}" for number in range(4)]


def _signal(number):
    """Noise on a wave of its own frequency, (12, 5000) in mV."""
    wave = np.sin(np.arange(5000) / 500 * 2 * np.pi * 3.0**number) * np.linspace(-1, 1, 12)[:, None]
    return make_ecg(seed=number) / 10 + wave


def _write(folder, name, signal):
    wfdb.wrsamp(
        name,
        fs=500,
        units=["mV"] * 12,
        sig_name=list(LEADS),
        d_signal=np.ascontiguousarray(np.clip(np.rint(signal * 1000), -32767, 32767).astype(np.int64).T),
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(folder),
    )
    return folder / name


def test_a_batch_gives_what_its_members_give_alone(drafter, files):
    together = list(drafter.draft(files, max_new_tokens=12))
    alone = [draft for file in files for draft in drafter.draft([file], max_new_tokens=12)]
    assert together == alone
    assert [draft.source for draft in together] == [str(file) for file in files]
    assert len({draft.report for draft in together}) > 1  # they are not one text whatever the ECG
    assert all(draft.error is None and draft.start_s == 0 for draft in together)


def test_the_report_is_what_the_model_says_to_the_prompt(drafter, files):
    [draft] = drafter.draft(files[:1], max_new_tokens=12)
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "ecg", "ecg": files[0]},
                {"type": "text", "text": generate_report.DEFAULT_INSTRUCTION},
            ],
        }
    ]
    inputs = drafter.processor.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    tokens = inputs["input_ids"]
    for _ in range(12):  # greedy, without a cache
        with torch.no_grad():
            logits = drafter.model(
                input_ids=tokens, attention_mask=torch.ones_like(tokens), ecg_values=inputs["ecg_values"]
            ).logits
        tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], dim=1)
        if tokens[0, -1] == drafter.processor.tokenizer.eos_token_id:
            break
    new = tokens[0, inputs["input_ids"].shape[1] :]
    assert draft.report == drafter.processor.decode(new, skip_special_tokens=True).strip()


def test_the_encoder_runs_once_per_batch(drafter, files):
    calls = []
    handle = drafter.model.model.ecg_encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        list(drafter.draft(files, max_new_tokens=5, num_beams=2))
    finally:
        handle.remove()
    assert len(calls) == 2  # three recordings, then one


def test_bad_files_give_their_error_in_their_place(drafter, files, tmp_path):
    flat = _write(tmp_path, "flat", np.zeros((12, 5000)))
    (tmp_path / "text.hea").write_text("this is no ECG")
    sources = [files[0], tmp_path / "missing", flat, files[1], tmp_path / "text"]
    drafts = list(drafter.draft(sources, max_new_tokens=4))
    assert [draft.source for draft in drafts] == [str(source) for source in sources]
    assert [draft.error is None for draft in drafts] == [True, False, False, True, False]
    assert [draft.report is None for draft in drafts] == [False, True, True, False, True]
    assert "flat" in drafts[2].error
    assert all(draft.notice == DRAFT_NOTICE for draft in drafts)


def test_a_long_recording_gives_a_draft_per_ten_seconds(drafter, files):
    parts = [read_ecg(file) for file in files[:3]]
    long = replace(
        parts[0], signal=np.concatenate([*(part.signal for part in parts[:2]), parts[2].signal[:, :2000]], axis=1)
    )
    drafts = list(drafter.draft([long], max_new_tokens=12))
    assert [draft.start_s for draft in drafts] == [0, 10, 20]
    last = replace(parts[2], signal=parts[2].signal[:, :2000])
    expected = [draft.report for draft in drafter.draft([*parts[:2], last], max_new_tokens=12)]
    assert [draft.report for draft in drafts] == expected
    [chosen] = drafter.draft([long], start_s=10, max_new_tokens=12)
    assert (chosen.start_s, chosen.report) == (10, expected[1])


def test_a_flat_window_of_a_long_recording_costs_only_its_own_draft(drafter):
    signal = np.concatenate([make_ecg(seed=1), np.zeros((12, 5000)), make_ecg(seed=2)], axis=1)
    recording = Recording(signal.astype(np.float32), 500.0, LEADS, "long")
    drafts = list(drafter.draft([recording], max_new_tokens=4))
    assert [draft.error is None for draft in drafts] == [True, False, True]
    assert "long from 10 s" in drafts[1].error


def test_sampling_is_repeatable(drafter, files):
    def sampled(seed):
        torch.manual_seed(seed)
        return [draft.report for draft in drafter.draft(files, max_new_tokens=12, do_sample=True)]

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


def test_command_prints_each_report_with_the_notice(adapter, files, capsys):
    assert generate_report.main([str(files[0]), str(files[1]), "--model", str(adapter), "--max-new-tokens", "4"]) == 0
    printed = capsys.readouterr().out
    assert printed.count(DRAFT_NOTICE) == 2
    assert printed.index(str(files[0])) < printed.index(str(files[1]))


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_command_states_what_a_file_does_not_say(adapter, files, capsys, tmp_path, suffix):
    path = tmp_path / f"array{suffix}"
    signal = read_ecg(files[0]).signal
    if suffix == ".npy":
        np.save(path, signal)
    else:
        np.savetxt(path, signal.T, delimiter=",", fmt="%.6f")
    command = [str(path), "--model", str(adapter), "--max-new-tokens", "4", "--json"]
    assert generate_report.main(command) == 1
    assert "lead_names=" in capsys.readouterr().err
    stated = ["--sampling-rate", "500", "--lead-names", ", ".join(LEADS)]
    assert generate_report.main([*command, *stated]) == 0
    draft = json.loads(capsys.readouterr().out)
    assert (draft["error"], draft["seconds"]) == (None, 10)
    assert generate_report.main([*command, "--sampling-rate", "1000", *stated[2:]]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] == 5


def test_command_refuses_what_a_file_contradicts(adapter, files, capsys):
    command = [str(files[0]), "--model", str(adapter), "--max-new-tokens", "4"]
    assert generate_report.main([*command, "--sampling-rate", "250"]) == 1
    assert "recorded at 500 Hz; sampling_rate=250" in capsys.readouterr().err
    assert generate_report.main([*command, "--lead-names", "I,II"]) == 1
    assert "its leads are" in capsys.readouterr().err


def test_command_prints_json_and_reports_failures(adapter, files, capsys, tmp_path):
    missing = tmp_path / "missing"
    command = [str(missing), str(files[0]), "--model", str(adapter), "--max-new-tokens", "4", "--json"]
    assert generate_report.main(command) == 1
    printed = capsys.readouterr()
    failed, drafted = map(json.loads, printed.out.splitlines())
    fields = {"source", "start_s", "seconds", "report", "error", "model", "undrafted_s", "notice"}
    assert set(drafted) == fields
    assert drafted["notice"] == failed["notice"] == DRAFT_NOTICE
    assert drafted["error"] is None
    assert failed["report"] is None
    error = printed.err.splitlines()[-1]
    assert error.startswith(f"error: {missing}")
    assert error.count(str(missing)) <= 2


@pytest.mark.parametrize(
    ("options", "status"),
    [(["--max-new-tokens", "0"], 2), (["--batch-size", "x"], 2), (["--no-such-option"], 2), ([], 2)],
)
def test_wrong_options_end_with_2(options, status, files):
    with pytest.raises(SystemExit) as ended:
        generate_report.main([str(files[0]), *(["--model", "x"] if options else []), *options])
    assert ended.value.code == status


def test_a_model_that_cannot_be_loaded_is_named(files, capsys, tmp_path):
    assert generate_report.main([str(files[0]), "--model", str(tmp_path / "no-model")]) == 1
    assert "no-model" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "windows", "undrafted"), [(10.24, 1, 0.24), (12.5, 2, 0), (20, 2, 0), (22, 2, 2)])
def test_a_tail_that_is_too_short_is_said_not_drafted(drafter, files, seconds, windows, undrafted):
    recording = read_ecg(files[0])
    long = replace(recording, signal=np.tile(recording.signal, 3)[:, : round(seconds * 500)])
    drafts = list(drafter.draft([long], max_new_tokens=4))
    assert [draft.start_s for draft in drafts] == [0, 10][:windows]
    assert sum(draft.seconds for draft in drafts) == pytest.approx(seconds - undrafted)
    assert [draft.undrafted_s for draft in drafts] == pytest.approx([0, 0][: windows - 1] + [undrafted])
    assert all(draft.error is None for draft in drafts)


def test_a_recording_that_is_too_short_is_refused(drafter, files):
    recording = read_ecg(files[0])
    short = replace(recording, signal=recording.signal[:, :50])
    [draft] = drafter.draft([short])
    assert draft.report is None
    assert "0.1 s of signal; expected at least 2.5 s" in draft.error
    [draft] = drafter.draft([recording], start_s=9)
    assert "1 s of signal" in draft.error


def test_a_model_that_is_none_is_named(tmp_path):
    with pytest.raises(ValueError, match="no processor_config.json; expected a folder that `meit-ecg train` wrote"):
        ReportDrafter(tmp_path)
    with pytest.raises(OSError, match=r"absent: no such folder, nor a model that could be loaded"):
        ReportDrafter(tmp_path / "absent")


def test_a_device_that_is_not_there_is_named(adapter, files, capsys):
    assert generate_report.main([str(files[0]), "--model", str(adapter), "--device", "nosuch"]) == 1
    assert "error: --device nosuch: " in capsys.readouterr().err
