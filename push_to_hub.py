"""Check a trained folder and upload it to the Hub: `python push_to_hub.py runs/sft org/name [--dry-run]`."""

import argparse
import sys

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HTTPError  # of the HTTP library that this version of the Hub's client uses

from training.hub_upload import UploadError, prepare_upload


def main(argv: list[str] | None = None) -> int:
    """Parse, check, list, upload; returns 0, or 1 where the folder or the Hub refuses."""
    parser = argparse.ArgumentParser(description="Check a trained folder and upload it to the Hub.")
    parser.add_argument("path", help="folder that training wrote, or a full checkpoint with its processor")
    parser.add_argument("repo_id", metavar="org/name", help="repository on the Hub; made where it is absent")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--dry-run", action="store_true", help="check and list the files, upload nothing")
    parser.add_argument("--text-model-id", help="the language model's Hub id, where config.json lacks it")
    parser.add_argument("--license", default="other", help="licence identifier for the model card")
    args = parser.parse_args(argv)
    try:
        upload = prepare_upload(args.path, args.repo_id, args.text_model_id, args.license)
    except UploadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    for file in upload.files:
        print(f"{file.size:>14,}  {file.name}")
    for name, reason in upload.left_out:
        print(f"      left out  {name} ({reason})")
    total = f"{len(upload.files)} files, {sum(file.size for file in upload.files):,} bytes"
    if args.dry_run:
        print(f"{total} would go to {args.repo_id}; nothing was uploaded")
        return 0

    operations = [
        CommitOperationAdd(file.name, file.content if isinstance(file.content, bytes) else str(file.content))
        for file in upload.files
    ]
    api = HfApi()
    try:
        api.create_repo(args.repo_id, private=args.private or None, exist_ok=True)
        commit = api.create_commit(args.repo_id, operations, commit_message="Upload with meit-ecg push")
    except (HTTPError, OSError) as error:
        print(f"error: the Hub refused {args.repo_id} or cannot be reached: {error}", file=sys.stderr)
        return 1
    print(f"{total} uploaded: {commit.commit_url}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
