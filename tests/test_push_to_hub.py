"""`meit-ecg push` without a network: what it lists, what it changes in the copies, and what it refuses."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

import push_to_hub
from modeling_meit import ECGLlamaForCausalLM
from reporting.notice import DRAFT_NOTICE
from tests.training.tiny_run import record, run, write_backbone, write_dataset
from training.hub_upload import UploadError, prepare_upload

REPO = "some-lab/ecg-reports"
BACKBONE = "HuggingFaceTB/SmolLM2-135M-Instruct"


def write_json(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def adapter(tmp_path):
    """A folder as training leaves it, state of the run included."""
    folder = tmp_path / "sft"
    folder.mkdir()
    write_json(
        folder / "config.json",
        {
            "model_type": "ecg_llama",
            "text_model_id": BACKBONE,
            "text_model_path": "/home/me/models/SmolLM2",
            "text_config": {"_name_or_path": "/home/me/models/SmolLM2", "hidden_size": 8},
            "ecg_config": {"depth": 18},
            "fusion": "concat",
            "fusion_layers": None,
            "format_version": 1,
            "auto_map": {"AutoModelForCausalLM": "modeling_meit.ECGLlamaForCausalLM"},
        },
    )
    write_json(
        folder / "adapter_config.json",
        {"base_model_name_or_path": "/home/me/models/SmolLM2", "r": 8, "target_modules": ["q_proj"]},
    )
    write_json(folder / "processor_config.json", {"processor_class": "ECGProcessor"})
    write_json(folder / "tokenizer.json", {"model": {"vocab": {"/usr/": 0}, "merges": ["/usr/ bin", "/ u"]}})
    write_json(
        folder / "training_run.json",
        {"data": {"dataset": "meit-ecg", "config": "ptb-xl", "split": "train", "records": 400}, "lora": {"r": 8}},
    )
    (folder / "modeling_meit.py").write_text("class ECGLlamaForCausalLM: ...\n", encoding="utf-8")
    (folder / "README.md").write_text("base_model: /home/me/models/SmolLM2\n", encoding="utf-8")
    save_file({"lora_A": torch.ones(2, 3), "steps": torch.tensor(3)}, folder / "adapter_model.safetensors")
    save_file({"ecg_values": torch.ones(1, 12, 5)}, folder / "check_logits.safetensors")
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / ".env").write_text("secret", encoding="utf-8")
    (folder / "checkpoint-20").mkdir()
    (folder / "checkpoint-20" / "optimizer.pt").write_bytes(b"pickle")
    return folder


def contents(upload):
    return {
        file.name: file.content if isinstance(file.content, bytes) else file.content.read_bytes()
        for file in upload.files
    }


def refusal(folder, **options):
    with pytest.raises(UploadError) as caught:
        prepare_upload(folder, REPO, **options)
    return str(caught.value)


def test_the_adapter_goes_up_and_the_run_state_stays(adapter):
    upload = prepare_upload(adapter, REPO)
    assert {file.name for file in upload.files} == {
        "config.json", "adapter_config.json", "processor_config.json", "tokenizer.json", "training_run.json",
        "modeling_meit.py", "adapter_model.safetensors", "README.md",
    }  # fmt: skip
    assert {name for name, _ in upload.left_out} == {
        "README.md", "check_logits.safetensors", "training_args.bin", ".env", "checkpoint-20/",
    }  # fmt: skip
    assert all(file.size == len(contents(upload)[file.name]) for file in upload.files)


def test_uploaded_configs_name_the_repo_and_the_hub_id_and_the_folder_is_untouched(adapter):
    before = {path: path.read_bytes() for path in adapter.rglob("*") if path.is_file()}
    uploaded = contents(prepare_upload(adapter, REPO))
    config = json.loads(uploaded["config.json"])
    assert (config["text_model_id"], config["text_model_path"]) == (BACKBONE, None)
    assert config["text_config"] == {"hidden_size": 8}
    expected = read_json(adapter / "adapter_config.json") | {"base_model_name_or_path": REPO}
    assert json.loads(uploaded["adapter_config.json"]) == expected
    assert b"/home/me" not in b"".join(uploaded.values())
    assert {path: path.read_bytes() for path in adapter.rglob("*") if path.is_file()} == before
    assert uploaded["tokenizer.json"] == (adapter / "tokenizer.json").read_bytes()


def test_the_card_is_filled_in(adapter):
    card = contents(prepare_upload(adapter, REPO, license_name="apache-2.0"))["README.md"].decode()
    metadata = card.split("---")[1]
    assert f"base_model: {BACKBONE}" in metadata
    assert "license: apache-2.0" in metadata
    for words in (DRAFT_NOTICE, "meit-ecg ptb-xl train", "400", "1-D ResNet-18", "concat, every layer", "2403.04945"):
        assert words in card
    assert "{{" not in card


def test_a_full_checkpoint_needs_every_shard(adapter):
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).unlink()
    assert "model.safetensors is missing" in refusal(adapter)
    write_json(
        adapter / "model.safetensors.index.json",
        {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}},
    )
    save_file({"a": torch.ones(2)}, adapter / "model-1.safetensors")
    assert "model-2.safetensors is missing" in refusal(adapter)
    save_file({"b": torch.ones(2)}, adapter / "model-2.safetensors")
    assert "model-2.safetensors" in contents(prepare_upload(adapter, REPO))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "extra.pt", "inner/weights.pkl", "model.pth", "last.ckpt"])
def test_pickles_are_refused(adapter, name):
    (adapter / name).parent.mkdir(exist_ok=True)
    (adapter / name).write_bytes(b"pickle")
    assert f"{name}: a pickle" in refusal(adapter)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused(adapter, value, dtype):
    weights = torch.ones(2, 3, dtype=dtype)
    weights[1, 2] = value
    save_file({"fine": torch.ones(2), "broken": weights}, adapter / "adapter_model.safetensors")
    assert "NaN or infinite weights in 1 tensors, the first is broken" in refusal(adapter)


def test_a_file_cut_short_is_refused(adapter):
    whole = (adapter / "adapter_model.safetensors").read_bytes()
    (adapter / "adapter_model.safetensors").write_bytes(whole[:-4])
    assert "adapter_model.safetensors: not a readable safetensors file" in refusal(adapter)


@pytest.mark.parametrize("path", ["/data/ecg", "C:\\data", "D:/data", "~/data", "\\\\server\\share", "file:///data"])
def test_local_paths_are_refused_by_file_and_key(adapter, path):
    write_json(adapter / "processor_config.json", {"sources": [{"folder": path}]})
    assert f"processor_config.json: sources[0].folder is a path of this machine: {path}" in refusal(adapter)


def test_every_reason_is_listed_at_once(adapter):
    (adapter / "modeling_meit.py").unlink()
    (adapter / "processor_config.json").unlink()
    (adapter / "special_tokens_map.json").write_text("{", encoding="utf-8")
    (adapter / "adapter_model.safetensors").unlink()
    message = refusal(adapter)
    for words in (
        "modeling_meit.py is missing",
        "processor_config.json is missing",
        "special_tokens_map.json: not valid JSON",
        "adapter_model.safetensors is missing",
    ):
        assert words in message


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("training_run.json", [1], "training_run.json: expected a JSON object, found list"),
        ("training_run.json", {"lora": [8]}, "training_run.json: lora: expected a JSON object, found list"),
        ("config.json", {"ecg_config": None}, "config.json: ecg_config: expected a JSON object, found NoneType"),
        ("config.json", {"ecg_config": {}}, "config.json: ecg_config states no depth"),
        ("config.json", {"auto_map": ["a.B"]}, "config.json: auto_map: expected a JSON object, found list"),
        ("config.json", {"auto_map": {"AutoModel": [1]}}, "config.json takes [1] from it"),
        ("model.safetensors.index.json", [], "model.safetensors.index.json: expected a JSON object, found list"),
        ("model.safetensors.index.json", {"weight_map": {"a": [1]}}, "[1] is missing: no weights"),
    ],
)
def test_json_of_another_shape_is_refused_by_name(adapter, name, change, reason):
    if name.startswith("model."):
        (adapter / "adapter_config.json").unlink()
    document = read_json(adapter / name) if (adapter / name).exists() else {}
    write_json(adapter / name, document | change if isinstance(change, dict) else change)
    message = refusal(adapter)
    assert reason in message
    assert message.count("\n") == 1  # one cause, one reason


@pytest.mark.parametrize("corpus", ["ptb-xl", "mimic-iv-ecg", "simulated", "our-clinic", None])
def test_the_card_names_the_corpus_of_the_run_alone(adapter, corpus):
    write_json(adapter / "training_run.json", {"data": {"dataset": "meit-ecg", "config": corpus}})
    card = contents(prepare_upload(adapter, REPO))["README.md"].decode()
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


def test_code_that_the_code_imports_must_be_there(adapter):
    (adapter / "modeling_meit.py").write_text("from .base_meit import A\n", encoding="utf-8")
    (adapter / "base_meit.py").write_text(
        "from .caches_meit import B\nfrom .modeling_meit import C\n", encoding="utf-8"
    )
    write_json(adapter / "processor_config.json", {"auto_map": {"AutoProcessor": "processing_meit.ECGProcessor"}})
    message = refusal(adapter)
    assert "caches_meit.py is missing: base_meit.py imports from it" in message
    assert "processing_meit.py is missing: processor_config.json takes processing_meit.ECGProcessor from it" in message
    assert message.count("\n") == 2


@pytest.mark.parametrize(
    ("fusion", "words"),
    [
        ({"fusion": "llava", "num_ecg_tokens": 4}, "| fusion | llava, 4 tokens per ECG |"),
        ({"fusion": "flamingo", "fusion_layers": [0, 5]}, "| fusion | flamingo, layers [0, 5] |"),
    ],
)
def test_the_card_says_how_the_ecg_meets_the_text(adapter, fusion, words):
    write_json(adapter / "config.json", read_json(adapter / "config.json") | fusion)
    assert words in contents(prepare_upload(adapter, REPO))["README.md"].decode()


@pytest.mark.parametrize("is_encoder_decoder", [False, True])
def test_the_card_loads_the_class_that_the_folder_holds(adapter, is_encoder_decoder):
    auto_class, other = "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"
    if is_encoder_decoder:
        auto_class, other = other, auto_class
    config = read_json(adapter / "config.json") | {"auto_map": {auto_class: "modeling_meit.ECGLlamaForCausalLM"}}
    write_json(adapter / "config.json", config)
    card = contents(prepare_upload(adapter, REPO))["README.md"].decode()
    assert auto_class in card
    assert other not in card
    assert ('inputs["input_ids"].shape[1] :]' in card) != is_encoder_decoder


def test_a_folder_without_a_config_is_refused(tmp_path):
    assert "config.json is missing" in refusal(tmp_path)
    assert "is not a folder" in refusal(tmp_path / "absent")


def test_an_unknown_backbone_must_be_named(adapter):
    config = read_json(adapter / "config.json") | {"text_model_id": None}
    write_json(adapter / "config.json", config)
    assert "--text-model-id" in refusal(adapter)
    uploaded = contents(prepare_upload(adapter, REPO, text_model_id=BACKBONE))
    assert json.loads(uploaded["config.json"])["text_model_id"] == BACKBONE


@pytest.mark.parametrize("repo_id", ["no-organisation", "a/b/c", "with space/name", "../name"])
def test_repository_ids_are_checked(adapter, repo_id):
    with pytest.raises(UploadError, match="is not a repository id"):
        prepare_upload(adapter, repo_id)


class RecordingHub:
    def __init__(self):
        self.calls = []

    def create_repo(self, repo_id, **options):
        self.calls.append(("create_repo", repo_id, options))

    def create_commit(self, repo_id, operations, **options):
        self.calls.append(("create_commit", repo_id, {op.path_in_repo: op.path_or_fileobj for op in operations}))
        return SimpleNamespace(commit_url="the commit")


@pytest.fixture
def hub(monkeypatch):
    recording = RecordingHub()
    monkeypatch.setattr(push_to_hub, "HfApi", lambda: recording)
    return recording


def test_a_dry_run_lists_and_sends_nothing(adapter, hub, capsys):
    assert push_to_hub.main([str(adapter), REPO, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"{(adapter / 'adapter_model.safetensors').stat().st_size}  adapter_model.safetensors" in out
    assert "left out  training_args.bin (training state, a pickle)" in out
    assert "nothing was uploaded" in out
    assert hub.calls == []


def test_a_push_sends_what_the_dry_run_lists(adapter, hub, capsys):
    assert push_to_hub.main([str(adapter), REPO, "--private"]) == 0
    (_, repo_id, options), (_, _, operations) = hub.calls
    assert (repo_id, options) == (REPO, {"private": True, "exist_ok": True})
    assert set(operations) == {file.name for file in prepare_upload(adapter, REPO).files}
    assert json.loads(operations["adapter_config.json"])["base_model_name_or_path"] == REPO
    assert operations["adapter_model.safetensors"] == str(adapter / "adapter_model.safetensors")


def test_refusals_end_with_status_1(adapter, hub, capsys):
    (adapter / "pytorch_model.bin").write_bytes(b"pickle")
    assert push_to_hub.main([str(adapter), REPO]) == 1
    assert "pytorch_model.bin" in capsys.readouterr().err
    assert hub.calls == []


def test_no_network_is_a_clear_error(adapter, capsys):
    assert push_to_hub.main([str(adapter), REPO]) == 1  # the tests run with the Hub switched off
    assert "cannot be reached" in capsys.readouterr().err


def test_what_training_wrote_goes_up_and_loads_from_the_uploaded_files(tmp_path):
    backbone = write_backbone(tmp_path / "backbone")
    dataset = write_dataset(tmp_path / "dataset", train=[record(n) for n in range(4)], validation=[record(5)])
    folder = run(backbone, dataset, tmp_path / "run").folder
    for trained in (folder, folder / "checkpoint-6"):
        uploaded = tmp_path / f"uploaded-{trained.name}"
        for name, content in contents(prepare_upload(trained, REPO)).items():
            (uploaded / name).parent.mkdir(parents=True, exist_ok=True)
            (uploaded / name).write_bytes(content)
        assert not any(str(tmp_path).encode() in path.read_bytes() for path in uploaded.rglob("*") if path.is_file())
        model = ECGLlamaForCausalLM.from_pretrained(uploaded, text_model=backbone)
        check = load_file(folder / "check_logits.safetensors")
        with torch.no_grad():
            logits = model(**{name: check[name] for name in ("input_ids", "attention_mask", "ecg_values")}).logits
        at = check["positions"].unsqueeze(-1).expand(-1, -1, logits.shape[-1])
        assert torch.allclose(logits.gather(1, at), check["logits"], atol=1e-5)
