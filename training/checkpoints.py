"""Checkpoints of a run: which of them are whole, from which one to go on, and which are no longer needed.

A checkpoint is written file by file, by several processes where several train, and a run may be killed in between. The
last file to appear lists all the others: a checkpoint is whole where it is there and agrees with what is found. All
processes have to write to one disk (`--save_on_each_node` stays off), which each node sees.
"""

import json
import os
import re
import shutil
from pathlib import Path, PurePosixPath

FILE_LIST = "checkpoint_files.json"

_CHECKPOINT_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "trainer_state.json"


def checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """The folders `checkpoint-N` of a run, whole or not, by rising N."""
    folder = Path(output_dir)
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _CHECKPOINT_NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=_step)


def _step(checkpoint: Path) -> int:
    return int(_CHECKPOINT_NAME.fullmatch(checkpoint.name)[1])


def mark_whole(checkpoint: str | os.PathLike, step: int) -> None:
    """Write the list of a checkpoint's files, once all processes have written theirs.

    The files are on the disk before the list is, and the list appears by one rename: a power cut leaves either a whole
    checkpoint or one that `defect` tells.

    Args:
        step: the update after which it was saved.

    Raises:
        OSError: the disk cannot take it.
    """
    checkpoint = Path(checkpoint)
    (checkpoint / FILE_LIST).unlink(missing_ok=True)
    paths = sorted(checkpoint.rglob("*"))
    for path in paths:
        _sync(path)
    sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in paths if path.is_file()}
    partial = checkpoint / f".{FILE_LIST}"
    partial.write_text(json.dumps({"global_step": step, "bytes": sizes}, indent=2) + "\n", encoding="utf-8")
    _sync(partial)
    partial.rename(checkpoint / FILE_LIST)
    _sync(checkpoint)
    _sync(checkpoint.parent)


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def defect(checkpoint: str | os.PathLike) -> str | None:
    """What keeps a run from going on from this folder, as a sentence; None for a whole checkpoint.

    Nothing but the list of its files and the trainer's state is read, both JSON.
    """
    checkpoint = Path(checkpoint)
    if not checkpoint.is_dir():
        return f"{checkpoint}: no such folder"
    path = checkpoint / FILE_LIST
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        step, sizes = listed["global_step"], dict(listed["bytes"])
    except FileNotFoundError:
        return f"{path}: the file is missing, which is written last: the checkpoint was not finished"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{path}: no readable list of files ({error!r})"
    for name, size in sizes.items():
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            return f"{path}: lists {name!r}, which is outside of the checkpoint"
        try:
            found = (checkpoint / relative).stat().st_size
        except OSError as error:
            return f"{checkpoint / relative}: the file is missing ({error.strerror})"
        if found != size:
            return f"{checkpoint / relative}: found {found} bytes, expected {size}"
    return _wrong_step(checkpoint, step)


def _wrong_step(checkpoint: Path, step: object) -> str | None:
    path = checkpoint / _STATE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["global_step"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{path}: no readable state ({error!r})"
    match = _CHECKPOINT_NAME.fullmatch(checkpoint.name)
    expected = step if match is None else int(match[1])
    if not isinstance(found, int) or not found == step == expected:
        return f"{path}: found global step {found!r}, expected {expected!r}, that of the folder's name and its files"
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


def remove_older_checkpoints(checkpoint: str | os.PathLike, limit: int | None, best: str | None = None) -> None:
    """Remove what a new whole checkpoint makes superfluous.

    Args:
        checkpoint: the new one, which stays.
        limit: number of checkpoints to keep, the new one included; None or 0 keeps all.
        best: a checkpoint that stays and counts, that of the lowest loss.
    """
    checkpoint = Path(checkpoint)
    if not limit:
        return
    older = [path for path in checkpoints(checkpoint.parent) if _step(path) < _step(checkpoint)]
    spared = [path for path in older if best is not None and path.name == Path(best).name]
    others = [path for path in older if path not in spared]
    num_removed = max(len(others) - max(limit - 1 - len(spared), 0), 0)
    for path in others[:num_removed]:
        shutil.rmtree(path)


def remove_checkpoints(output_dir: str | os.PathLike) -> None:
    """Remove the folders `checkpoint-N` of a run and nothing else."""
    for checkpoint in checkpoints(output_dir):
        shutil.rmtree(checkpoint)
