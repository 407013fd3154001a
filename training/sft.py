"""The training run: language model and ECG encoder in, a loadable folder out."""

from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import torch
from transformers import AutoTokenizer
from transformers.integrations import CodeCarbonCallback, is_deepspeed_zero3_enabled

from dataset_builder.instructions import instruction_for
from processing import ECGDataCollator, ECGFeatureExtractor, ECGProcessor, row_recording

from .arguments import DataArguments, ModelArguments, TrainingConfig, TuningArguments
from .backbone import prepare_backbone
from .checkpoints import checkpoint_to_resume, remove_checkpoints
from .distributed import synchronise_batch_norm
from .draft_samples import DraftSamples
from .earlier_run import begins_in_full, check_same_input
from .early_stopping import EarlyStopping
from .kernels import apply_liger, check_liger
from .length_grouping import report_lengths
from .logits_check import check_logits, write_check_logits
from .loss_curve import write_loss_curve
from .mixture import CorpusRecords, load_corpora, mix
from .result import TrainingResult
from .run_record import check_same_run, outcome_of, run_record, write_run_record
from .starting_model import encoder_config, starting_model, text_dtype
from .trainer import ReportTrainer
from .tuning import check_tuning, without_adapter

_CHECKED_RECORDS = 2
_LAST_LOSSES = 10
_MEASURED_RECORDS = 128
_MEASURED_AT_ONCE = 32


def check_options(model: ModelArguments, data: DataArguments, tuning: TuningArguments, config: TrainingConfig) -> None:
    """Refuse options that cannot be met, before anything is loaded or removed.

    Raises:
        ValueError, OSError: the message names the option, what was found and what is expected.
    """
    text_dtype(model, tuning, config)
    encoder_config(model)
    check_tuning(tuning, config.device)
    if config.use_liger_kernel:
        check_liger()
    for arguments, name, least in (
        (config, "early_stopping_patience", 1),
        (config, "sample_reports", 0),
        (data, "max_train_records", 1),
        (data, "max_eval_records", 1),
    ):
        number = getattr(arguments, name)
        if number is not None and number < least:
            raise ValueError(f"{name} is {number}; expected at least {least}")
    for name in ("early_stopping_patience", "sample_reports"):
        number = getattr(config, name)
        if number and (data.eval_split is None or config.eval_strategy == "no"):
            raise ValueError(f"{name} is {number}: expected --eval_split, and an --eval_strategy other than no")
    if model.start_from is not None:
        begins_in_full(model.start_from, tuning)
    if model.encoder is not None and model.start_from is not None:
        raise ValueError("found both encoder and start_from; expected one, as each says how the encoder begins")


