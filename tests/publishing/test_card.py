"""The model card: what it says, and that its metadata is what the Hub reads."""

import copy
import hashlib
import json

import pytest
import yaml
from huggingface_hub import ModelCard

from publishing.model_folder import prepare_model
from reporting.notice import DRAFT_NOTICE

from .folders import BACKBONE, REPO, contents, read_json, refusal, write_json


def test_the_card_is_filled_in(adapter):
    card = contents(prepare_model(adapter, REPO, license_name="apache-2.0"))["README.md"].decode()
    metadata = card.split("---")[1]
    assert f"base_model: {BACKBONE}" in metadata
    assert "license: apache-2.0" in metadata
    for words in (
        DRAFT_NOTICE,
        "meit-ecg ptb-xl train (400 records)",
        "1-D ResNet-18",
        "concat, every layer",
        "| frozen, with LoRA (lora_r 8, lora_target_modules q_proj v_proj) |",
        "2403.04945",
        "| carbon | not recorded |",
    ):
        assert words in card
    assert "{{" not in card


@pytest.mark.parametrize("corpus", ["ptb-xl", "mimic-iv-ecg", "simulated", "our-clinic", None])
def test_the_card_names_the_corpus_of_the_run_alone(adapter, corpus):
    write_json(adapter / "training_run.json", {"data": {"corpora": [{"dataset": "meit-ecg", "config": corpus}]}})
    card = contents(prepare_model(adapter, REPO))["README.md"].decode()
    words = {
        "ptb-xl": ("CC BY 4.0", "P. Wagner"),
        "mimic-iv-ecg": ("ODbL 1.0", "B. Gow"),
        "simulated": ("NeuroKit2",),
    }
    for name, of_corpus in words.items():
        assert all((word in card) == (name == corpus) for word in of_corpus), name
    assert ("A. L. Goldberger" in card) == (corpus in ("ptb-xl", "mimic-iv-ecg"))
    assert ("its source states the licence" in card) == (corpus not in words)
    assert "<!--" not in card


@pytest.mark.parametrize(
    ("fusion", "words"),
    [
        ({"fusion": "llava", "num_ecg_tokens": 4}, "| fusion | llava, 4 tokens per ECG |"),
        ({"fusion": "flamingo", "fusion_layers": [0, 5]}, "| fusion | flamingo, layers [0, 5] |"),
    ],
)
def test_the_card_says_how_the_ecg_meets_the_text(adapter, fusion, words):
    write_json(adapter / "config.json", read_json(adapter / "config.json") | fusion)
    assert words in contents(prepare_model(adapter, REPO))["README.md"].decode()


@pytest.mark.parametrize("is_encoder_decoder", [False, True])
def test_the_card_loads_the_class_that_the_folder_holds(adapter, is_encoder_decoder):
    auto_class, other = "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"
    if is_encoder_decoder:
        auto_class, other = other, auto_class
    config = read_json(adapter / "config.json") | {"auto_map": {auto_class: "modeling_meit.ECGLlamaForCausalLM"}}
    write_json(adapter / "config.json", config)
    card = contents(prepare_model(adapter, REPO))["README.md"].decode()
    assert auto_class in card
    assert other not in card
    assert ('inputs["input_ids"].shape[1] :]' in card) != is_encoder_decoder


def interval(estimate, low, high):
    return {"estimate": estimate, "low": low, "high": high}


FIGURE = {
    "right": interval(0.5, 0.4, 0.6),
    "other": interval(0.25, 0.2, 0.3),
    "flat": interval(0.1, 0.1, 0.1),
    "gap_other": interval(0.25, 0.15, 0.35),
    "gap_flat": interval(0.4, 0.3, 0.5),
}
UNDEFINED = {"right": interval(None, None, None), "other": None, "flat": None, "gap_other": None, "gap_flat": None}


