"""What of a trained folder would be published, what is changed in the copies, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import save_file

from publishing.model_folder import prepare_model
from publishing.upload import UploadError

from .folders import BACKBONE, REPO, contents, read_json, refusal, write_json


def test_the_adapter_goes_up_and_the_run_state_stays(adapter):
    upload = prepare_model(adapter, REPO)
    assert {file.name for file in upload.files} == {
        "config.json", "adapter_config.json", "processor_config.json", "tokenizer.json", "training_run.json",
        "modeling_meit.py", "adapter_model.safetensors", "README.md",
    }  # fmt: skip
    assert {name for name, _ in upload.left_out} == {
        "README.md", "check_logits.safetensors", "samples.jsonl", "training_args.bin", ".env", "checkpoint-20/",
        "stages/", "emissions.csv",
    }  # fmt: skip
    assert all(file.size == len(contents(upload)[file.name]) for file in upload.files)


@pytest.mark.parametrize(
    "name",
    [
        "optimizer.bin", "rng_state_1.pth", "pytorch_model_fsdp.bin", "checkpoint_files.json", "trainer_state.json",
        "global_step20/mp_rank_00_model_states.pt", "latest", "zero_to_fp32.py", "check_logits_old.safetensors",
        "emissions.csv",
    ],
)  # fmt: skip
def test_what_a_checkpoint_or_a_logger_leaves_beside_the_weights_stays(adapter, name):
    (adapter / name).parent.mkdir(exist_ok=True)
    (adapter / name).write_bytes(b"state")
    assert name not in contents(prepare_model(adapter, REPO))


def test_uploaded_configs_name_the_repo_and_the_hub_id_and_the_folder_is_untouched(adapter):
    before = {path: path.read_bytes() for path in adapter.rglob("*") if path.is_file()}
    uploaded = contents(prepare_model(adapter, REPO))
    config = json.loads(uploaded["config.json"])
    assert (config["text_model_id"], config["text_model_path"]) == (BACKBONE, None)
    assert config["text_config"] == {"hidden_size": 8}
    expected = read_json(adapter / "adapter_config.json") | {"base_model_name_or_path": REPO}
    assert json.loads(uploaded["adapter_config.json"]) == expected
    assert b"/home/me" not in b"".join(uploaded.values())
    assert {path: path.read_bytes() for path in adapter.rglob("*") if path.is_file()} == before
    assert uploaded["tokenizer.json"] == (adapter / "tokenizer.json").read_bytes()


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
    assert "model-2.safetensors" in contents(prepare_model(adapter, REPO))


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
        ("training_run.json", {"tuning": [8]}, "training_run.json: tuning: expected a JSON object, found list"),
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


def test_json_that_is_nested_without_end_is_refused_by_name(adapter):
    (adapter / "training_run.json").write_text("[" * 100_000, encoding="utf-8")
    assert "training_run.json: not valid JSON" in refusal(adapter)


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


def test_a_folder_without_a_config_is_refused(tmp_path):
    assert "config.json is missing" in refusal(tmp_path)
    assert "is not a folder" in refusal(tmp_path / "absent")


def test_an_unknown_backbone_must_be_named(adapter):
    config = read_json(adapter / "config.json") | {"text_model_id": None}
    write_json(adapter / "config.json", config)
    assert "--text-model-id" in refusal(adapter)
    uploaded = contents(prepare_model(adapter, REPO, text_model_id=BACKBONE))
    assert json.loads(uploaded["config.json"])["text_model_id"] == BACKBONE


@pytest.mark.parametrize("repo_id", ["no-organisation", "a/b/c", "with space/name", "../name"])
def test_repository_ids_are_checked(adapter, repo_id):
    with pytest.raises(UploadError, match="is not a repository id"):
        prepare_model(adapter, repo_id)


@pytest.mark.parametrize("name", ["/home/me/models/SmolLM2", "models/SmolLM2/", "a/b/c"])
def test_a_local_path_is_no_hub_id(adapter, name):
    write_json(adapter / "config.json", read_json(adapter / "config.json") | {"text_model_id": name})
    assert "is not the Hub id of a language model" in refusal(adapter)


def test_a_full_checkpoint_needs_no_backbone(adapter):
    for name in ("adapter_config.json", "adapter_model.safetensors", "training_run.json"):
        (adapter / name).unlink()
    write_json(adapter / "config.json", read_json(adapter / "config.json") | {"text_model_id": None})
    save_file({"a": torch.ones(2)}, adapter / "model.safetensors")
    uploaded = contents(prepare_model(adapter, REPO))
    assert json.loads(uploaded["config.json"])["text_model_id"] is None
    assert b"base_model" not in uploaded["README.md"]


def test_weights_of_eight_bits_are_looked_at(adapter):
    weights = torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn)
    save_file({"packed": weights}, adapter / "adapter_model.safetensors")
    assert "NaN or infinite weights in 1 tensors, the first is packed" in refusal(adapter)


def test_links_out_of_the_folder_are_refused(adapter, tmp_path):
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    (adapter / "inside.txt").symlink_to("modeling_meit.py")
    prepare_model(adapter, REPO)
    (adapter / "notes.txt").symlink_to(tmp_path / "secret.txt")
    assert "notes.txt: a link out of the folder" in refusal(adapter)
    (adapter / "notes.txt").unlink()
    (tmp_path / "elsewhere").mkdir()
    (adapter / "more").symlink_to(tmp_path / "elsewhere")
    assert "more: a link out of the folder" in refusal(adapter)
    (adapter / "more").unlink()
    (adapter / "more").symlink_to("nowhere")
    assert "more: no file" in refusal(adapter)
