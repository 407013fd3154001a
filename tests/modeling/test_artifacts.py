"""What is saved loads: full checkpoints and adapter folders, here and in another process."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from modeling_meit import (
    ECGEncoder,
    ECGEncoderConfig,
    ECGLlamaConfig,
    ECGLlamaForCausalLM,
    ECGLlamaForConditionalGeneration,
    ECGLlamaSeq2SeqConfig,
)
from modeling_meit.configuration_meit import check_transformers_version
from tests.clean_environment import run_in_clean_environment

from .families import SEQ2SEQ, text_config
from .test_plain import stock_model as random_stock_model
from .tiny import TEXTS, ecg, inputs_of, padded, tiny_config, tiny_model

ECG = {"widths": (4, 8, 8, 16)}


def logits(model):
    ids, mask = padded(TEXTS, "right")
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, ecg_values=ecg(3, dtype=torch.float32)).logits


@pytest.fixture
def backbone(tmp_path):
    """Folder of a text-only Llama."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_config().text_config).save_pretrained(tmp_path / "backbone")
    return tmp_path / "backbone"


@pytest.fixture
def adapter(backbone, tmp_path):
    """An adapter folder after one training step, and the logits of the model that it was saved from."""
    model = ECGLlamaForCausalLM.from_text_pretrained(backbone, ecg_config=ECG)
    lora = LoraConfig(
        r=4,
        target_modules=r".*language_model\..*\.(q|k|v|o)_proj",
        modules_to_save=["ecg_encoder", "ecg_projector"],
        task_type="CAUSAL_LM",
        init_lora_weights=False,
    )
    peft_model = get_peft_model(model, lora).train()
    ids, mask = padded(TEXTS, "right")
    optimizer = torch.optim.SGD([p for p in peft_model.parameters() if p.requires_grad], lr=0.5)
    peft_model(input_ids=ids, attention_mask=mask, ecg_values=ecg(3, dtype=torch.float32), labels=ids).loss.backward()
    optimizer.step()
    folder = tmp_path / "adapter"
    peft_model.save_pretrained(folder)
    model.save_config_and_code(folder)
    return folder, logits(peft_model.eval())


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
def test_from_text_pretrained_keeps_the_backbone_as_it_is(backbone, attn_implementation):
    stock = AutoModelForCausalLM.from_pretrained(backbone, attn_implementation=attn_implementation).eval()
    model = ECGLlamaForCausalLM.from_text_pretrained(backbone, ecg_config=ECG, attn_implementation=attn_implementation)
    language_model = model.model.language_model
    assert language_model.config._attn_implementation == attn_implementation
    ids = torch.tensor([TEXTS[0]])
    with torch.no_grad():
        found = model.lm_head(language_model(ids).last_hidden_state)
        assert torch.equal(found, stock(ids).logits)
    assert model.config.text_model_path == str(backbone)
    assert model.generation_config.eos_token_id == stock.generation_config.eos_token_id
    assert not model.training


def test_from_text_pretrained_refuses_two_configurations(backbone):
    with pytest.raises(ValueError, match="not both"):
        ECGLlamaForCausalLM.from_text_pretrained(backbone, config=tiny_config(), fusion_layers=[0])


def test_half_precision_spares_the_encoder(backbone):
    model = ECGLlamaForCausalLM.from_text_pretrained(backbone, ecg_config=ECG, dtype=torch.bfloat16)
    assert model.model.language_model.dtype == torch.bfloat16
    assert model.model.ecg_encoder.dtype == torch.float32
    assert logits(model).dtype == torch.bfloat16


@pytest.mark.parametrize("tied", [True, False])
def test_full_checkpoint_round_trip(tmp_path, tied):
    model = tiny_model(dtype=torch.float32, fusion_layers=[1], text={"tie_word_embeddings": tied})
    model.tie_weights()
    model.save_pretrained(tmp_path / "full")
    for auto in (AutoModel, AutoModelForCausalLM, ECGLlamaForCausalLM):
        loaded = auto.from_pretrained(tmp_path / "full")
        assert type(loaded) is ECGLlamaForCausalLM
        assert torch.equal(logits(loaded), logits(model))
    half = AutoModel.from_pretrained(tmp_path / "full", dtype=torch.bfloat16)
    assert half.model.language_model.dtype == torch.bfloat16
    assert half.model.ecg_encoder.dtype == torch.float32


