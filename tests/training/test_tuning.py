"""What each mode trains, writes and loads, and that its model reads the ECG."""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_meit import ECGEncoderConfig, ECGLlamaForCausalLM
from training.arguments import TrainingConfig, TuningArguments
from training.logits_check import CHECK_FILE
from training.sft import train
from training.tuning import check_tuning, quantization_config

from .tiny_run import WIDTHS, options, record, write_dataset, write_family

# Sizes that 4-bit kernels can pack.
WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4}
PACKED = {"quantization_config": quantization_config(TuningArguments(tuning="qlora"), torch.float32)}
MODES = ("lora", "dora", "qlora", "full", "encoder")
PARTS = ("lora_A", "lora_B", "lora_magnitude_vector", "ecg_encoder", "ecg_projector", "language_model")


@pytest.fixture(scope="module")
def backbone(folder):
    return write_family(folder / "backbone", "llama", **WIDE)


@pytest.fixture(scope="module")
def dataset(folder):
    return write_dataset(
        folder / "dataset",
        train=[record(number) for number in range(8)],
        validation=[record(number) for number in range(20, 23)],
    )


def tuned(backbone, dataset, output, mode, model=None, tuning=None, **config):
    if mode == "qlora" and importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("not run: bitsandbytes is not installed")
    config = {"max_steps": 2, "save_strategy": "no", **config}
    return train(*options(backbone, dataset, output, model, {"tuning": mode, **(tuning or {})}, **config))


@pytest.fixture(scope="module")
def results(backbone, dataset, folder):
    """Mode -> result, made when it is asked for."""
    made = {}

    def result(mode):
        if mode not in made:
            made[mode] = tuned(backbone, dataset, folder / mode, mode)
        return made[mode]

    return result


@pytest.fixture
def fresh(backbone):
    torch.manual_seed(TrainingConfig().seed)
    return ECGLlamaForCausalLM.from_text_pretrained(backbone, ecg_config=ECGEncoderConfig(widths=WIDTHS))


def weights_of(folder):
    [path] = [folder / name for name in ("adapter_model.safetensors", "model.safetensors") if (folder / name).exists()]
    return load_file(path)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_trained_moves_and_nothing_else_is_written(results, fresh, mode):
    folder = results(mode).folder
    before = {f"base_model.model.{name}": tensor for name, tensor in fresh.state_dict().items()}
    before |= fresh.state_dict()
    moved = dict.fromkeys((*PARTS, "lm_head"), 0)
    for name, tensor in weights_of(folder).items():
        part = next(part for part in (*PARTS, "lm_head") if part in name)
        assert tensor.abs().max() > 0 if part.startswith("lora") else not torch.equal(tensor, before[name]), name
        moved[part] += 1
    ecg = sum("ecg_encoder" in name or "ecg_projector" in name for name in fresh.state_dict())
    assert moved["ecg_encoder"] + moved["ecg_projector"] == ecg
    projections = 14 if mode in ("lora", "dora", "qlora") else 0
    assert moved["lora_A"] == moved["lora_B"] == projections
    assert moved["lora_magnitude_vector"] == (projections if mode == "dora" else 0)
    language = sum("language_model" in name for name in fresh.state_dict())
    assert moved["language_model"] == (language if mode == "full" else 0)
    assert (folder / "adapter_config.json").exists() == (mode != "full")
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    trained = {name: tensor for name, tensor in weights_of(folder).items() if not name.endswith(statistics)}
    assert results(mode).trainable_parameters == sum(tensor.numel() for tensor in trained.values())


@pytest.mark.parametrize("mode", MODES)
def test_the_folder_loads_and_reads_the_ecg(results, mode):
    folder = results(mode).folder
    model = ECGLlamaForCausalLM.from_pretrained(folder, **PACKED if mode == "qlora" else {})
    check = load_file(folder / CHECK_FILE)
    positions, expected = check.pop("positions"), check.pop("logits")
    with torch.no_grad():
        logits = model(**check).logits
        other = model(**check | {"ecg_values": check["ecg_values"].flip(0)}).logits
    found = logits.gather(1, positions[..., None].expand(-1, -1, logits.shape[-1]))
    tolerance = 0.1 if mode == "qlora" else 1e-6  # packed for inference, bitsandbytes multiplies in bfloat16
    assert (found - expected).abs().max() < tolerance * expected.abs().max()
    assert (logits - other).abs().max() > 1e-3 * expected.abs().max()


