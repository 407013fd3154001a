"""What a training run can be told, as dataclasses for TRL's parser (YAML recipe and command line)."""

import math
import os
from dataclasses import dataclass, field
from typing import Any

import torch
from trl import SFTConfig


def _listed(value: Any) -> list | None:
    """An option of several values as a list, where a recipe gives one value alone."""
    return value if value is None or isinstance(value, list) else [value]


@dataclass
class ModelArguments:
    """The language model, the ECG encoder and how they meet."""

    text_model: str = field(
        default="HuggingFaceTB/SmolLM2-135M-Instruct",
        metadata={"help": "Language model: a Hub id, a folder, or with --gguf_file the folder of that file."},
    )
    gguf_file: str | None = field(default=None, metadata={"help": "Name of a GGUF file in the folder --text_model."})
    text_model_id: str | None = field(
        default=None,
        metadata={"help": "Hub id written into the result, for readers who do not have the folder --text_model."},
    )
    models_dir: str = field(
        default="models", metadata={"help": "Folder for language models that are unpacked from a GGUF file."}
    )
    text_dtype: str = field(
        default="auto",
        metadata={
            "help": "dtype of the frozen language model: bfloat16, float16, float32, or auto, which is bfloat16 "
            "with --bf16 and float32 without. What is trained is float32 whatever this says."
        },
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "eager, sdpa, ... None leaves the choice to transformers."}
    )
    encoder_depth: int = field(default=18, metadata={"help": "Depth of the ECG's ResNet: 18, 34, 50, 101, 152."})
    encoder_widths: list[int] | None = field(
        default=None, metadata={"help": "Channels of the ResNet's four stages; 64 128 256 512 by default."}
    )
    encoder_norm: str = field(
        default="batch",
        metadata={
            "help": "Normalisation in encoder and projector: batch, group, or frozen_batch. With the last two the loss "
            "does not depend on how a batch is split among processes and accumulation steps."
        },
    )
    encoder_stem_pool: bool = field(
        default=True,
        metadata={"help": "Max pooling behind the encoder's first convolution; false for MERL's weights."},
    )
    encoder: str | None = field(
        default=None,
        metadata={
            "help": "Weights that the ECG encoder begins with: a folder of ECGEncoder.save_pretrained, a safetensors "
            "file, or a pickle that holds tensors alone, such as MERL's 1-D ResNet-18. Random where it is not given."
        },
    )
    start_from: str | None = field(
        default=None,
        metadata={
            "help": "Folder of an earlier run whose weights this one begins with: what reads the ECG, and LoRA where "
            "both have the same."
        },
    )
    fusion: str = field(
        default="concat", metadata={"help": "How the ECG meets the text: concat (MEIT's), llava or flamingo."}
    )
    fusion_layers: list[int] | None = field(
        default=None,
        metadata={
            "help": "Layers that see the ECG (concat) or have a cross-attention to it (flamingo); every layer where it "
            "is not given."
        },
    )
    num_ecg_tokens: int = field(default=1, metadata={"help": "Tokens that an ECG takes in the text (llava)."})
    ecg_scaling: str = field(
        default="minmax", metadata={"help": "Scale of the ECG: minmax (over the record) or zscore (per lead)."}
    )

    def __post_init__(self):
        self.encoder_widths, self.fusion_layers = _listed(self.encoder_widths), _listed(self.fusion_layers)


