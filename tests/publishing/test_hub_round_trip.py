"""Train, push to the test Hub, load elsewhere by the repository's name: the same report, or words on why not."""

import inspect
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load, load_file, save, save_file
from transformers import GenerationConfig

import push_to_hub
from modeling_meit import ECGLlamaForCausalLM
from processing import LEADS, ECGProcessor
from tests.clean_environment import run_in_clean_environment
from tests.hub.hub import Hub
from tests.hub.server import serve_hub
from tests.hub.visit import visit
from tests.processing.synthetic import make_ecg
from tests.training.tiny_run import options, record, write_backbone, write_dataset
from training.sft import train

BACKBONE, REPO = "lab/tiny-llama", "lab/ecg-reports"
WEIGHTS = "adapter_model.safetensors"


def draft(model, processor, ecg, lead_names) -> dict:
    """The greedy report and the logits after the prompt; runs on the other machine as well, from its source."""
    part = {"type": "ecg", "ecg": ecg, "sampling_rate": 500, "lead_names": list(lead_names)}
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "What does this ECG show?"}]}]
    inputs = processor.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1]
        tokens = model.generate(**inputs, generation_config=GenerationConfig(max_new_tokens=20, do_sample=False))
    return {"report": processor.decode(tokens[0], skip_special_tokens=True), "logits": logits.tolist()}


@dataclass(frozen=True)
class Lab:
    """A pushed model, whose folder, backbone and records are no longer where they were.

    Attributes:
        folder: with ecg.npy, for what runs elsewhere.
        commits: of the push ("pushed"), which the tag "v1" names too, and of other weights on the branch "next".
        before: what the model of each commit drafted in its folder, before the push.
    """

    hub: Hub
    folder: Path
    commits: dict[str, str]
    before: dict[str, dict]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Train and push."""
    place = tmp_path_factory.mktemp("lab")
    work, elsewhere = place / "work", place / "elsewhere"
    work.mkdir()
    elsewhere.mkdir()
    backbone, folder = write_backbone(work / "tiny-llama"), work / "run"
    dataset = write_dataset(work / "records", train=[record(number) for number in range(4)], validation=[record(4)])
    model_args, *other_args = options(backbone, dataset, folder, max_steps=4)
    model_args.text_model_id = BACKBONE
    train(model_args, *other_args)
    ecg = make_ecg(seed=7)
    np.save(elsewhere / "ecg.npy", ecg)

    def drafted() -> dict:
        processor = ECGProcessor.from_pretrained(folder)
        return draft(ECGLlamaForCausalLM.from_pretrained(folder), processor, ecg, LEADS)

    before = {"pushed": drafted()}
    with serve_hub() as hub:
        with pytest.MonkeyPatch.context() as monkeypatch:
            visit(hub, monkeypatch)
            HfApi().create_repo(BACKBONE)
            HfApi().upload_folder(folder_path=backbone, repo_id=BACKBONE)
            assert push_to_hub.main([str(folder), REPO]) == 0
        repository = hub.repository(REPO)
        commits = {"pushed": repository.head.sha}
        repository.tags["v1"] = repository.branches["next"] = repository.head.sha

        other = {
            name: 3 * tensor if "lora_B" in name else tensor for name, tensor in load_file(folder / WEIGHTS).items()
        }
        save_file(other, folder / WEIGHTS)
        before["next"] = drafted()
        commits["next"] = hub.commit(REPO, {WEIGHTS: (folder / WEIGHTS).read_bytes()}, branch="next").sha
        work.rename(place / "gone")
        yield Lab(hub, elsewhere, commits, before)


ELSEWHERE = f"""
import json, sys
import numpy as np
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor, GenerationConfig

