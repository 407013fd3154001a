"""What of a trained folder goes to the Hub, after checks that a stranger's loading it depends on."""

import json
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import HFValidationError, validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_imports

from reporting.notice import DRAFT_NOTICE

CARD = "model_card.md"
UNKNOWN = "not recorded"
# Corpora whose licence and citation the card's template holds, between lines that name them.
CORPORA = ("ptb-xl", "mimic-iv-ecg", "simulated")
CORPUS_BLOCK = re.compile(r"<!-- only: (.+?) -->\n(.*?)<!-- end -->\n", re.DOTALL)
# JSON files that the checks and the card read -> what in them must be an object, as the file itself must be
OBJECTS = {
    "config.json": ("ecg_config", "auto_map"),
    "adapter_config.json": (),
    "training_run.json": ("model", "data", "lora", "optimisation", "versions"),
    "model.safetensors.index.json": ("weight_map",),
}

# Documents that name the classes, and so the code, to load the folder with.
CODE_MAPS = ("config.json", "processor_config.json")

# pattern of a name -> why it stays here
LEFT_OUT = {
    ".*": "hidden",
    "__pycache__": "byte code",
    "checkpoint-*": "an earlier state of the training run",
    "README.md": "replaced by the model card",
    "check_logits.safetensors": "holds recordings of patients",
    "training_args.bin": "training state, a pickle",
    "optimizer.pt": "training state, a pickle",
    "scheduler.pt": "training state, a pickle",
    "scaler.pt": "training state, a pickle",
    "rng_state*.pth": "training state, a pickle",
    "trainer_state.json": "training state",
}
PICKLES = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
# A tokenizer's vocabulary holds any string, paths included.
VOCABULARIES = {"tokenizer.json", "vocab.json", "added_tokens.json"}
LOCAL_PATH = re.compile(r"/\w|~/|[A-Za-z]:[\\/]|\\\\|file:")


class UploadError(ValueError):
    """A folder that must not be uploaded as it is; the message lists every reason."""


@dataclass(frozen=True)
class UploadFile:
    """One file of the upload: its name in the repository, and its content or where that lies."""

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True)
class Upload:
    """Files to upload, and (name, reason) of what stays here."""

    files: list[UploadFile]
    left_out: list[tuple[str, str]]


def prepare_upload(
    folder: str | Path, repo_id: str, text_model_id: str | None = None, license_name: str = "other"
) -> Upload:
    """Check a trained folder and lay out its upload; nothing in the folder is changed.

    In the uploaded copies an adapter's `base_model_name_or_path` is the repository itself, so that loading it
    runs our class and not a plain language model, and `config.json` names the backbone by its Hub id alone.
    The card replaces README.md.

    Args:
        folder: what training wrote (adapter, encoder, projector), or a full checkpoint, with its processor.
        repo_id: "organisation/name" on the Hub.
        text_model_id: the backbone's Hub id, where `config.json` does not name it.
        license_name: for the card's metadata, an identifier that the Hub knows.
    Raises:
        UploadError: the folder is absent or incomplete, a file is a pickle or no valid JSON, weights hold NaN
            or infinity, a JSON file names a local path, or the backbone's Hub id is unknown.
    """
    folder = Path(folder)
    _check_repo_id(repo_id)
    if not folder.is_dir():
        raise UploadError(f"{folder} is not a folder")
    paths, left_out = _select(folder)
    problems = [
        f"{name}: a pickle runs code when it is read; save weights as safetensors"
        for name, path in paths.items()
        if path.suffix.lower() in PICKLES
    ]
    documents, invalid = _read_json(paths)
    problems += invalid
    problems += _missing(paths, documents)
    problems += [f for name, path in paths.items() if path.suffix == ".safetensors" for f in _not_finite(name, path)]

    config = documents.get("config.json", {})
    text_model_id = text_model_id or config.get("text_model_id")
    if "config.json" in documents and not text_model_id:
        problems.append(
            "config.json: text_model_id is empty, so nobody elsewhere could tell or load the language model it "
            "builds on; name its Hub id with --text-model-id"
        )
    published = _published(documents, repo_id, text_model_id)
    problems += [
        f"{name}: {key} is a path of this machine: {value}"
        for name, document in published.items()
        if name not in VOCABULARIES
        for key, value in _strings(document)
        if LOCAL_PATH.match(value)
    ]
    if problems:
        raise UploadError(f"{folder} cannot be uploaded:\n" + "\n".join(f"  - {problem}" for problem in problems))

    # A document that publishing leaves alone goes up byte for byte.
    files = [
        UploadFile(name, path if published.get(name) == documents.get(name) else _as_json(published[name]))
        for name, path in paths.items()
    ]
    card = _card(config, documents.get("training_run.json", {}), repo_id, text_model_id, license_name)
    return Upload([*files, UploadFile("README.md", card.encode("utf-8"))], left_out)


