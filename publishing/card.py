"""The model card: `model_card.md` with every `{{ name }}` filled in."""

import re
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from reporting.notice import DRAFT_NOTICE

from .benchmark_results import UNKNOWN, BenchmarkResults

CARD = "model_card.md"
# Corpora whose licence and citation the template holds, between lines that name them.
CORPORA = ("ptb-xl", "mimic-iv-ecg", "simulated")
CORPUS_BLOCK = re.compile(r"<!-- only: (.+?) -->\n(.*?)<!-- end -->\n", re.DOTALL)
TAGS = ["electrocardiogram", "ecg", "report-generation", "medical", "meit"]
NO_RESULTS = "None were uploaded with this model. Do not take those of another one for it."
PACKED = """
The language model was in 4 bits (NF4) when this was tuned on it; in full precision it drafts otherwise. To load it as
it was, install `bitsandbytes` and pass to `from_pretrained` `quantization_config=BitsAndBytesConfig(load_in_4bit=True,
bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)`.
"""
# Parts of a run's record that the card lists as they are.
FACTS = ("optimisation", "batch", "length")
# How a run tuned the language model -> in words
TUNINGS = {
    "lora": "frozen, with LoRA",
    "dora": "frozen, with DoRA",
    "qlora": "frozen in 4 bits, with LoRA",
    "full": "tuned whole",
    "encoder": "frozen",
}


def model_card(
    config: dict,
    run: dict,
    repo_id: str,
    base_model: str | None,
    is_adapter: bool,
    license_name: str,
    language: str,
    results: Sequence[BenchmarkResults] = (),
) -> str:
    """The card with its metadata, and of the corpora those that the run learned from.

    Args:
        config: the model's `config.json`.
        run: `training_run.json`; what it lacks reads "not recorded".
        repo_id: "organisation/name".
        base_model: the language model's Hub id, where it is known.
        is_adapter: whether the weights are added to the language model's, or hold them.
        license_name: an identifier that the Hub knows.
        language: of the reports.
        results: what was measured.
    """
    runs = _runs(run)
    model, tuning = _part(run, "model"), _part(run, "tuning")
    data = [corpus for stage in runs for corpus in _training_data(stage)]
    is_encoder_decoder = "AutoModelForSeq2SeqLM" in config["auto_map"]
    values = {
        "metadata": _metadata(runs, repo_id, base_model, is_adapter, license_name, language, data, results),
        "repo_id": repo_id,
        "auto_class": "AutoModelForSeq2SeqLM" if is_encoder_decoder else "AutoModelForCausalLM",
        # Where the report begins in what is generated: the decoder of an encoder-decoder does not repeat the prompt.
        "report_start": "1" if is_encoder_decoder else 'inputs["input_ids"].shape[1]',
        "base_model": f"[{base_model}](https://huggingface.co/{base_model})" if base_model else UNKNOWN,
        "needs": "`torch`, `transformers`, `peft` and `numpy`" if is_adapter else "`torch`, `transformers` and `numpy`",
        "artifact": "The adapter here is added to" if is_adapter else "It holds the tuned weights of",
        "packed": PACKED if tuning.get("mode") == "qlora" else "",
        "notice": DRAFT_NOTICE,
        "encoder": _encoder(config["ecg_config"], runs),
        "fusion": _fusion(config),
        "format_version": config.get("format_version", UNKNOWN),
        "ecg_scaling": model.get("ecg_scaling", UNKNOWN),
        "training_data": _in_turn([_corpora(_training_data(stage)) for stage in runs]),
        "training_records": _in_turn([str(_part(stage, "data").get("records", UNKNOWN)) for stage in runs]),
        "tuning": _in_turn([_tuning(_part(stage, "tuning")) for stage in runs]),
        **{part: _in_turn([_listed(_part(stage, part)) for stage in runs]) for part in FACTS},
        "seed": run.get("seed", UNKNOWN),
        "versions": _listed(_part(run, "versions")),
        "carbon": _in_turn([_carbon_text(_part(stage, "carbon")) for stage in runs]),
        "results": "\n\n".join(result.to_markdown() for result in results) or NO_RESULTS,
    }
    corpora = {corpus["config"] if corpus.get("config") in CORPORA else "other" for corpus in data} or {"other"}
    template = CORPUS_BLOCK.sub(lambda block: block[2] if corpora & set(block[1].split()) else "", _template())
    return re.sub(r"\{\{ (\w+) \}\}", lambda found: str(values[found[1]]), template)