def test_adapter_holds_no_backbone_weight(adapter, backbone):
    folder, _ = adapter
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
        size = sum(file.get_tensor(name).numel() for name in names)
    assert all("lora_" in name or ".ecg_" in name for name in names)
    assert any("running_mean" in name for name in names)
    trained = ECGLlamaForCausalLM.from_pretrained(folder)
    encoder = sum(t.numel() for t in trained.model.ecg_encoder.modules_to_save.default.state_dict().values())
    projector = sum(t.numel() for t in trained.model.ecg_projector.modules_to_save.default.state_dict().values())
    # q and o project 32 -> 32, k and v 32 -> 16, in each of 2 layers, with rank 4.
    lora = 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16))
    assert size == encoder + projector + lora
    assert not list(folder.glob("*.bin")) + list(folder.glob("*.pt"))


def test_adapter_loads_with_every_class(adapter):
    folder, expected = adapter
    for auto in (AutoModel, AutoModelForCausalLM, ECGLlamaForCausalLM):
        loaded = auto.from_pretrained(folder)
        assert type(loaded) is ECGLlamaForCausalLM
        assert not loaded.training
        assert torch.equal(logits(loaded), expected)


def test_adapter_saved_again_loads_again(adapter, tmp_path):
    folder, expected = adapter
    ECGLlamaForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again" / "model.safetensors").exists()
    assert torch.equal(logits(ECGLlamaForCausalLM.from_pretrained(tmp_path / "again")), expected)


def test_adapter_can_be_trained_on(adapter):
    loaded = ECGLlamaForCausalLM.from_pretrained(adapter[0], is_trainable=True)
    trainable = {name for name, p in loaded.named_parameters() if p.requires_grad}
    assert loaded.training
    assert any("lora_A" in name for name in trainable)
    assert any("ecg_encoder.modules_to_save" in name for name in trainable)
    assert not any("base_layer" in name or "embed_tokens" in name for name in trainable)


LOAD_ELSEWHERE = """
import importlib.util, json, sys
import torch
from safetensors.torch import load_file
for name in ("modeling_meit", "processing", "wfdb", "scipy", "trl", "datasets"):
    assert importlib.util.find_spec(name) is None, name
import transformers
inputs = load_file("inputs.safetensors")
expected = inputs.pop("logits")
for auto in ("AutoModel", sys.argv[2]):
    model = getattr(transformers, auto).from_pretrained(sys.argv[1], trust_remote_code=True)
    with torch.no_grad():
        print(type(model).__name__, torch.equal(model(**inputs).logits, expected))
"""


@pytest.mark.parametrize(
    ("kind", "family", "fusion"),
    [
        ("adapter", "llama", "concat"),
        ("full", "llama", "concat"),
        ("full", "bloom", "llava"),
        ("full", "gpt_neo", "flamingo"),
        ("full", "t5", "concat"),
    ],
)
def test_loads_in_a_process_that_has_only_torch_transformers_peft_numpy(kind, family, fusion, adapter, tmp_path):
    folder, expected = adapter
    model = tiny_model(family, dtype=torch.float32, fusion=fusion)
    model.tie_weights()
    if kind == "full":
        model.save_pretrained(tmp_path / "full")
        folder = tmp_path / "full"
        with torch.no_grad():
            expected = model(**inputs_of(model, "right")).logits
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere / "moved")
    folder.rename(tmp_path / "renamed-away")
    save_file(inputs_of(model, "right") | {"logits": expected}, elsewhere / "inputs.safetensors")
    own_auto = "AutoModelForSeq2SeqLM" if family in SEQ2SEQ else "AutoModelForCausalLM"
    printed = run_in_clean_environment(LOAD_ELSEWHERE, elsewhere, "moved", own_auto)
    assert printed.splitlines() == [f"{type(model).__name__} True"] * 2


