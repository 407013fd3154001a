"""Training at scale on paper: what is counted is what a small model takes, and the document says what is counted.

The formulas here are written out by hand, for a model of the Llama family.
"""

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from benchmarks.paper_step import StepCount, StepShape, counted_step, model_on_paper, nf4_bytes
from benchmarks.scaling import (
    DEPTHS,
    FACTS,
    PLANS,
    Plan,
    at_depth,
    backbone_parameters,
    deepened,
    fits,
    matrix_products,
    measured_step,
    memory,
    memory_row,
    parameters_row,
    sizes,
    slot_bytes,
    tables,
    time_row,
    unpacking_bytes,
    with_data,
    write_tables,
)
from training.arguments import TuningArguments

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"
# Small, and yet more in the language model than the kernels of the encoder's convolutions take for themselves.
SHAPE = StepShape(batch=4, tokens=96, labelled=64, samples=320)
HIDDEN, INNER, HEADS, KEY_HEADS, VOCABULARY, RANK = 128, 256, 4, 2, 2048, 8


def paper_model(layers: int = 2, tuning: str = "lora", dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        vocab_size=VOCABULARY,
    )
    return model_on_paper(config, TuningArguments(tuning=tuning, lora_r=RANK), dtype=dtype)


def projections(config: dict) -> list[tuple[int, int]]:
    """(in, out) of the seven projections of a Llama layer."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    keys = hidden * config["num_key_value_heads"] // config["num_attention_heads"]
    return [(hidden, hidden), (hidden, keys), (hidden, keys), (hidden, hidden), *[(hidden, inner)] * 2, (inner, hidden)]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["whole", "checkpointing"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_counted_step_is_the_measured_one(dtype: torch.dtype, checkpointing: bool) -> None:
    autocast = dtype == torch.bfloat16
    counted = counted_step(paper_model(dtype=dtype), SHAPE, autocast, checkpointing, on_gpu=False)
    products, peak = measured_step(with_data(paper_model(dtype=dtype)), SHAPE, autocast, checkpointing)
    assert matrix_products(counted) == pytest.approx(products, rel=0.02)
    assert max(counted.peak_bytes.values()) == pytest.approx(peak, rel=0.05)


@pytest.mark.parametrize("tuning", ["full", "encoder"])
def test_counted_step_is_the_measured_one_in_other_modes(tuning: str) -> None:
    counted = counted_step(paper_model(tuning=tuning), SHAPE, autocast=False, on_gpu=False)
    products, peak = measured_step(with_data(paper_model(tuning=tuning)), SHAPE)
    assert matrix_products(counted) == pytest.approx(products, rel=0.02)
    assert max(counted.peak_bytes.values()) == pytest.approx(peak, rel=0.05)


def test_flops_are_those_of_the_equations() -> None:
    shallow, deep = (counted_step(paper_model(layers), SHAPE, autocast=False).flops for layers in (2, 3))
    config = {
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
    }
    # The tokens pass all projections, the ECG's vectors those of keys and values.
    tokens = SHAPE.batch * SHAPE.tokens
    rows = [tokens, tokens + SHAPE.batch, tokens + SHAPE.batch, *[tokens] * 4]
    # Frozen: y = Wx and the gradient of x. Low rank: B(Ax), and the gradients of x, A and B.
    products = sum(
        count * (2 * 2 * inputs * outputs + 3 * 2 * RANK * (inputs + outputs))
        for count, (inputs, outputs) in zip(rows, projections(config), strict=True)
    )
    assert deep["mm"] - shallow["mm"] == products
    size = HIDDEN // HEADS
    scores = SHAPE.batch * HEADS * SHAPE.tokens * (SHAPE.tokens + 1)
    attention = "_scaled_dot_product_flash_attention_for_cpu"
    assert deep[attention] - shallow[attention] == 2 * 2 * scores * size
    assert deep[f"{attention}_backward"] - shallow[f"{attention}_backward"] == 5 * 2 * scores * size


def test_convolutions_are_those_of_the_encoder() -> None:
    flops = counted_step(paper_model(), SHAPE, autocast=False).flops
    # ResNet-18: samples, channels in and out, width of the kernel; halved in time by the stem, its pool and stages 2-4.
    convolutions = [(SHAPE.samples // 2, 12, 64, 7), *[(SHAPE.samples // 4, 64, 64, 3)] * 4]
    for stage, width in enumerate((128, 256, 512)):
        samples, before = SHAPE.samples // 2 ** (stage + 3), width // 2
        convolutions += [(samples, before, width, 3), *[(samples, width, width, 3)] * 3, (samples, before, width, 1)]
    forward = sum(
        2 * SHAPE.batch * samples * inputs * outputs * kernel for samples, inputs, outputs, kernel in convolutions
    )
    samples, inputs, outputs, kernel = convolutions[0]  # nobody asks for the gradient of the ECG
    backward = 2 * forward - 2 * SHAPE.batch * samples * inputs * outputs * kernel
    assert (flops["convolution"], flops["convolution_backward"]) == (forward, backward)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["whole", "checkpointing"])
def test_two_depths_tell_of_any(checkpointing: bool) -> None:
    def count(layers: int) -> StepCount:
        return counted_step(paper_model(layers), SHAPE, checkpointing=checkpointing)

    assert deepened(*map(count, DEPTHS), 5) == count(5)
    assert at_depth(5.0, 7.0, DEPTHS[0] + 10) == 25.0


def test_packed_weights_are_unpacked_for_a_product_and_not_kept() -> None:
    packed, plain = (counted_step(paper_model(3, tuning), SHAPE) for tuning in ("qlora", "lora"))
    assert packed.flops == plain.flops
    unpacked = 2 * max(inputs * outputs for inputs, outputs in [(HIDDEN, INNER), (HIDDEN, HIDDEN)])
    assert packed.peak_bytes["layers"] <= plain.peak_bytes["layers"] + unpacked


def test_a_gpu_keeps_masks_of_one_byte_and_no_floats_of_the_logits() -> None:
    cpu, gpu = (counted_step(paper_model(), SHAPE, on_gpu=on_gpu) for on_gpu in (False, True))
    assert cpu.flops.total() == gpu.flops.total()
    for phase in ("layers", "head"):
        assert gpu.peak_bytes[phase] < cpu.peak_bytes[phase]


def test_nf4_is_its_bits_and_scales() -> None:
    assert nf4_bytes(64 * 256) == 64 * 256 / 2 + 256 + 4
    # The 80 layers' projections in 4 bits, the embedding and the head of 32,000 tokens in bfloat16.
    layers = 80 * sum(inputs * outputs for inputs, outputs in projections(FACTS["backbones"]["LLaMA-2-70B"]))
    expected = nf4_bytes(layers) + 2 * 2 * 32000 * 8192
    found = sizes("LLaMA-2-70B", "qlora")
    assert 35e9 < found.frozen_bytes < 40e9
    assert found.frozen_bytes == pytest.approx(expected, rel=1e-3)
    assert unpacking_bytes("LLaMA-2-70B") == pytest.approx(layers * (nf4_bytes(1) + 4), rel=1e-3)


def test_sizes_are_the_published_ones() -> None:
    published = {
        "SmolLM2-135M": 134_515_008,
        "GPT-J-6B": 6_050_882_784,
        "BLOOM-7B1": 7_069_016_064,
        "Mistral-7B": 7_241_732_096,
        "LLaMA-2-7B": 6_738_415_616,
        "LLaMA-2-13B": 13_015_864_320,
        "LLaMA-2-70B": 68_976_648_192,
        "LLaMA-3-8B": 8_030_261_248,
    }
    assert {backbone: backbone_parameters(backbone) for backbone in FACTS["backbones"]} == published


@pytest.mark.parametrize(
    ("backbone", "expected"), [("LLaMA-2-7B", 159_907_840), ("LLaMA-2-70B", 828_375_040), ("SmolLM2-135M", 19_537_920)]
)
def test_trained_parameters_are_those_of_the_formula(backbone: str, expected: int) -> None:
    config = FACTS["backbones"][backbone]
    formula = config["num_hidden_layers"] * 64 * sum(inputs + outputs for inputs, outputs in projections(config))
    assert formula == expected
    assert sizes(backbone, "lora").trained - sizes(backbone, "encoder").trained == expected


def test_memory_of_a_plan() -> None:
    plan = Plan("SmolLM2-135M", "lora", "A100", 4, 2, True)
    alone, ddp, zero2, fsdp2 = (
        memory(Plan(plan.backbone, plan.tuning, plan.gpu, plan.gpus, plan.batch, plan.checkpointing, recipe))
        for recipe in (None, "ddp", "zero2", "fsdp2")
    )
    trained = 4 * sizes(plan.backbone, plan.tuning).trained / 2**30
    assert alone["trained"] == alone["gradients"] == alone["optimizer"] / 2 == pytest.approx(trained)
    assert (alone["exchange"], ddp["exchange"]) == (0, pytest.approx(trained))
    assert [zero2[name] * 4 for name in ("gradients", "optimizer")] == [
        alone[name] for name in ("gradients", "optimizer")
    ]
    assert zero2["frozen"] == alone["frozen"] == fsdp2["frozen"] * 4
    assert alone["activations"] == ddp["activations"] == fsdp2["activations"]


def test_70b_fits_one_gpu_of_80_gib_in_4_bits_with_checkpointing_alone() -> None:
    assert fits(Plan("LLaMA-2-70B", "qlora", "A100", 1, 8, True))
    assert not fits(Plan("LLaMA-2-70B", "qlora", "A100", 1, 8, False))
    assert not fits(Plan("LLaMA-2-70B", "lora", "A100", 8, 8, True, "ddp"))


def test_slot_of_grouped_heads() -> None:
    # LLaMA-2-70B has 8 key heads of 128, a key and a value each, of two bytes a number.
    assert slot_bytes("LLaMA-2-70B") == 8 * 128 * 2 * 2
    assert slot_bytes("GPT-J-6B") == 4096 * 2 * 2


def test_recipes_are_there() -> None:
    recipes = {plan.recipe for plan in PLANS} - {None}
    folder = DOCUMENT.parent.parent / "recipes" / "accelerate"
    assert [recipe for recipe in recipes if not (folder / f"{recipe}.yaml").is_file()] == []


def test_document_holds_what_is_counted_now() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    smallest = PLANS[0]
    rows = [parameters_row("LLaMA-2-70B"), memory_row(smallest), time_row(smallest)]
    rows += [memory_row(plan) for plan in PLANS if (plan.backbone, plan.tuning) == ("LLaMA-2-70B", "qlora")]
    assert [row for row in rows if f"\n| {' | '.join(row)} |\n" not in text] == []


@pytest.mark.slow
def test_document_holds_all_tables_as_they_are_now(tmp_path: Path) -> None:
    document = tmp_path / "scaling.md"
    document.write_text(DOCUMENT.read_text(encoding="utf-8"), encoding="utf-8")
    write_tables(document, tables())
    assert document.read_text(encoding="utf-8") == DOCUMENT.read_text(encoding="utf-8")


def test_document_without_marks_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "scaling.md"
    document.write_text("<!-- table:memory -->\nold\n<!-- /table:memory -->\n", encoding="utf-8")
    write_tables(document, {"memory": "new"})
    assert document.read_text(encoding="utf-8") == "<!-- table:memory -->\nnew\n<!-- /table:memory -->\n"
    with pytest.raises(ValueError, match=r"scaling\.md: no marks <!-- table:time -->"):
        write_tables(document, {"time": "new"})
