"""A training run on a tiny model: what moves, what is written, and that it goes on where it was cut off."""

import json
import resource
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM
from trl import SFTTrainer

from dataset_builder.instructions import instruction_for
from modeling_meit import ECGEncoderConfig, ECGLlamaForCausalLM
from processing import ECGDataCollator, ECGFeatureExtractor, ECGProcessor
from tests.clean_environment import run_in_clean_environment
from tests.processing.synthetic import make_tokenizer
from training.arguments import TrainingConfig
from training.checkpoints import checkpoints, last_whole_checkpoint
from training.logits_check import CHECK_FILE
from training.sft import train
from training.trainer import ReportTrainer

from .tiny_run import WIDTHS, options, record, run, write_dataset


@pytest.fixture(scope="module")
def dataset(folder):
    train_rows = [record(number) for number in range(9)] + [record(9, report="  ")]
    return write_dataset(folder / "dataset", train=train_rows, validation=[record(number) for number in range(20, 23)])


@pytest.fixture(scope="module")
def result(backbone, dataset, folder):
    return run(backbone, dataset, folder / "run")


@pytest.fixture(scope="module")
def model(result):
    return ECGLlamaForCausalLM.from_pretrained(result.folder)


@pytest.fixture(scope="module")
def collator():
    return ECGDataCollator(ECGProcessor(ECGFeatureExtractor(), make_tokenizer(chatml=True)), instruction_for)


def inputs(batch):
    return {name: batch[name] for name in ("input_ids", "attention_mask", "ecg_values")}


def test_encoder_projector_and_lora_moved(result, backbone):
    torch.manual_seed(TrainingConfig().seed)
    fresh = ECGLlamaForCausalLM.from_text_pretrained(backbone, ecg_config=ECGEncoderConfig(widths=WIDTHS))
    before = {f"base_model.model.{name}": tensor for name, tensor in fresh.state_dict().items()}
    after = load_file(result.folder / "adapter_model.safetensors")
    parts = {"ecg_encoder": 0, "ecg_projector": 0, "lora_A": 0, "lora_B": 0}
    for name, tensor in after.items():
        part = next(part for part in parts if part in name)
        parts[part] += 1
        if part == "lora_B":
            assert tensor.abs().max() > 0, name
        elif part != "lora_A":
            assert not torch.equal(tensor, before[name]), name
    # Seven projections in two layers; every tensor of encoder (BatchNorm statistics included) and projector.
    assert parts["lora_A"] == parts["lora_B"] == 14
    assert parts["ecg_encoder"] + parts["ecg_projector"] == sum(
        "ecg_encoder" in name or "ecg_projector" in name for name in before
    )


def test_backbone_is_unchanged(model, backbone):
    text_model = LlamaForCausalLM.from_pretrained(backbone)
    trained = {
        name.replace(".base_layer", ""): tensor for name, tensor in model.model.language_model.named_parameters()
    }
    for name, tensor in text_model.model.named_parameters():
        assert torch.equal(tensor, trained[name]), name
    assert torch.equal(text_model.lm_head.weight, model.lm_head.weight)


def test_another_ecg_moves_every_report_position(model, collator):
    rows = [record(number) for number in range(4)]
    batch = collator(rows)
    # A label is predicted one position earlier.
    reports = torch.zeros_like(batch["labels"], dtype=torch.bool)
    reports[:, :-1] = batch["labels"][:, 1:] != -100
    order = [2, 0, 3, 1]
    with torch.no_grad():
        logits = model(**inputs(batch)).logits
        reordered = model(**{name: tensor[order] for name, tensor in inputs(batch).items()}).logits
        alone = model(**{name: tensor[1:2] for name, tensor in inputs(batch).items()}).logits
        swapped = model(**{**inputs(batch), "ecg_values": batch["ecg_values"].roll(1, dims=0)}).logits
    noise = max((reordered - logits[order]).abs().max().item(), (alone - logits[1:2]).abs().max().item(), 1e-7)
    moved = (swapped - logits).abs().amax(dim=-1)[reports]
    assert reports.sum() > 20
    assert moved.min() > 10 * noise


