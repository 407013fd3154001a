"""`results.json`: the figures with everything that they hold for."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

FORMAT_VERSION = 1
RESULTS, TABLES = "results.json", "results.md"
_PACKAGES = ("meit-ecg", "torch", "transformers", "peft", "datasets", "numpy", "nltk", "sacrebleu", "neurokit2")


def new_results(
    command: Sequence[str], seed: int, processes: int, device: torch.device, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Results without any task.

    Args:
        command: as it was typed.
        seed: of every draw.
        processes: that drafted.
        device: that they drafted on.
        settings: that hold for all tasks.
    """
    return {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "hardware": _hardware(device),
        "processes": processes,
        "seed": seed,
        "settings": json.loads(json.dumps(settings)),
        "notes": [],
        "tasks": {},
    }


def add_earlier(results: dict[str, Any], folder: str | Path) -> list[str]:
    """Add the tasks, and notes, that an earlier run with the same seed and settings has left in the folder.

    Returns:
        The tasks that a run with others has left: their figures do not belong beside these.

    Raises:
        ValueError: where the folder holds a `results.json` that is none.
    """
    path = Path(folder) / RESULTS
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text("utf-8"))
        is_alike = all(found[name] == results[name] for name in ("format_version", "seed", "settings"))
        tasks, notes = dict(found["tasks"]), list(found["notes"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not results of this benchmark ({error!r}); remove it or choose another") from error
    if not is_alike:
        return list(tasks)
    results["tasks"], results["notes"] = tasks, notes
    return []


def write_results(results: Mapping[str, Any], folder: str | Path) -> Path:
    """Write `results.json`, whole or not at all."""
    path = Path(folder) / RESULTS
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".json.tmp")
    unfinished.write_text(json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
    return path


def _hardware(device: torch.device) -> dict[str, Any]:
    try:
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # no such figure on this system
        memory = None
    return {
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": memory,
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def _cpu() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # on another system than Linux, where Python knows it
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
