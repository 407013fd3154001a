"""What transformers' common tests ask of a model class, asked of ours."""

import copy
import pickle

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from modeling_meit import FAMILIES as MODEL_FAMILIES
from modeling_meit import ECGLlamaForCausalLM, ECGLlamaForConditionalGeneration
from modeling_meit.fusion_meit import with_time_positions

from .families import SEQ2SEQ
from .test_plain import stock_model as random_stock_model
from .tiny import ECG_TOKEN, inputs_of, tiny_config, tiny_model

FAMILIES = ("llama", "gpt2", "bloom", "opt", "gptj", "bart", "t5")
FUSIONS = ("concat", "llava", "flamingo")
ECG = {"widths": (4, 8, 8, 16)}
LAYER_NAMES = {"llama": r"(q|k|v|o)_proj", "gpt2": "c_attn|c_proj", "bloom": "query_key_value|dense", "t5": "q|k|v|o"}


def class_of(family):
    return ECGLlamaForConditionalGeneration if family in SEQ2SEQ else ECGLlamaForCausalLM


def logits(model, **kwargs):
    with torch.no_grad():
        return model.eval()(**inputs_of(model, "right", **kwargs)).logits


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_save_and_load(family, fusion, tmp_path):
    model = tiny_model(family, dtype=torch.float32, fusion=fusion)
    model.tie_weights()
    model.generation_config.max_new_tokens = 17
    model.save_pretrained(tmp_path)
    own_auto = AutoModelForSeq2SeqLM if family in SEQ2SEQ else AutoModelForCausalLM
    for auto in (AutoModel, own_auto, class_of(family)):
        loaded, report = auto.from_pretrained(tmp_path, output_loading_info=True)
        assert type(loaded) is class_of(family)
        assert not report["missing_keys"] or set(report["missing_keys"]) <= set(loaded._tied_weights_keys)
        assert not report["unexpected_keys"]
        assert torch.equal(logits(loaded), logits(model))
        assert loaded.generation_config.max_new_tokens == 17
    assert AutoConfig.from_pretrained(tmp_path).to_diff_dict() == model.config.to_diff_dict()


@pytest.mark.parametrize("family", FAMILIES)
def test_low_memory_and_half_precision_load(family, tmp_path):
    model = tiny_model(family, dtype=torch.float32)
    model.tie_weights()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = AutoModel.from_pretrained(tmp_path, device_map={"": "cpu"}, low_cpu_mem_usage=True)
    assert torch.equal(logits(loaded), logits(model))
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.model.language_model.dtype == torch.bfloat16
    assert half.model.ecg_encoder.dtype == half.model.ecg_projector.linear_1.weight.dtype == torch.float32
    assert (logits(half).float() - logits(model)).abs().max() < 0.15
    assert not torch.equal(logits(half), logits(half, seed=1))


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "t5"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_layers_on_disk(family, fusion, tmp_path):
    """A device map that puts half of the language model elsewhere: the ECG meets each layer where that is."""
    model = tiny_model(family, dtype=torch.float32, fusion=fusion)
    model.tie_weights()
    model.save_pretrained(tmp_path / "model")
    layers = [f"model.language_model.{model.model.family.layers}.{index}" for index in (0, 1)]
    device_map = {name: "cpu" for name in model.state_dict() if not name.startswith(tuple(layers))}
    device_map |= {layers[0]: "cpu", layers[1]: "disk"}
    loaded = AutoModel.from_pretrained(tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "offload")
    assert any(weight.device.type == "meta" for weight in loaded.model.decoder_layers[1].parameters())
    assert torch.equal(logits(loaded), logits(model))
    assert not torch.equal(logits(loaded), logits(loaded, seed=1))


