"""The configurations of `accelerate launch`: accelerate takes every key, and finds in our models what they name."""

import importlib.util
import re

import pytest
from accelerate import DistributedType
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.dataclasses import get_module_class_from_name
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from peft import get_peft_model

from tests.modeling.families import DECODERS, SEQ2SEQ
from tests.modeling.tiny import tiny_model
from training.arguments import TuningArguments
from training.tuning import adapter_config

from .forked import REPOSITORY

RECIPES = sorted((REPOSITORY / "recipes" / "accelerate").glob("*.yaml"))


def launch_arguments(path, *options: str):
    """The arguments of `accelerate launch`, with what the file says."""
    arguments = launch_command_parser().parse_args(["--config_file", str(path), *options, "train_sft.py"])
    arguments, defaults, _ = _validate_launch_command(arguments)
    arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    return arguments


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_accelerate_reads_it(path):
    config = load_config_from_file(str(path))  # refuses keys that it does not know
    assert config.num_processes == 8
    assert launch_arguments(path, "--num_processes", "4").num_processes == 4
    # The recipe of a run says its precision.
    assert config.mixed_precision is None
    command = re.search(
        r"^#   accelerate launch --config_file (\S+) train_sft\.py --config (\S+)", path.read_text(), re.M
    )
    assert (REPOSITORY / command[1]).samefile(path)
    assert (REPOSITORY / command[2]).is_file()


def test_there_is_one_for_each_way():
    kinds = {path.stem: load_config_from_file(str(path)).distributed_type for path in RECIPES}
    zero = dict.fromkeys(("zero2", "zero3"), DistributedType.DEEPSPEED)
    assert kinds == {"ddp": DistributedType.MULTI_GPU, "fsdp2": DistributedType.FSDP, **zero}


def test_fsdp2_keeps_its_checkpoints_in_files_that_need_no_pickle(monkeypatch):
    [path] = (path for path in RECIPES if path.stem == "fsdp2")
    for name, value in prepare_multi_gpu_env(launch_arguments(path)).items():
        if name.startswith("FSDP_"):
            monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"  # the sharded one's index is a pickle
    assert plugin.transformer_cls_names_to_wrap is None  # by the model's own list
    assert not plugin.cpu_ram_efficient_loading


@pytest.mark.parametrize("family", [*DECODERS, *SEQ2SEQ])
@pytest.mark.parametrize("fusion", ["concat", "flamingo"])
def test_what_is_wrapped_is_there(family, fusion):
    """FSDP refuses a model that lacks a class of its list, and gathers a model whole that has none for its layers."""
    model = tiny_model(family, fusion=fusion)
    layer = type(model.model.decoder_layers[0]).__name__
    adapted = get_peft_model(model, adapter_config(model, TuningArguments(lora_r=2)))
    names = adapted._no_split_modules
    assert {layer, "ECGEncoder"} <= set(names)
    assert [name for name in names if get_module_class_from_name(adapted, name) is None] == []


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed")
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_takes_its_part(monkeypatch, stage):
    from accelerate.utils import DeepSpeedPlugin

    [path] = (path for path in RECIPES if path.stem == f"zero{stage}")
    _, environment = prepare_deepspeed_cmd_env(launch_arguments(path))
    for name, value in environment.items():
        if name.startswith("ACCELERATE_"):
            monkeypatch.setenv(name, value)
    config = DeepSpeedPlugin().deepspeed_config["zero_optimization"]
    assert config["stage"] == stage
    assert config["offload_optimizer"]["device"] == config["offload_param"]["device"] == "none"
    assert config["stage3_gather_16bit_weights_on_model_save"] == (stage == 3)  # or no adapter could be saved
