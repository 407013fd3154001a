"""Options of a run beside its mode: what they change, on a tiny model."""

import importlib.util
import json
import shutil
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers.integrations import TrackioCallback

from dataset_builder.instructions import instruction_for
from modeling_meit import ECGLlamaForCausalLM
from processing import ECGDataCollator, ECGFeatureExtractor, ECGProcessor
from tests.processing.synthetic import make_tokenizer
from training import kernels
from training.draft_samples import SAMPLES, DraftSamples
from training.length_grouping import SeededLengthGroupedSampler, report_lengths
from training.sft import train
from training.trainer import ReportTrainer

from .tiny_run import options, record, run, write_dataset


@pytest.fixture(scope="module")
def dataset(folder):
    # Reports of two lengths, so that batches can be grouped by them.
    reports = ("Sinus rhythm.", "Atrial fibrillation, rate 90 per minute. " * 4)
    rows = [record(number, reports[number % 2]) for number in range(40)]
    return write_dataset(folder / "dataset", train=rows, validation=[record(number) for number in range(20, 23)])


@pytest.fixture(scope="module")
def collator():
    return ECGDataCollator(ECGProcessor(ECGFeatureExtractor(), make_tokenizer(chatml=True)), instruction_for)


def adapter(folder):
    return load_file(folder / "adapter_model.safetensors")


def differ(first, second):
    return any(not torch.equal(tensor, second[name]) for name, tensor in first.items())


SHORT = {"max_steps": 3, "save_strategy": "no"}


@pytest.fixture(scope="module")
def plain(backbone, dataset, folder):
    return run(backbone, dataset, folder / "plain", **SHORT)


def test_early_stopping_takes_the_weights_of_the_lowest_loss(backbone, dataset, folder):
    every = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    outcome = run(
        backbone, dataset, folder / "early", early_stopping_patience=2, max_steps=12, learning_rate=3e-1, **every
    )
    lines = [line.split(",") for line in (outcome.folder / "loss_curve.csv").read_text().splitlines()]
    losses = {int(line[0]): float(line[3]) for line in lines[1:] if line[3]}
    best = min(losses, key=losses.get)
    assert outcome.updates == best + 2 < 12
    assert outcome.eval_loss == losses[best]
    expected = adapter(outcome.folder / f"checkpoint-{best}")
    assert not differ(adapter(outcome.folder), expected)
    last = adapter(outcome.folder / f"checkpoint-{outcome.updates}")
    assert differ(adapter(outcome.folder), last)