def test_the_device_map_is_made_of_whole_layers():
    model = tiny_model("llama", fusion="flamingo")
    assert {"LlamaDecoderLayer", "ECGEncoder", "GatedCrossAttention"} <= set(model._no_split_modules)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_initialisation(family, fusion):
    """Every weight of a new model is drawn or set, and a seed repeats it."""
    models = []
    for _ in range(2):
        torch.manual_seed(5)
        models.append(class_of(family)(tiny_config(family, fusion=fusion)))
    for (name, one), other in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        assert torch.equal(one, other), name
        assert torch.isfinite(one.float()).all(), name
        if name.endswith(("norm.weight", "bn1.weight", "running_var")):
            assert (one == 1).all(), name
        elif "ecg_" in name and (name.endswith("gate") or "running_mean" in name):
            assert (one == 0).all(), name
        elif name.endswith("conv1.weight") and "ecg_encoder" in name:
            fan_out = one.shape[0] * one.shape[2]
            assert one.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.35), name


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_weights_that_a_checkpoint_lacks_are_initialised(family, tmp_path):
    model = tiny_model(family, dtype=torch.float32, fusion="flamingo")
    model.tie_weights()
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    lost = [name for name in tensors if "attn_gate" in name or name.endswith("layer1.0.conv1.weight")]
    save_file({name: value for name, value in tensors.items() if name not in lost}, tmp_path / "model.safetensors")
    loaded, report = class_of(family).from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) >= set(lost)
    for name in lost:
        value = loaded.state_dict()[name]
        assert (value == 0).all() if "gate" in name else 0.05 < value.std() < 2


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "t5"])
def test_tied_weights_stay_one_and_are_stored_once(family, tmp_path):
    model = tiny_model(family, dtype=torch.float32, text={"tie_word_embeddings": True})
    model.tie_weights()
    embedding = model.get_input_embeddings()
    assert model.lm_head.weight is embedding.weight
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        shapes = [tuple(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118
    assert shapes.count(tuple(embedding.weight.shape)) == 1
    loaded = class_of(family).from_pretrained(tmp_path)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    if family == "t5":
        stacks = loaded.model.language_model
        assert stacks.encoder.embed_tokens.weight is stacks.decoder.embed_tokens.weight is loaded.lm_head.weight
    assert torch.equal(logits(loaded), logits(model))


def test_untied_weights_stay_two(tmp_path):
    model = tiny_model("llama", dtype=torch.float32)
    model.save_pretrained(tmp_path)
    loaded = ECGLlamaForCausalLM.from_pretrained(tmp_path)
    assert loaded.lm_head.weight is not loaded.get_input_embeddings().weight
    assert torch.equal(logits(loaded), logits(model))


def test_the_separate_head_of_t5_v1_1_stays(tmp_path):
    """Its configuration says that it is tied."""
    stock = random_stock_model("t5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}).float()
    stock.save_pretrained(tmp_path / "stock")
    model = ECGLlamaForConditionalGeneration.from_text_pretrained(tmp_path / "stock", ecg_config=ECG)
    assert torch.equal(model.lm_head.weight, stock.lm_head.weight)
    assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
    model.save_pretrained(tmp_path / "full")
    loaded = ECGLlamaForConditionalGeneration.from_pretrained(tmp_path / "full")
    assert torch.equal(logits(loaded), logits(model))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("rows", [70, 61])
def test_embeddings_can_be_resized(family, fusion, rows, tmp_path):
    model = tiny_model(family, dtype=torch.float32, fusion=fusion)
    model.tie_weights()
    before = logits(model)
    model.resize_token_embeddings(rows)
    after = logits(model)
    assert after.shape[-1] == model.config.get_text_config().vocab_size == model.lm_head.out_features == rows
    assert torch.allclose(after[..., :61], before, rtol=0, atol=1e-6)
    inputs = inputs_of(model, "right")
    labels = inputs.get("decoder_input_ids", inputs["input_ids"])
    assert torch.isfinite(model(**inputs, labels=labels).loss)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(class_of(family).from_pretrained(tmp_path)), after)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_from_text_pretrained_keeps_the_language_model(family, fusion, tmp_path):
    stock = random_stock_model(family).float()
    stock.save_pretrained(tmp_path)
    model = class_of(family).from_text_pretrained(tmp_path, ecg_config=ECG, fusion=fusion, attn_implementation="eager")
    assert not model.training
    assert model.config.text_model_path == str(tmp_path)
    assert model.generation_config.eos_token_id == stock.generation_config.eos_token_id
    inputs = {name: value for name, value in inputs_of(tiny_model(family), "right").items() if name != "ecg_values"}
    with torch.no_grad():
        found, expected = model(**inputs).logits[..., :61], stock(**inputs).logits
    real = inputs.get("decoder_attention_mask", inputs["attention_mask"]).bool()
    # GPT-Neo's window is taken from the mask here.
    assert (found - expected)[real].abs().max() < (1e-5 if family == "gpt_neo" else 1e-7)
    if fusion == "llava":
        assert model.config.ecg_token_id == 61
        assert model.get_input_embeddings().weight.shape[0] == model.lm_head.out_features == 62
        again = class_of(family).from_text_pretrained(tmp_path, config=copy.deepcopy(model.config))
        assert torch.equal(again.lm_head.weight, model.lm_head.weight)
        assert torch.allclose(model.lm_head.weight[61], model.lm_head.weight[:61].mean(0), rtol=0, atol=1e-6)


def test_another_backbone_is_refused_before_its_weights_are_read(tmp_path):
    config = AutoConfig.for_model("gpt_bigcode", vocab_size=61, n_embd=32, n_layer=2, n_head=4)
    config.save_pretrained(tmp_path)
    names = ", ".join(sorted(MODEL_FAMILIES))
    with pytest.raises(ValueError, match=f'"gpt_bigcode" is not supported; supported: {names}'):
        ECGLlamaForCausalLM.from_text_pretrained(tmp_path)
    tiny_config("t5").text_config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='"t5" is an encoder-decoder: use ECGLlamaForConditionalGeneration'):
        ECGLlamaForCausalLM.from_text_pretrained(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_determinism_and_copies(family, fusion):
    model = tiny_model(family, dtype=torch.float32, fusion=fusion)
    expected = logits(model)
    assert torch.equal(logits(model), expected)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert torch.equal(logits(other), expected)  # nothing in the copy looks back at the first


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_mean_over_the_labels(family):
    model = tiny_model(family, dtype=torch.float32)
    inputs = inputs_of(model, "right")
    prefix = "decoder_" if family in SEQ2SEQ else ""
    ids, mask = inputs[f"{prefix}input_ids"], inputs[f"{prefix}attention_mask"]
    labels = ids.masked_fill(mask == 0, -100)
    if family in SEQ2SEQ:
        shifted = {name: value for name, value in inputs.items() if not name.startswith("decoder_")}
        outputs = model(**shifted, labels=labels)
        start = model.config.text_config.decoder_start_token_id
        made = torch.cat([torch.full((3, 1), start), ids[:, :-1]], dim=1)
        predicted = model(**shifted, decoder_input_ids=made.masked_fill(made == -100, 0)).logits
    else:
        outputs = model(**inputs, labels=labels)
        predicted, labels = model(**inputs).logits[:, :-1], labels[:, 1:]
    chosen = predicted.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    expected = -chosen[labels != -100].mean()
    assert torch.allclose(outputs.loss, expected, rtol=1e-5)
    kwargs = {"num_items_in_batch": 2 * (labels != -100).sum()}
    again = model(**(shifted if family in SEQ2SEQ else inputs), labels=labels_of(inputs, prefix), **kwargs)
    assert torch.allclose(again.loss, expected / 2, rtol=1e-5)


def labels_of(inputs, prefix):
    return inputs[f"{prefix}input_ids"].masked_fill(inputs[f"{prefix}attention_mask"] == 0, -100)


@pytest.mark.parametrize("family", LAYER_NAMES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_merged_adapter_is_the_adapter(family, fusion, tmp_path):
    base = tiny_model(family, dtype=torch.float32, fusion=fusion)
    base.tie_weights()
    whole = ["ecg_encoder", "ecg_projector"] + ["ecg_cross_attention"] * (fusion == "flamingo")
    lora = LoraConfig(
        r=4,
        target_modules=rf".*language_model\..*\.({LAYER_NAMES[family]})",
        modules_to_save=whole,
        task_type="SEQ_2_SEQ_LM" if family in SEQ2SEQ else "CAUSAL_LM",
        init_lora_weights=False,
    )
    before = logits(base)
    model = get_peft_model(base, lora)
    for name, weight in model.named_parameters():
        if "modules_to_save" in name and weight.ndim > 1:
            weight.data += 0.1  # as training would: the trained copy is the one that counts
    trained = logits(model.get_base_model())
    assert (trained - before).abs().max() > 1e-2
    merged = model.merge_and_unload()
    assert type(merged) is class_of(family)
    assert (logits(merged) - trained).abs().max() < 2e-5
    assert not torch.equal(logits(merged), logits(merged, seed=1))
    merged.save_pretrained(tmp_path)
    assert torch.equal(logits(class_of(family).from_pretrained(tmp_path)), logits(merged))


@pytest.mark.support("seq2seq")
@pytest.mark.parametrize(
    "family",
    ["bart", "bloom", "gemma", "gpt2", "gpt_neo", "gpt_neox", "gptj", "llama", "mistral", "opt"]
    + ["phi3", "qwen2", "qwen3", "t5"],
)
def test_a_sequence_to_sequence_model_learns_and_drafts(family, tmp_path):
    if family not in SEQ2SEQ:
        pytest.skip("lacks: sequence to sequence, of a decoder-only family")
    for fusion in FUSIONS:
        model = tiny_model(family, dtype=torch.float32, fusion=fusion).train()
        inputs = {k: v for k, v in inputs_of(model, "right").items() if not k.startswith("decoder_")}
        labels = labels_of(inputs_of(model, "right"), "decoder_")
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        losses = []
        for _ in range(20):
            loss = model(**inputs, labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        assert losses[-1] < 0.6 * losses[0]
        model.eval().save_pretrained(tmp_path / fusion)
        loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / fusion)
        drafts = [one.generate(**inputs, max_new_tokens=5, num_beams=2) for one in (model, loaded)]
        assert torch.equal(*drafts)
        assert ECG_TOKEN not in drafts[0] or fusion != "llava"


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neo", "bloom", "t5"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_pickling(family, fusion):
    """As processes that are spawned receive a model."""
    model = tiny_model(family, dtype=torch.float32, fusion=fusion)
    assert torch.equal(logits(pickle.loads(pickle.dumps(model))), logits(model))


def test_frozen_parts_keep_their_batch_statistics():
    model = tiny_model(dtype=torch.float32)
    before = copy.deepcopy(model.model.ecg_encoder.state_dict())
    model.model.ecg_encoder.requires_grad_(False)
    model.train()
    model(**inputs_of(model, "right"))
    model.generate(**inputs_of(model, "left"), max_new_tokens=2)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.model.ecg_encoder.state_dict().items())
    model.model.ecg_encoder.requires_grad_(True)
    model.train()
    model(**inputs_of(model, "right"))
    assert not torch.equal(model.model.ecg_encoder.bn1.running_mean, before["bn1.running_mean"])
    with pytest.raises(ValueError, match="found 1 ECG in a training batch; expected at least 2"):
        model(**inputs_of(model, "right", rows=slice(0, 1)))


def test_time_positions_are_precise_in_half_precision():
    features = torch.randn(2, 157, 64)
    found = with_time_positions(features.bfloat16())
    assert (found - with_time_positions(features.bfloat16().float())).abs().max() < 1e-5


def test_replicas_are_refused():
    model = tiny_model()
    model.model._is_replica = True  # as nn.DataParallel marks them
    with pytest.raises(RuntimeError, match="nn.DataParallel is not supported"):
        model(**inputs_of(model))


def test_the_wrong_way_to_load_names_the_right_one(tmp_path):
    random_stock_model("llama").save_pretrained(tmp_path / "stock")
    tiny_model(dtype=torch.float32).save_pretrained(tmp_path / "ours")
    with pytest.raises(ValueError, match='holds a model of type "llama", expected "ecg_llama": from_text_pretrained'):
        ECGLlamaForCausalLM.from_pretrained(tmp_path / "stock")
    with pytest.raises(ValueError, match="reads ECGs already, expected a language model: use from_pretrained"):
        ECGLlamaForCausalLM.from_text_pretrained(tmp_path / "ours")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (tiny_config(text={"num_hidden_layers": 9}, fusion_layers=[8]), r"fusion_layers is \[8\]"),
        (tiny_config().text_config, "config is a LlamaConfig; expected a ECGLlamaConfig"),
    ],
)
def test_a_configuration_is_checked_against_the_language_model(config, message, tmp_path):
    random_stock_model("llama").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        ECGLlamaForCausalLM.from_text_pretrained(tmp_path, config=config)


def test_a_configuration_of_the_caller_s_stays_as_it_was(tmp_path):
    random_stock_model("llama").save_pretrained(tmp_path)
    config = tiny_config()
    config.fusion = "llava"
    before = config.to_dict()
    model = ECGLlamaForCausalLM.from_text_pretrained(tmp_path, config=config)
    assert config.to_dict() == before
    assert model.config.ecg_token_id == 61
    with pytest.raises(ValueError, match='fusion "llava" needs an ecg_token_id'):
        ECGLlamaForCausalLM(config)


def test_the_placeholder_s_row_cannot_be_taken_away():
    with pytest.raises(ValueError, match="60 rows would leave out .* token 60; expected at least 61"):
        tiny_model(fusion="llava").resize_token_embeddings(60)
