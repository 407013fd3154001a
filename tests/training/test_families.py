"""Training each kind of model for two updates: what moves, and that the saved folder is the model that was trained."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoProcessor

import run_benchmark
from dataset_builder.instructions import instruction_for
from processing import ECGDataCollator, row_recording
from publishing.model_folder import prepare_model
from reporting.draft import ReportDrafter
from reporting.report_loss import report_losses
from tests.modeling.families import SEQ2SEQ, TEXT_CONFIGS
from training.logits_check import CHECK_FILE
from training.trainer import ReportTrainer

from .tiny_run import record, run, write_dataset, write_family

RUNS = {
    "llama-llava": ("llama", {"fusion": "llava", "num_ecg_tokens": 3}),
    "llama-flamingo": ("llama", {"fusion": "flamingo", "fusion_layers": [1]}),
    "gpt2-concat": ("gpt2", {}),
    "bloom-concat": ("bloom", {}),
    "t5-concat": ("t5", {}),
    "t5-flamingo": ("t5", {"fusion": "flamingo"}),
    "bart-llava": ("bart", {"fusion": "llava", "num_ecg_tokens": 2}),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rows = [record(number) for number in range(4)]
    folder = tmp_path_factory.mktemp("families") / "dataset"
    return write_dataset(folder, train=rows, validation=[record(9), record(12)], test=rows)


class Trained:
    """A run, its losses, and the weights that it began with."""

    def __init__(self, name, folder, dataset):
        self.family, self.model_options = RUNS[name]
        self.backbone = write_family(folder / "backbone", self.family)
        self.losses, self.start, spied = [], {}, ReportTrainer.training_step

        def spy(trainer, *args, **kwargs):
            if not self.start:
                self.start = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
            loss = spied(trainer, *args, **kwargs)
            self.losses.append(loss.item())
            self.trained = trainer.model
            return loss

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ReportTrainer, "training_step", spy)
            self.result = run(
                self.backbone,
                dataset,
                folder / "run",
                model=self.model_options,
                max_steps=2,
                gradient_accumulation_steps=1,
                warmup_steps=0,  # a Flamingo's gates move first, and all behind them in the second update
                save_strategy="no",
            )
        self.end = dict(self.trained.named_parameters())
        self.is_seq2seq = self.family in SEQ2SEQ
        auto_class = AutoModelForSeq2SeqLM if self.is_seq2seq else AutoModelForCausalLM
        self.model = auto_class.from_pretrained(self.result.folder).eval()
        self.processor = AutoProcessor.from_pretrained(self.result.folder, trust_remote_code=True)
        self.collator = ECGDataCollator.for_model(self.model.config, self.processor, instruction_for)


@pytest.fixture(scope="module", params=RUNS)
def trained(request, tmp_path_factory, dataset):
    return Trained(request.param, tmp_path_factory.mktemp(request.param), dataset)


def test_the_loss_is_finite_and_everything_trained_moves(trained):
    assert len(trained.losses) == 2
    assert torch.isfinite(torch.tensor([*trained.losses, trained.result.eval_loss])).all()
    fusion = trained.model_options.get("fusion", "concat")
    parts = {"lora_B": 0, "ecg_encoder": 0, "ecg_projector": 0}
    if fusion == "flamingo":
        parts |= {"ecg_cross_attention": 0}
    for name, before in trained.start.items():
        moved = not torch.equal(before, trained.end[name])
        parts.update({part: count + moved for part, count in parts.items() if part in name})
        if "lora_B" in name or "_gate" in name:
            assert moved, name
    assert all(parts.values()), parts
    assert all("lora_" in name or ".ecg_" in name for name in trained.start)
    assert any("_gate" in name for name in trained.start) == (fusion == "flamingo")


def test_the_folder_loads_to_the_same_logits(trained):
    folder = trained.result.folder
    check = load_file(folder / CHECK_FILE)
    positions, expected = check.pop("positions"), check.pop("logits")
    names = {"input_ids", "attention_mask", "ecg_values"} | ({"decoder_input_ids"} if trained.is_seq2seq else set())
    assert set(check) == names
    with torch.no_grad():
        logits = trained.model(**check).logits
    found = logits.gather(1, positions[..., None].expand(-1, -1, logits.shape[-1]))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    adapter = json.loads((folder / "adapter_config.json").read_text())
    assert adapter["task_type"] == ("SEQ_2_SEQ_LM" if trained.is_seq2seq else "CAUSAL_LM")
    tensors = load_file(folder / "adapter_model.safetensors")
    assert all("lora_" in name or ".ecg_" in name for name in tensors)


def test_another_ecg_changes_the_logits(trained):
    batch = trained.collator([record(number) for number in range(4)])
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = trained.model(**batch).logits
        again = trained.model(**batch).logits
        swapped = trained.model(**batch | {"ecg_values": batch["ecg_values"].roll(1, dims=0)}).logits
    if not trained.is_seq2seq:
        logits, again, swapped, labels = logits[:, :-1], again[:, :-1], swapped[:, :-1], labels[:, 1:]
    noise = max((again - logits).abs().max().item(), 1e-7)
    moved = (swapped - logits).abs().amax(-1)[labels != -100]
    assert moved.max() > 10 * noise


def test_the_evaluation_loss_is_that_of_the_reports(trained):
    nats, tokens = report_losses(trained.model, trained.collator, [[record(9)], [record(12)]])
    labels = trained.collator([record(9), record(12)])["labels"]
    assert tokens.tolist() == (labels != -100).sum(1).tolist()
    assert trained.result.eval_loss == pytest.approx(nats.sum() / tokens.sum(), rel=1e-4)


def test_a_draft_is_what_the_model_says_to_the_prompt(trained):
    drafter = ReportDrafter(trained.result.folder, instruction="Write the report.")
    recording = row_recording(record(1))
    [draft] = drafter.draft([recording], max_new_tokens=6)
    assert draft.error is None
    part = {"type": "ecg", "ecg": recording}
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "Write the report."}]}]
    inputs = trained.processor.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    start = trained.model.config.text_config.decoder_start_token_id if trained.is_seq2seq else None
    written = torch.tensor([[start]]) if trained.is_seq2seq else inputs["input_ids"]
    skipped = written.shape[1]
    for _ in range(6):  # greedy, without a cache
        text = (
            inputs | {"decoder_input_ids": written}
            if trained.is_seq2seq
            else inputs | {"input_ids": written, "attention_mask": torch.ones_like(written)}
        )
        with torch.no_grad():
            logits = trained.model(**text, use_cache=False).logits[:, -1]
        if trained.model_options.get("fusion") == "llava":
            logits[:, trained.model.config.ecg_token_id] = -torch.inf
        written = torch.cat([written, logits.argmax(-1, keepdim=True)], dim=1)
        if written[0, -1] == trained.processor.tokenizer.eos_token_id:
            break
    assert draft.report == trained.processor.decode(written[0, skipped:], skip_special_tokens=True).strip()


def test_what_was_written_goes_up(trained):
    upload = prepare_model(trained.result.folder, "some-lab/ecg-reports")
    card = next(file.content for file in upload.files if file.name == "README.md").decode()
    auto_class = "AutoModelForSeq2SeqLM" if trained.is_seq2seq else "AutoModelForCausalLM"
    assert f"from transformers import {auto_class}, AutoProcessor" in card
    assert ("[0, 1 :]" in card) == trained.is_seq2seq
    assert f"| fusion | {trained.model_options.get('fusion', 'concat')}, " in card
    assert "None" not in card.replace("None were uploaded", "")


LOADING = """
import sys
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
check = load_file(sys.argv[1] + "/check_logits.safetensors")
positions, expected = check.pop("positions"), check.pop("logits")
with torch.no_grad():
    logits = model(**check).logits
