"""The time of a training step with the ECG in it, beside the step on the text alone and the encoder alone.

    python -m benchmarks.training_step [--rounds 15] [--dtype bfloat16 float32] [--workers 0]

Step by step in turns, on the same batches of the trainer's own loader: forward, backward, clipping and update (1) of
the text and its ECG, (2) of the text, (3) of the encoder and projector. Also says which share of the step its loop
waits for the batch. Ratios are of the time that passes, and of the processor time, which other programs change less.
Prints a Markdown table.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import torch
from transformers import AutoTokenizer

from benchmarks.built_records import add_dataset_argument, built_corpus
from dataset_builder.instructions import instruction_for
from dataset_builder.records import load_records
from processing import ECGDataCollator, ECGFeatureExtractor, ECGProcessor
from training.arguments import ModelArguments, TrainingConfig, TuningArguments
from training.backbone import prepare_backbone
from training.starting_model import starting_model
from training.trainer import ReportTrainer

BATCH_SIZE = 16
STEPS = ("text and ECG", "text", "encoder")


def trainer_of(text_model: str, dataset: Path, corpus: str, bf16: bool, workers: int, output: Path) -> ReportTrainer:
    """The trainer that `train_sft.py` makes of recipes/smollm2.yaml, of a batch a step."""
    config = TrainingConfig(
        output_dir=str(output),
        per_device_train_batch_size=BATCH_SIZE,
        gradient_accumulation_steps=1,
        bf16=bf16,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        disable_tqdm=True,
    )
    folder, text_model_id = prepare_backbone(text_model)
    model, _ = starting_model(folder, text_model_id, ModelArguments(), TuningArguments(), config, [])
    processor = ECGProcessor(ECGFeatureExtractor(), AutoTokenizer.from_pretrained(folder))
    records, _ = load_records(str(dataset), corpus, "train")
    return ReportTrainer(
        model=model,
        args=config,
        data_collator=ECGDataCollator.for_model(model.get_base_model().config, processor, instruction_for),
        train_dataset=records,
        processing_class=processor,
        run={},
    )


def clocks() -> tuple[float, float]:
    """Seconds that passed and of processor time."""
    return time.perf_counter(), time.process_time()


def update(trainer: ReportTrainer, model: torch.nn.Module, backward: Callable[[], object]) -> tuple[float, float]:
    """Both times of a backward pass and what follows it. A weight without a gradient costs the optimizer nothing."""
    start = clocks()
    backward()
    trained = [weight for weight in model.parameters() if weight.grad is not None]
    torch.nn.utils.clip_grad_norm_(trained, trainer.args.max_grad_norm)
    trainer.optimizer.step()
    model.zero_grad()
    return tuple(end - begin for end, begin in zip(clocks(), start, strict=True))


def timed_rounds(trainer: ReportTrainer, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Both times of each step in each round, and under "waiting" those of fetching the round's batch."""
    trainer.create_optimizer()
    model, trainer.optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
    model.train()
    inner = trainer.model.get_base_model().model
    batches = iter([])
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*STEPS, "waiting")}

    def encode(ecg_values: torch.Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=trainer.args.bf16):
            embeds = inner.get_ecg_embeds(ecg_values)
        embeds.float().sum().backward()

    for number in range(rounds + 1):  # the first allocates what stays
        start = clocks()
        batch = next(batches, None)
        waited = tuple(end - begin for end, begin in zip(clocks(), start, strict=True))
        if batch is None:  # the first of an epoch also waits for workers to start
            batches = iter(trainer.get_train_dataloader())
            batch, waited = next(batches), None
        text = {name: values for name, values in batch.items() if name != "ecg_values"}
        tokens = (batch["labels"][:, 1:] != -100).sum()
        backwards = {
            "text and ECG": lambda batch=batch, tokens=tokens: trainer.training_step(model, dict(batch), tokens),
            "text": lambda text=text, tokens=tokens: trainer.training_step(model, dict(text), tokens),
            "encoder": lambda batch=batch: encode(batch["ecg_values"]),
        }
        for name in (*STEPS[number % 3 :], *STEPS[: number % 3]):
            times = update(trainer, model, backwards[name])
            if number:
                found[name].append(times)
        if number and waited is not None:
            found["waiting"].append(waited)
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return found


def row(name: str, found: dict[str, list[tuple[float, float]]]) -> str:
    """Of the table: medians, and those of the rounds' ratios."""
    passed, used = ({part: [times[clock] for times in found[part]] for part in found} for clock in (0, 1))
    medians = {part: statistics.median(seconds) for part, seconds in passed.items()}
    cells = [f"{medians[part]:.2f}" for part in STEPS]
    for clock in (passed, used):
        ratios = [whole / (text + ecg) for whole, text, ecg in zip(*(clock[part] for part in STEPS), strict=True)]
        cells.append(f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    cells.append(f"{medians['waiting'] / (medians['waiting'] + medians['text and ECG']):.2%}")
    cells.append(f"{BATCH_SIZE / medians['waiting']:.0f}")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text-model", default=ModelArguments.text_model, help="default: SmolLM2-135M-Instruct")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="default: 15")
    parser.add_argument("--dtype", nargs="+", choices=("bfloat16", "float32"), default=["bfloat16", "float32"])
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="of the data loader; default: 0, as in training"
    )
    add_dataset_argument(parser)
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    corpus = built_corpus(arguments.dataset)
    print(
        f"{arguments.text_model}, batches of {BATCH_SIZE} records of {corpus}, {torch.get_num_threads()} threads, "
        f"medians of {arguments.rounds} rounds\n"
    )
    columns = (
        *(f"{step}, s" for step in STEPS),
        "whole / (text + encoder)",
        "the same in processor time",
        "waiting",
        "records per second loaded",
    )
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for dtype in arguments.dtype:
        with tempfile.TemporaryDirectory() as output:
            bf16 = dtype == "bfloat16"
            trainer = trainer_of(arguments.text_model, arguments.dataset, corpus, bf16, arguments.workers, Path(output))
            print(row(dtype, timed_rounds(trainer, arguments.rounds)), flush=True)


if __name__ == "__main__":
    main()
