"""The loading check: whether strangers, who have nothing of ours, can load what is about to be published.

The upload is laid out in a folder of its own, byte for byte, and loaded in a new virtual environment by every route;
the logits are compared with those that training wrote. Neither this checkout nor the training folder is in reach.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from safetensors import SafetensorError, safe_open

from .clean_environment import PACKAGES, make_clean_environment, run_clean
from .upload import Upload, UploadError, UploadFile

CAUSAL = "AutoModelForCausalLM"
LOGITS_FILE = "check_logits.safetensors"
SCRIPT = Path(__file__).with_name("loading_script.py")
# Largest difference from training's logits, as a share of the largest logit, by the dtype of the language model.
# Other processors and kernels round in other places, and each layer adds to it.
FROM_TRAINING = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
# The same between two routes on this machine, which compute the same.
FROM_FIRST = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 1e-2}
FROM_UNMERGED = 1e-4  # both in float32
TEXT_MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")


@dataclass(frozen=True)
class Route:
    """One way of loading, and what came of it.

    Attributes:
        name: such as "AutoModel".
        found: name of the class that was loaded, or why the route was left out.
        from_training: largest difference from training's logits as a share of the largest of them; None where there
            are none to compare.
        from_first: the same from the logits of the first route; of the merged model, from those before merging.
    """

    name: str
    found: str
    from_training: float | None = None
    from_first: float | None = None


def find_text_model(config: dict, text_model: str | None = None) -> str:
    """The folder of an adapter's backbone.

    Args:
        config: the training folder's own `config.json`.
        text_model: a folder or Hub id that stands before those of the config.

    Raises:
        UploadError: it is nowhere to be found.
    """
    path, hub_id = config.get("text_model_path"), config.get("text_model_id")
    tried = []
    place = text_model or path
    if place is not None:
        if os.path.isdir(place):
            return os.path.abspath(place)
        tried.append(place)
    name = text_model or hub_id
    if name is not None:
        try:
            return snapshot_download(name, allow_patterns=list(TEXT_MODEL_FILES))
        except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
            tried.append(f"{name} on the Hub ({' '.join(str(error).split())[:200]})")
    raise UploadError(
        "the loading check cannot run, so nothing is uploaded: the language model that this adapter builds on was not "
        f"found (tried {', '.join(tried) or 'nothing, as config.json names none'}); name its folder with --text-model"
    )


def check_loading(
    upload: Upload, logits_file: str | Path | None, text_model: str | None = None, timeout: float | None = None
) -> list[Route]:
    """Load the upload as strangers do.

    Args:
        upload: a model's.
        logits_file: what training wrote beside the model; None compares the routes with each other alone.
        text_model: folder of an adapter's backbone.
        timeout: seconds; none by default.

    Returns:
        The routes, in the order in which they were taken.

    Raises:
        UploadError: a route failed, or its logits are others.
    """
    config = json.loads(next(file for file in upload.files if file.name == "config.json").read())
    is_adapter = any(file.name == "adapter_config.json" for file in upload.files)
    facts = {} if logits_file is None else logits_facts(logits_file)
    is_packed = is_adapter and "quantization" in facts
    # How the language model was packed when training wrote its logits.
    packing = config.get("text_config", {}).get("quantization_config") if is_packed else None
    with tempfile.TemporaryDirectory(prefix="meit-ecg-push-") as name:
        root = Path(name)
        staged, outcomes, work = root / "staged", root / "outcomes", root / "work"
        work.mkdir()
        stage(upload.files, staged)
        task = {
            "folder": str(staged),
            "text_model": text_model if is_adapter else None,
            "auto_class": "AutoModelForSeq2SeqLM" if "AutoModelForSeq2SeqLM" in config["auto_map"] else CAUSAL,
            "logits_file": None if logits_file is None else str(_linked(Path(logits_file), root / LOGITS_FILE)),
            "scratch": str(root / "merged"),
            "quantization": packing,
            "outcomes": str(outcomes),
        }
        python = make_clean_environment(root / "environment", (*PACKAGES, *(("bitsandbytes",) if packing else ())))
        done = run_clean(python, SCRIPT, json.dumps(task), folder=work, timeout=timeout)
        lines = outcomes.read_text("utf-8").splitlines() if outcomes.exists() else []
    found = [json.loads(line) for line in lines]
    problems = [f"{outcome['route']}: {outcome['error']}" for outcome in found if "error" in outcome]
    if done.returncode != 0:
        problems.append((done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1])
    # The kernels for 4 bits compute in bfloat16 on some processors, whatever they are asked for.
    dtype = "bfloat16" if is_packed else facts.get("dtype") or config.get("text_config", {}).get("dtype") or "float32"
    problems += _differences(found, dtype)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise UploadError(f"the loading check failed, so nothing is uploaded:\n{listed}")
    return [
        Route(
            outcome["route"],
            outcome.get("found") or f"left out: {outcome['skipped']}",
            outcome.get("from_training"),
            outcome.get("from_first", outcome.get("from_unmerged")),
        )
        for outcome in found
    ]


def logits_facts(logits_file: str | Path) -> dict[str, str]:
    """How training computed the logits: the `dtype`, and `quantization` where it was in 4 bits.

    Raises:
        UploadError: the file is not one that training wrote.
    """
    try:
        with safe_open(logits_file, framework="numpy") as file:
            facts = file.metadata() or {}
            missing = {"input_ids", "attention_mask", "ecg_values", "positions", "logits"} - set(file.keys())
    except (SafetensorError, OSError) as error:
        raise UploadError(f"{logits_file}: not a readable safetensors file ({error})") from error
    if missing or facts.get("dtype") not in FROM_TRAINING:
        raise UploadError(
            f"{logits_file}: not what training writes (dtype {facts.get('dtype')!r}, missing tensors: "
            f"{', '.join(sorted(missing)) or 'none'})"
        )
    return facts


def stage(files: Sequence[UploadFile], folder: Path) -> None:
    """Lay the files out as they would be published; links on the same disk, which no loader writes to."""
    for file in files:
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(file.content, bytes):
            target.write_bytes(file.content)
        else:
            _linked(file.content, target)


def _linked(source: Path, target: Path) -> Path:
    # A hard link, which unlike a symbolic one says nothing of where the file was.
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
    return target


def _differences(found: Sequence[dict], dtype: str) -> list[str]:
    limits = {
        "from_training": ("those that training wrote", FROM_TRAINING[dtype]),
        "from_first": ("those of the first route", FROM_FIRST[dtype]),
        "from_unmerged": ("those before merging", FROM_UNMERGED),
    }
    return [
        f"{outcome['route']}: the logits differ from {whose} by {outcome[key]:.2g} of the largest; expected at most "
        f"{limit:g}"
        for outcome in found
        for key, (whose, limit) in limits.items()
        if key in outcome and not outcome[key] <= limit
    ]


def routes_table(routes: Sequence[Route]) -> str:
    """The routes as lines of text."""
    width = max(len(route.name) for route in routes)
    lines = [f"{'loaded by':<{width}}  {'logits: from training':>21}  {'from first route':>16}"]
    for route in routes:
        numbers = [
            "" if difference is None else f"{difference:.1e}" for difference in (route.from_training, route.from_first)
        ]
        lines.append(f"{route.name:<{width}}  {numbers[0]:>21}  {numbers[1]:>16}  {route.found}")
    return "\n".join(lines)
