"""Check a folder and upload it to the Hub: `python push_to_hub.py runs/sft org/name [--dry-run]`."""

import argparse
import json
import sys
from pathlib import Path

from publishing.dataset_folder import prepare_dataset
from publishing.folder_type import TYPES, folder_type
from publishing.loading_check import LOGITS_FILE, check_loading, find_text_model, routes_table
from publishing.metric_folder import prepare_metric
from publishing.model_folder import prepare_model
from publishing.space_folder import prepare_space
from publishing.upload import Upload, UploadError, commit


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Check a folder and upload it to the Hub.",
        epilog="Nothing is uploaded unless every check passes. For a model that includes the loading check: the "
        "published files are loaded in a new environment that has only torch, transformers, peft and numpy, and the "
        f"logits are compared with those that training wrote ({LOGITS_FILE}). An upload that broke off goes on when "
        "the command is repeated.",
    )
    parser.add_argument(
        "path",
        help="folder that training wrote, or a full checkpoint with its processor; a dataset folder that `meit-ecg "
        "build` wrote; evaluation/report_metrics; publishing/space",
    )
    parser.add_argument("repo_id", metavar="org/name", help="repository on the Hub; made where it is absent")
    parser.add_argument("--type", choices=TYPES, help="what the folder is; told from its content by default")
    parser.add_argument("--private", action="store_true", help="make the repository private; a public one is refused")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to upload to; made where it is absent")
    parser.add_argument("--dry-run", action="store_true", help="run every check and list the files, upload nothing")
    of_model = parser.add_argument_group("of a model")
    of_model.add_argument("--text-model-id", metavar="ID", help="the language model's Hub id, where it is not recorded")
    of_model.add_argument(
        "--text-model", metavar="PATH", help="the language model for the loading check, if it is not where it was"
    )
    of_model.add_argument("--license", default="other", metavar="ID", help="for the card (default: other)")
    of_model.add_argument("--language", default="en", metavar="CODE", help="of the reports, for the card (default: en)")
    results_help = "results.json files that `meit-ecg benchmark` wrote of this model, for the card"
    of_model.add_argument("--results", nargs="+", default=[], metavar="FILE", help=results_help)
    of_model.add_argument(
        "--without-logits-file",
        action="store_true",
        help=f"where training wrote no {LOGITS_FILE} (a checkpoint of a run, a model saved by hand): load by every "
        "route all the same, and compare the routes with each other alone",
    )
    parser.add_argument("--model", metavar="org/name", help="of a Space: the model that it shows")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Check, list, upload; 0, or 1 where folder or Hub refuse, 2 for a wrong option (by argparse), 130 for Ctrl+C."""
    args = _parser().parse_args(argv)
    try:
        kind = args.type or folder_type(args.path)
        upload = _prepare(kind, args)
        for file in upload.files:
            print(f"{file.size:>14,}  {file.name}")
        for name, reason in upload.left_out:
            print(f"      left out  {name} ({reason})")
        if kind == "model":
            print("loading check: the files above, in a new environment ...", flush=True)
            print(routes_table(check_loading(upload, *_what_to_compare(args))))
        total = f"{kind}: {len(upload.files)} files, {sum(file.size for file in upload.files):,} bytes"
        if args.dry_run:
            print(f"{total} would go to {args.repo_id}; nothing was uploaded")
            return 0
        print(f"{total} uploaded: {commit(upload, args.repo_id, args.private, args.revision)}")
    except (UploadError, OSError) as error:  # a file that may not be read, a disk without room for the loading check
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: nothing was committed; the same command goes on with the upload", file=sys.stderr)
        return 130
    return 0


def _prepare(kind: str, args: argparse.Namespace) -> Upload:
    if kind == "dataset":
        return prepare_dataset(args.path, args.repo_id)
    if kind == "metric":
        return prepare_metric(args.path, args.repo_id)
    if kind == "space":
        return prepare_space(args.path, args.repo_id, args.model)
    return prepare_model(args.path, args.repo_id, args.text_model_id, args.license, args.language, args.results)


def _what_to_compare(args: argparse.Namespace) -> tuple[Path | None, str | None]:
    """The file of training's logits, and the folder of an adapter's backbone."""
    folder = Path(args.path)
    logits_file = folder / LOGITS_FILE
    if not logits_file.is_file():
        if not args.without_logits_file:
            raise UploadError(
                f"{logits_file} is missing, so nothing could tell whether what loads elsewhere is what was trained: "
                "push the folder that training wrote, or compare the ways of loading with each other alone by "
                "--without-logits-file"
            )
        logits_file = None
    is_adapter = (folder / "adapter_config.json").is_file()
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if args.text_model_id is not None:
        config["text_model_id"] = args.text_model_id
    return logits_file, find_text_model(config, args.text_model) if is_adapter else None


if __name__ == "__main__":
    sys.exit(main())
