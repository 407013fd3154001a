"""Training at scale on paper: memory and time of each stage, from configurations alone.

    python -m benchmarks.scaling                             # the tables
    python -m benchmarks.scaling --write docs/scaling.md     # into the document
    python -m benchmarks.scaling --check                     # a step of SmolLM2, counted and measured

What is planned, with which figures of GPUs and which assumptions, is in benchmarks/scaling.yaml.
"""

import argparse
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
import yaml
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from benchmarks.paper_step import PHASES, StepCount, StepShape, counted_step, model_on_paper, nf4_bytes, training_step
from training.arguments import TuningArguments

FACTS = yaml.safe_load((Path(__file__).parent / "scaling.yaml").read_text(encoding="utf-8"))
WORK, ASSUMED, MEASURED = FACTS["work"], FACTS["assumed"], FACTS["measured"]
GIB = 2**30
FLOAT32, BFLOAT16 = 4, 2  # bytes
ADAM_STATES = 2
# What each recipe of recipes/accelerate/ divides among the GPUs.
DIVIDED = {
    None: (),
    "ddp": (),
    "zero2": ("gradients", "optimizer"),
    "zero3": ("frozen", "trained", "gradients", "optimizer"),
    "fsdp2": ("frozen", "trained", "gradients", "optimizer"),
}
# The default size of DeepSpeed's buckets, in values; there are two.
ZERO_BUCKET = 500_000_000
# Layers are alike, so that two depths tell of any.
DEPTHS = (2, 3)
CHECKED = StepShape(batch=16, tokens=64, labelled=32)


@dataclass(frozen=True)
class Plan:
    """One way to train, as in scaling.yaml.

    Attributes:
        backbone: a name of `backbones`.
        tuning: that of `train_sft.py --tuning`.
        gpu: a name of `gpus`.
        gpus: how many.
        batch: records per GPU and forward.
        checkpointing: of activations.
        recipe: a file of recipes/accelerate/.
    """

    backbone: str
    tuning: str
    gpu: str
    gpus: int
    batch: int
    checkpointing: bool
    recipe: str | None = None

    @property
    def title(self) -> str:
        """The plan in a cell of a table."""
        recipe = f" {self.recipe}" if self.recipe else ""
        checkpointing = ", checkpointing" if self.checkpointing else ""
        return f"{self.backbone} {self.tuning}, {self.gpus} x {self.gpu}{recipe}, batch {self.batch}{checkpointing}"


@dataclass(frozen=True)
class Sizes:
    """Of a model, on one GPU that holds it whole.

    Attributes:
        frozen_bytes: weights that are not trained, as they are stored.
        layer_bytes: frozen and trained weights of one decoder layer.
        trained: number of the trained weights, in float32.
        outside_bytes: weights outside the decoder layers.
    """

    frozen_bytes: float
    layer_bytes: float
    trained: int
    outside_bytes: float


PLANS = [Plan(**plan) for plan in FACTS["plans"]]


def text_config_of(backbone: str, layers: int | None = None) -> PreTrainedConfig:
    """The configuration of a language model, where `layers` is given with as many."""
    fields = dict(FACTS["backbones"][backbone])
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    if layers is not None:
        config.num_hidden_layers = layers
    return config


def paper_model(backbone: str, tuning: str, layers: int) -> torch.nn.Module:
    """The model with so many layers, on the device "meta", in bfloat16.

    Trained in full its weights are float32, of which FSDP2 gathers bfloat16 for the step.
    """
    arguments = TuningArguments(tuning=tuning, lora_r=WORK["lora_r"])
    return model_on_paper(text_config_of(backbone, layers), arguments, WORK["encoder_depth"])


def at_depth(shallow: float, deep: float, layers: int) -> float:
    """What a quantity of models with `DEPTHS` layers is with `layers`."""
    return shallow + (layers - DEPTHS[0]) * (deep - shallow) / (DEPTHS[1] - DEPTHS[0])


@cache
def sizes(backbone: str, tuning: str) -> Sizes:
    """Weights of the whole model, from real modules of two depths."""
    layers = text_config_of(backbone).num_hidden_layers
    found = []
    for depth in DEPTHS:
        model = paper_model(backbone, tuning, depth)
        weights = list(model.parameters())
        frozen = [weight for weight in weights if not weight.requires_grad]
        found.append(
            (
                sum(weight.nbytes for weight in frozen),
                sum(weight.numel() for weight in weights if weight.requires_grad),
                sum(weight.nbytes for weight in weights),
            )
        )
    frozen_bytes, trained, all_bytes = (at_depth(*pair, layers) for pair in zip(*found, strict=True))
    layer_bytes = found[1][2] - found[0][2]
    return Sizes(frozen_bytes, layer_bytes, round(trained), all_bytes - layers * layer_bytes)


