"""The loading check on what training wrote: that it passes, and that each fault it is there for makes it fail."""

import json
import os
import shutil
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_meit import ECGLlamaForCausalLM
from publishing.clean_environment import make_clean_environment, run_clean
from publishing.loading_check import check_loading, find_text_model, logits_facts, routes_table, stage
from publishing.model_folder import prepare_model
from publishing.upload import UploadError
from tests.training.tiny_run import options, record, run, write_backbone, write_dataset, write_family
from training.sft import train

from .folders import REPO

ROUTES = ["AutoConfig", "AutoProcessor", "AutoModel", "AutoModelForCausalLM", "PeftModel"]
MERGED = "merged, saved, loaded again"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A backbone, a dataset, and the folder of a run."""
    folder = tmp_path_factory.mktemp("lab")
    write_backbone(folder / "backbone")
    write_dataset(folder / "dataset", train=[record(n) for n in range(4)], validation=[record(5)])
    run(folder / "backbone", folder / "dataset", folder / "run")
    return folder


@pytest.fixture
def trained(lab, tmp_path):
    """A copy of the run's folder."""
    return shutil.copytree(lab / "run", tmp_path / "run")


def check(folder, lab, **changes):
    arguments = {"logits_file": folder / "check_logits.safetensors", "text_model": str(lab / "backbone")} | changes
    return check_loading(prepare_model(folder, REPO), timeout=300, **arguments)


def failure(folder, lab, **changes):
    with pytest.raises(UploadError, match="the loading check failed, so nothing is uploaded") as caught:
        check(folder, lab, **changes)
    return str(caught.value)


def test_every_route_loads_the_same_with_the_training_folders_gone(lab, trained):
    upload = prepare_model(trained, REPO)
    backbone = lab / "backbone"
    away = backbone.rename(lab / "moved-away")
    gone = (lab / "run").rename(lab / "run-away")
    logits_file = shutil.copy(trained / "check_logits.safetensors", lab / "logits")
    try:
        routes = check_loading(upload, logits_file, str(away), timeout=300)
    finally:
        away.rename(backbone)
        gone.rename(lab / "run")
    assert [route.name for route in routes] == [*ROUTES, MERGED]
    assert [route.found for route in routes[2:]] == ["ECGLlamaForCausalLM"] * 2 + [
        "PeftModelForCausalLM",
        "ECGLlamaForCausalLM, in float32",
    ]
    assert all(route.from_training < 1e-6 and route.from_first < 1e-6 for route in routes[2:-1])
    assert routes[-1].from_first < 1e-5
    assert "PeftModelForCausalLM" in routes_table(routes)


def test_weights_of_another_update_are_found_out(trained, lab):
    shutil.copy(trained / "checkpoint-3" / "adapter_model.safetensors", trained)
    message = failure(trained, lab)
    assert "AutoModel: the logits differ from those that training wrote by" in message
    assert "expected at most 0.001" in message


@pytest.mark.slow
def test_code_that_does_not_run_elsewhere_is_found_out(trained, lab):
    with (trained / "encoder_meit.py").open("a", encoding="utf-8") as file:
        file.write("\nimport numpy as np\n\nfrom processing.leads import LEADS\n")
    assert "processing" in failure(trained, lab)


def test_a_model_that_does_not_see_the_ecg_is_found_out(trained, lab):
    path = trained / "modeling_meit.py"
    path.write_text(path.read_text("utf-8") + BLIND, encoding="utf-8")
    assert "the model does not see the ECG" in failure(trained, lab, logits_file=None)


BLIND = """

_forward = ECGLlamaForCausalLM.forward


def _blind(self, *args, ecg_values=None, **kwargs):
    return _forward(self, *args, **kwargs)


ECGLlamaForCausalLM.forward = _blind
"""


@pytest.mark.slow
def test_a_full_checkpoint_and_a_folder_without_logits(trained, lab, tmp_path):
    model = ECGLlamaForCausalLM.from_pretrained(lab / "run")
    merged = tmp_path / "merged"
    shutil.copytree(trained, merged, ignore=shutil.ignore_patterns("adapter*", "checkpoint-*", "*.safetensors"))
    full = ECGLlamaForCausalLM.from_text_pretrained(
        lab / "backbone", ecg_config=model.config.ecg_config, fusion=model.config.fusion
    )
    full.save_pretrained(merged)
    routes = check(merged, lab, logits_file=None, text_model=None)
    assert [route.name for route in routes] == ROUTES[:4]
    assert all(route.from_training is None and route.from_first == 0 for route in routes[2:])


@pytest.mark.slow
def test_an_encoder_decoder(tmp_path):
    backbone = write_family(tmp_path / "backbone", "t5")
    dataset = write_dataset(tmp_path / "dataset", train=[record(n) for n in range(4)], validation=[record(5)])
    config = options(backbone, dataset, tmp_path / "run", max_steps=2, save_strategy="no")
    folder = train(*config).folder
    routes = check(folder, tmp_path)
    assert [route.name for route in routes] == [*ROUTES[:3], "AutoModelForSeq2SeqLM", ROUTES[4], MERGED]
    assert max(route.from_training for route in routes[2:-1]) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("tuning", "norm"), [("dora", "frozen_batch"), ("encoder", "group"), ("full", "frozen_batch")])