@pytest.mark.parametrize("back", [1, 2])
def test_early_stopping_goes_on_counting_after_a_resumption(backbone, dataset, folder, back):
    config = {"early_stopping_patience": 2, "max_steps": 12, "learning_rate": 3e-1, "save_total_limit": None}
    config |= {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    whole = run(backbone, dataset, folder / f"counted-{back}", **config)
    # Whole to the update at which it ended, or to the one before.
    checkpoint = str(whole.folder / f"checkpoint-{whole.updates + 1 - back}")
    resumed = run(backbone, dataset, folder / f"recounted-{back}", resume_from_checkpoint=checkpoint, **config)
    assert (resumed.updates, resumed.eval_loss) == (whole.updates, whole.eval_loss)
    assert not differ(adapter(resumed.folder), adapter(whole.folder))


@pytest.mark.parametrize("lost", [False, True], ids=["moved", "lost"])
def test_the_best_weights_after_a_resumption(backbone, dataset, folder, lost):
    """They are found where the folder has moved; without them, the loss is that of the weights that are written."""
    config = {"early_stopping_patience": 9, "max_steps": 3, "learning_rate": 3e-1, "resume_from_checkpoint": "auto"}
    config |= {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    early = run(backbone, dataset, folder / f"best-{lost}", **config)
    (early.folder / "training_run.json").unlink()  # as a kill behind the last update leaves it
    output = early.folder.rename(folder / f"best-{lost}-moved")
    state = json.loads((output / "checkpoint-3" / "trainer_state.json").read_text())
    best, written = state["best_global_step"], 3 if lost else state["best_global_step"]
    assert best < 3
    if lost:
        shutil.rmtree(output / f"checkpoint-{best}")
    later = run(backbone, dataset, output, **config)
    assert later.resumed_from == output / "checkpoint-3"
    assert not differ(adapter(output), adapter(output / f"checkpoint-{written}"))
    losses = {entry["step"]: entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry}
    assert later.eval_loss == pytest.approx(losses[written], rel=1e-5)


def test_a_patience_of_none_is_refused(backbone, dataset, folder):
    """It would end the run before its first update."""
    every = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    with pytest.raises(ValueError, match="early_stopping_patience is 0; expected at least 1"):
        run(backbone, dataset, folder / "refused", early_stopping_patience=0, **every)


@pytest.mark.parametrize("option", [{"early_stopping_patience": 1}, {"sample_reports": 1}])
def test_what_needs_evaluations_is_refused_without_them(backbone, dataset, folder, option):
    with pytest.raises(ValueError, match="expected --eval_split, and an --eval_strategy other than no"):
        run(backbone, dataset, folder / "refused", **({"save_strategy": "no", "eval_strategy": "no"} | option))


def test_sample_reports_are_drafted_at_every_evaluation(backbone, dataset, folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outcome = run(
        backbone,
        dataset,
        folder / "samples",
        sample_reports=2,
        eval_strategy="steps",
        eval_steps=2,
        max_steps=4,
        save_strategy="no",
        report_to="tensorboard",
    )
    lines = [json.loads(line) for line in (outcome.folder / SAMPLES).read_text().splitlines()]
    assert [(line["update"], line["id"]) for line in lines] == [
        (update, f"synthetic-{number}") for update in (2, 4) for number in (20, 22)
    ]
    assert all(line["reference"] == record(int(line["id"][10:]))["report"] for line in lines)
    assert len({line["draft"] for line in lines}) > 1
    [log] = outcome.folder.glob("runs/*/events.*")
    events = EventAccumulator(str(log.parent), size_guidance={"tensors": 0})
    events.Reload()
    [_, text] = events.Tensors("samples/synthetic-22/text_summary")
    logged = text.tensor_proto.string_val[0].decode()
    assert logged == f"draft: {lines[3]['draft']}\n\nreference: {lines[3]['reference']}"
    assert "eval/loss" in events.Tags()["scalars"]
    model = ECGLlamaForCausalLM.from_pretrained(outcome.folder)
    assert model.config.fusion == "concat"


def test_samples_of_a_resumed_run_are_those_of_an_unbroken_one(backbone, dataset, folder):
    config = {
        "sample_reports": 1,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 2,
        "max_steps": 4,
    }
    whole = run(backbone, dataset, folder / "unbroken", **config)
    broken = folder / "broken"
    broken.mkdir()
    shutil.copytree(whole.folder / "checkpoint-2", broken / "checkpoint-2")
    drafted = (whole.folder / SAMPLES).read_text()
    (broken / SAMPLES).write_text(drafted[:-20])  # further than the checkpoint, the last line cut short by a kill
    run(backbone, dataset, broken, **config, resume_from_checkpoint=str(broken / "checkpoint-2"))
    assert (broken / SAMPLES).read_text() == drafted


def test_drafting_samples_changes_nothing_of_the_run(backbone, dataset, folder):
    every = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 3, "save_strategy": "no"}
    without = run(backbone, dataset, folder / "without-samples", **every)
    with_samples = run(backbone, dataset, folder / "with-samples", sample_reports=1, **every)
    assert not differ(adapter(without.folder), adapter(with_samples.folder))


def test_samples_go_to_trackio_as_a_table(backbone, dataset, folder, monkeypatch, tmp_path):
    logged = []
    fake = ModuleType("trackio")
    fake.Table = lambda columns, data: SimpleNamespace(columns=columns, data=data)
    fake.log = lambda values, step: logged.append((step, values["samples"]))
    monkeypatch.setitem(sys.modules, "trackio", fake)
    tracker = TrackioCallback.__new__(TrackioCallback)
    processor = ECGProcessor(ECGFeatureExtractor(), make_tokenizer(chatml=True))
    callback = DraftSamples([record(20)], processor, [tracker])
    outcome = run(backbone, dataset, folder / "trackio", **SHORT)
    model = ECGLlamaForCausalLM.from_pretrained(outcome.folder)
    state = SimpleNamespace(is_world_process_zero=True, global_step=7)
    callback.on_evaluate(SimpleNamespace(output_dir=tmp_path), state, None, model=model)
    [(step, table)] = logged
    assert step == 7
    assert table.columns == ["update", "id", "draft", "reference"]
    [[update, record_id, draft, reference]] = table.data
    assert (update, record_id, reference) == (7, "synthetic-20", record(20)["report"])
    assert json.loads((tmp_path / SAMPLES).read_text())["draft"] == draft


def test_label_smoothing_is_the_published_formula(backbone, dataset, folder, collator):
    """(1 - e) times the negative log-likelihood plus e times the mean over the vocabulary (Szegedy et al. 2016)."""
    factor = 0.1
    outcome = run(backbone, dataset, folder / "smoothed", label_smoothing_factor=factor, **SHORT)
    model = ECGLlamaForCausalLM.from_pretrained(outcome.folder)
    batch = collator([record(number) for number in range(20, 23)])
    labels = batch.pop("labels").numpy()
    with torch.no_grad():
        logits = model(**batch).logits.double().numpy()
    losses = []
    for row in range(len(labels)):
        for position in range(1, labels.shape[1]):
            if labels[row, position] != -100:
                scores = logits[row, position - 1]
                logs = scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())
                losses.append(-(1 - factor) * logs[labels[row, position]] - factor * logs.mean())
    assert outcome.eval_loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_neftune_is_of_training_alone(backbone, dataset, folder, plain):
    noisy = run(backbone, dataset, folder / "neftune", neftune_noise_alpha=5.0, **SHORT)
    assert differ(adapter(noisy.folder), adapter(plain.folder))
    check = load_file(noisy.folder / "check_logits.safetensors")
    expected, positions = check.pop("logits"), check.pop("positions")
    model = ECGLlamaForCausalLM.from_pretrained(noisy.folder)
    with torch.no_grad():
        logits = model(**check).logits.gather(1, positions[..., None].expand(-1, -1, expected.shape[-1]))
    torch.testing.assert_close(logits, expected)


def test_recomputed_activations_give_the_same_weights(backbone, dataset, folder, plain):
    recomputed = run(backbone, dataset, folder / "recomputed", gradient_checkpointing=True, **SHORT)
    expected = adapter(plain.folder)
    for name, tensor in adapter(recomputed.folder).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_batches_hold_reports_of_one_length(backbone, dataset, folder, monkeypatch):
    seen = []
    compute_loss = ReportTrainer.compute_loss

    def spy(trainer, model, inputs, *args, **kwargs):
        if model.training:
            seen.append((inputs["labels"] != -100).sum(1).tolist())
        return compute_loss(trainer, model, inputs, *args, **kwargs)

    monkeypatch.setattr(ReportTrainer, "compute_loss", spy)
    config = {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 2, "max_steps": 20}
    grouped = {**config, "train_sampling_strategy": "group_by_length", "save_steps": 12}
    whole = run(backbone, dataset, folder / "grouped", **grouped)

    def mixed():
        return sum(max(lengths) > 2 * min(lengths) for lengths in seen)

    # Sorted five batches at a time, so that one of five may hold both lengths.
    assert len(seen) == 20
    assert mixed() <= 4
    assert len({max(lengths) for lengths in seen}) == 2
    seen.clear()
    run(backbone, dataset, folder / "ungrouped", **config, save_strategy="no")
    assert mixed() > 6

    checkpoint = str(whole.folder / "checkpoint-12")
    resumed = run(backbone, dataset, folder / "grouped-resumed", resume_from_checkpoint=checkpoint, **grouped)
    assert resumed.resumed_from is not None
    assert not differ(adapter(whole.folder), adapter(resumed.folder))


def test_the_order_of_grouped_batches_is_of_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = SeededLengthGroupedSampler(4, list(range(40)), seed)
        sampler.set_epoch(epoch)
        torch.rand(3)
        return list(sampler)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert sorted(order(1, 0)) == list(range(40))


def test_lengths_are_tokens_of_the_report():
    tokenizer = make_tokenizer(chatml=True)
    reports = ["Sinus rhythm.", "", "Atrial fibrillation, rate 90 per minute."]
    assert report_lengths(reports, tokenizer) == [len(tokenizer.tokenize(report)) for report in reports]


def test_liger_is_refused_where_it_cannot_run(backbone, dataset, folder, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="liger-kernel is not installed"):
        run(backbone, dataset, folder / "refused", use_liger_kernel=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(ValueError, match="need a GPU"):
        kernels.check_liger()


def test_liger_reaches_the_language_model_itself(backbone, dataset, folder, monkeypatch):
    applied = []
    package, patches = ModuleType("liger_kernel.transformers"), ModuleType("liger_kernel.transformers.monkey_patch")
    package._apply_liger_kernel_to_instance = lambda model, **options: applied.append((model, options))
    patches.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None}
    for name, module in (("liger_kernel", ModuleType("liger_kernel")), (package.__name__, package)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, patches.__name__, patches)
    monkeypatch.setattr("training.sft.check_liger", lambda: None)
    run(backbone, dataset, folder / "liger", use_liger_kernel=True, **SHORT)
    [(model, options_)] = applied
    assert type(model).__name__ == "LlamaModel"
    assert options_ == {"cross_entropy": False, "fused_linear_cross_entropy": False}
    patches.MODEL_TYPE_TO_APPLY_LIGER_FN = {"qwen2": None}
    with pytest.raises(ValueError, match='no kernels for language models of type "llama", only for qwen2'):
        run(backbone, dataset, folder / "liger-2", use_liger_kernel=True, **SHORT)


def test_a_finished_run_is_not_done_again(backbone, dataset, folder, plain, monkeypatch):
    monkeypatch.setattr("training.sft.starting_model", None)
    again = run(backbone, dataset, plain.folder, resume_from_checkpoint="auto", **SHORT)
    assert again.was_finished
    assert (again.updates, again.eval_loss, again.train_loss) == (plain.updates, plain.eval_loss, plain.train_loss)


def test_a_longer_run_goes_on_from_a_finished_one(backbone, dataset, folder):
    short = run(backbone, dataset, folder / "longer", max_steps=2, save_steps=2)
    longer = run(backbone, dataset, folder / "longer", max_steps=4, save_steps=2, resume_from_checkpoint="auto")
    assert not longer.was_finished
    assert longer.resumed_from == short.folder / "checkpoint-2"


def test_encoder_and_start_from_exclude_each_other(backbone, dataset, plain, folder):
    arguments = options(backbone, dataset, folder / "refused", {"encoder": "x", "start_from": str(plain.folder)})
    with pytest.raises(ValueError, match="both encoder and start_from"):
        train(*arguments)