@cache
def step_of(backbone: str, tuning: str, shape: StepShape, checkpointing: bool) -> StepCount:
    """A step of the whole model on a GPU, from steps of two depths."""
    shallow, deep = (
        counted_step(paper_model(backbone, tuning, depth), shape, checkpointing=checkpointing) for depth in DEPTHS
    )
    return deepened(shallow, deep, text_config_of(backbone).num_hidden_layers)


def deepened(shallow: StepCount, deep: StepCount, layers: int) -> StepCount:
    """The step of a model with `layers`, from those of models with `DEPTHS`: within each phase it grows evenly."""
    flops = {name: round(at_depth(shallow.flops[name], deep.flops[name], layers)) for name in deep.flops}
    peaks = {phase: round(at_depth(shallow.peak_bytes[phase], deep.peak_bytes[phase], layers)) for phase in PHASES}
    return StepCount(Counter(flops), peaks)


def memory(plan: Plan) -> dict[str, float]:
    """GiB on each GPU in the step of the longest batch, by what takes them; "activations" is the step's peak."""
    size = sizes(plan.backbone, plan.tuning)
    shape = StepShape(plan.batch, **WORK["longest"])
    peaks = step_of(plan.backbone, plan.tuning, shape, plan.checkpointing).peak_bytes
    held = {
        "frozen": size.frozen_bytes,
        "trained": size.trained * FLOAT32,
        "gradients": size.trained * FLOAT32,
        "optimizer": size.trained * FLOAT32 * ADAM_STATES,
    }
    for name in DIVIDED[plan.recipe]:
        held[name] /= plan.gpus
    held["activations"] = max(peaks.values())
    held["exchange"] = 0
    if "frozen" in DIVIDED[plan.recipe]:  # the layer that is computed, the next one, and what is no layer
        held["exchange"] = 2 * size.layer_bytes + size.outside_bytes
    elif plan.recipe == "zero2":
        held["exchange"] = 2 * FLOAT32 * min(size.trained, ZERO_BUCKET)
    elif plan.recipe == "ddp":
        held["exchange"] = size.trained * FLOAT32
    passing = held["activations"] + held["exchange"]
    held["allowance"] = ASSUMED["fragmentation"] * passing + ASSUMED["context_gib"] * GIB
    return {name: value / GIB for name, value in held.items()}


def fits(plan: Plan) -> bool:
    """Whether the longest batch fits the memory of each GPU."""
    return sum(memory(plan).values()) <= FACTS["gpus"][plan.gpu]["memory"]


def peak_phase(plan: Plan) -> str:
    """Where in the step of the longest batch the most is held."""
    shape = StepShape(plan.batch, **WORK["longest"])
    peaks = step_of(plan.backbone, plan.tuning, shape, plan.checkpointing).peak_bytes
    return max(peaks, key=peaks.get)


def step_seconds(plan: Plan) -> float:
    """Seconds of a forward and backward pass with the mean batch: arithmetic and unpacking, or exchange if longer."""
    gpu, size = FACTS["gpus"][plan.gpu], sizes(plan.backbone, plan.tuning)
    shape = StepShape(plan.batch, **WORK["mean"])
    flops = step_of(plan.backbone, plan.tuning, shape, plan.checkpointing).flops.total()
    arithmetic = flops / (gpu["tflops"] * 1e12 * ASSUMED["tflops_share"])
    passes = 3 if plan.checkpointing else 2
    if plan.tuning == "qlora":
        arithmetic += passes * unpacking_bytes(plan.backbone) / (gpu["bandwidth"] * 1e9 * ASSUMED["bandwidth_share"])
    others = (plan.gpus - 1) / plan.gpus
    exchanged = 2 * others * size.trained * FLOAT32  # gradients: summed up, and spread
    if "frozen" in DIVIDED[plan.recipe]:
        exchanged += 2 * others * size.frozen_bytes  # weights: forward and backward
    return max(arithmetic, exchanged / (gpu["link"] * 1e9 * ASSUMED["link_share"]))


