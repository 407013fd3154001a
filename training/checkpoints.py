"""Checkpoints of a run: which of them are whole, and from which one to go on."""

import json
import os
import re
import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

_CHECKPOINT_NAME = re.compile(r"checkpoint-(\d+)")
_JSON_FILES = ("config.json", "adapter_config.json", "trainer_state.json")
# Files that the trainer writes with torch.save: zip archives, whose directory comes last.
_ARCHIVES = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")


def checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """The folders `checkpoint-N` of a run, whole or not, by rising N."""
    folder = Path(output_dir)
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _CHECKPOINT_NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=_step)


def _step(checkpoint: Path) -> int:
    return int(_CHECKPOINT_NAME.fullmatch(checkpoint.name)[1])


def defect(checkpoint: str | os.PathLike) -> str | None:
    """What keeps a run from going on from this folder, as a sentence; None for a whole checkpoint.

    A run that is killed while it saves leaves a folder with files missing or cut short. Nothing is unpickled here:
    safetensors and zip archives say by themselves whether their end is there.
    """
    checkpoint = Path(checkpoint)
    if not checkpoint.is_dir():
        return f"{checkpoint}: no such folder"
    contents = {}
    for name in _JSON_FILES:
        path = checkpoint / name
        try:
            contents[name] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return f"{path}: the file is missing"
        except (OSError, ValueError) as error:
            return f"{path}: no readable JSON ({error})"
    weights = checkpoint / "adapter_model.safetensors"
    try:
        # The library compares the header's offsets with the file's size.
        with safe_open(weights, framework="numpy"):
            pass
    except (OSError, SafetensorError) as error:
        return f"{weights}: no readable safetensors file ({error})"
    for pattern in _ARCHIVES:
        paths = sorted(checkpoint.glob(pattern))
        if not paths:
            return f"{checkpoint / pattern}: the file is missing"
        for path in paths:
            if not zipfile.is_zipfile(path):
                return f"{path}: cut short or damaged"
    match = _CHECKPOINT_NAME.fullmatch(checkpoint.name)
    state = contents["trainer_state.json"]
    step = state.get("global_step") if isinstance(state, dict) else None
    if not isinstance(step, int) or (match is not None and step != int(match[1])):
        return f"{checkpoint / 'trainer_state.json'}: found global step {step!r}, expected that of the folder's name"
    return None


def last_whole_checkpoint(output_dir: str | os.PathLike) -> tuple[Path | None, list[str]]:
    """The whole checkpoint of the highest step, and the defects of those above it.

    transformers' own `get_last_checkpoint` takes the highest number even where its save was cut short.
    """
    defects = []
    for checkpoint in reversed(checkpoints(output_dir)):
        found = defect(checkpoint)
        if found is None:
            return checkpoint, defects
        defects.append(found)
    return None, defects


def checkpoint_to_resume(resume: str | None, output_dir: str | os.PathLike) -> tuple[Path | None, list[str]]:
    """Where a run begins.

    Args:
        resume: None or "false": from the start; "true": from the last whole checkpoint; "auto": the same, or from
            the start where there is none; otherwise the path of a checkpoint.
        output_dir: folder of the run.

    Returns:
        The checkpoint, or None for the start, and the defects of the checkpoints that were passed over.

    Raises:
        ValueError: where the checkpoint that was asked for is not whole or not there, or where a run from the
            start would mix its checkpoints with those of an earlier run.
    """
    choice = (resume or "false").lower()
    if choice == "false":
        if existing := checkpoints(output_dir):
            raise ValueError(
                f"{output_dir} holds {len(existing)} checkpoints of an earlier run (the last is {existing[-1].name}): "
                "go on with --resume_from_checkpoint auto, remove them with --overwrite_output_dir, or choose "
                "another --output_dir"
            )
        return None, []
    if choice not in ("true", "auto"):
        if found := defect(resume):
            raise ValueError(f"cannot resume: {found}")
        return Path(resume), []
    checkpoint, defects = last_whole_checkpoint(output_dir)
    if checkpoint is None and choice == "true":
        listed = "".join(f"\n  {line}" for line in defects) or " (it holds none)"
        raise ValueError(f"cannot resume: no whole checkpoint in {output_dir}{listed}")
    return checkpoint, defects


def remove_checkpoints(output_dir: str | os.PathLike) -> None:
    """Remove the folders `checkpoint-N` of a run and nothing else."""
    for checkpoint in checkpoints(output_dir):
        shutil.rmtree(checkpoint)