def _check_repo_id(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UploadError(f"{repo_id!r} is not a repository id: {error}") from error
    if "/" not in repo_id:
        raise UploadError(f"{repo_id!r} is not a repository id: expected organisation/name")


def _select(folder: Path) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """Name -> path of what goes up, and (name, reason) of what does not."""
    paths, left_out = {}, []
    for path in sorted(folder.iterdir()):
        reason = next((why for pattern, why in LEFT_OUT.items() if fnmatch(path.name, pattern)), None)
        if reason is not None:
            left_out.append((path.name + "/" * path.is_dir(), reason))
        elif path.is_dir():
            inner, inner_left_out = _select(path)
            paths |= {f"{path.name}/{name}": file for name, file in inner.items()}
            left_out += [(f"{path.name}/{name}", why) for name, why in inner_left_out]
        else:
            paths[path.name] = path
    return paths, left_out


def _read_json(paths: dict[str, Path]) -> tuple[dict[str, Any], list[str]]:
    documents, problems = {}, []
    for name, path in paths.items():
        if path.suffix != ".json":
            continue
        try:
            documents[name] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
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
    """Files of code that `module`, or what it imports, needs and that are not there."""
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
                if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                    bad.append(key)
    except (SafetensorError, OSError) as error:
        return [f"{name}: not a readable safetensors file ({error})"]
    return [f"{name}: NaN or infinite weights in {len(bad)} tensors, the first is {bad[0]}"] if bad else []


def _published(documents: dict[str, Any], repo_id: str, text_model_id: str | None) -> dict[str, Any]:
    """The JSON documents as others need them: no place on this machine, the backbone by its Hub id."""
    published = dict(documents)
    if "adapter_config.json" in documents:
        published["adapter_config.json"] = documents["adapter_config.json"] | {"base_model_name_or_path": repo_id}
    if "config.json" in documents:
        config = {"text_model_id": text_model_id, "text_model_path": None}
        published["config.json"] = _without_names(documents["config.json"]) | config
    return published


def _without_names(document: Any) -> Any:
    """A configuration without the notes on where each part was loaded from."""
    if isinstance(document, dict):
        return {key: _without_names(value) for key, value in document.items() if key != "_name_or_path"}
    return document


def _strings(document: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string value in a JSON document with the dotted key it stands at."""
    if isinstance(document, str):
        yield key or "the document", document
    elif isinstance(document, dict):
        for name, value in document.items():
            yield from _strings(value, f"{key}.{name}" if key else name)
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from _strings(value, f"{key}[{index}]")


def _as_json(document: Any) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def _card(config: dict, run: dict, repo_id: str, text_model_id: str, license_name: str) -> str:
    """The model card with every `{{ name }}` filled in, and of the corpora the one that the run learned from."""
    model, data, lora = (run.get(part, {}) for part in ("model", "data", "lora"))
    is_encoder_decoder = "AutoModelForSeq2SeqLM" in config["auto_map"]
    values = {
        "repo_id": repo_id,
        "auto_class": "AutoModelForSeq2SeqLM" if is_encoder_decoder else "AutoModelForCausalLM",
        # Where the report begins in what is generated: the decoder of an encoder-decoder does not repeat the prompt.
        "report_start": "1" if is_encoder_decoder else 'inputs["input_ids"].shape[1]',
        "base_model": text_model_id,
        "license": license_name,
        "notice": DRAFT_NOTICE,
        "encoder": f"1-D ResNet-{config['ecg_config']['depth']}",
        "fusion": _fusion(config),
        "format_version": config.get("format_version", UNKNOWN),
        "ecg_scaling": model.get("ecg_scaling", UNKNOWN),
        "training_data": " ".join(str(data[k]) for k in ("dataset", "config", "split") if data.get(k)) or UNKNOWN,
        "training_records": data.get("records", UNKNOWN),
        "lora": _listed(lora),
        "optimisation": _listed(run.get("optimisation", {})),
        "versions": _listed(run.get("versions", {})),
    }
    corpus = data["config"] if data.get("config") in CORPORA else "other"
    template = CORPUS_BLOCK.sub(lambda block: block[2] if corpus in block[1].split() else "", _card_template())
    return re.sub(r"\{\{ (\w+) \}\}", lambda found: str(values[found[1]]), template)


def _listed(facts: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None) or UNKNOWN


def _fusion(config: dict) -> str:
    fusion, layers = config.get("fusion", UNKNOWN), config.get("fusion_layers")
    if fusion == "llava":
        return f"llava, {config.get('num_ecg_tokens', 1)} tokens per ECG"
    return f"{fusion}, {'every layer' if layers is None else f'layers {layers}'}"


def _card_template() -> str:
    """model_card.md from the checkout, or from where an installed distribution keeps its data."""
    for folder in (Path(__file__).parent.parent, Path(sysconfig.get_path("data")) / "share" / "meit-ecg"):
        if (folder / CARD).is_file():
            return (folder / CARD).read_text(encoding="utf-8")
    raise FileNotFoundError(f"{CARD} is neither in the checkout nor among the installed files; reinstall meit-ecg")