@cache
def backbone_parameters(backbone: str) -> int:
    """Parameters of the language model alone."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(text_config_of(backbone))
    return sum(weight.numel() for weight in model.parameters())


def unpacking_bytes(backbone: str) -> float:
    """Bytes that unpacking all NF4 weights once moves: read, written in bfloat16, and read again by the product."""
    packed_each = nf4_bytes(1)
    packed = (sizes(backbone, "encoder").frozen_bytes - sizes(backbone, "qlora").frozen_bytes) / (
        BFLOAT16 - packed_each
    )
    return packed * (packed_each + 2 * BFLOAT16)


def training_hours(plan: Plan) -> float:
    """Hours of `WORK["epochs"]` passes over all records."""
    steps = WORK["records"] * WORK["epochs"] / (plan.batch * plan.gpus)
    return steps * step_seconds(plan) / 3600


def drafting_hours(plan: Plan) -> float:
    """Hours of greedy drafts for the test split: each GPU holds the model, packed where bfloat16 does not fit."""
    gpu, layers = FACTS["gpus"][plan.gpu], text_config_of(plan.backbone).num_hidden_layers
    parameters = backbone_parameters(plan.backbone)
    is_packed = plan.tuning == "qlora" or BFLOAT16 * parameters > 0.9 * gpu["memory"] * GIB
    tokens = WORK["mean"]["tokens"] - WORK["mean"]["labelled"]
    moved = unpacking_bytes(plan.backbone) if is_packed else BFLOAT16 * parameters
    moved += WORK["drafting_batch"] * (tokens + WORK["drafted_tokens"] / 2 + 1) * layers * slot_bytes(plan.backbone)
    products = 2 * parameters * WORK["drafting_batch"] / (gpu["tflops"] * 1e12 * ASSUMED["tflops_share"])
    token = max(moved / (gpu["bandwidth"] * 1e9 * ASSUMED["bandwidth_share"]), products)
    batches = WORK["records"] * WORK["test_share"] / WORK["drafting_batch"] / plan.gpus
    return batches * (products * tokens + token * WORK["drafted_tokens"]) / 3600


def slot_bytes(backbone: str) -> int:
    """Bytes in bfloat16 of one key and one value in one layer: of a token, and of the ECG's slot."""
    config = text_config_of(backbone)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return 2 * BFLOAT16 * heads * (config.hidden_size // config.num_attention_heads)


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def parameters_row(backbone: str) -> list[str]:
    """Of the table of sizes."""
    lora, packed, encoder = (sizes(backbone, tuning) for tuning in ("lora", "qlora", "encoder"))
    return [
        backbone,
        f"{backbone_parameters(backbone):,.0f}",
        f"{BFLOAT16 * backbone_parameters(backbone) / 1e9:.1f}",
        f"{packed.frozen_bytes / 1e9:.1f}",
        f"{lora.trained - encoder.trained:,}",
        f"{encoder.trained:,}",
        f"{lora.trained * FLOAT32 / 1e9:.2f}",
        f"{lora.trained * FLOAT32 * (1 + ADAM_STATES) / 1e9:.2f}",
        f"{text_config_of(backbone).num_hidden_layers * slot_bytes(backbone) / 1024:.0f}",
    ]


def memory_row(plan: Plan) -> list[str]:
    """Of the table of memory."""
    held = memory(plan)
    total, there = sum(held.values()), FACTS["gpus"][plan.gpu]["memory"]
    verdict = "fits" if fits(plan) else "**does not fit**"
    return [plan.title, *(f"{held[name]:.1f}" for name in held), f"{total:.1f} of {there}: {verdict}", peak_phase(plan)]


def time_row(plan: Plan) -> list[str]:
    """Of the table of time."""
    trained = sizes(plan.backbone, plan.tuning).trained * FLOAT32 * (1 + ADAM_STATES) / 1e9
    alone = replace(plan, tuning="encoder")
    return [
        plan.title,
        f"{step_seconds(plan):.2f}",
        f"{training_hours(alone):,.0f}" if fits(alone) else "does not fit in bfloat16",
        f"{training_hours(plan):,.0f}",
        f"{plan.batch / step_seconds(plan):.1f}",
        f"{drafting_hours(plan):.1f}",
        f"{trained / ASSUMED['disk_gb_per_second']:.1f}",
    ]


def dataset_rows() -> list[list[str]]:
    """Of the table of the dataset's stages, the same for each plan."""
    records = WORK["records"]
    return [
        ["build, one process", f"{records / MEASURED['built_per_second'] / 60:.0f} minutes", "0.3 GB of memory"],
        ["the trainer's collator, one process", f"{MEASURED['collated_per_second']} records per second", ""],
        ["Parquet files", "", f"{records * MEASURED['parquet_bytes'] / 1e9:.0f} GB on disk"],
        [
            "Arrow cache, written when first read",
            f"{records * MEASURED['arrow_bytes'] / 1e9 / ASSUMED['disk_gb_per_second'] / 60:.0f} minutes of writing",
            f"{records * MEASURED['arrow_bytes'] / 1e9:.0f} GB on disk",
        ],
    ]


def tables() -> dict[str, str]:
    """All that the document holds, by name, but for what is measured."""
    return {
        "parameters": table(
            [
                "backbone",
                "parameters",
                "bfloat16, GB",
                "NF4, GB",
                f"LoRA of rank {WORK['lora_r']}",
                "encoder and projector",
                "adapter file, GB",
                "checkpoint, GB",
                "ECG slot, KiB per record",
            ],
            [parameters_row(backbone) for backbone in FACTS["backbones"]],
        ),
        "memory": table(
            [
                "plan",
                "frozen weights",
                "trained weights",
                "gradients",
                "optimizer",
                "activations",
                "exchange",
                "allowance",
                "sum, GiB per GPU",
                "peak in",
            ],
            [memory_row(plan) for plan in PLANS],
        ),
        "dataset": table(["stage", "time", "space"], dataset_rows()),
        "time": table(
            [
                "plan",
                "seconds per forward and backward",
                "encoder alone, hours",
                "training, hours",
                "records per second and GPU",
                "drafting the test split, hours",
                "writing a checkpoint, seconds",
            ],
            [time_row(plan) for plan in PLANS if fits(plan)],
        ),
    }


def write_tables(document: Path, found: dict[str, str]) -> None:
    """Put each table between its marks, `<!-- table:NAME -->` and `<!-- /table:NAME -->`.

    Raises:
        ValueError: the document has no such marks.
    """
    text = document.read_text(encoding="utf-8")
    for name, content in found.items():
        marks = re.compile(rf"(<!-- table:{name} -->\n).*?(<!-- /table:{name} -->)", re.DOTALL)
        if not marks.search(text):
            raise ValueError(f"{document}: no marks <!-- table:{name} --> and <!-- /table:{name} -->")
        text = marks.sub(lambda match, content=content: f"{match[1]}{content}\n{match[2]}", text)
    document.write_text(text, encoding="utf-8")


def measured_step(
    model: torch.nn.Module, shape: StepShape, autocast: bool = False, checkpointing: bool = False
) -> tuple[int, int]:
    """FLOPs of matrix products that `torch.profiler` counts in a step on a CPU, and the peak bytes that it sees."""
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    training_step(model, shape, autocast)  # the gradients are there from now on
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, with_flops=True) as profiler:
        training_step(model, shape, autocast)
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    events = profiler.key_averages()
    return sum(event.flops for event in events if event.key in ("aten::mm", "aten::addmm", "aten::bmm")), peak


