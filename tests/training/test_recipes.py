"""Every recipe parses, names a supported family, and has LoRA targets that this family's layers have."""

from pathlib import Path

import pytest
import yaml

import train_sft
from modeling_meit import FAMILIES, ECGLlamaForCausalLM, ECGLlamaForConditionalGeneration
from training.stages import parse_stages
from training.starting_model import model_class

from .test_lora_targets import build, projections, targeted

FOLDER = Path(__file__).parents[2] / "recipes"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
# recipe -> Hub id, model_type in that repository's config.json
PAPER = {
    "llama-1": ("huggyllama/llama-7b", "llama"),
    "llama-2-instruct": ("meta-llama/Llama-2-7b-chat-hf", "llama"),
    "llama-3-instruct": ("meta-llama/Meta-Llama-3-8B-Instruct", "llama"),
    "mistral": ("mistralai/Mistral-7B-v0.1", "mistral"),
    "mistral-instruct": ("mistralai/Mistral-7B-Instruct-v0.1", "mistral"),
    "gpt-neo": ("EleutherAI/gpt-neo-2.7B", "gpt_neo"),
    "gpt-neox": ("EleutherAI/gpt-neox-20b", "gpt_neox"),
    "gpt-j": ("EleutherAI/gpt-j-6b", "gptj"),
    "bloom": ("bigscience/bloom-7b1", "bloom"),
    "opt": ("facebook/opt-6.7b", "opt"),
    "gpt2-medium": ("openai-community/gpt2-medium", "gpt2"),
    "gpt2-large": ("openai-community/gpt2-large", "gpt2"),
    "bart-large": ("facebook/bart-large", "bart"),
    "t5-large": ("google-t5/t5-large", "t5"),
}
_ON_SMOLLM2 = ("smollm2", "smollm2-llava", "smollm2-flamingo", "smollm2-staged", "smollm2-mixture", "quickstart")
OURS = {name: (SMOLLM2, "llama") for name in (*_ON_SMOLLM2, "simulated")} | {
    "llama-2-70b-qlora": ("meta-llama/Llama-2-70b-chat-hf", "llama")
}
RECIPES = PAPER | OURS


def parse(name):
    """The arguments of a recipe; of one with stages, those of the last."""
    return parse_stages(train_sft._parser, ["--config", str(FOLDER / f"{name}.yaml")])[-1].arguments


def test_no_recipe_is_left_out():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_the_backbone_is_supported_and_its_targets_are_there(name):
    model, _, lora, config = parse(name)
    hub_id, family = RECIPES[name]
    assert model.text_model == hub_id
    expected = ECGLlamaForConditionalGeneration if FAMILIES[family].is_encoder_decoder else ECGLlamaForCausalLM
    assert model_class(family) is expected
    tiny = build(family)
    assert targeted(tiny, lora.lora_target_modules) == projections(tiny)
    assert (lora.lora_r, lora.lora_alpha, lora.lora_dropout) == (64, 128, 0.1)
    assert config.bf16


@pytest.mark.parametrize("name", [*PAPER, "smollm2", "smollm2-llava", "smollm2-flamingo"])
def test_the_hyper_parameters_are_the_papers(name):
    model, data, lora, config = parse(name)
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
    assert (config.learning_rate, config.num_train_epochs, batch) == (2e-5, 5, 64)
    assert (config.lr_scheduler_type, config.warmup_steps, config.weight_decay) == ("linear", 0.03, 0)
    assert (data.train_split, data.eval_split) == ("train", "validation")
    assert config.output_dir == f"runs/{name}"
    if name in PAPER:
        assert model.fusion == "concat"
        assert model.text_dtype == "bfloat16"
        assert lora.lora_target_modules


def test_one_recipe_per_fusion_differs_in_the_fusion_alone():
    concat, llava, flamingo = (
        yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
        for name in ("smollm2", "smollm2-llava", "smollm2-flamingo")
    )
    own = ("fusion", "output_dir", "num_ecg_tokens", "fusion_layers")
    fusions = [[recipe.pop(name, None) for name in own] for recipe in (concat, llava, flamingo)]
    assert concat == llava == flamingo
    assert fusions == [
        ["concat", "runs/smollm2", None, None],
        ["llava", "runs/smollm2-llava", 4, None],
        ["flamingo", "runs/smollm2-flamingo", None, list(range(0, 30, 5))],
    ]
