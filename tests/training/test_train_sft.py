"""`train_sft.py` as users call it: a recipe, options over it, and what it says when something is wrong."""

import json
import shutil

import pytest
import yaml
from transformers import AutoTokenizer

import train_sft
import training.sft
from dataset_builder.instructions import instruction_for
from processing import ECGDataCollator, ECGFeatureExtractor, ECGProcessor
from training.arguments import TrainingConfig, TuningArguments
from training.stages import parse_stages

from .tiny_run import WIDTHS, record, write_backbone, write_dataset


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe for a tiny run of two updates."""
    folder = tmp_path_factory.mktemp("train-sft")
    rows = [record(number) for number in range(4)]
    content = {
        "text_model": str(write_backbone(folder / "backbone")),
        "encoder_widths": WIDTHS,
        "dataset": str(write_dataset(folder / "dataset", train=rows)),
        "lora_r": 2,
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "bf16": False,
        "use_cpu": True,
        "save_strategy": "steps",
        "save_steps": 1,
        "output_dir": str(folder / "run"),
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_trains_resumes_and_says_what_it_wrote(recipe, capsys, tmp_path):
    output = tmp_path / "run"
    command = ["--config", str(recipe), "--output_dir", str(output)]
    assert train_sft.main([*command, "--lora_r", "3"]) == 0
    printed = capsys.readouterr().out
    assert "2 updates of " in printed
    assert " parameters on 4 records" in printed
    assert f"wrote {output}" in printed
    assert json.loads((output / "adapter_config.json").read_text())["r"] == 3  # an option overrides the recipe

    assert train_sft.main([*command, "--lora_r", "3", "--resume_from_checkpoint", "auto"]) == 0
    assert capsys.readouterr().out == f"{output} holds the result of this very run already; nothing was done\n"
    # As a kill leaves it: the outcome is written last.
    shutil.rmtree(output / "checkpoint-2")
    shutil.copy(output / "checkpoint-1" / "training_run.json", output)
    assert train_sft.main([*command, "--lora_r", "3", "--resume_from_checkpoint", "auto"]) == 0
    assert f"went on from {output / 'checkpoint-1'}" in capsys.readouterr().out
    assert train_sft.main([*command, "--lora_r", "3"]) == 1
    assert "earlier run" in capsys.readouterr().err
    assert train_sft.main([*command, "--lora_r", "3", "--overwrite_output_dir", "true"]) == 0


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--dataset", "not-there"], 1, "not-there: neither a dataset folder nor a Hub dataset"),
        (["--train_split", "holdout"], 1, "holdout"),
        (["--eval_split", "validation"], 1, "validation"),
        (["--gguf_file", "model.gguf"], 1, "no such GGUF file"),
        (["--text_dtype", "int8"], 1, "text_dtype is 'int8'"),
        (["--encoder_depth", "20"], 1, "depth is 20"),
        (["--fusion_layers", "7"], 1, "fusion_layers"),
        (["--lora_target_modules", "q_proj", "c_attn"], 1, "no LoRA target of the name c_attn; expected"),
        (["--resume_from_checkpoint", "not-there"], 1, "cannot resume: not-there: no such folder"),
        (["--config", "not-there.yaml"], 2, "not-there.yaml"),
    ],
)
def test_what_is_wrong_is_said(recipe, capsys, tmp_path, options, status, message):
    command = [] if "--config" in options else ["--config", str(recipe)]
    assert train_sft.main([*command, "--output_dir", str(tmp_path / "run"), *options]) == status
    error = capsys.readouterr().err
    assert "error: " in error
    assert message in error


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--encoder_depth", "20"], "depth is 20"),
        (["--fusion", "sum"], 'fusion is "sum"'),
        (["--fusion", "llava", "--fusion_layers", "1"], "fusion_layers has no use"),
        (["--fusion", "llava", "--num_ecg_tokens", "0"], "num_ecg_tokens is 0"),
        (["--num_ecg_tokens", "2"], 'are of fusion "llava"; found "concat"'),
        (["--ecg_scaling", "log"], "scaling is 'log'"),
        (["--text_dtype", "int8"], "text_dtype is 'int8'"),
        (["--max_train_records", "0"], "max_train_records is 0; expected at least 1"),
        (["--max_eval_records", "-1"], "max_eval_records is -1; expected at least 1"),
        (["--sample_reports", "-1"], "sample_reports is -1; expected at least 0"),
    ],
)
def test_options_are_checked_before_anything_is_removed_or_unpacked(
    recipe, capsys, tmp_path, monkeypatch, option, message
):
    monkeypatch.setattr(training.sft, "prepare_backbone", lambda *_: pytest.fail("the language model was unpacked"))
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    command = ["--config", str(recipe), "--output_dir", str(tmp_path), "--overwrite_output_dir", "true"]
    assert train_sft.main([*command, *option]) == 1
    assert message in capsys.readouterr().err
    assert checkpoint.is_dir()


def test_a_recipe_may_give_one_value_where_several_can_be(recipe, tmp_path):
    several = {"encoder_widths": 8, "fusion_layers": 1, "mixture_weights": 1, "lora_target_modules": "q_proj"}
    several |= {"dataset": "a", "dataset_config": "x"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"bf16": False, "use_cpu": True, **several}))
    with pytest.raises(ValueError, match="mixture_weights mixes several corpora, and there is one"):
        parse_stages(train_sft._parser, ["--config", str(tmp_path / "recipe.yaml")])
    del several["mixture_weights"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"bf16": False, "use_cpu": True, **several}))
    [stage] = parse_stages(train_sft._parser, ["--config", str(tmp_path / "recipe.yaml")])
    model, data, tuning, _ = stage.arguments
    assert (model.encoder_widths, model.fusion_layers, tuning.lora_target_modules) == ([8], [1], ["q_proj"])
    assert data.corpora == [("a", "x")]


def test_a_recipe_that_is_no_yaml_is_named(tmp_path, capsys):
    path = tmp_path / "broken.yaml"
    path.write_text("lora_r: [8\nseed: 1\n")
    assert train_sft.main(["--config", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
    path.write_bytes("# Überschrift\nseed: 1\n".encode("latin-1"))
    assert train_sft.main(["--config", str(path)]) == 2
    assert f"error: {path}: a recipe is text in UTF-8" in capsys.readouterr().err
    assert train_sft.main(["--seed", "1", "--config"]) == 2
    assert "error: --config: expected a recipe's file behind it" in capsys.readouterr().err


def test_reports_cut_at_the_longest_sequence_are_counted_and_said(recipe, capsys, tmp_path):
    backbone = yaml.safe_load(recipe.read_text())["text_model"]
    processor = ECGProcessor(ECGFeatureExtractor(), AutoTokenizer.from_pretrained(backbone))
    labels = ECGDataCollator(processor, instruction_for)([record(number) for number in range(4)])["labels"]
    room = int((labels != -100).int().argmax(dim=1).max()) + 1  # for the longest prompt and one token of its report
    command = ["--config", str(recipe), "--save_strategy", "no", "--num_train_epochs", "1", "--max_steps", "-1"]
    assert train_sft.main([*command, "--output_dir", str(tmp_path / "cut"), "--max_length", str(room)]) == 0
    expected = int((labels[:, room:] != -100).any(dim=1).sum())
    assert expected > 0
    assert f"cut {expected} reports at --max_length" in capsys.readouterr().out
    assert train_sft.main([*command, "--output_dir", str(tmp_path / "whole")]) == 0
    assert "--max_length" not in capsys.readouterr().out


def test_a_misspelt_key_in_a_recipe_is_an_error(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("lora_rank: 8\n")
    assert train_sft.main(["--config", str(tmp_path / "recipe.yaml")]) == 2
    assert "lora_rank" in capsys.readouterr().err


def test_the_defaults_are_the_papers():
    config, lora = TrainingConfig(), TuningArguments()
    assert config.learning_rate == 2e-5
    assert config.lr_scheduler_type == "linear"
    assert config.warmup_steps == 0.03
    assert config.weight_decay == 0
    assert config.per_device_train_batch_size * config.gradient_accumulation_steps == 64
    assert config.num_train_epochs == 5
    assert config.bf16
    assert (lora.lora_r, lora.lora_alpha, lora.lora_dropout) == (64, 128, 0.1)