@pytest.fixture
def results(adapter, tmp_path):
    """Figures as `meit-ecg benchmark` writes them of the adapter, beside a baseline's and another model's."""
    model = {
        "kind": "model",
        "model": {"name": str(adapter), "weights": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in adapter.glob("*.safetensors")
        }},
        "text_model": "/home/me/SmolLM2",
        "max_new_tokens": 64,
        "instruction": "Write the report for this 12-lead ECG.",
        "dtype": "torch.bfloat16",
        "figures": {
            "BLEU-4": FIGURE,
            "loss (nats per report)": FIGURE,
            "ROUGE-L": FIGURE,
            "hallucination rate": FIGURE,
            "critical-miss rate": UNDEFINED,
        },
        "signal": {"checked": 120, "contradicted": 7},
        "reads_the_ecg": True,
        "verdict": "It reads the ECG.",
    }  # fmt: skip
    of_another = {"model": {"name": "another", "weights": {"adapter_model.safetensors": "0" * 64}}}
    systems = {
        "ours": model,
        "most frequent report": model | {"kind": "baseline", "model": None, "verdict": "A baseline."},
        "another": model | of_another | {"verdict": "Another model."},
    }
    data = {"dataset": "meit-ecg", "config": "ptb-xl", "split": "test", "records": 207, "patients": 205}
    content = {
        "format_version": 1,
        "seed": 0,
        "settings": {},
        "tasks": {
            "quality/ptb-xl": {"task": "quality", "data": data, "systems": systems},
            "noise/ptb-xl": {"task": "noise", "data": data, "systems": {"ours": {"kind": "model"}}},
        },
    }
    path = tmp_path / "results.json"
    write_json(path, content)
    return path


def change(path, **changes):
    """Change what the results say of the adapter in the task `quality`; None takes a key away."""
    content = read_json(path)
    system = content["tasks"]["quality/ptb-xl"]["systems"]["ours"]
    for key, value in changes.items():
        if value is None:
            del system[key]
        else:
            system[key] = value
    write_json(path, content)


def test_results_stand_in_the_card_with_their_conditions(adapter, results):
    card = contents(prepare_model(adapter, REPO, results=[results]))["README.md"].decode()
    assert "**meit-ecg, config ptb-xl, split test**: task quality, records 207, patients 205, max_new_tokens 64" in card
    head = "| | right ECG | gap to another patient's ECG | gap to a flat line |"
    gaps = "+0.250 (+0.150 to +0.350) | +0.400 (+0.300 to +0.500) |"
    for line in (
        head,
        f"| BLEU-4 | 0.500 (0.400 to 0.600) | {gaps}",
        f"| hallucination rate | 0.500 (0.400 to 0.600) | {gaps}",
        "| critical-miss rate | n/a | n/a | n/a |",
        "Of 120 statements that can be measured, the signal contradicts 7.",
        "It reads the ECG.",
    ):
        assert f"\n{line}\n" in card
    for words in ("/home/me", "A baseline.", "Another model."):
        assert words not in card
    data = ModelCard(card).data
    assert data.metrics == ["bleu", "loss", "rouge", "hallucination rate"]
    found = {result.metric_name: result for result in data.eval_results}
    assert len(found) == 12
    best = found["BLEU-4, right ECG"]
    assert (best.metric_type, best.metric_value) == ("bleu", 0.5)
    assert (best.dataset_type, best.dataset_config, best.dataset_split) == ("meit-ecg", "ptb-xl", "test")
    assert best.dataset_args["records"] == 207
    assert found["BLEU-4, gap to another patient's ECG"].metric_value == 0.25


def test_each_task_that_measured_the_model_stands_in_the_card(adapter, results):
    content = read_json(results)
    quality = content["tasks"]["quality/ptb-xl"]
    data = quality["data"] | {"config": "mimic-iv-ecg", "records": 98}
    content["tasks"]["zero_shot/mimic-iv-ecg"] = quality | {"task": "zero_shot", "data": data}
    write_json(results, content)
    card = contents(prepare_model(adapter, REPO, results=[results]))["README.md"].decode()
    assert "config mimic-iv-ecg, split test**: task zero_shot, records 98" in card
    assert card.count("| BLEU-4 |") == 2
    configs = [result.dataset_config for result in ModelCard(card).data.eval_results]
    assert (configs.count("ptb-xl"), configs.count("mimic-iv-ecg")) == (12, 12)


def test_results_without_their_data_say_so(adapter, results):
    content = read_json(results)
    for key in ("dataset", "config", "split"):
        content["tasks"]["quality/ptb-xl"]["data"][key] = None
    write_json(results, content)
    card = contents(prepare_model(adapter, REPO, results=[results]))["README.md"].decode()
    assert "**not recorded, config not recorded, split not recorded**" in card