def _metadata(
    runs: list[dict],
    repo_id: str,
    base_model: str | None,
    is_adapter: bool,
    license_name: str,
    language: str,
    data: list[dict],
    results: Sequence[BenchmarkResults],
) -> str:
    """The front matter, as YAML. It names no pipeline: none of the Hub's takes an ECG."""
    evaluations = [evaluation for result in results for evaluation in result.evaluations()]
    configs = [corpus["config"] for corpus in data if corpus.get("config") in CORPORA]
    # Of a local folder no dataset of that name need be on the Hub.
    datasets = [corpus["dataset"] for corpus in data if "/" in str(corpus.get("dataset"))]
    facts: dict[str, Any] = {
        "language": language,
        "license": license_name,
        "license_name": "of-the-language-model-and-the-data" if license_name == "other" else None,
        "library_name": "transformers",
        "base_model": base_model,
        "base_model_relation": None if base_model is None else "adapter" if is_adapter else "finetune",
        "datasets": list(dict.fromkeys(datasets)) or None,
        "tags": list(dict.fromkeys([*TAGS, *configs])),
        "metrics": list(dict.fromkeys(evaluation.metric_type for evaluation in evaluations)) or None,
        "co2_eq_emissions": _carbon_metadata([_part(stage, "carbon") for stage in runs]),
    }
    if evaluations:
        facts |= {"model_name": repo_id.rpartition("/")[2], "eval_results": evaluations}
    return ModelCardData(**facts).to_yaml()


def _runs(run: dict) -> list[dict]:
    """A run and those whose weights it began with, such as the earlier stages of a recipe, the first in front."""
    runs = [run]
    while earlier := _part(runs[0], "earlier_run"):
        runs.insert(0, earlier)
    return runs


def _part(document: dict, name: str) -> dict:
    part = document.get(name)
    return part if isinstance(part, dict) else {}


def _list(document: dict, name: str) -> list:
    found = document.get(name)
    return found if isinstance(found, list) else []


def _in_turn(facts: list[str]) -> str:
    """The same fact of each run; once where it is the same of all."""
    return facts[0] if len(set(facts)) == 1 else ", then ".join(facts)


def _training_data(run: dict) -> list[dict]:
    """The corpora that one run mixed, each with the split and its weight."""
    data = _part(run, "data")
    corpora = [corpus for corpus in _list(data, "corpora") if isinstance(corpus, dict)]
    weights = _list(data, "mixture_weights")
    if len(weights) != len(corpora):
        weights = [None] * len(corpora)
    return [
        corpus | {"split": data.get("split"), "weight": weight} for corpus, weight in zip(corpora, weights, strict=True)
    ]


def _corpora(data: list[dict]) -> str:
    return "; ".join(map(_corpus, data)) or UNKNOWN


def _tuning(tuning: dict) -> str:
    facts = {name: value for name, value in tuning.items() if name != "mode"}
    mode = TUNINGS.get(tuning.get("mode"), UNKNOWN)
    return f"{mode} ({_listed(facts)})" if facts else mode


def _corpus(corpus: dict) -> str:
    name = " ".join(str(corpus[key]) for key in ("dataset", "config", "split") if corpus.get(key)) or UNKNOWN
    facts = [f"{corpus['records']} records"] if "records" in corpus else []
    facts += [f"weight {corpus['weight']}"] if corpus.get("weight") is not None else []
    return f"{name} ({', '.join(facts)})" if facts else name


def _listed(facts: dict) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in facts.items() if value is not None) or UNKNOWN


def _shown(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _encoder(ecg_config: dict, runs: list[dict]) -> str:
    facts = [f"1-D ResNet-{ecg_config['depth']}"]
    if norm := ecg_config.get("norm"):
        facts.append(f"{norm} normalisation")
    if begun_with := _part(runs[0], "model").get("encoder"):
        facts.append(f"begun with the weights of {begun_with}")
    return ", ".join(facts)


def _fusion(config: dict) -> str:
    fusion, layers = config.get("fusion", UNKNOWN), config.get("fusion_layers")
    if fusion == "llava":
        return f"llava, {config.get('num_ecg_tokens', 1)} tokens per ECG"
    return f"{fusion}, {'every layer' if layers is None else f'layers {layers}'}"


def _carbon_text(carbon: dict) -> str:
    if not isinstance(carbon.get("kg_co2e"), int | float):
        return UNKNOWN
    return f"{carbon['kg_co2e']:.3g} kg CO2e ({carbon.get('source', f'source {UNKNOWN}')})"


def _carbon_metadata(carbons: list[dict]) -> dict | None:
    """Of all runs together; None where it is not known of one of them."""
    if not all(isinstance(carbon.get("kg_co2e"), int | float) for carbon in carbons):
        return None
    grams = sum(carbon["kg_co2e"] for carbon in carbons) * 1000  # the Hub counts in grams
    return {"emissions": grams, "source": carbons[-1].get("source", UNKNOWN), "training_type": "fine-tuning"}


def _template() -> str:
    """model_card.md from the checkout, or from where an installed distribution keeps its data."""
    for folder in (Path(__file__).parent.parent, Path(sysconfig.get_path("data")) / "share" / "meit-ecg"):
        if (folder / CARD).is_file():
            return (folder / CARD).read_text(encoding="utf-8")
    raise FileNotFoundError(f"{CARD} is neither in the checkout nor among the installed files; reinstall meit-ecg")
