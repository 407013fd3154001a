"""Tune a language model with an ECG encoder on (ECG, report) pairs: `train_sft.py --config recipes/smollm2.yaml`."""

import sys
import warnings
from pathlib import Path

import yaml
from accelerate import PartialState
from trl import TrlParser

from training.arguments import DataArguments, ModelArguments, TrainingConfig, TuningArguments
from training.earlier_run import check_order
from training.result import TrainingResult
from training.sft import check_options, train
from training.stages import Stage, parse_stages
from training.trainer import TrainingStopped

_SHOWN = 20


def main(argv: list[str] | None = None) -> int:
    """Parse a recipe (`--config FILE.yaml`) and options that override it, train, and say what was written."""
    # trl goes by names that transformers is renaming; whoever trains a model can do nothing about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    try:
        stages = parse_stages(_parser, sys.argv[1:] if argv is None else argv)
    except (ValueError, OSError, yaml.YAMLError) as error:  # YAML's own words name the file and the line
        print(f"error: {error}", file=sys.stderr)
        return 2
    folder = None
    try:
        for number, stage in enumerate(stages):
            check_options(*stage.arguments)
            if number:
                check_order(stages[number - 1].arguments[2], stage.arguments[2])
    except (ValueError, OSError) as error:
        print(_error(stage, error), file=sys.stderr)
        return 1
    for number, stage in enumerate(stages, start=1):
        model, data, tuning, config = stage.arguments
        if folder is not None:
            model.start_from, model.encoder = str(folder), None  # the encoder begins as the stage before left it
        if number < len(stages):
            config.output_dir = str(Path(config.output_dir) / "stages" / f"{number}-{stage.name}")
        try:
            result = train(model, data, tuning, config)
        except TrainingStopped as stop:
            print(stop, file=sys.stderr)
            return stop.exit_code
        except (ValueError, OSError, FloatingPointError) as error:
            print(_error(stage, error), file=sys.stderr)
            return 1
        folder = result.folder
        if PartialState().is_main_process:
            if stage.name:
                print(f"stage {number} of {len(stages)}, {stage.name}:")
            print(_told(result))
    # Processes that end with connections open may abort although all is written.
    PartialState().destroy_process_group()
    return 0


def _parser() -> TrlParser:
    return TrlParser(
        (ModelArguments, DataArguments, TuningArguments, TrainingConfig),
        description="Tune a language model with an ECG encoder on (ECG, report) pairs.",
        epilog="--config FILE.yaml reads any of these options from a recipe; options given here override it. A recipe "
        "may list several `stages`, each beginning with the weights of the one before it.",
    )


def _error(stage: Stage, error: Exception) -> str:
    return f"error: {f'stage {stage.name}: ' * bool(stage.name)}{error}"


def _told(result: TrainingResult) -> str:
    """What happened, in a few lines."""
    if result.was_finished:
        return f"{result.folder} holds the result of this very run already; nothing was done"
    lines = [f"passed over a checkpoint that is not whole: {defect}" for defect in result.skipped_checkpoints]
    if result.resumed_from is not None:
        lines.append(f"went on from {result.resumed_from}")
    if result.encoder_weights is not None:
        lines.append(result.encoder_weights)
    if result.skipped_records:
        lines.append(f"left out {result.skipped_records} records with an empty report")
    if broken := result.broken_records:
        lines.append(f"left out {len(broken)} records with a broken recording:")
        lines += [f"  {record_id}: {reason}" for record_id, reason in list(broken.items())[:_SHOWN]]
        lines += [f"  and {len(broken) - _SHOWN} more"] * (len(broken) > _SHOWN)
    if result.truncated_reports:
        lines.append(f"cut {result.truncated_reports} reports at --max_length; one counts each time that it is read")
    outcome = [
        f"{result.updates} updates of {result.trainable_parameters:,} parameters on {result.records} records in "
        f"{result.seconds:.0f} s"
    ]
    for name, loss in (("training", result.train_loss), ("evaluation", result.eval_loss)):
        if loss is not None:
            outcome.append(f"{name} loss {loss:.3f} nats per token")
    lines.append(", ".join(outcome))
    lines.append(
        f"wrote {result.folder}: weights with their config, code and processor, loss_curve.csv, loss_curve.png, "
        "training_run.json, check_logits.safetensors"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