def test_results_of_another_model_are_refused(adapter, results):
    (adapter / "adapter_model.safetensors").write_bytes((adapter / "check_logits.safetensors").read_bytes())
    assert "figures of another model" in refusal(adapter, results=[results])
    model = read_json(results)["tasks"]["quality/ptb-xl"]["systems"]["ours"]["model"]
    change(results, model=model | {"name": REPO})  # a folder that has the repository's name
    assert "figures of another model" in refusal(adapter, results=[results])
    change(results, model={"name": REPO, "weights": {}})  # loaded from the repository itself
    prepare_model(adapter, REPO, results=[results])


def test_results_of_other_tasks_alone_are_refused(adapter, results):
    content = read_json(results)
    del content["tasks"]["quality/ptb-xl"]
    write_json(results, content)
    assert "or of none in the tasks quality and zero_shot" in refusal(adapter, results=[results])


@pytest.mark.parametrize("key", ["model", "figures", "signal", "verdict", "dtype"])
def test_results_that_lack_something_are_refused(adapter, results, key):
    change(results, **{key: None})
    assert "not a results.json that `meit-ecg benchmark` wrote" in refusal(adapter, results=[results])


@pytest.mark.parametrize(
    "text",
    ['{"settings": {}, "figures": {}, "verdict": ""}', '{"id": "1"}\n{"id": "2"}\n', "[]", '"results"', "", "\xff"],
)
def test_files_of_other_kinds_are_refused(adapter, tmp_path, text):
    path = tmp_path / "quality.json"
    path.write_text(text, encoding="latin-1")
    assert "not a results.json that `meit-ecg benchmark` wrote" in refusal(adapter, results=[path])


@pytest.mark.parametrize("version", [2, "1", None])
def test_results_of_another_format_are_refused(adapter, results, version):
    write_json(results, read_json(results) | {"format_version": version})
    assert f"results of format {version!r}, expected 1" in refusal(adapter, results=[results])


def test_without_results_the_card_says_so(adapter):
    card = contents(prepare_model(adapter, REPO))["README.md"].decode()
    assert "None were uploaded with this model" in card
    assert "model-index" not in card


def test_the_metadata_is_what_the_hub_reads(adapter):
    card = ModelCard(contents(prepare_model(adapter, REPO, license_name="apache-2.0"))["README.md"].decode())
    assert card.data.to_dict() == {
        "language": "en",
        "license": "apache-2.0",
        "library_name": "transformers",
        "base_model": BACKBONE,
        "base_model_relation": "adapter",
        "tags": ["electrocardiogram", "ecg", "report-generation", "medical", "meit", "ptb-xl"],
    }
    assert yaml.safe_load(card.data.to_yaml()) == card.data.to_dict()


def test_a_mixture_names_every_corpus_and_the_carbon_that_was_measured(adapter):
    run = copy.deepcopy(read_json(adapter / "training_run.json"))
    run["data"] |= {
        "corpora": [
            {"dataset": "some-lab/meit-ecg", "config": "ptb-xl", "records": 400},
            {"dataset": "some-lab/meit-ecg", "config": "mimic-iv-ecg", "records": 800},
        ],
        "mixture_weights": [0.25, 0.75],
        "records": 1200,
    }
    run["carbon"] = {"kg_co2e": 0.125, "source": "codecarbon"}
    run["tuning"] = {"mode": "dora", "lora_r": 4}
    write_json(adapter / "training_run.json", run)
    text = contents(prepare_model(adapter, REPO))["README.md"].decode()
    for words in (
        "some-lab/meit-ecg ptb-xl train (400 records, weight 0.25); some-lab/meit-ecg mimic-iv-ecg train (800 records",
        "CC BY 4.0",
        "ODbL 1.0",
        "P. Wagner",
        "B. Gow",
        "frozen, with DoRA (lora_r 4)",
        "0.125 kg CO2e (codecarbon)",
        "| training records | 1200 |",
    ):
        assert words in text, words
    assert "its source states the licence" not in text
    data = ModelCard(text).data
    assert data.datasets == ["some-lab/meit-ecg"]
    assert data.co2_eq_emissions == {"emissions": 125.0, "source": "codecarbon", "training_type": "fine-tuning"}