@pytest.mark.parametrize(
    ("family", "fusion", "layers"),
    [
        ("llama", "llava", "(q|v)_proj"),
        ("llama", "flamingo", "(q|v)_proj"),
        ("gpt2", "llava", "c_attn"),
        ("bloom", "flamingo", "query_key_value"),
        ("opt", "concat", "(q|v)_proj"),
        ("t5", "concat", "(q|v)"),
        ("bart", "flamingo", "(q|v)_proj"),
        ("t5", "llava", "(q|v)"),
    ],
)
def test_adapters_of_other_families_and_fusions(family, fusion, layers, tmp_path):
    random_stock_model(family).float().save_pretrained(tmp_path / "backbone")
    is_seq2seq = family in SEQ2SEQ
    model_class = ECGLlamaForConditionalGeneration if is_seq2seq else ECGLlamaForCausalLM
    model = model_class.from_text_pretrained(tmp_path / "backbone", ecg_config=ECG, fusion=fusion)
    whole = ["ecg_encoder", "ecg_projector"] + ["ecg_cross_attention"] * (fusion == "flamingo")
    lora = LoraConfig(
        r=4,
        target_modules=rf".*language_model\..*\.{layers}",
        modules_to_save=whole,
        task_type="SEQ_2_SEQ_LM" if is_seq2seq else "CAUSAL_LM",
        init_lora_weights=False,
    )
    peft_model = get_peft_model(model, lora).eval()
    for name, weight in peft_model.named_parameters():
        if name.endswith("_gate"):
            weight.data.fill_(0.5)
    inputs = {k: v for k, v in inputs_of(tiny_model(family, dtype=torch.float32), "right").items()}
    if fusion == "llava":
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        placeholder = torch.full((3, 1), model.config.ecg_token_id)
        inputs |= {"input_ids": torch.cat([placeholder, ids], 1), "attention_mask": torch.cat([mask[:, :1], mask], 1)}
    with torch.no_grad():
        expected = peft_model(**inputs).logits
    peft_model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    model.save_config_and_code(tmp_path / "adapter")
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    assert all("lora_" in name or ".ecg_" in name for name in names)
    for auto in (AutoModel, AutoModelForSeq2SeqLM if is_seq2seq else AutoModelForCausalLM, model_class):
        loaded = auto.from_pretrained(tmp_path / "adapter")
        assert type(loaded) is model_class
        with torch.no_grad():
            assert torch.equal(loaded(**inputs).logits, expected)
            flat = loaded(**(inputs | {"ecg_values": torch.zeros_like(inputs["ecg_values"])})).logits
        assert not torch.equal(flat, expected)


def test_backbone_elsewhere(adapter, backbone, tmp_path):
    folder, expected = adapter
    backbone.rename(tmp_path / "moved-backbone")
    with pytest.raises(OSError, match=r"adapter without backbone weights.*backbone.*Hub id None.*text_model="):
        ECGLlamaForCausalLM.from_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder, text_model=tmp_path / "moved-backbone")
    assert torch.equal(logits(loaded), expected)
    tiny_model().save_pretrained(tmp_path / "full")
    with pytest.raises(ValueError, match="full checkpoint, not an adapter"):
        ECGLlamaForCausalLM.from_pretrained(tmp_path / "full", text_model=tmp_path / "moved-backbone")


@pytest.mark.parametrize("auto", [AutoConfig, AutoModelForCausalLM])
def test_the_backbone_is_looked_up_as_the_same_user(adapter, auto, monkeypatch):
    folder, _ = adapter
    seen = {}
    text_config = tiny_config().text_config
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda path, **kwargs: text_config)

    def look_up(path, **kwargs):
        seen.update(kwargs, path=path)
        raise OSError("gated")

    monkeypatch.setattr(auto, "from_pretrained", look_up)
    with pytest.raises(OSError, match="its backbone was not found"):
        ECGLlamaForCausalLM.from_pretrained(
            folder, text_model="org/gated", token="hf_x", local_files_only=True, revision="of-the-adapter"
        )
    assert seen == {"path": "org/gated", "token": "hf_x", "local_files_only": True}


def test_an_adapter_that_lost_a_tensor_is_refused(adapter):
    folder, _ = adapter
    tensors = load_file(folder / "adapter_model.safetensors")
    del tensors[next(name for name in tensors if "ecg_projector" in name)]
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"does not fit its adapter_config.json: 1 of \d+ tensors are missing"):
        ECGLlamaForCausalLM.from_pretrained(folder)


def test_an_adapter_is_never_unpickled(adapter):
    folder, _ = adapter
    (folder / "adapter_model.safetensors").unlink()
    torch.save({}, folder / "adapter_model.bin")
    with pytest.raises(OSError, match="no adapter_model.safetensors"):
        ECGLlamaForCausalLM.from_pretrained(folder)