{inspect.getsource(draft)}
repo, backbone, pushed, following = sys.argv[1:]
trusted = {{"trust_remote_code": True}}
ecg, leads = np.load("ecg.npy"), {LEADS!r}
processor = AutoProcessor.from_pretrained(repo, **trusted)
config = AutoConfig.from_pretrained(repo, **trusted)
assert (config.text_model_path, config.text_model_id) == (None, backbone), config
model = AutoModelForCausalLM.from_pretrained(repo, **trusted)
assert type(model).__name__ == "ECGLlamaForCausalLM", type(model)
base = type(model).from_text_pretrained(backbone, config=config)
routes = {{
    "pushed": model,
    "pushed, AutoModel": AutoModel.from_pretrained(repo, **trusted),
    "pushed, PeftModel": PeftModel.from_pretrained(base, repo),
    "pushed, by tag": AutoModelForCausalLM.from_pretrained(repo, revision="v1", **trusted),
    "pushed, by commit": AutoModelForCausalLM.from_pretrained(repo, revision=pushed, **trusted),
    "next, by branch": AutoModelForCausalLM.from_pretrained(repo, revision="next", **trusted),
    "next, by commit": AutoModel.from_pretrained(repo, revision=following, **trusted),
}}
print(json.dumps({{name: draft(model.eval(), processor, ecg, leads) for name, model in routes.items()}}))
"""


def test_the_same_report_elsewhere(lab):
    arguments = (REPO, BACKBONE, lab.commits["pushed"], lab.commits["next"])
    variables = lab.hub.variables(lab.folder / "hf-home")
    printed = run_in_clean_environment(ELSEWHERE, lab.folder, *arguments, variables=variables)
    found = json.loads(printed.splitlines()[-1])
    pushed, following = (np.array(lab.before[name]["logits"]) for name in ("pushed", "next"))
    assert np.abs(pushed - following).max() > 1e-2
    assert len(found) == 7
    for route, drafted in found.items():
        expected = lab.before[route.partition(",")[0]]
        assert drafted["report"] == expected["report"], route
        np.testing.assert_allclose(drafted["logits"], expected["logits"], rtol=0, atol=1e-5, err_msg=route)


# Name of a repository that something is wrong with -> what from_pretrained must raise, and say of it.
REFUSALS = {
    "without-weights": ("OSError", f"lab/without-weights has an adapter_config.json but no {WEIGHTS}"),
    "with-a-pickle": ("OSError", f"lab/with-a-pickle has an adapter_config.json but no {WEIGHTS}"),
    "without-code": ("OSError", "lab/without-code does not appear to have a file named fusion_meit.py"),
    "without-config": ("ValueError", "lab/without-config.*model_type.*config.json"),
    "without-auto-map": ("ValueError", "model type `ecg_llama`"),
    "without-processor": ("OSError", "lab/without-processor.*preprocessor_config.json"),
    "weights-cut": ("OSError", "weights of lab/weights-cut are cut short or damaged"),
    "weights-spoilt": ("OSError", "weights of lab/weights-spoilt are cut short or damaged"),
    "weights-lacking": ("ValueError", r"does not fit its adapter_config.json: 1 of \d+ tensors are missing"),
    "weights-misshapen": (
        "ValueError",
        r"1 of \d+ tensors have another shape.*with \[4, 64\], expected \[4, 32\]",
    ),
    "storage-failing": ("OSError", "lab/storage-failing:\n.*500"),
    "backbone-absent": ("OSError", "backbone was not found .tried lab/absent: .*Hub id lab/absent.: pass text_model="),
    "backbone-not-named": ("OSError", "no Hub id is recorded.*pass text_model="),
    "backbone-cut": (
        "OSError",
        "weights of lab/tiny-llama-cut, the backbone of lab/backbone-cut, are cut short",
    ),
    "revision-absent": ("OSError", "v9 is not a valid git identifier"),
    "private": ("OSError", "lab/private is not a local folder.*\n.*private repository.*token"),
    "absent": ("OSError", "lab/absent is not a local folder and is not a valid model identifier"),
}
OPTIONS = {"revision-absent": {"revision": "v9"}, "private": {"token": False}}
LOAD_EACH = """
import json, sys
from transformers import AutoModelForCausalLM, AutoProcessor

found = {}
for name, options in json.loads(sys.argv[1]).items():
    auto_class = AutoProcessor if name == "without-processor" else AutoModelForCausalLM
    try:
        auto_class.from_pretrained(f"lab/{name}", trust_remote_code=True, **options)
        found[name] = ("nothing", "it loads")
    except Exception as error:
        found[name] = (type(error).__name__, str(error))
