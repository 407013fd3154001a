"""The training run: language model and ECG encoder in, a loadable adapter folder out."""

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from dataset_builder.instructions import instruction_for
from dataset_builder.records import load_records
from modeling_meit import ECGEncoderConfig, ECGLlamaConfig, ECGLlamaForCausalLM, ECGLlamaForConditionalGeneration
from modeling_meit.families_meit import family_of
from processing import ECGDataCollator, ECGFeatureExtractor, ECGProcessor

from .arguments import DataArguments, LoraArguments, ModelArguments, TrainingConfig
from .backbone import prepare_backbone
from .checkpoints import checkpoint_to_resume, remove_checkpoints
from .logits_check import write_check_logits
from .lora_targets import lora_targets, stores_transposed
from .loss_curve import write_loss_curve
from .run_record import check_same_run, run_record
from .trainer import TRAINED_WHOLE, ReportTrainer

_CHECKED_RECORDS = 2
_LAST_LOSSES = 10


@dataclass(frozen=True)
class TrainingResult:
    """What a run wrote and how it went.

    Attributes:
        folder: the adapter folder, which `from_pretrained` loads.
        resumed_from: the checkpoint that the run went on from, if any.
        skipped_checkpoints: defects of the checkpoints that were passed over.
        records: number of training records.
        skipped_records: number of records left out because their report is empty.
        truncated_reports: how often this process cut a report at the longest sequence; one that is read again,
            in another epoch or evaluation, counts again.
        updates: number of optimizer updates, those before a resumption included.
        train_loss: mean of the last ten losses that were logged, nats per report token; None where none was.
        eval_loss: loss on the evaluation split after the last update, or None.
        seconds: duration of this process' training.
    """

    folder: Path
    resumed_from: Path | None
    skipped_checkpoints: list[str]
    records: int
    skipped_records: int
    truncated_reports: int
    updates: int
    train_loss: float | None
    eval_loss: float | None
    seconds: float


def _text_dtype(model: ModelArguments, config: TrainingConfig) -> torch.dtype:
    if model.text_dtype == "auto":
        return torch.bfloat16 if config.bf16 else torch.float32
    dtype = getattr(torch, model.text_dtype, None)
    if dtype not in (torch.bfloat16, torch.float16, torch.float32):
        raise ValueError(f"text_dtype is {model.text_dtype!r}; expected auto, bfloat16, float16 or float32")
    return dtype


def _refuse_batches_of_one(config: TrainingConfig, num_records: int) -> None:
    size = config.per_device_train_batch_size
    if min(size, num_records) < 2:
        raise ValueError(
            f"{num_records} training records in batches of {size}: expected at least 2 of both, as the encoder "
            "normalises over the batch"
        )


def _encoder_config(model: ModelArguments) -> ECGEncoderConfig:
    widths = {} if model.encoder_widths is None else {"widths": model.encoder_widths}
    return ECGEncoderConfig(depth=model.encoder_depth, **widths)


def model_class(model_type: str) -> type[ECGLlamaForCausalLM] | type[ECGLlamaForConditionalGeneration]:
    """The class around a language model of this `model_type`.

    Raises:
        ValueError: where the family is not supported; the message names those that are.
    """
    is_encoder_decoder = family_of(model_type).is_encoder_decoder
    return ECGLlamaForConditionalGeneration if is_encoder_decoder else ECGLlamaForCausalLM


def lora_config(model: PreTrainedModel, lora_args: LoraArguments) -> LoraConfig:
    """LoRA on the language model's layers, and in full what reads the ECG."""
    return LoraConfig(
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
        r=lora_args.lora_r,
        lora_alpha=lora_args.lora_alpha,
        lora_dropout=lora_args.lora_dropout,
        target_modules=lora_targets(model, lora_args.lora_target_modules),
        fan_in_fan_out=stores_transposed(model),
        modules_to_save=[name for name in TRAINED_WHOLE if hasattr(model.model, name)],
    )


def _check_fusion(model: ModelArguments, ecg_config: ECGEncoderConfig) -> None:
    # How many layers there are to choose from shows with the language model.
    any_layer = None if model.fusion_layers is None else [0]
    ECGLlamaConfig(
        ecg_config=ecg_config,
        fusion=model.fusion,
        fusion_layers=any_layer,
        num_ecg_tokens=model.num_ecg_tokens,
    )


