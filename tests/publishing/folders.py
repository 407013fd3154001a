"""Folders to publish, and what would be published of them."""

import json
from pathlib import Path

import pytest

from publishing.model_folder import prepare_model
from publishing.upload import Upload, UploadError

REPO = "some-lab/ecg-reports"
BACKBONE = "HuggingFaceTB/SmolLM2-135M-Instruct"


def write_json(path: Path, document: object) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(document), encoding="utf-8")


def read_json(path: Path) -> dict:
    """Read one."""
    return json.loads(path.read_text(encoding="utf-8"))


def contents(upload: Upload) -> dict[str, bytes]:
    """What would be published, by name."""
    return {file.name: file.read() for file in upload.files}


def refusal(folder: Path, prepare=prepare_model, **options) -> str:
    """The message with which `prepare` refuses a folder."""
    with pytest.raises(UploadError) as caught:
        prepare(folder, options.pop("repo_id", REPO), **options)
    return str(caught.value)