def test_what_other_tunings_write(lab, tmp_path, tuning, norm):
    folder = tmp_path / "run"
    settings = {"tuning": {"tuning": tuning}, "model": {"encoder_norm": norm}}
    train(*options(lab / "backbone", lab / "dataset", folder, **settings, max_steps=3, save_strategy="no"))
    routes = check(folder, lab, **({"text_model": None} if tuning == "full" else {}))
    assert [route.name for route in routes] == (ROUTES[:4] if tuning == "full" else [*ROUTES, MERGED])
    compared = [route for route in routes[2:] if route.name != MERGED]
    assert all(route.from_training < 1e-6 and route.from_first < 1e-6 for route in compared)


@pytest.mark.slow
def test_an_adapter_on_a_language_model_in_4_bits(tmp_path):
    pytest.importorskip("bitsandbytes")
    # Rows of whole blocks of 64 weights, which its kernels for a CPU ask for.
    backbone = write_family(tmp_path / "backbone", "llama", hidden_size=128, intermediate_size=256, head_dim=32)
    dataset = write_dataset(tmp_path / "dataset", train=[record(n) for n in range(4)], validation=[record(5)])
    config = options(backbone, dataset, tmp_path / "run", tuning={"tuning": "qlora"}, max_steps=2, save_strategy="no")
    folder = train(*config).folder
    assert logits_facts(folder / "check_logits.safetensors")["quantization"] == "nf4"
    routes = check(folder, tmp_path)
    assert [route.name for route in routes] == [*ROUTES, MERGED]
    assert 0 < routes[2].from_training < 0.05
    assert routes[-1].found.startswith("left out: the language model is packed in 4 bits")


@pytest.mark.parametrize("content", [{"logits": torch.ones(1)}, None])
def test_a_logits_file_of_another_make_is_refused(trained, content):
    path = trained / "check_logits.safetensors"
    if content is None:
        path.write_bytes(path.read_bytes()[:-4])
    else:
        save_file(content, path)
    with pytest.raises(UploadError, match="check_logits.safetensors: not "):
        logits_facts(path)


def test_trainings_logits_say_how_they_were_computed(trained):
    assert logits_facts(trained / "check_logits.safetensors")["dtype"] == "float32"


def test_the_language_model_is_looked_for_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    config = {"text_model_path": str(tmp_path / "a"), "text_model_id": "someone/absent-model"}
    assert find_text_model(config) == str(tmp_path / "a")
    assert find_text_model(config, str(tmp_path / "b")) == str(tmp_path / "b")
    config["text_model_path"] = str(tmp_path / "gone")
    with pytest.raises(UploadError, match=r"gone, someone/absent-model on the Hub.*--text-model"):
        find_text_model(config)
    with pytest.raises(UploadError, match="config.json names none"):
        find_text_model({})


def test_the_staged_copy_is_what_would_be_published_and_no_link_back(trained, tmp_path):
    upload = prepare_model(trained, REPO)
    stage(upload.files, tmp_path / "staged")
    for file in upload.files:
        assert (tmp_path / "staged" / file.name).read_bytes() == file.read()
        assert not (tmp_path / "staged" / file.name).is_symlink()
    assert not (tmp_path / "staged" / "check_logits.safetensors").exists()
    everything = b"".join(file.read() for file in upload.files)
    assert str(trained).encode() not in everything


def test_the_clean_environment_has_nothing_else_in_it(tmp_path, monkeypatch):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "leaked.py").write_text("", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(hidden))
    monkeypatch.setenv("HF_HUB_CACHE", str(hidden))
    monkeypatch.setenv("HF_TOKEN", "secret")
    script = tmp_path / "script.py"
    script.write_text(
        "import importlib.util, json, os, site, sys\n"
        "names = 'torch transformers peft numpy leaked trl datasets modeling_meit publishing pip wfdb'.split()\n"
        "found = [name for name in names if importlib.util.find_spec(name)]\n"
        "print(json.dumps([found, site.ENABLE_USER_SITE, sorted(n for n in os.environ if n.startswith('HF')), "
        "sys.prefix]))\n",
        encoding="utf-8",
    )
    python = make_clean_environment(tmp_path / "environment")
    assert make_clean_environment(tmp_path / "environment") == python
    done = run_clean(python, script, folder=tmp_path, variables={"HF_ENDPOINT": "http://127.0.0.1:9"}, timeout=60)
    found, user_site, variables, prefix = json.loads(done.stdout)
    assert found == ["torch", "transformers", "peft", "numpy"]
    assert not user_site
    assert variables == ["HF_ENDPOINT", "HF_HOME", "HF_HUB_OFFLINE"]
    assert os.path.samefile(prefix, tmp_path / "environment")


def test_where_links_are_not_allowed_packages_are_copied(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no links here")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    python = make_clean_environment(tmp_path / "environment", ("safetensors",))
    done = subprocess.run(
        [python, "-c", "import safetensors; print(safetensors.__file__)"], capture_output=True, text=True, check=True
    )
    assert str(tmp_path / "environment") in done.stdout


def test_the_same_logits_come_from_the_published_files_in_this_process(trained, lab, tmp_path):
    for folder in (trained, trained / "checkpoint-6"):
        staged = tmp_path / f"staged-{folder.name}"
        stage(prepare_model(folder, REPO).files, staged)
        model = ECGLlamaForCausalLM.from_pretrained(staged, text_model=lab / "backbone")
        expected = load_file(trained / "check_logits.safetensors")
        with torch.no_grad():
            logits = model(**{name: expected[name] for name in ("input_ids", "attention_mask", "ecg_values")}).logits
        at = expected["positions"].unsqueeze(-1).expand(-1, -1, logits.shape[-1])
        assert torch.allclose(logits.gather(1, at), expected["logits"], atol=1e-5)
