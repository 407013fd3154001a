"""A language model, a dataset and a recipe so small that a training run takes seconds."""

from pathlib import Path

import datasets
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaConfig, LlamaForCausalLM

from dataset_builder.columns import features
from tests.modeling.families import SEQ2SEQ, text_config
from tests.processing.synthetic import make_ecg, make_tokenizer
from training.arguments import DataArguments, ModelArguments, TrainingConfig, TuningArguments
from training.result import TrainingResult
from training.sft import train

REPORTS = ("Sinus rhythm. Normal ECG.", "Atrial fibrillation, rate 90 per minute.")
WIDTHS = [8, 8, 16, 16]
FEATURES = datasets.Features.from_dict(features(5000))


def write_backbone(folder: Path) -> Path:
    """A Llama of two layers with random weights, and its tokenizer."""
    tokenizer = make_tokenizer(chatml=True)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,  # weights of the size of trained ones
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_family(folder: Path, family: str, **overrides) -> Path:
    """A language model of two layers of any family with random weights, and a tokenizer as that family's."""
    is_seq2seq = family in SEQ2SEQ
    tokenizer = make_tokenizer(bos=family in ("bart", "llama"), eos=is_seq2seq, pad=is_seq2seq)
    tokens = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if is_seq2seq:
        tokens["decoder_start_token_id"] = tokenizer.eos_token_id if family == "bart" else tokenizer.pad_token_id
        tokens["forced_eos_token_id"] = None  # BART's own is a token id of its own tokenizer
    config = text_config(family, **tokens, **overrides)
    for name in ("max_position_embeddings", "n_positions"):
        if hasattr(config, name):
            setattr(config, name, 512)
    torch.manual_seed(0)
    auto_class = AutoModelForSeq2SeqLM if is_seq2seq else AutoModelForCausalLM
    model = auto_class.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # weights of the size of trained ones
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def record(number: int, report: str | None = None) -> dict:
    """A row of the dataset: noise, scaled so that records differ, and one of two reports."""
    return {
        "id": f"synthetic-{number}",
        "corpus": "synthetic",
        "patient_id": str(number),
        "age": 50.0,
        "sex": "female",
        "ecg": np.rint(make_ecg(seed=number) * (1 + number % 2) * 300).astype(np.int16),
        "ecg_gain": [1000.0] * 12,
        "ecg_baseline": [0] * 12,
        "sampling_rate": 500.0,
        "report": REPORTS[number % 2] if report is None else report,
        "report_language": "en",
        "report_source": "corpus",
        "scp_codes": [],
        "validated_by_human": True,
    }


def write_dataset(folder: Path, **splits: list[dict]) -> Path:
    """A dataset folder with one Parquet file per split."""
    folder.mkdir()
    for split, rows in splits.items():
        rows = [dict.fromkeys(FEATURES) | row for row in rows]
        datasets.Dataset.from_list(rows, features=FEATURES).to_parquet(folder / f"{split}.parquet")
    return folder


def options(
    backbone: Path, dataset: Path, output: Path, model: dict | None = None, tuning: dict | None = None, **config
) -> tuple:
    """The four groups of arguments of a run in float32 with checkpoints at updates 3 and 6.

    `model` and `tuning` hold further model and tuning arguments.
    """
    defaults = {
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "save_steps": 3,
        "save_strategy": "steps",
        "bf16": False,
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return (
        ModelArguments(
            text_model=str(backbone), text_model_id="someone/tiny-llama", encoder_widths=WIDTHS, **(model or {})
        ),
        DataArguments(dataset=str(dataset), eval_split="validation"),
        TuningArguments(lora_r=4, lora_alpha=8, **(tuning or {})),
        TrainingConfig(output_dir=str(output), **{**defaults, **config}),
    )


def run(backbone: Path, dataset: Path, output: Path, **config) -> TrainingResult:
    """Train."""
    return train(*options(backbone, dataset, output, **config))