def train(
    model_args: ModelArguments, data_args: DataArguments, tuning: TuningArguments, config: TrainingConfig
) -> TrainingResult:
    """Tune on (ECG, report) pairs what reads the ECG and what `tuning` names of the language model.

    The folder `config.output_dir` then holds the adapter (with "full", all weights), config, processor and code that
    `from_pretrained` loads, `training_run.json`, `check_logits.safetensors`, `loss_curve.csv` and `loss_curve.png`, and
    the last checkpoints. Where an earlier process finished this very run and `resume_from_checkpoint` is "true" or
    "auto", nothing is done.

    Raises:
        ValueError, OSError: where options, records, language model or checkpoint are not usable; the message says
            which.
        FloatingPointError: where the loss is no longer a number.
    """
    # Options first: unpacking a language model takes minutes, and removed checkpoints do not come back.
    check_options(model_args, data_args, tuning, config)
    feature_extractor = ECGFeatureExtractor(scaling=model_args.ecg_scaling)

    output_dir = Path(config.output_dir)
    # One process removes checkpoints and writes caches and unpacked language models, before the others look.
    with config.main_process_first(desc="loading records and language model"):
        if config.overwrite_output_dir:
            remove_checkpoints(output_dir)
        checkpoint, skipped_checkpoints = checkpoint_to_resume(config.resume_from_checkpoint, output_dir)
        corpora, eval_corpora = _load_records(data_args, config)
        text_model, text_model_id = prepare_backbone(
            model_args.text_model, model_args.gguf_file, model_args.text_model_id, model_args.models_dir
        )
    records = mix(corpora, data_args.mixture_weights, config.seed)
    eval_records = mix(eval_corpora) if eval_corpora else None
    if model_args.encoder_norm == "batch":
        _refuse_batches_of_one(config, len(records))
    run = run_record(model_args, data_args, tuning, config, text_model_id, corpora)
    if model_args.start_from is not None:
        check_same_input(run, model_args.start_from)
    if checkpoint is not None:
        check_same_run(run, checkpoint)
    goes_on = (config.resume_from_checkpoint or "").lower() in ("true", "auto") and not config.overwrite_output_dir
    if goes_on and (outcome := outcome_of(run, output_dir)) is not None:
        return TrainingResult.of_finished_run(output_dir, corpora, outcome)

    model, encoder_report = starting_model(
        text_model, text_model_id, model_args, tuning, config, _ecg_batches(records, feature_extractor)
    )
    synchronise_batch_norm(model)
    inner = without_adapter(model)
    if config.use_liger_kernel:
        apply_liger(inner.model.language_model)
        config.use_liger_kernel = False  # or the trainer would apply them anew, to a type that has none
    processor = ECGProcessor(
        feature_extractor,
        AutoTokenizer.from_pretrained(text_model),
        ecg_token_id=inner.config.ecg_token_id,
        num_ecg_tokens=inner.config.num_ecg_tokens,
    )
    collator = ECGDataCollator.for_model(inner.config, processor, instruction_for, max_length=config.max_length)
    trained = {name: weight.data for name, weight in model.named_parameters() if weight.requires_grad}
    trainable_parameters = sum(weight.numel() for weight in trained.values())
    trainer = ReportTrainer(
        model=model,
        args=config,
        data_collator=collator,
        train_dataset=records,
        eval_dataset=eval_records,
        processing_class=processor,
        run=run,
        report_lengths=_lengths(records, processor, config),
    )
    # On a packed language model TRL rounds what is trained to bfloat16, in which small updates are lost.
    for name, weight in trainer.model.named_parameters():
        if name in trained:
            weight.data = trained[name]
    del trained  # or they would stay whole where a process goes on with its share of them
    if config.early_stopping_patience is not None:
        trainer.add_callback(EarlyStopping(config.early_stopping_patience))
    if config.sample_reports:
        if trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled():
            raise ValueError("sample_reports: weights are spread over the processes, and one alone cannot draft")
        samples = [eval_records[row] for row in _spread_rows(eval_records, config.sample_reports)]
        trainer.add_callback(DraftSamples(samples, processor, trainer.callback_handler.callbacks))
    trained_for = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    eval_loss = None if eval_records is None else _eval_loss(trainer)
    truncated_reports = collator.truncated_reports
    # Where weights are spread over processes, a forward takes all of them.
    checked = [records[index] for index in range(min(_CHECKED_RECORDS, len(records)))]
    check = check_logits(without_adapter(trainer.model), collator(checked), [row["id"] for row in checked])
    if not check.tensors["logits"].isfinite().all():  # the last update's loss was that of the weights before it
        raise FloatingPointError(
            f"the trained model's logits are NaN or infinite: it is not saved, checkpoints in {output_dir} stay; a "
            "lower --learning_rate or --bf16 false may help"
        )
    trainer.save_model()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    result = TrainingResult(
        folder=output_dir,
        resumed_from=checkpoint,
        skipped_checkpoints=skipped_checkpoints,
        encoder_weights=None if encoder_report is None else str(encoder_report),
        corpora=corpora,
        truncated_reports=truncated_reports,
        updates=trainer.state.global_step,
        train_loss=sum(losses[-_LAST_LOSSES:]) / len(losses[-_LAST_LOSSES:]) if losses else None,
        eval_loss=eval_loss,
        seconds=trained_for.metrics["train_runtime"],
        trainable_parameters=trainable_parameters,
    )
    if trainer.is_world_process_zero():
        write_check_logits(check, output_dir)
        write_loss_curve(trainer.state.log_history, output_dir)
        write_run_record(run | _carbon(trainer) | {"outcome": result.outcome}, output_dir)
    return result


def _load_records(data: DataArguments, config: TrainingConfig) -> tuple[list[CorpusRecords], list[CorpusRecords]]:
    progress = config.process_index == 0 and not config.disable_tqdm
    corpora = load_corpora(data, data.train_split, data.max_train_records, config.seed, progress)
    if data.eval_split is None:
        return corpora, []
    return corpora, load_corpora(data, data.eval_split, data.max_eval_records, config.seed, progress)


def _refuse_batches_of_one(config: TrainingConfig, num_records: int) -> None:
    size = config.per_device_train_batch_size
    if min(size, num_records) < 2:
        raise ValueError(
            f"{num_records} training records in batches of {size}: expected at least 2 of both, as the encoder "
            "normalises over the batch; or --encoder_norm group or frozen_batch"
        )


def _ecg_batches(records: datasets.Dataset, feature_extractor: ECGFeatureExtractor) -> Iterator[torch.Tensor]:
    """`ecg_values` of records from all over the split."""
    rows = _spread_rows(records, _MEASURED_RECORDS)
    for start in range(0, len(rows), _MEASURED_AT_ONCE):
        recordings = [row_recording(records[row]) for row in rows[start : start + _MEASURED_AT_ONCE]]
        yield feature_extractor(recordings, return_tensors="pt")["ecg_values"]


def _spread_rows(records: datasets.Dataset, count: int) -> list[int]:
    """Rows from all over the records, `count` of them where there are as many."""
    return np.unique(np.linspace(0, len(records) - 1, min(count, len(records))).astype(int)).tolist()


def _lengths(records: datasets.Dataset, processor: ECGProcessor, config: TrainingConfig) -> list[int] | None:
    if config.train_sampling_strategy != "group_by_length":
        return None
    return report_lengths(records["report"], processor.tokenizer)


def _eval_loss(trainer: ReportTrainer) -> float:
    """Of the weights that the trainer now holds."""
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is not None:
        if trainer.args.metric_for_best_model in ("loss", "eval_loss"):
            return trainer.state.best_metric
    else:
        last = next((entry for entry in reversed(trainer.state.log_history) if "eval_loss" in entry), {})
        if last.get("step") == trainer.state.global_step:
            return last["eval_loss"]
    return trainer.evaluate()["eval_loss"]


def _carbon(trainer: ReportTrainer) -> dict[str, dict]:
    """What codecarbon measured of this process, where `--report_to` names it."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, CodeCarbonCallback) and callback.tracker is not None:
            return {"carbon": {"kg_co2e": callback.tracker.final_emissions, "source": "codecarbon"}}
    return {}