def test_folders_hold_no_backbone_weight_and_the_result_no_pickle(result, backbone):
    for folder in (result.folder, *checkpoints(result.folder)):
        tensors = load_file(folder / "adapter_model.safetensors")
        assert all("lora_" in name or "ecg_encoder" in name or "ecg_projector" in name for name in tensors)
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        assert (folder / "adapter_model.safetensors").stat().st_size < size + 200 * len(tensors) + 1000
        weights = {path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".gguf")}
        assert weights - {CHECK_FILE} == {"adapter_model.safetensors"}
    assert not [path for path in result.folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    largest = max(load_file(backbone / "model.safetensors").values(), key=torch.numel)
    assert all(tensor.shape != largest.shape for tensor in load_file(result.folder / CHECK_FILE).values())


LOAD_ELSEWHERE = """
import json, sys
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoProcessor

for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    with safe_open(sys.argv[1] + "/check_logits.safetensors", "pt") as file:
        check = {name: file.get_tensor(name) for name in file.keys()}
    positions = check.pop("positions")
    expected = check.pop("logits")
    with torch.no_grad():
        logits = model(**check).logits
    logits = logits.gather(1, positions[..., None].expand(-1, -1, logits.shape[-1]))
    prompt = processor.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
    print(json.dumps([(logits - expected).abs().max().item(), expected.abs().max().item(), prompt]))
"""


def test_loads_in_another_process_with_the_output_folder_gone(backbone, dataset, folder, result, tmp_path):
    elsewhere = shutil.copytree(result.folder, tmp_path / "copy")
    gone = result.folder.rename(result.folder.with_name("renamed"))
    try:
        printed = run_in_clean_environment(
            LOAD_ELSEWHERE, tmp_path, str(elsewhere), str(elsewhere / "checkpoint-6"), str(elsewhere / "checkpoint-3")
        )
    finally:
        gone.rename(result.folder)
    last, sixth, third = map(json.loads, printed.splitlines())
    assert last[0] < 1e-6 * last[1]
    assert sixth[0] == last[0]  # the result is the last checkpoint
    assert third[0] > 1e-3 * last[1]  # and an earlier one is another model
    assert "<|im_start|>user" in last[2]


def test_evaluation_loss_is_the_mean_over_report_tokens(result, model, collator):
    batch = collator([record(number) for number in range(20, 23)])
    with torch.no_grad():
        logits = model(**inputs(batch)).logits.double().numpy()
    labels = batch["labels"].numpy()
    losses = []
    for row in range(len(labels)):
        for position in range(1, labels.shape[1]):
            if labels[row, position] != -100:
                scores = logits[row, position - 1]
                losses.append(
                    np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[labels[row, position]]
                )
    assert result.eval_loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_result_says_what_happened(result):
    assert (result.records, result.skipped_records, result.updates) == (9, 1, 6)
    run_record = json.loads((result.folder / "training_run.json").read_text())
    assert run_record["data"]["records"] == 9
    assert run_record["model"]["text_model"] == "someone/tiny-llama"
    assert str(result.folder.parent) not in (result.folder / "training_run.json").read_text()
    lines = (result.folder / "loss_curve.csv").read_text().splitlines()
    assert len(lines) == 1 + 6 + 1  # header, six updates, one evaluation
    assert (result.folder / "loss_curve.png").read_bytes().startswith(b"\x89PNG")
    assert "use_cache" not in json.loads((result.folder / "config.json").read_text())


def test_resumed_run_equals_the_unbroken_one_and_passes_over_a_broken_checkpoint(backbone, dataset, folder, result):
    output = folder / "resumed"
    output.mkdir()
    shutil.copytree(result.folder / "checkpoint-3", output / "checkpoint-3")
    shutil.copytree(result.folder / "checkpoint-6", output / "checkpoint-5")
    (output / "checkpoint-5" / "trainer_state.json").unlink()  # written last, so a killed save lacks it
    resumed = run(backbone, dataset, output, resume_from_checkpoint="auto")
    assert resumed.resumed_from == output / "checkpoint-3"
    assert [defect for defect in resumed.skipped_checkpoints if "checkpoint-5" in defect]
    expected = load_file(result.folder / "adapter_model.safetensors")
    found = load_file(output / "adapter_model.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


def test_resuming_another_run_is_refused(backbone, dataset, folder, result):
    checkpoint = str(result.folder / "checkpoint-3")
    with pytest.raises(ValueError, match=r"batch\.per_device_train_batch_size: 2 then, 4 now"):
        run(backbone, dataset, folder / "other", resume_from_checkpoint=checkpoint, per_device_train_batch_size=4)


@pytest.mark.parametrize(
    ("option", "message"),
    [({"max_length": 300}, r"data\.max_length: 1024 then, 300 now"), ({"optim": "sgd"}, r"optimisation\.optim: ")],
)
def test_what_else_would_change_the_run_is_refused(backbone, dataset, folder, result, option, message):
    checkpoint = str(result.folder / "checkpoint-3")
    with pytest.raises(ValueError, match=message):
        run(backbone, dataset, folder / "other", resume_from_checkpoint=checkpoint, **option)


def test_earlier_checkpoints_are_not_mixed_in(backbone, dataset, result):
    with pytest.raises(ValueError, match="--overwrite_output_dir"):
        run(backbone, dataset, result.folder)


def test_bf16_keeps_encoder_projector_and_lora_in_float32(backbone, dataset, folder):
    outcome = run(backbone, dataset, folder / "bf16", bf16=True, max_steps=1)
    tensors = load_file(outcome.folder / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} <= {torch.float32, torch.int64}  # int64: BatchNorm's counters
    loaded = ECGLlamaForCausalLM.from_pretrained(outcome.folder, dtype=torch.bfloat16)
    assert loaded.model.language_model.embed_tokens.weight.dtype == torch.bfloat16


def test_encoder_and_projector_take_their_own_rate(backbone, dataset, folder, monkeypatch):
    rates = {}
    create_optimizer = ReportTrainer.create_optimizer

    def spy(trainer, model=None):
        optimizer = create_optimizer(trainer, model)
        names = {id(weight): name for name, weight in trainer.model.named_parameters()}
        for group in optimizer.param_groups:
            rates.update({names[id(weight)]: group["lr"] for weight in group["params"]})
        return optimizer

    monkeypatch.setattr(ReportTrainer, "create_optimizer", spy)
    run(backbone, dataset, folder / "rates", ecg_learning_rate=3e-3, max_steps=1)
    assert {rate for name, rate in rates.items() if "lora_" in name} == {1e-2}
    assert {rate for name, rate in rates.items() if "ecg_" in name} == {3e-3}


def test_leaving_unlabelled_positions_out_changes_nothing(backbone, dataset, folder, result, monkeypatch):
    monkeypatch.setattr(ReportTrainer, "compute_loss", SFTTrainer.compute_loss)
    whole = run(backbone, dataset, folder / "all-positions")
    assert whole.eval_loss == pytest.approx(result.eval_loss, rel=1e-4)
    expected = load_file(whole.folder / "adapter_model.safetensors")
    for name, tensor in load_file(result.folder / "adapter_model.safetensors").items():
        torch.testing.assert_close(
            tensor, expected[name], rtol=1e-2, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_time_limit_ends_a_run_early_and_saves_it(backbone, dataset, folder):
    outcome = run(backbone, dataset, folder / "limited", max_train_minutes=0.0)
    assert outcome.updates == 1
    assert (outcome.folder / "adapter_model.safetensors").is_file()


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(backbone, dataset, folder):
    output = folder / "diverging"
    with pytest.raises(FloatingPointError, match="loss became"):
        run(backbone, dataset, output, learning_rate=1e30, save_steps=1, max_grad_norm=0.0)
    assert not (output / "adapter_model.safetensors").exists()


def test_a_gradient_that_is_no_number_ends_the_run_before_a_checkpoint_of_it(backbone, dataset, folder, monkeypatch):
    training_step = ReportTrainer.training_step

    def spoilt(self, model, *args, **kwargs):
        loss = training_step(self, model, *args, **kwargs)  # a number
        if self.state.global_step == 2:
            next(weight for weight in model.parameters() if weight.grad is not None).grad[0] = float("nan")
        return loss

    monkeypatch.setattr(ReportTrainer, "training_step", spoilt)
    output = folder / "spoilt"
    with pytest.raises(FloatingPointError, match="norm of the gradient became nan in update 3"):
        run(backbone, dataset, output, save_steps=1)
    assert [path.name for path in checkpoints(output)] == ["checkpoint-1", "checkpoint-2"]


def test_weights_that_the_last_update_ruined_are_not_written(backbone, dataset, folder):
    output = folder / "ruined"
    with pytest.raises(FloatingPointError, match="logits are NaN or infinite: it is not saved"):
        run(backbone, dataset, output, learning_rate=1e30, max_steps=1, warmup_steps=0, save_strategy="no")
    assert not (output / "adapter_model.safetensors").exists()


def test_a_full_disk_ends_the_run_and_keeps_the_checkpoint(backbone, dataset, folder, result):
    output = folder / "full-disk"
    output.mkdir()
    shutil.copytree(result.folder / "checkpoint-3", output / "checkpoint-3")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))  # no file may grow beyond this
    try:
        with pytest.raises(OSError, match=r"checkpoint-6 could not be written; earlier checkpoints stay"):
            run(backbone, dataset, output, resume_from_checkpoint="true")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert last_whole_checkpoint(output)[0] == output / "checkpoint-3"


def test_no_usable_record_is_an_error(backbone, tmp_path):
    empty = write_dataset(tmp_path / "empty", train=[record(0, report=" ")], validation=[record(1)])
    with pytest.raises(ValueError, match="no usable record: 1 records, 1 with an empty report"):
        run(backbone, empty, tmp_path / "run")


def test_max_train_records_draws_with_the_seed(backbone, dataset, folder):
    model_args, data_args, lora_args, config = options(backbone, dataset, folder / "few", max_steps=1)
    data_args.max_train_records = 4
    assert train(model_args, data_args, lora_args, config).records == 4


@pytest.mark.parametrize(("records", "batch"), [(4, 1), (1, 2)])
def test_batches_of_one_are_refused(backbone, tmp_path, records, batch):
    rows = [record(number) for number in range(records)]
    dataset = write_dataset(tmp_path / "dataset", train=rows, validation=rows[:1])
    with pytest.raises(ValueError, match=f"{records} training records in batches of {batch}"):
        run(backbone, dataset, tmp_path / "run", per_device_train_batch_size=batch)
