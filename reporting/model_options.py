"""The command-line options of whatever drafts with a trained model."""

import argparse

import torch

from dataset_builder.instructions import DEFAULT_INSTRUCTION

from .draft import ReportDrafter


def positive(text: str) -> int:
    """A whole number of at least 1, as the type of an option."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 1")
    return number


def add_model_options(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """Add the options that `load_drafter` reads, and `--max-new-tokens`; `batch_size` is a default."""
    parser.add_argument("--model", required=True, metavar="PATH", help="Hub id or folder of the trained model")
    parser.add_argument("--text-model", metavar="PATH", help="an adapter's backbone, if it is not where it was")
    batch_help = f"10 s windows at a time (default: {batch_size})"
    parser.add_argument("--batch-size", type=positive, default=batch_size, metavar="N", help=batch_help)
    parser.add_argument("--max-new-tokens", type=positive, default=256, metavar="N", help="default: 256")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, ...; an accelerator where there is one")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: the checkpoint's own")


def load_drafter(arguments: argparse.Namespace, instruction: str = DEFAULT_INSTRUCTION) -> ReportDrafter:
    """Load the model that the options name.

    Raises:
        OSError, ValueError: where the device is not there, or as `ReportDrafter` does.
    """
    if arguments.device is not None:
        try:
            torch.empty(0, device=arguments.device)
        except (RuntimeError, AssertionError) as error:  # each a word of torch for a device that is not there
            raise ValueError(f"--device {arguments.device}: {str(error).splitlines()[0]}") from error
    return ReportDrafter(
        arguments.model,
        text_model=arguments.text_model,
        device=arguments.device,
        dtype=getattr(torch, arguments.dtype) if arguments.dtype else None,
        batch_size=arguments.batch_size,
        instruction=instruction,
    )