def matrix_products(counted: StepCount) -> int:
    """The counted FLOPs that `torch.profiler` has formulas for: not of convolutions, attention kernels and `addmm_`."""
    return sum(counted.flops[name] for name in ("mm", "addmm", "bmm"))


def with_data(model: torch.nn.Module) -> torch.nn.Module:
    """The model of `model_on_paper` on a CPU, with weights that are small random numbers."""
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.02, generator=generator)
        for buffer in model.buffers():
            buffer.fill_(1)
    return model


def check_table(backbone: str = "SmolLM2-135M") -> str:
    """A step of a small language model, counted on paper and measured, as a Markdown table."""
    rows = []
    for dtype, autocast in ((torch.float32, False), (torch.bfloat16, True)):
        for checkpointing in (False, True):
            arguments = TuningArguments(lora_r=WORK["lora_r"])
            model = model_on_paper(text_config_of(backbone), arguments, WORK["encoder_depth"], dtype)
            counted = counted_step(model, CHECKED, autocast, checkpointing, on_gpu=False)
            products, peak = measured_step(with_data(model), CHECKED, autocast, checkpointing)
            counted_products = matrix_products(counted)
            counted_peak = max(counted.peak_bytes.values())
            rows.append(
                [
                    f"{str(dtype).removeprefix('torch.')}, {'with' if checkpointing else 'without'} checkpointing",
                    f"{counted_products / 1e9:.1f}",
                    f"{products / 1e9:.1f}",
                    f"{counted_products / products:.3f}",
                    f"{counted_peak / 2**20:.1f}",
                    f"{peak / 2**20:.1f}",
                    f"{counted_peak / peak:.3f}",
                ]
            )
    return table(
        ["step", "GFLOP, counted", "measured", "ratio", "peak in MiB, counted", "measured", "ratio"],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="document to write the tables into")
    parser.add_argument("--check", action="store_true", help="the table of what was measured, not those of the plans")
    arguments = parser.parse_args()
    found = {"check": check_table()} if arguments.check else tables()
    if arguments.write:
        write_tables(arguments.write, found)
    else:
        print("\n\n".join(found.values()))


if __name__ == "__main__":
    main()