def train(
    model_args: ModelArguments, data_args: DataArguments, lora_args: LoraArguments, config: TrainingConfig
) -> TrainingResult:
    """Tune LoRA and what reads the ECG on (ECG, report) pairs and write them as one adapter folder.

    The folder `config.output_dir` then holds the adapter, config, processor and code that `from_pretrained` loads,
    `training_run.json`, `check_logits.safetensors`, `loss_curve.csv` and `loss_curve.png`, and the last checkpoints.

    Raises:
        ValueError, OSError: where records, language model or checkpoint are not usable; the message says which.
        FloatingPointError: where the loss is no longer a number.
    """
    # Options first: unpacking a language model takes minutes, and removed checkpoints do not come back.
    dtype = _text_dtype(model_args, config)
    ecg_config = _encoder_config(model_args)
    _check_fusion(model_args, ecg_config)
    feature_extractor = ECGFeatureExtractor(scaling=model_args.ecg_scaling)

    output_dir = Path(config.output_dir)
    if config.overwrite_output_dir:
        remove_checkpoints(output_dir)
    checkpoint, skipped_checkpoints = checkpoint_to_resume(config.resume_from_checkpoint, output_dir)
    where = (data_args.dataset, data_args.dataset_config)
    records, skipped_records = load_records(*where, data_args.train_split, data_args.max_train_records, config.seed)
    eval_records = None
    if data_args.eval_split is not None:
        eval_records, _ = load_records(*where, data_args.eval_split, data_args.max_eval_records, config.seed)

    _refuse_batches_of_one(config, len(records))
    text_model, text_model_id = prepare_backbone(
        model_args.text_model, model_args.gguf_file, model_args.text_model_id, model_args.models_dir
    )
    run = run_record(model_args, data_args, lora_args, config, text_model_id, records["id"])
    if checkpoint is not None:
        check_same_run(run, checkpoint)

    torch.manual_seed(config.seed)  # encoder and projector start from random weights
    model = model_class(AutoConfig.from_pretrained(text_model).model_type).from_text_pretrained(
        text_model,
        ecg_config=ecg_config,
        dtype=dtype,
        attn_implementation=model_args.attn_implementation,
        text_model_id=text_model_id,
        fusion=model_args.fusion,
        fusion_layers=model_args.fusion_layers,
        num_ecg_tokens=model_args.num_ecg_tokens,
    )
    processor = ECGProcessor(
        feature_extractor,
        AutoTokenizer.from_pretrained(text_model),
        ecg_token_id=model.config.ecg_token_id,
        num_ecg_tokens=model.config.num_ecg_tokens,
    )
    collator = ECGDataCollator.for_model(model.config, processor, instruction_for, max_length=config.max_length)
    trainer = ReportTrainer(
        model=model,
        args=config,
        data_collator=collator,
        train_dataset=records,
        eval_dataset=eval_records,
        processing_class=processor,
        peft_config=lora_config(model, lora_args),
        run=run,
    )
    outcome = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    eval_loss = None
    if eval_records is not None:
        last = next((entry for entry in reversed(trainer.state.log_history) if "eval_loss" in entry), {})
        is_fresh = last.get("step") == trainer.state.global_step
        eval_loss = (last if is_fresh else trainer.evaluate())["eval_loss"]
    truncated_reports = collator.truncated_reports
    trainer.save_model()
    if trainer.is_world_process_zero():
        checked = [records[index] for index in range(min(_CHECKED_RECORDS, len(records)))]
        write_check_logits(
            trainer.model.get_base_model(), collator(checked), [row["id"] for row in checked], output_dir
        )
        write_loss_curve(trainer.state.log_history, output_dir)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return TrainingResult(
        folder=output_dir,
        resumed_from=checkpoint,
        skipped_checkpoints=skipped_checkpoints,
        records=len(records),
        skipped_records=skipped_records,
        truncated_reports=truncated_reports,
        updates=trainer.state.global_step,
        train_loss=sum(losses[-_LAST_LOSSES:]) / len(losses[-_LAST_LOSSES:]) if losses else None,
        eval_loss=eval_loss,
        seconds=outcome.metrics["train_runtime"],
    )