print(json.dumps(found))
"""


def copy_repository(hub: Hub, name: str, is_private: bool = False, **changed: bytes | None) -> None:
    """A repository that holds what was pushed, but for some files, by their names without suffix; None deletes one."""
    repo_id, files = f"lab/{name}", hub.contents(REPO)
    adapter_config = json.loads(files["adapter_config.json"]) | {"base_model_name_or_path": repo_id}
    files["adapter_config.json"] = json.dumps(adapter_config).encode()
    for stem, content in changed.items():
        [path] = [path for path in files if path.partition(".")[0] == stem]
        if content is None:
            del files[path]
        else:
            files[path] = content
    hub.create(repo_id, is_private=is_private)
    hub.commit(repo_id, files)


@pytest.fixture
def broken(lab) -> Hub:
    """The Hub, with every repository of `REFUSALS` that there is."""
    hub = lab.hub
    good = hub.contents(REPO)
    weights, config = good[WEIGHTS], json.loads(good["config.json"])
    tensors = load(weights)
    name = next(name for name, tensor in tensors.items() if tuple(tensor.shape) == (4, 32))
    wide = tensors | {name: tensors[name].repeat(1, 2)}
    lacking = {other: tensor for other, tensor in tensors.items() if other != name}

    def with_config(**fields: object) -> bytes:
        return json.dumps({key: value for key, value in (config | fields).items() if value != ""}).encode()

    copy_repository(hub, "without-weights", adapter_model=None)
    copy_repository(hub, "with-a-pickle", adapter_model=None)
    hub.commit("lab/with-a-pickle", {"adapter_model.bin": b"\x80\x04."})
    copy_repository(hub, "without-code", fusion_meit=None)
    copy_repository(hub, "without-config", config=None)
    copy_repository(hub, "without-auto-map", config=with_config(auto_map=""))
    copy_repository(hub, "without-processor", processor_config=None)
    copy_repository(hub, "weights-cut", adapter_model=weights[: len(weights) // 2])
    copy_repository(hub, "weights-spoilt", adapter_model=weights[:8] + bytes(32) + weights[40:])
    copy_repository(hub, "weights-lacking", adapter_model=save(lacking))
    copy_repository(hub, "weights-misshapen", adapter_model=save(wide))
    copy_repository(hub, "storage-failing", adapter_model=save(tensors, {"copy": "one"}))
    hub.fail(hub.repository("lab/storage-failing").file("main", WEIGHTS).sha256)
    copy_repository(hub, "backbone-absent", config=with_config(text_model_id="lab/absent"))
    copy_repository(hub, "backbone-not-named", config=with_config(text_model_id=None))
    copy_repository(hub, "backbone-cut", config=with_config(text_model_id="lab/tiny-llama-cut"))
    backbone = hub.contents(BACKBONE)
    hub.create("lab/tiny-llama-cut")
    hub.commit("lab/tiny-llama-cut", backbone | {"model.safetensors": backbone["model.safetensors"][:-100]})
    copy_repository(hub, "revision-absent")
    copy_repository(hub, "private", is_private=True)
    yield hub
    hub.mend()


def test_what_is_wrong_is_said(lab, broken):
    asked = json.dumps({name: OPTIONS.get(name, {}) for name in REFUSALS})
    variables = broken.variables(lab.folder / "hf-home-of-refusals")
    printed = run_in_clean_environment(LOAD_EACH, lab.folder, asked, variables=variables)
    for name, (kind, message) in json.loads(printed.splitlines()[-1]).items():
        expected_kind, words = REFUSALS[name]
        assert (kind, bool(re.search(words, message))) == (expected_kind, True), f"{name}: {kind}: {message}"


@pytest.mark.slow  # clients try again for ten seconds
def test_a_hub_that_is_down_is_said(lab):
    lab.hub.fail(f"/{REPO}/")
    variables = lab.hub.variables(lab.folder / "hf-home-of-failure")
    script = LOAD_EACH.replace("lab/{name}", REPO)
    printed = run_in_clean_environment(script, lab.folder, '{"down": {}}', variables=variables)
    lab.hub.mend()
    kind, message = json.loads(printed.splitlines()[-1])["down"]
    assert (kind, lab.hub.endpoint in message) == ("OSError", True), message
