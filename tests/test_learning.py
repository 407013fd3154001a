"""The whole path learns to read the ECG: simulated records in, a trained adapter out, reports from another process.

The corpus is the plain one, in which nothing but the rate varies, and the heart-rate class is judged: bradycardia,
normal rate or tachycardia. A backbone that has only ever seen reports knows the words and the three classes'
frequency, a third each; the rest is the ECG's.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import wfdb
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import train_sft
from dataset_builder import cli
from dataset_builder.instructions import instruction_for
from dataset_builder.records import load_records
from processing import LEADS, ECGDataCollator, ECGFeatureExtractor, ECGProcessor

REPOSITORY = Path(__file__).resolve().parent.parent
RATE_CLASSES = ("bradycardia", "normal rate", "tachycardia")


def rate_class(report: str) -> str | None:
    """The one class that the report names; None where it names none, or two."""
    named = [name for name in RATE_CLASSES if name in report]
    return named[0] if len(named) == 1 else None


def write_backbone(folder: Path, records) -> None:
    """A Llama of two layers that has read the training reports once, without their ECGs."""
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    texts = [*records["report"], *map(instruction_for, records["id"])]
    special = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokens.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=16,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    collator = ECGDataCollator(ECGProcessor(ECGFeatureExtractor(), tokenizer), instruction_for)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for rows in np.array_split(np.random.default_rng(0).permutation(len(records)), len(records) // 16):
        batch = collator([records[int(row)] for row in rows])
        del batch["ecg_values"]
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> dict:
    """A trained adapter's reports of unseen recordings with balanced classes, drafted by another process."""
    folder = tmp_path_factory.mktemp("learning")
    dataset = str(folder / "meit-ecg")
    assert cli.main(["simulated", "--output", dataset, "--num-records", "1800", "--plain"]) == 0
    records, _ = load_records(dataset, "simulated", "train")
    write_backbone(folder / "backbone", records)
    adapter = folder / "adapter"
    options = {
        "text_model": folder / "backbone",
        "dataset": dataset,
        "dataset_config": "simulated",
        "encoder_widths": "8 16 32 64",
        "ecg_scaling": "zscore",
        "lora_r": 64,
        "lora_alpha": 128,
        "lora_dropout": 0.0,
        "learning_rate": 2e-3,
        "ecg_learning_rate": 3e-3,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 8,
        "bf16": "false",
        "save_strategy": "no",
        "disable_tqdm": "true",
        "logging_steps": 50,
        "output_dir": adapter,
    }
    assert train_sft.main([word for name, value in options.items() for word in (f"--{name}", *str(value).split())]) == 0

    unseen, _ = load_records(dataset, "simulated", "test")
    unseen = list(unseen)
    truth = [rate_class(row["report"]) for row in unseen]
    return {
        "truth": truth,
        "drafts": drafts_of_files(unseen, unseen, folder / "right", adapter),
        "shuffled": drafts_of_files(unseen, [unseen[donor] for donor in shuffle(truth)], folder / "shuffled", adapter),
    }


def shuffle(truth: list[str]) -> list[int]:
    """For each record another's index. Each class is given a third of its ECGs from each class: chance is a third."""
    members = [[index for index, true in enumerate(truth) if true == name] for name in RATE_CLASSES]
    donors = [0] * len(truth)
    for number, indices in enumerate(members):
        for position, index in enumerate(indices):
            donors[index] = members[(number + position) % 3][(position + 3) % len(indices)]
    assert sorted(donors) == list(range(len(truth)))
    return donors


def drafts_of_files(records: list[dict], ecgs: list[dict], folder: Path, adapter: Path) -> list[str]:
    """Write each record's file with the signal of another row, and have a process of its own draft the reports."""
    folder.mkdir()
    for record, ecg in zip(records, ecgs, strict=True):
        wfdb.wrsamp(
            record["id"],
            fs=500,
            units=["mV"] * 12,
            sig_name=list(LEADS),
            d_signal=np.asarray(ecg["ecg"]).T,
            fmt=["16"] * 12,
            adc_gain=ecg["ecg_gain"],
            baseline=ecg["ecg_baseline"],
            write_dir=str(folder),
        )
    files = [str(folder / record["id"]) for record in records]
    command = [sys.executable, str(REPOSITORY / "generate_report.py"), *files, "--model", str(adapter), "--json"]
    done = subprocess.run(
        [*command, "--batch-size", "45", "--max-new-tokens", "48"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    drafts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [draft["source"] for draft in drafts] == files
    return [draft["report"] for draft in drafts]


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927)."""
    z, share = 1.96, right / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return centre - half, centre + half


def right_classes(drafts: list[str], truth: list[str]) -> int:
    return sum(rate_class(draft) == true for draft, true in zip(drafts, truth, strict=True))


def test_the_heart_rate_class_is_read_from_unseen_ecgs(run):
    assert [run["truth"].count(name) for name in RATE_CLASSES] == [60, 60, 60]
    right = right_classes(run["drafts"], run["truth"])
    assert right >= 0.9 * 180, f"{right} of 180; the first drafts are {run['drafts'][:5]}"


def test_with_shuffled_ecgs_the_class_is_at_chance(run):
    low, high = wilson_interval(right_classes(run["shuffled"], run["truth"]), 180)
    assert low < 1 / 3 < high
