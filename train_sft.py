"""Tune a language model with an ECG encoder on (ECG, report) pairs: `train_sft.py --config recipes/smollm2.yaml`."""

import sys
import warnings

import yaml
from trl import TrlParser

from training.arguments import DataArguments, LoraArguments, ModelArguments, TrainingConfig
from training.sft import train


def main(argv: list[str] | None = None) -> int:
    """Parse a recipe (`--config FILE.yaml`) and options that override it, train, and say what was written."""
    # trl goes by names that transformers is renaming; whoever trains a model can do nothing about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    parser = TrlParser(
        (ModelArguments, DataArguments, LoraArguments, TrainingConfig),
        description="Tune a language model with an ECG encoder on (ECG, report) pairs.",
        epilog="--config FILE.yaml reads any of these options from a recipe; options given here override it.",
    )
    try:
        arguments = parser.parse_args_and_config(args=argv)
    except (ValueError, OSError, yaml.YAMLError) as error:  # YAML's own words name the file and the line
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        result = train(*arguments)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    for defect in result.skipped_checkpoints:
        print(f"passed over a checkpoint that is not whole: {defect}")
    if result.resumed_from is not None:
        print(f"went on from {result.resumed_from}")
    if result.skipped_records:
        print(f"left out {result.skipped_records} records with an empty report")
    if result.truncated_reports:
        print(f"cut {result.truncated_reports} reports at --max_length; one counts each time that it is read")
    outcome = [f"{result.updates} updates on {result.records} records in {result.seconds:.0f} s"]
    for name, loss in (("training", result.train_loss), ("evaluation", result.eval_loss)):
        if loss is not None:
            outcome.append(f"{name} loss {loss:.3f} nats per token")
    print(
        f"{', '.join(outcome)}\n"
        f"wrote {result.folder}: the adapter with its config, code and processor, loss_curve.csv, loss_curve.png, "
        "training_run.json, check_logits.safetensors"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