def test_all_that_is_trained_on_a_packed_language_model_is_float32(backbone, dataset, folder):
    outcome = tuned(backbone, dataset, folder / "qlora-bf16", "qlora", bf16=True, max_steps=1)
    assert {tensor.dtype for tensor in weights_of(outcome.folder).values()} == {torch.float32, torch.int64}


def test_an_evaluation_changes_nothing_of_training_on_a_packed_language_model(backbone, dataset, folder, monkeypatch):
    """bitsandbytes repacks weights for inference; what is trained afterwards would have no gradient."""
    config = {"max_steps": 3, "tuning": {"lora_dropout": 0.0}}
    plain = tuned(backbone, dataset, folder / "qlora-plain", "qlora", **config)
    evaluated = tuned(
        backbone, dataset, folder / "qlora-evaluated", "qlora", eval_strategy="steps", eval_steps=1, **config
    )
    expected = weights_of(plain.folder)
    for name, tensor in weights_of(evaluated.folder).items():
        assert torch.equal(tensor, expected[name]), name


def test_full_resumes_bit_for_bit(backbone, dataset, folder):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = tuned(backbone, dataset, folder / "full-whole", "full", **settings)
    resumed = tuned(
        backbone,
        dataset,
        folder / "full-resumed",
        "full",
        resume_from_checkpoint=str(whole.folder / "checkpoint-2"),
        **settings,
    )
    assert resumed.resumed_from == whole.folder / "checkpoint-2"
    expected = weights_of(whole.folder)
    for name, tensor in weights_of(resumed.folder).items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("mode", ["lora", "dora", "full", "encoder"])
def test_a_stage_begins_with_the_weights_of_the_one_before(results, backbone, dataset, folder, mode):
    """With a rate of 0 nothing but BatchNorm's statistics moves, so the result shows what it began with."""
    earlier = results(mode if mode == "full" else "encoder")
    output = folder / f"after-{mode}"
    outcome = tuned(
        backbone, dataset, output, mode, {"start_from": str(earlier.folder)}, max_steps=1, learning_rate=0.0
    )
    expected = {name.removeprefix("base_model.model."): tensor for name, tensor in weights_of(earlier.folder).items()}
    found = {name.removeprefix("base_model.model."): tensor for name, tensor in weights_of(outcome.folder).items()}
    compared = 0
    for name, tensor in expected.items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(found[name], tensor), name
            compared += 1
    assert compared > 40
    recorded = json.loads((output / "training_run.json").read_text())["earlier_run"]
    assert recorded["tuning"]["mode"] == earlier.folder.name
    assert str(folder) not in (output / "training_run.json").read_text()


def test_lora_goes_on_from_lora(results, backbone, dataset, folder):
    earlier = results("lora")
    outcome = tuned(
        backbone,
        dataset,
        folder / "lora-lora",
        "lora",
        {"start_from": str(earlier.folder)},
        max_steps=1,
        learning_rate=0.0,
    )
    found = weights_of(outcome.folder)
    for name, tensor in weights_of(earlier.folder).items():
        if "lora_" in name:
            assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize(
    ("earlier", "mode", "model", "message"),
    [
        ("full", "lora", {}, "was trained in full"),
        ("lora", "dora", {}, "lacks 14 tensors"),
        ("lora", "full", {}, "no place for"),
        ("lora", "encoder", {}, "no place for"),
        ("encoder", "lora", {"fusion": "llava"}, "fusion: 'concat' then, 'llava' now"),
        ("encoder", "lora", {"encoder_norm": "group"}, "norm: 'batch' then, 'group' now"),
        ("encoder", "lora", {"fusion_layers": [1]}, r"fusion_layers: None then, \[1\] now"),
    ],
)
def test_weights_that_have_no_place_are_refused(results, backbone, dataset, folder, earlier, mode, model, message):
    start = str(results(earlier).folder)
    with pytest.raises(ValueError, match=message) as caught:
        tuned(backbone, dataset, folder / "refused", mode, {"start_from": start, **model})
    assert start in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "tuning_changes", "message"),
    [
        ({"ecg_scaling": "zscore"}, {}, "its ecg_scaling is 'minmax'; expected 'zscore'"),
        ({"text_model_id": "someone/other-llama"}, {}, "its text_model is 'someone/tiny-llama'; expected 'someone/oth"),
        ({}, {"lora_alpha": 16}, "its lora_alpha is 8; expected 16"),
    ],
)
def test_weights_of_the_same_shapes_with_another_meaning_are_refused(
    results, backbone, dataset, folder, changes, tuning_changes, message
):
    earlier = results("lora")
    model, data, tuning, config = options(
        backbone, dataset, folder / "refused", {"start_from": str(earlier.folder)}, max_steps=1
    )
    for arguments, values in ((model, changes), (tuning, tuning_changes)):
        for name, value in values.items():
            setattr(arguments, name, value)
    with pytest.raises(ValueError, match=message):
        train(model, data, tuning, config)