def test_damaged_adapter_weights_are_named(adapter):
    folder, _ = adapter
    weights = (folder / "adapter_model.safetensors").read_bytes()
    for damaged in (weights[: len(weights) // 2], weights[:8] + bytes(64) + weights[72:], b""):
        (folder / "adapter_model.safetensors").write_bytes(damaged)
        with pytest.raises(OSError, match=f"weights of {folder} are cut short or damaged"):
            ECGLlamaForCausalLM.from_pretrained(folder)


def test_adapter_weights_of_another_shape_are_named(adapter):
    folder, _ = adapter
    weights = load_file(folder / "adapter_model.safetensors")
    name = next(name for name in weights if name.endswith("layers.0.self_attn.q_proj.lora_A.weight"))
    rank, width = weights[name].shape
    save_file(weights | {name: torch.zeros(rank, width + 2)}, folder / "adapter_model.safetensors")
    expected = (
        rf"1 of \d+ tensors have another shape.*{name} with \[{rank}, {width + 2}\], expected \[{rank}, {width}\]"
    )
    with pytest.raises(ValueError, match=expected):
        ECGLlamaForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("part", ["ecg_encoder", "ecg_projector.linear_2.bias"])
def test_a_full_checkpoint_that_lacks_what_reads_the_ecg_is_refused(tmp_path, part):
    tiny_model(dtype=torch.float32).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if part not in name}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"lacks \d+ tensors of what reads the ECG \(e\.g\. model\.{part}"):
        ECGLlamaForCausalLM.from_pretrained(tmp_path)


def test_a_full_checkpoint_says_what_it_loaded_where_asked(tmp_path):
    tiny_model(dtype=torch.float32).save_pretrained(tmp_path)
    model, info = ECGLlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(model, ECGLlamaForCausalLM)
    assert not info["missing_keys"]


def test_a_damaged_full_checkpoint_is_named(tmp_path):
    tiny_model(dtype=torch.float32).save_pretrained(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:-10])
    with pytest.raises(OSError, match=f"weights of {tmp_path} are cut short or damaged"):
        ECGLlamaForCausalLM.from_pretrained(tmp_path)


def test_an_artifact_of_a_later_format_is_refused(tmp_path):
    tiny_model(dtype=torch.float32).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["format_version"] == 2
    (tmp_path / "config.json").write_text(json.dumps(config | {"format_version": 3}))
    with pytest.raises(ValueError, match="format version 3, and this code reads up to 2: upgrade"):
        AutoModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("version", ["4.57.1", "5.16.1", "5.24.0", "6.0.0.dev0"])
def test_other_versions_of_transformers_are_refused(version):
    with pytest.raises(ImportError, match=rf"transformers>=5.17,<5.24, but transformers {version} is installed"):
        check_transformers_version(version)


@pytest.mark.parametrize("version", ["5.17.0", "5.23.0", "5.23.1.dev0"])
def test_versions_in_the_range_are_accepted(version):
    check_transformers_version(version)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fusion_layers": []}, "at least one of the language model's layers 0 to 1"),
        ({"fusion_layers": [2]}, r"fusion_layers is \[2\]"),
        ({"fusion_layers": [-1]}, r"fusion_layers is \[-1\]"),
        ({"fusion": "telepathy"}, 'fusion is "telepathy"; supported: "concat", "llava", "flamingo"'),
        ({"fusion": "llava", "fusion_layers": [0]}, "fusion_layers has no use"),
        ({"fusion": "llava", "ecg_token_id": 61}, "ecg_token_id is 61, and the language model's vocabulary has 61"),
        ({"fusion": "llava", "num_ecg_tokens": 0}, "num_ecg_tokens is 0; expected at least 1"),
        ({"num_ecg_tokens": 2}, 'are of fusion "llava"; found "concat"'),
        ({"ecg_projection": "big"}, 'ecg_projection is "big"'),
        ({"ecg_config": {"depth": 20}}, r"depth is 20; it must be one of \(18, 34, 50, 101, 152\)"),
        ({"ecg_config": {"widths": (4, 8)}}, "holds 2 stages"),
        ({"ecg_config": {"kernel_size": 4}}, "kernel_size is 4; it must be odd"),
    ],
)
def test_bad_configurations_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ECGLlamaConfig(**({"text_config": tiny_config().text_config} | arguments))


def test_configuration_round_trip(tmp_path):
    config = tiny_config(fusion_layers=[1], text_model_id="org/name")
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert loaded.to_diff_dict() == config.to_diff_dict()
    assert loaded.ecg_layers == [1]