@dataclass
class DataArguments:
    """The records to train and to evaluate on: one corpus, or several mixed.

    Raises:
        ValueError: the numbers of datasets, corpora and shares do not belong together.
    """

    dataset: list[str] = field(
        default_factory=lambda: ["meit-ecg"],
        metadata={"help": "Dataset folder that `meit-ecg build` wrote, or a Hub id; or one for each --dataset_config."},
    )
    dataset_config: list[str] | None = field(
        default=None,
        metadata={"help": "Corpus in that dataset (ptb-xl, mimic-iv-ecg, simulated), or several to be mixed."},
    )
    mixture_weights: list[float] | None = field(
        default=None,
        metadata={
            "help": "Share of each corpus among the records of an epoch, which ends when every record was seen. Where "
            "it is not given, an epoch has each record once."
        },
    )
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split: str | None = field(
        default=None, metadata={"help": "Split to evaluate the loss on; none where it is not given."}
    )
    max_train_records: int | None = field(
        default=None, metadata={"help": "Train on this many records of each corpus at most, drawn with --seed."}
    )
    max_eval_records: int | None = field(
        default=None, metadata={"help": "Evaluate on this many records of each corpus at most, drawn with --seed."}
    )

    def __post_init__(self):
        self.dataset, self.dataset_config = _listed(self.dataset), _listed(self.dataset_config)
        self.mixture_weights = _listed(self.mixture_weights)
        count = max(len(self.dataset), len(self.dataset_config or ()))
        for name in ("dataset", "dataset_config"):
            found = getattr(self, name)
            if found is not None and len(found) not in (1, count):
                raise ValueError(f"{name} names {len(found)}: {' '.join(found)}; expected 1 or {count}")
        if self.mixture_weights is not None:
            if len(self.mixture_weights) != count or not all(0 < weight < math.inf for weight in self.mixture_weights):
                raise ValueError(
                    f"mixture_weights is {self.mixture_weights}; expected {count} numbers above 0, one for each corpus"
                )
            if count == 1:
                raise ValueError("mixture_weights mixes several corpora, and there is one")

    @property
    def corpora(self) -> list[tuple[str, str | None]]:
        """(dataset, config) of each corpus."""
        configs = self.dataset_config or [None]
        count = max(len(self.dataset), len(configs))
        return list(zip(*(part * (count // len(part)) for part in (self.dataset, configs)), strict=True))


@dataclass
class TuningArguments:
    """What is trained beside encoder and projector; the defaults are the paper's."""

    tuning: str = field(
        default="lora",
        metadata={
            "help": "lora: a low-rank update of the language model; dora: one with a magnitude of its own; qlora: lora "
            "on a language model in 4 bits; full: the whole language model; encoder: nothing of it, which aligns a new "
            "encoder."
        },
    )
    lora_r: int = field(default=64, metadata={"help": "Rank of the update."})
    lora_alpha: int = field(default=128, metadata={"help": "Scale of the update, divided by the rank."})
    lora_dropout: float = field(default=0.1, metadata={"help": "Dropout on the update's input."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={
            "help": "Names of the projections in the language model's layers that are updated; every one of attention "
            "and MLP where it is not given."
        },
    )

    def __post_init__(self):
        self.lora_target_modules = _listed(self.lora_target_modules)


@dataclass
class TrainingConfig(SFTConfig):
    """TRL's `SFTConfig` with the paper's hyper-parameters (batch 64 = 16 records x 4 steps) as defaults.

    The collator masks all but the report, so TRL's own options for that are unused.
    """

    output_dir: str | None = field(default="runs/sft", metadata={"help": "Folder to write the result into."})
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Remove the checkpoints of an earlier run in --output_dir first."}
    )
    num_train_epochs: float = field(default=5.0, metadata={"help": "Passes over the records."})
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Records per device and forward."})
    per_device_eval_batch_size: int = field(default=16, metadata={"help": "The same, evaluating."})
    gradient_accumulation_steps: int = field(default=4, metadata={"help": "Forwards per update."})
    warmup_steps: float = field(
        default=0.03, metadata={"help": "Linear warm-up: updates, or below 1 their share of all updates."}
    )
    ecg_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Learning rate of encoder, projector and cross-attention; --learning_rate where it is not given."
        },
    )
    max_train_minutes: float | None = field(
        default=None, metadata={"help": "End training after this time, whatever else says how long it takes."}
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "End after this many evaluations without a lower loss, and take the weights of the lowest. Needs "
            "--eval_split, and --eval_strategy like --save_strategy."
        },
    )
    sample_reports: int = field(
        default=0,
        metadata={
            "help": "Draft the reports of this many evaluation records at every evaluation, into samples.jsonl and the "
            "trackers of --report_to."
        },
    )
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Recompute activations in the backward pass to save memory."}
    )
    ddp_timeout: int = field(
        default=14_400,
        metadata={
            "help": "Seconds that processes wait for one another. One of them writes the dataset's cache and checks "
            "its recordings first, which takes a while for all of MIMIC-IV-ECG."
        },
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Leave NaN and infinite losses out of the log. A run ends at one."}
    )
    logging_steps: float = field(default=1, metadata={"help": "Write the loss down every this many updates."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep."})
    report_to: None | str | list[str] = field(
        default="none", metadata={"help": "Trackers to report to (tensorboard, trackio, ...)."}
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "true: go on from the last whole checkpoint of --output_dir; auto: the same, or begin where "
            "there is none; or the path of a checkpoint."
        },
    )

    def __post_init__(self):
        # transformers asks for this to be said where bf16 is to run without an accelerator. With it said, accelerate
        # would leave DeepSpeed off without a word.
        if not torch.accelerator.is_available() and os.environ.get("ACCELERATE_USE_DEEPSPEED") != "true":
            self.use_cpu = True
        if self.early_stopping_patience is not None:
            self.load_best_model_at_end = True
            self.metric_for_best_model = self.metric_for_best_model or "eval_loss"
        # Every forward has an ECG in it, so that there is no weight without a gradient to look for.
        if self.ddp_find_unused_parameters is None:
            self.ddp_find_unused_parameters = False
        # Our collator reads columns that the model's forward does not name, and the rows are no token ids yet.
        self.remove_unused_columns = False
        self.dataset_kwargs = {"skip_prepare_dataset": True}
        super().__post_init__()
