"""`meit-ecg push` as a command: what it lists, what it sends, and how it ends."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import HfHubHTTPError

import push_to_hub
from publishing import upload
from publishing.folder_type import folder_type
from publishing.loading_check import Route
from publishing.model_folder import prepare_model
from publishing.upload import UploadError

from .folders import REPO

ROOT = Path(__file__).resolve().parents[2]


ROUTES = [Route("AutoModel", "ECGLlamaForCausalLM", 0.0, 0.0)]


class RecordingHub:
    """Takes the calls of a push; `there` is what an earlier one left."""

    def __init__(self, there=()):
        self.calls = []
        self.there = there
        self.is_private = True

    def create_repo(self, repo_id, **options):
        self.calls.append(("create_repo", repo_id, options))

    def create_branch(self, repo_id, **options):
        self.calls.append(("create_branch", repo_id, options))

    def repo_info(self, repo_id, **options):
        return SimpleNamespace(private=self.is_private)

    def list_repo_files(self, repo_id, **options):
        return list(self.there)

    def create_commit(self, repo_id, operations, **options):
        files = {op.path_in_repo: getattr(op, "path_or_fileobj", None) for op in operations}
        self.calls.append(("create_commit", repo_id, files, options))
        return SimpleNamespace(commit_url="the commit")


@pytest.fixture
def hub(monkeypatch):
    recording = RecordingHub()
    monkeypatch.setattr(upload, "HfApi", lambda: recording)
    return recording


@pytest.fixture
def loads(monkeypatch):
    """The loading check passes; what it was asked."""
    asked = []
    monkeypatch.setattr(push_to_hub, "find_text_model", lambda config, text_model: text_model or "found")
    monkeypatch.setattr(push_to_hub, "check_loading", lambda *arguments: asked.append(arguments) or ROUTES)
    return asked


def test_a_dry_run_lists_and_sends_nothing(adapter, hub, loads, capsys):
    assert push_to_hub.main([str(adapter), REPO, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"{(adapter / 'adapter_model.safetensors').stat().st_size}  adapter_model.safetensors" in out
    assert "left out  training_args.bin (training state, a pickle)" in out
    assert "nothing was uploaded" in out
    assert "ECGLlamaForCausalLM" in out
    assert loads[0][1:] == (adapter / "check_logits.safetensors", "found")
    assert hub.calls == []


def test_a_push_sends_what_the_dry_run_lists(adapter, hub, loads, capsys):
    assert push_to_hub.main([str(adapter), REPO, "--private"]) == 0
    (_, repo_id, options), (_, _, operations, _) = hub.calls
    assert (repo_id, options) == (REPO, {"private": True, "exist_ok": True, "repo_type": "model"})
    assert set(operations) == {file.name for file in prepare_model(adapter, REPO).files}
    assert json.loads(operations["adapter_config.json"])["base_model_name_or_path"] == REPO
    assert operations["adapter_model.safetensors"] == str(adapter / "adapter_model.safetensors")


def test_what_is_to_be_private_goes_to_no_public_repository(adapter, hub, loads, capsys):
    hub.is_private = False
    assert push_to_hub.main([str(adapter), REPO, "--private"]) == 1
    assert f"{REPO} is public already" in capsys.readouterr().err
    assert [call[0] for call in hub.calls] == ["create_repo"]


def test_a_file_that_cannot_be_read_is_one_line(adapter, hub, loads, capsys, monkeypatch):
    def fail(*arguments):
        raise PermissionError(13, "Permission denied", "config.json")

    monkeypatch.setattr(push_to_hub, "prepare_model", fail)
    assert push_to_hub.main([str(adapter), REPO]) == 1
    assert capsys.readouterr().err == "error: [Errno 13] Permission denied: 'config.json'\n"


def test_refusals_end_with_status_1(adapter, hub, loads, capsys):
    (adapter / "pytorch_model.bin").write_bytes(b"pickle")
    assert push_to_hub.main([str(adapter), REPO]) == 1
    assert "pytorch_model.bin" in capsys.readouterr().err
    assert hub.calls == []


def test_no_network_is_a_clear_error(adapter, loads, capsys):
    assert push_to_hub.main([str(adapter), REPO]) == 1  # the tests run with the Hub switched off
    assert "cannot be reached" in capsys.readouterr().err


def test_what_an_earlier_push_left_goes_with_this_one(adapter, hub, loads):
    hub.there = ["model-00001-of-00002.safetensors", "old_code.py", "notes.txt", "adapter_model.safetensors"]
    assert push_to_hub.main([str(adapter), REPO]) == 0
    files = hub.calls[-1][2]
    assert [name for name, content in files.items() if content is None] == hub.there[:2]


def test_a_branch_is_made_and_written_to(adapter, hub, loads):
    assert push_to_hub.main([str(adapter), REPO, "--revision", "v2"]) == 0
    assert hub.calls[1] == ("create_branch", REPO, {"branch": "v2", "exist_ok": True, "repo_type": "model"})
    assert hub.calls[-1][3]["revision"] == "v2"


def test_a_failed_loading_check_uploads_nothing(adapter, hub, monkeypatch, capsys):
    def fail(*arguments):
        raise UploadError("the loading check failed: AutoModel")

    monkeypatch.setattr(push_to_hub, "find_text_model", lambda *arguments: None)
    monkeypatch.setattr(push_to_hub, "check_loading", fail)
    for options in ([], ["--dry-run"]):
        assert push_to_hub.main([str(adapter), REPO, *options]) == 1
        assert "the loading check failed: AutoModel" in capsys.readouterr().err
    assert hub.calls == []


def test_without_trainings_logits_a_push_is_refused_and_the_way_out_is_named(adapter, hub, loads, capsys):
    (adapter / "check_logits.safetensors").unlink()
    assert push_to_hub.main([str(adapter), REPO]) == 1
    assert "--without-logits-file" in capsys.readouterr().err
    assert push_to_hub.main([str(adapter), REPO, "--without-logits-file", "--text-model", "there"]) == 0
    assert loads[0][1:] == (None, "there")


def test_a_language_model_that_is_nowhere_is_a_clear_refusal(adapter, hub, capsys):
    assert push_to_hub.main([str(adapter), REPO]) == 1
    error = capsys.readouterr().err
    assert "the loading check cannot run" in error
    assert "/home/me/models/SmolLM2" in error
    assert "--text-model" in error


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "hf auth login"), (403, "you may not write there"), (404, "no such repository"), (503, "it failed; repeat")],
)
def test_errors_of_the_hub_are_one_clear_line(adapter, hub, loads, capsys, monkeypatch, status, words):
    def fail(*arguments, **options):
        # As the HTTP library's response, of which only these are looked at.
        response = SimpleNamespace(status_code=status, headers={}, request=None)
        raise HfHubHTTPError("said\nby the server", response=response)

    monkeypatch.setattr(hub, "create_commit", fail)
    assert push_to_hub.main([str(adapter), REPO]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {REPO}: the Hub answered {status}, nothing was committed: ")
    assert words in line


def test_a_push_that_is_interrupted_says_how_to_go_on(adapter, hub, loads, capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(hub, "create_commit", interrupt)
    assert push_to_hub.main([str(adapter), REPO]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_the_type_is_told_from_the_content(adapter, tmp_path, capsys):
    assert folder_type(adapter) == "model"
    assert folder_type(ROOT / "evaluation" / "report_metrics") == "metric"
    assert folder_type(ROOT / "publishing" / "space") == "space"
    (tmp_path / "meit-ecg" / "ptb-xl").mkdir(parents=True)
    (tmp_path / "meit-ecg" / "ptb-xl" / "build_report.json").write_text("{}")
    assert folder_type(tmp_path / "meit-ecg") == "dataset"
    (tmp_path / "empty").mkdir()
    assert push_to_hub.main([str(tmp_path / "empty"), REPO]) == 1
    assert "say which with --type" in capsys.readouterr().err


def test_metric_and_space_go_up_as_spaces(hub, capsys):
    assert push_to_hub.main([str(ROOT / "evaluation" / "report_metrics"), "some-lab/report_metrics"]) == 0
    assert push_to_hub.main([str(ROOT / "publishing" / "space"), "some-lab/demo", "--model", REPO]) == 0
    for made in hub.calls[::2]:
        assert made[2] == {"private": None, "exist_ok": True, "repo_type": "space", "space_sdk": "gradio"}