def test_sizes_of_families_that_name_them_otherwise():
    config = ECGLlamaSeq2SeqConfig(text_config=text_config("t5", num_layers=3, d_kv=16))
    assert (config.num_decoder_layers, config.head_dim, config.is_encoder_decoder) == (2, 16, True)
    config = ECGLlamaSeq2SeqConfig(text_config=text_config("bart", encoder_layers=3, decoder_attention_heads=2))
    assert (config.num_decoder_layers, config.head_dim) == (2, 16)
    config = ECGLlamaConfig(text_config=text_config("opt", word_embed_proj_dim=16), fusion="llava", ecg_token_id=60)
    assert (config.embedding_size, config.ecg_vector_size) == (16, 16)
    assert ECGLlamaConfig(text_config=text_config("gpt2"), fusion="flamingo").ecg_vector_size == 32


def test_head_that_does_not_tile_is_projected_to_the_hidden_size():
    config = tiny_config(text={"head_dim": 12})
    assert (config.ecg_projection, config.ecg_vector_size) == ("hidden_size", 32)
    with pytest.raises(ValueError, match="does not tile"):
        tiny_config(text={"head_dim": 12}, ecg_projection="head_dim")


@pytest.mark.parametrize(
    ("depth", "blocks", "convolutions"),
    # Table 1 of He et al.: blocks per stage, and per block (kernel, channels in, channels out) in units of its width.
    [
        (18, (2, 2, 2, 2), [(3, 1, 1), (3, 1, 1)]),
        (34, (3, 4, 6, 3), [(3, 1, 1), (3, 1, 1)]),
        (50, (3, 4, 6, 3), [(1, 4, 1), (3, 1, 1), (1, 1, 4)]),
        (101, (3, 4, 23, 3), [(1, 4, 1), (3, 1, 1), (1, 1, 4)]),
        (152, (3, 8, 36, 3), [(1, 4, 1), (3, 1, 1), (1, 1, 4)]),
    ],
)
def test_encoder_depths(depth, blocks, convolutions):
    encoder = ECGEncoder(ECGEncoderConfig(depth=depth)).eval()
    outputs = encoder(torch.randn(2, 12, 500))
    expansion = convolutions[-1][2]
    assert encoder.config.hidden_size == 512 * expansion
    assert outputs.pooler_output.shape == (2, 512 * expansion)
    assert outputs.last_hidden_state.shape == (2, 16, 512 * expansion)
    assert depth == 2 + sum(blocks) * len(convolutions)

    expected = 12 * 64 * 7 + 2 * 64
    channels = 64
    for width, count in zip((64, 128, 256, 512), blocks, strict=True):
        for block in range(count):
            first = channels if block == 0 else width * expansion
            for i, (kernel, size_in, size_out) in enumerate(convolutions):
                size_in = first if i == 0 else width * size_in
                expected += kernel * size_in * width * size_out + 2 * width * size_out
            if block == 0 and (width > 64 or expansion > 1):
                expected += first * width * expansion + 2 * width * expansion
        channels = width * expansion
    assert sum(p.numel() for p in encoder.parameters()) == expected


def test_an_adapter_without_the_encoder_is_refused(backbone, tmp_path):
    model = ECGLlamaForCausalLM.from_text_pretrained(backbone, ecg_config=ECG)
    lora = LoraConfig(target_modules=r".*language_model\..*\.q_proj", task_type="CAUSAL_LM")
    get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
    model.save_config_and_code(tmp_path / "adapter")
    with pytest.raises(ValueError, match="holds no ecg_encoder, ecg_projector"):
        AutoModel.from_pretrained(tmp_path / "adapter")


def test_an_adapter_on_a_full_checkpoint_is_not_put_on_the_first_language_model(backbone, tmp_path):
    ECGLlamaForCausalLM.from_text_pretrained(backbone, ecg_config=ECG).save_pretrained(tmp_path / "full")
    model = ECGLlamaForCausalLM.from_pretrained(tmp_path / "full")
    lora = LoraConfig(
        target_modules=r".*language_model\..*\.q_proj",
        modules_to_save=["ecg_encoder", "ecg_projector"],
        task_type="CAUSAL_LM",
    )
    get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
    model.save_config_and_code(tmp_path / "adapter")
    with pytest.raises(OSError, match="its backbone was not found"):
        AutoModel.from_pretrained(tmp_path / "adapter")
