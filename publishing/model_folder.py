"""What of a trained folder goes to the Hub, after checks that a stranger's loading it depends on."""

import json
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import HFValidationError, validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_imports

from dataset_builder.digest import sha256_of

from .benchmark_results import BenchmarkResults, read_results
from .card import model_card
from .refusals import content_problems, link_problems, pickle_problem
from .upload import Upload, UploadFile, check_repo_id, refuse

# JSON files that the checks and the card read -> what in them must be an object, as the file itself must be
OBJECTS = {
    "config.json": ("text_config", "ecg_config", "auto_map"),
    "adapter_config.json": (),
    "training_run.json": ("model", "data", "tuning", "optimisation", "batch", "length", "versions", "carbon"),
    "model.safetensors.index.json": ("weight_map",),
}
# Documents that name the classes, and so the code, to load the folder with.
CODE_MAPS = ("config.json", "processor_config.json")
# pattern of a name -> why it stays here
LEFT_OUT = {
    ".*": "hidden",
    "__pycache__": "byte code",
    "checkpoint-*": "an earlier state of the training run",
    "checkpoint_files.json": "training state",
    "stages": "earlier stages of the training run",
    "README.md": "replaced by the model card",
    "check_logits*.safetensors": "holds recordings of patients",
    "samples.jsonl": "holds reports of patients",
    "events.out.tfevents.*": "log of the training run",
    "emissions*.csv": "says where the machine stands; what it used is in training_run.json",
    "training_args.bin": "training state, a pickle",
    "optimizer.pt": "training state, a pickle",
    "optimizer.bin": "training state, a pickle",
    "scheduler.pt": "training state, a pickle",
    "scaler.pt": "training state, a pickle",
    "rng_state*.pth": "training state, a pickle",
    "pytorch_model_fsdp.bin": "training state, a pickle",
    "trainer_state.json": "training state",
    "global_step*": "training state of DeepSpeed",
    "latest": "training state of DeepSpeed",
    "zero_to_fp32.py": "training state of DeepSpeed",
}
# What an earlier upload to the same repository must not leave beside this one: an adapter beside a full checkpoint, a
# shard too many, or code that nothing names any more.
REPLACES = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "training_run.json", "*.py")


def prepare_model(
    folder: str | Path,
    repo_id: str,
    text_model_id: str | None = None,
    license_name: str = "other",
    language: str = "en",
    results: Sequence[str | Path] = (),
) -> Upload:
    """Check a trained folder and lay out its upload; nothing in the folder is changed.

    In the uploaded copies an adapter's `base_model_name_or_path` is the repository itself, so that loading it
    runs our class and not a plain language model, and `config.json` names the backbone by its Hub id alone.
    The card replaces README.md.

    Args:
        folder: what training wrote (adapter, encoder, projector), or a full checkpoint, with its processor.
        repo_id: "organisation/name" on the Hub.
        text_model_id: the backbone's Hub id, where the folder does not name it.
        license_name: for the card's metadata, an identifier that the Hub knows.
        language: of the reports, for the card's metadata.
        results: files `results.json` that `meit-ecg benchmark` wrote of this model, for the card.

    Raises:
        UploadError: the folder is absent or incomplete, a file is a pickle or no valid JSON, weights hold NaN
            or infinity, a file holds a local path or what names a patient, an adapter's backbone has no known Hub id,
            or results are of another model.
    """
    folder = Path(folder)
    check_repo_id(repo_id)
    if not folder.is_dir():
        refuse(folder, [f"{folder} is not a folder"])
    paths, left_out = _select(folder)
    refuse(folder, link_problems(folder, paths))
    documents, problems = _read_json(paths)
    problems += _missing(paths, documents)
    weights = [name for name in paths if Path(name).suffix == ".safetensors"]
    problems += [problem for name in weights for problem in _not_finite(name, paths[name])]

    config, is_adapter = documents.get("config.json", {}), "adapter_config.json" in paths
    run = documents.get("training_run.json", {})
    text_model_id = text_model_id or config.get("text_model_id") or (None if is_adapter else _known_id(run))
    if "config.json" in documents:
        problems += _backbone_problems(text_model_id, is_adapter)
    published = _published(documents, repo_id, text_model_id)
    # A document that publishing leaves alone goes up byte for byte.
    files = [
        UploadFile(name, path if published.get(name) == documents.get(name) else _as_json(published[name]))
        for name, path in paths.items()
    ]
    unread = [file for file in files if Path(file.name).suffix == ".json" and file.name not in documents]
    problems += filter(None, map(pickle_problem, unread))
    problems += content_problems([file for file in files if file not in unread], folder, of_patients=False)
    refuse(folder, problems)

    card = model_card(
        config, run, repo_id, text_model_id, is_adapter, license_name, language, _results(results, paths, repo_id)
    )
    files.append(UploadFile("README.md", card.encode("utf-8")))
    refuse(folder, content_problems(files[-1:], folder, of_patients=False))
    return Upload("model", files, left_out, REPLACES)


def _select(folder: Path) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """Name -> path of what goes up, and (name, reason) of what does not."""
    paths, left_out = {}, []
    for path in sorted(folder.iterdir()):
        reason = next((why for pattern, why in LEFT_OUT.items() if fnmatch(path.name, pattern)), None)
        if reason is not None:
            left_out.append((path.name + "/" * path.is_dir(), reason))
        elif path.is_dir() and not path.is_symlink():
            inner, inner_left_out = _select(path)
            paths |= {f"{path.name}/{name}": file for name, file in inner.items()}
            left_out += [(f"{path.name}/{name}", why) for name, why in inner_left_out]
        else:
            paths[path.name] = path
    return paths, left_out


