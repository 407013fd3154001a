"""What a training run can be told, as dataclasses for TRL's parser (YAML recipe and command line)."""

from dataclasses import dataclass, field

import torch
from trl import SFTConfig


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


@dataclass
class DataArguments:
    """The records to train and to evaluate on."""

    dataset: str = field(
        default="meit-ecg", metadata={"help": "Dataset folder that `meit-ecg build` wrote, or a Hub id."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Corpus in that dataset: ptb-xl, simulated."})
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split: str | None = field(
        default=None, metadata={"help": "Split to evaluate the loss on; none where it is not given."}
    )
    max_train_records: int | None = field(
        default=None, metadata={"help": "Train on this many records at most, drawn with --seed."}
    )
    max_eval_records: int | None = field(
        default=None, metadata={"help": "Evaluate on this many records at most, drawn with --seed."}
    )


@dataclass
class LoraArguments:
    """LoRA on the language model; the defaults are the paper's."""

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
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Recompute activations in the backward pass to save memory."}
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
        # transformers asks for this to be said where bf16 is to run without an accelerator.
        if not torch.accelerator.is_available():
            self.use_cpu = True
        # Our collator reads columns that the model's forward does not name, and the rows are no token ids yet.
        self.remove_unused_columns = False
        self.dataset_kwargs = {"skip_prepare_dataset": True}
        super().__post_init__()
