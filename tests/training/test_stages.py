"""Recipes of several stages: how they are read, and that each begins with the weights of the one before."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import train_sft
from modeling_meit import ECGEncoder, ECGEncoderConfig
from training.stages import parse_stages

from .tiny_run import WIDTHS, record, write_backbone, write_dataset


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    return {
        "text_model": str(write_backbone(folder / "backbone")),
        "encoder_widths": WIDTHS,
        "dataset": str(write_dataset(folder / "dataset", train=[record(number) for number in range(4)])),
        "lora_r": 2,
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1.0e-2,
        "bf16": False,
        "use_cpu": True,
        "save_strategy": "no",
        "resume_from_checkpoint": "auto",
    }


def recipe(folder, settings, stages):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**settings, "output_dir": str(folder / "run"), "stages": stages}))
    return path


ALIGN_THEN_LORA = [
    {"name": "align", "tuning": "encoder", "max_steps": 3},
    # A rate of 0: what this stage writes shows what it began with.
    {"name": "lora", "learning_rate": 0.0},
]


def test_stages_take_the_recipe_their_own_options_and_the_command_line(tmp_path, settings):
    path = recipe(tmp_path, settings, ALIGN_THEN_LORA)
    align, lora = parse_stages(train_sft._parser, ["--config", str(path), "--seed", "7"])
    assert (align.name, lora.name) == ("align", "lora")
    for stage, tuning, steps, rate in ((align, "encoder", 3, 1e-2), (lora, "lora", 2, 0.0)):
        _, data, arguments, config = stage.arguments
        assert data.dataset == [settings["dataset"]]
        assert (arguments.tuning, arguments.lora_r) == (tuning, 2)
        assert (config.max_steps, config.learning_rate, config.seed) == (steps, rate, 7)


def test_a_recipe_without_stages_is_one(tmp_path, settings):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    [stage] = parse_stages(train_sft._parser, ["--max_steps", "5", "--config", str(path)])
    assert stage.name == ""
    assert stage.arguments[3].max_steps == 5
    [stage] = parse_stages(train_sft._parser, [f"--config={path}", "--max_steps=6"])
    assert stage.arguments[3].max_steps == 6
    [stage] = parse_stages(train_sft._parser, [])
    assert stage.arguments[1].dataset == ["meit-ecg"]


def test_each_stage_begins_where_the_one_before_ended(tmp_path, settings, capsys):
    path = recipe(tmp_path, settings, ALIGN_THEN_LORA)
    assert train_sft.main(["--config", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "stage 1 of 2, align:\n3 updates of " in printed
    assert "stage 2 of 2, lora:\n2 updates of " in printed
    align, result = tmp_path / "run" / "stages" / "1-align", tmp_path / "run"
    aligned, tuned = (load_file(folder / "adapter_model.safetensors") for folder in (align, result))
    assert not any("lora_" in name for name in aligned)
    assert any("lora_" in name for name in tuned)
    for name, tensor in aligned.items():
        if "running" not in name and "num_batches" not in name:
            assert tuned[name].equal(tensor), name
    recorded = json.loads((result / "training_run.json").read_text())
    assert recorded["earlier_run"]["tuning"] == {"mode": "encoder"}

    # Again: nothing is left to do. And after a kill in the second stage, the first is not done again.
    assert train_sft.main(["--config", str(path)]) == 0
    assert capsys.readouterr().out.count("nothing was done") == 2
    (result / "training_run.json").unlink()
    assert train_sft.main(["--config", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("nothing was done") == 1
    assert "stage 2 of 2, lora:\n2 updates of " in printed


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("align", "stages is 'align'; expected a list of mappings"),
        ([], "expected a list of mappings"),
        ([{"tuning": "encoder"}], "a stage has the name None"),
        ([{"name": "../x"}], "a stage has the name '../x'"),
        ([{"name": "a"}, {"name": "a"}], "expected each once"),
        ([{"name": "a", "output_dir": "elsewhere"}], "stage a: found output_dir"),
        ([{"name": "a", "encoder": "file"}, {"name": "b", "encoder": "file"}], "stage b: found encoder"),
        ([{"name": "a", "tunning": "lora"}], "stage a: Unknown arguments"),
        ([{"name": "a", "per_device_batch": 1}], "per_device_batch"),
    ],
)
def test_a_wrong_stage_is_named(tmp_path, settings, capsys, stages, message):
    path = recipe(tmp_path, settings, stages)
    assert train_sft.main(["--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(path) in error


def test_the_first_stage_alone_takes_the_encoder_from_a_file(tmp_path, settings, capsys):
    torch.manual_seed(7)
    encoder = ECGEncoder(ECGEncoderConfig(widths=WIDTHS))
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    path = recipe(tmp_path, settings, [stage | {"learning_rate": 0.0} for stage in ALIGN_THEN_LORA])
    assert train_sft.main(["--config", str(path), "--encoder", str(tmp_path / "encoder.safetensors")]) == 0
    assert capsys.readouterr().out.count("encoder.safetensors: ") == 1
    weights = load_file(tmp_path / "run" / "adapter_model.safetensors")
    for name, weight in encoder.named_parameters():
        assert weights[f"base_model.model.model.ecg_encoder.{name}"].equal(weight), name


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"tuning": "full"}, {"tuning": "lora"}, "tuning lora cannot begin with the weights of the stage before"),
        ({"tuning": "lora"}, {"tuning": "encoder"}, "whose tuning is lora; expected encoder there, or the same"),
        ({"tuning": "lora"}, {"tuning": "dora"}, "tuning dora cannot begin"),
        ({"lora_alpha": 4}, {"lora_alpha": 8}, "lora_alpha is 8; expected 4, as in the stage before"),
    ],
)
def test_stages_that_cannot_follow_each_other_are_refused_before_the_first(
    tmp_path, settings, capsys, first, second, message
):
    path = recipe(tmp_path, settings, [{"name": "first", **first}, {"name": "second", **second}])
    assert train_sft.main(["--config", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: stage second: ")
    assert message in error
    assert not (tmp_path / "run").exists()


def test_an_error_names_the_stage(tmp_path, settings, capsys):
    stages = [{"name": "align", "tuning": "encoder"}, {"name": "tune", "tuning": "prompt"}]
    assert train_sft.main(["--config", str(recipe(tmp_path, settings, stages))]) == 1
    assert "error: stage tune: tuning is 'prompt'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()  # seen before the first stage began
