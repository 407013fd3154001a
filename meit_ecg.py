"""The console command `meit-ecg`: each subcommand calls the same function as its script."""

import argparse
import importlib
import logging
import sys
from importlib.metadata import PackageNotFoundError, version

from reporting.notice import DRAFT_NOTICE

# name -> (module whose main(argv) runs it, what it does). Modules are imported when called: torch takes seconds.
COMMANDS = {
    "build": ("dataset_builder.cli", "write the dataset folder from PTB-XL, MIMIC-IV-ECG or simulated ECGs"),
    "train": ("train_sft", "tune a language model with an ECG encoder on (ECG, report) pairs"),
    "report": ("generate_report", "draft a report for each ECG file"),
    "benchmark": ("run_benchmark", "measure a model on a dataset"),
    "push": ("push_to_hub", "check a trained folder and upload it to the Hub"),
}


def _version() -> str:
    try:
        return version("meit-ecg")
    except PackageNotFoundError:
        return "not installed"


def _parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:<10} {what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="meit-ecg",
        description="Drafts a report from a 12-lead ECG.",
        epilog=f"commands:\n{commands}\n\n`meit-ecg COMMAND --help` shows a command's options.\n\n{DRAFT_NOTICE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="meit-ecg [-h] [--version] COMMAND ...",
    )
    parser.add_argument("--version", action="version", version=f"meit-ecg {_version()}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run one subcommand with the arguments that follow its name; returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    # Only the first word is ours: the options after it, --help included, belong to the subcommand.
    command = _parser().parse_args(argv[:1]).command
    module, _ = COMMANDS[command]
    # peft imports these wherever they are installed, and they warn of kernels that nobody asked for.
    for name in ("bitsandbytes", "torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.argv[0] = f"meit-ecg {command}"  # the name that the subcommand's own parser prints in its usage line
    return importlib.import_module(module).main(argv[1:])


if __name__ == "__main__":
    sys.exit(main())