def _read_json(paths: dict[str, Path]) -> tuple[dict[str, Any], list[str]]:
    documents, problems = {}, []
    for name, path in paths.items():
        if path.suffix != ".json" or path.is_dir():
            continue
        try:
            documents[name] = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            problems.append(f"{name}: not valid JSON ({error})")
    for name in [name for name in OBJECTS if name in documents]:
        document = documents[name]
        parts = {f"{key}: ": document.get(key, {}) for key in OBJECTS[name]} if isinstance(document, dict) else {}
        wrong = [(where, part) for where, part in ({"": document} | parts).items() if not isinstance(part, dict)]
        if wrong:
            del documents[name]
        problems += [f"{name}: {where}expected a JSON object, found {type(part).__name__}" for where, part in wrong]
    return documents, problems


def _missing(paths: dict[str, Path], documents: dict[str, Any]) -> list[str]:
    """Files without which the folder would not load."""
    problems = []
    if "config.json" not in paths:
        problems.append("config.json is missing: this is not a folder that training or save_pretrained wrote")
    if "adapter_config.json" in paths:
        needed = {"adapter_model.safetensors"}
    elif "model.safetensors.index.json" in paths:
        needed = set(map(str, documents.get("model.safetensors.index.json", {}).get("weight_map", {}).values()))
    else:
        needed = {"model.safetensors"}
    problems += [f"{name} is missing: no weights to upload" for name in sorted(needed - set(paths))]
    if not {"processor_config.json", "preprocessor_config.json"} & set(paths):
        problems.append("processor_config.json is missing: without the processor nobody can feed an ECG in")
    config = documents.get("config.json", {})
    auto_map = config.get("auto_map", {})
    if "config.json" in documents and "depth" not in config.get("ecg_config", {}):
        problems.append("config.json: ecg_config states no depth, so nobody could tell which encoder this is")
    if "config.json" in documents and not auto_map:
        problems.append("config.json: no auto_map, so AutoModel could not find the model's code")
    for document in CODE_MAPS:
        code_map = documents.get(document, {}).get("auto_map", {})
        for reference in map(str, code_map.values()) if isinstance(code_map, dict) else ():
            module = reference.rpartition("--")[2].partition(".")[0]
            problems += _missing_code(module, f"{document} takes {reference} from it", paths)
    return list(dict.fromkeys(problems))


def _missing_code(module: str, reason: str, paths: dict[str, Path]) -> list[str]:
    """Files of code that `module`, or what it imports, needs and that do not lie beside config.json."""
    problems, pending, seen = [], [(module, reason)], set()
    while pending:
        name, why = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if f"{name}.py" not in paths:
            problems.append(f"{name}.py is missing: {why}")
            continue
        imported = sorted(get_relative_imports(paths[f"{name}.py"]))
        pending += [(other, f"{name}.py imports from it") for other in imported]
    return problems


def _not_finite(name: str, path: Path) -> list[str]:
    """One problem for a weights file with NaN or infinity, tensor by tensor so that memory stays small."""
    bad = []
    try:
        with safe_open(path, framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118 - a file handle, not a dict
                tensor = weights.get_tensor(key)
                # In float32, as torch does not ask it of numbers of 8 bits.
                if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
                    bad.append(key)
    except (SafetensorError, OSError) as error:
        return [f"{name}: not a readable safetensors file ({error})"]
    return [f"{name}: NaN or infinite weights in {len(bad)} tensors, the first is {bad[0]}"] if bad else []


def _known_id(run: dict) -> str | None:
    """The backbone's Hub id by the run's record, which names a folder of this machine by its last part alone."""
    name = run.get("model", {}).get("text_model")
    return name if isinstance(name, str) and "/" in name else None


def _backbone_problems(text_model_id: str | None, is_adapter: bool) -> list[str]:
    if text_model_id is None:
        if not is_adapter:
            return []
        return [
            "config.json: text_model_id is empty, so nobody elsewhere could tell or load the language model it "
            "builds on; name its Hub id with --text-model-id"
        ]
    try:
        validate_repo_id(text_model_id)
    except HFValidationError:
        return [f"config.json: {text_model_id!r} is not the Hub id of a language model; name it with --text-model-id"]
    return []


def _published(documents: dict[str, Any], repo_id: str, text_model_id: str | None) -> dict[str, Any]:
    """The JSON documents as others need them: no place on this machine, the backbone by its Hub id."""
    published = dict(documents)
    config = {"text_model_path": None}
    if "adapter_config.json" in documents:
        config["text_model_id"] = text_model_id
        published["adapter_config.json"] = documents["adapter_config.json"] | {"base_model_name_or_path": repo_id}
    if "config.json" in documents:
        published["config.json"] = _without_names(documents["config.json"]) | config
    return published


def _without_names(document: Any) -> Any:
    """A configuration without the notes on where each part was loaded from."""
    if isinstance(document, dict):
        return {key: _without_names(value) for key, value in document.items() if key != "_name_or_path"}
    return document


def _as_json(document: Any) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def _results(results: Sequence[str | Path], paths: dict[str, Path], repo_id: str) -> list[BenchmarkResults]:
    """Results of this model, told by the digests of its weights."""
    if not results:
        return []
    digests = {name: sha256_of(path) for name, path in paths.items() if path.suffix == ".safetensors"}
    return [result for path in results for result in read_results(path, digests, repo_id)]