def test_the_card_speaks_of_every_stage_and_of_its_corpus(adapter):
    run = read_json(adapter / "training_run.json")
    run["earlier_run"] = {
        "model": {"encoder": "merl.safetensors"},
        "data": {
            "corpora": [{"dataset": "lab/meit-ecg", "config": "mimic-iv-ecg", "records": 800}],
            "split": "train",
            "records": 800,
        },
        "tuning": {"mode": "encoder"},
        "optimisation": {"learning_rate": 0.001},
        "carbon": {"kg_co2e": 1},
        "earlier_run": None,
    }
    run |= {"optimisation": {"learning_rate": 2e-05}, "carbon": {"kg_co2e": 0.5, "source": "codecarbon"}}
    write_json(adapter / "training_run.json", run)
    card = contents(prepare_model(adapter, REPO))["README.md"].decode()
    for words in (
        "| data | lab/meit-ecg mimic-iv-ecg train (800 records), then meit-ecg ptb-xl train (400 records) |",
        "| training records | 800, then 400 |",
        "| tuning of it | frozen, then frozen, with LoRA (",
        "| optimisation | learning_rate 0.001, then learning_rate 2e-05 |",
        "begun with the weights of merl.safetensors",
        "ODbL 1.0",
        "CC BY 4.0",
        "B. Gow",
    ):
        assert words in card, words
    data = ModelCard(card).data
    assert data.datasets == ["lab/meit-ecg"]
    assert {"ptb-xl", "mimic-iv-ecg"} <= set(data.tags)
    assert data.co2_eq_emissions["emissions"] == 1500
    del run["earlier_run"]["carbon"]
    write_json(adapter / "training_run.json", run)
    card = contents(prepare_model(adapter, REPO))["README.md"].decode()
    assert "| carbon | not recorded, then 0.5 kg CO2e (codecarbon) |" in card
    assert "co2_eq_emissions" not in card


@pytest.mark.parametrize("part", [None, [1], {"corpora": None}, {"corpora": 3}, {"kg_co2e": None}])
def test_a_record_whose_earlier_run_is_no_record_leaves_the_card_without_it(adapter, part):
    run = read_json(adapter / "training_run.json")
    write_json(adapter / "training_run.json", run | {"earlier_run": {"data": part, "carbon": part}})
    assert "| carbon | not recorded |" in contents(prepare_model(adapter, REPO))["README.md"].decode()


@pytest.mark.parametrize("weights", [[1], 3, None])
def test_weights_that_are_not_of_the_corpora_hide_none_of_them(adapter, weights):
    run = read_json(adapter / "training_run.json")
    run["data"] |= {"corpora": [{"config": "ptb-xl"}, {"config": "mimic-iv-ecg"}], "mixture_weights": weights}
    write_json(adapter / "training_run.json", run)
    card = contents(prepare_model(adapter, REPO))["README.md"].decode()
    assert "| data | ptb-xl train; mimic-iv-ecg train |" in card
    assert "ODbL 1.0" in card


def test_of_a_folder_without_a_record_the_card_says_what_is_not_known(adapter):
    (adapter / "training_run.json").unlink()
    card = contents(prepare_model(adapter, REPO))["README.md"].decode()
    for line in ("| tuning of it | not recorded |", "| data | not recorded |", "| seed | not recorded |"):
        assert line in card


def test_a_full_checkpoint_is_a_finetune_of_the_recorded_base(adapter):
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).unlink()
    (adapter / "model.safetensors").write_bytes((adapter / "check_logits.safetensors").read_bytes())
    write_json(adapter / "config.json", read_json(adapter / "config.json") | {"text_model_id": None})
    run = read_json(adapter / "training_run.json") | {"tuning": {"mode": "full"}}
    write_json(adapter / "training_run.json", run)
    uploaded = contents(prepare_model(adapter, REPO))
    data = ModelCard(uploaded["README.md"].decode()).data
    assert (data.base_model, data.base_model_relation) == (BACKBONE, "finetune")
    assert "tuned whole" in uploaded["README.md"].decode()
    assert json.loads(uploaded["config.json"])["text_model_id"] is None


@pytest.mark.parametrize("mode", ["lora", "qlora"])
def test_the_card_says_how_to_load_what_was_tuned_in_4_bits(adapter, mode):
    run = read_json(adapter / "training_run.json") | {"tuning": {"mode": mode}}
    write_json(adapter / "training_run.json", run)
    card = contents(prepare_model(adapter, REPO))["README.md"].decode()
    assert ("load_in_4bit=True" in card) == (mode == "qlora")
    assert "\n\n## Intended use" in card
