"""The demo Space as it would be published, and its drafting without a server."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from processing import LEADS, ECGFeatureExtractor, ECGProcessor
from publishing.space_folder import prepare_space
from reporting.notice import DRAFT_NOTICE
from tests.processing.synthetic import make_ecg, make_tokenizer

from .folders import REPO, contents, refusal

SPACE = Path(__file__).resolve().parents[2] / "publishing" / "space"
DEMO = "some-lab/demo"


@pytest.fixture
def app(monkeypatch):
    """The published app.py, with gradio in name alone."""
    fake = types.ModuleType("gradio")
    fake.Blocks = object
    monkeypatch.setitem(sys.modules, "gradio", fake)
    source = contents(prepare_space(SPACE, DEMO, REPO))["app.py"].decode()
    module = types.ModuleType("app")
    exec(compile(source, "app.py", "exec"), module.__dict__)
    return module


class Drafting:
    """Stands for the model: keeps what it was given, and answers with the prompt and five tokens."""

    def __init__(self, answer):
        self.answer = answer
        self.config = types.SimpleNamespace(is_encoder_decoder=False)

    def generate(self, input_ids, **inputs):
        self.inputs = inputs
        return torch.cat([input_ids, torch.tensor([self.answer])], dim=1)


@pytest.fixture
def model(app, monkeypatch):
    processor = ECGProcessor(ECGFeatureExtractor(), make_tokenizer(chatml=True))
    drafting = Drafting(processor.tokenizer("Sinus rhythm.")["input_ids"])
    monkeypatch.setattr(app, "load", lambda: (processor, drafting))
    return drafting


def test_the_space_names_its_model_and_the_notice():
    uploaded = contents(prepare_space(SPACE, DEMO, REPO))
    assert set(uploaded) == {"app.py", "requirements.txt", "README.md"}
    for name in ("app.py", "README.md"):
        text = uploaded[name].decode()
        assert REPO in text
        assert DRAFT_NOTICE in text
        assert "{{" not in text


def test_a_space_without_a_model_is_refused():
    assert "--model org/name" in refusal(SPACE, prepare_space, model_id=None)
    assert "is not a repository id" in refusal(SPACE, prepare_space, model_id="no-organisation")


def test_a_draft_stands_below_the_notice(app, model, tmp_path):
    path = tmp_path / "ecg.npy"
    np.save(path, make_ecg(seed=1))
    draft = app.draft([str(path)], 500, ", ".join(LEADS))
    assert draft == f"**{DRAFT_NOTICE}**\n\nSinus rhythm."
    assert model.inputs["ecg_values"].shape == (1, 12, 5000)


def test_the_files_of_a_wfdb_record_are_put_side_by_side(app, model, tmp_path):
    adc = np.rint(make_ecg(seed=1).T * 1000).astype("<i2")
    of_leads = zip(LEADS, adc[0], adc.sum(axis=0, dtype=np.int16), strict=True)
    header = [
        "ecg 12 500 5000",
        *(f"ecg.dat 16 1000(0)/mV 16 0 {int(first)} {int(total)} 0 {lead}" for lead, first, total in of_leads),
    ]
    parts = {
        "a/ecg.hea": "\n".join(header).encode(),
        "b/ecg.dat": adc.tobytes(),
    }
    for name, content in parts.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(content)
    draft = app.draft([str(tmp_path / name) for name in parts], None, "")
    assert draft.startswith(f"**{DRAFT_NOTICE}**"), draft


def test_what_is_no_recording_is_answered_with_the_reason(app, model, tmp_path):
    assert app.draft(None, None, "") == "Choose a recording first."
    (tmp_path / "a.txt").write_text("no ecg")
    assert "/" not in app.draft([str(tmp_path / "a.txt")], None, "").partition(";")[0]
    (tmp_path / "b.txt").write_text("no ecg")
    assert app.draft([str(tmp_path / "a.txt")], None, "").startswith("No draft: ")
    both = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    assert "expected one, or a .hea with its .dat files" in app.draft(both, None, "")


def test_it_imports_what_its_requirements_name(app):
    source = contents(prepare_space(SPACE, DEMO, REPO))["app.py"].decode()
    imported = {line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imported - set(sys.stdlib_module_names) == {"gradio", "torch", "transformers"}