difference = logits.gather(1, positions[..., None].expand(-1, -1, logits.shape[-1])) - expected
print(type(model).__module__.partition(".")[0], difference.abs().max().item() < 1e-4)
"""


def test_the_loss_of_an_encoder_decoder_is_per_token_however_the_batch_is_split(tmp_path, dataset):
    backbone = write_family(tmp_path / "backbone", "t5")
    losses = []
    for size in (4, 2):
        result = run(
            backbone,
            dataset,
            tmp_path / f"run-{size}",
            max_steps=1,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=4 // size,
            save_strategy="no",
        )
        losses.append(result.train_loss)
    assert losses[1] == pytest.approx(losses[0], rel=0.05)  # BatchNorm sees another batch


@pytest.mark.parametrize("name", ["t5-concat", "llama-flamingo", "bart-llava"])
def test_a_resumed_run_equals_the_unbroken_one(name, tmp_path, dataset):
    family, model = RUNS[name]
    backbone = write_family(tmp_path / "backbone", family)
    config = {"model": model, "max_steps": 3, "gradient_accumulation_steps": 1, "save_steps": 2}
    whole = run(backbone, dataset, tmp_path / "whole", **config).folder
    shutil.copytree(whole / "checkpoint-2", tmp_path / "resumed" / "checkpoint-2")
    resumed = run(backbone, dataset, tmp_path / "resumed", resume_from_checkpoint="true", **config).folder
    expected, found = (load_file(folder / "adapter_model.safetensors") for folder in (whole, resumed))
    assert found.keys() == expected.keys()
    for tensor_name, tensor in expected.items():
        assert torch.equal(tensor, found[tensor_name]), tensor_name


@pytest.mark.parametrize("layers", [None, [1]])
@pytest.mark.parametrize("family", sorted(TEXT_CONFIGS))
def test_every_family_trains_in_bfloat16(family, layers, tmp_path, dataset):
    backbone = write_family(tmp_path / "backbone", family)
    config = {"bf16": True, "max_steps": 1, "gradient_accumulation_steps": 1, "save_strategy": "no"}
    result = run(backbone, dataset, tmp_path / "run", model={"fusion_layers": layers}, **config)
    assert result.eval_loss == pytest.approx(6, abs=1.5)  # log(307), and what random weights make of it
    tensors = load_file(result.folder / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} <= {torch.float32, torch.int64}  # BatchNorm's counters


@pytest.mark.parametrize("trained", ["llama-llava", "t5-concat"], indirect=True)
def test_it_loads_by_its_remote_code(trained, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(trained.result.folder)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["transformers_modules", "True"]


def test_the_benchmark_runs(trained, dataset, tmp_path, capsys):
    command = ["--model", str(trained.result.folder), "--dataset", str(dataset), "--output", str(tmp_path)]
    # METEOR needs WordNet, which not every machine has.
    assert run_benchmark.main([*command, "--max-new-tokens", "4", "--no-meteor"]) == 0
    assert "4 records of 4 patients" in capsys.readouterr().out