def test_a_folder_that_training_did_not_write_is_refused(backbone, dataset, folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        tuned(backbone, dataset, folder / "refused", "lora", {"start_from": str(tmp_path)})


def test_modes_are_checked_before_anything_is_loaded(tmp_path, monkeypatch):
    nowhere = {"max_steps": 1, "tuning": {"tuning": "prompt"}}
    with pytest.raises(ValueError, match="tuning is 'prompt'; expected one of lora, dora, qlora, full, encoder"):
        train(*options(tmp_path / "absent", tmp_path / "absent", tmp_path / "run", **nowhere))
    with pytest.raises(ValueError, match=r"lora_target_modules is of lora, dora, qlora; tuning is full"):
        check_tuning(TuningArguments(tuning="full", lora_target_modules=["q_proj"]))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs bitsandbytes: install the extra `quantised`, or choose lora"):
        check_tuning(TuningArguments(tuning="qlora"))


def test_qlora_is_refused_where_its_kernels_do_not_run(monkeypatch):
    functional = pytest.importorskip("bitsandbytes.functional")

    def fails(*args, **kwargs):
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(functional, "quantize_4bit", fails)
    with pytest.raises(ValueError, match=r"bitsandbytes does not run on cpu here \(no kernel image\); choose lora"):
        check_tuning(TuningArguments(tuning="qlora"))


def test_what_full_trains_is_float32(backbone, dataset, folder):
    with pytest.raises(ValueError, match="text_dtype is 'bfloat16'; expected auto or float32 with tuning full"):
        tuned(backbone, dataset, folder / "refused", "full", {"text_dtype": "bfloat16"})
    outcome = tuned(backbone, dataset, folder / "full-bf16", "full", bf16=True, max_steps=1)
    assert {tensor.dtype for tensor in weights_of(outcome.folder).values()} == {torch.float32, torch.int64}


def test_the_encoder_begins_with_weights_from_a_file(fresh, backbone, dataset, folder, tmp_path):
    torch.manual_seed(7)
    encoder = type(fresh.model.ecg_encoder)(fresh.config.ecg_config)
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    outcome = tuned(
        backbone,
        dataset,
        folder / "from-file",
        "encoder",
        {"encoder": str(tmp_path / "encoder.safetensors")},
        max_steps=1,
        learning_rate=0.0,
    )
    found = weights_of(outcome.folder)
    for name, weight in encoder.named_parameters():
        assert torch.equal(found[f"base_model.model.model.ecg_encoder.{name}"], weight), name
    assert "encoder.safetensors" in outcome.encoder_weights


@pytest.mark.parametrize("norm", ["group", "frozen_batch"])
def test_statistics_that_do_not_move_are_measured_before_training(backbone, dataset, folder, norm):
    outcome = tuned(backbone, dataset, folder / norm, "lora", {"encoder_norm": norm}, max_steps=1)
    found = weights_of(outcome.folder)
    means = [tensor for name, tensor in found.items() if name.endswith("running_mean")]
    assert len(means) == (1 if norm == "group" else 21)
    assert all(mean.abs().max() > 0 for mean in means)
    # Measured over all records at the start; a second run of another length begins with the same.
    longer = tuned(backbone, dataset, folder / f"{norm}-2", "lora", {"encoder_norm": norm}, max_steps=2)
    for name, tensor in weights_of(longer.folder).items():
        if "running" in name:
            assert torch.equal(tensor, found[name])
