"""TRL's `SFTTrainer`, writing folders that load by themselves and ending at a loss that is no number."""

import math
import shutil
import signal
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import TrainOutput
from trl import SFTTrainer

from .checkpoints import mark_whole, remove_older_checkpoints
from .distributed import in_any_process
from .length_grouping import SeededLengthGroupedSampler
from .run_record import write_run_record
from .tuning import TRAINED_WHOLE, without_adapter

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TrainingStopped(RuntimeError):
    """A run was told to stop, and has saved a checkpoint to go on from.

    Args:
        message: says which.
        exit_code: of a process that ends for this signal.
    """

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class ReportTrainer(SFTTrainer):
    """Trains LoRA and what reads the ECG; each folder it saves holds all that loading needs but the backbone.

    Args:
        run: the run's record, written into each saved folder.
        report_lengths: tokens of each training record's report, to make batches of about one length.
        **kwargs: as of `SFTTrainer`.
    """

    def __init__(self, *args, run: dict, report_lengths: list[int] | None = None, **kwargs):
        self.run = run
        self.report_lengths = report_lengths
        super().__init__(*args, **kwargs)
        if self.is_fsdp_enabled:
            if self.model.config.fusion == "flamingo":
                raise ValueError(
                    'fusion "flamingo" has gates of a single number, which FSDP cannot share out; train it with DDP or '
                    "DeepSpeed (recipes/accelerate)"
                )
            # FSDP would compute in bfloat16 with all weights rounded, the encoder's statistics in float32 among them.
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = None
        # The trainer notes there that training keeps no cache; saved, it would be said of generation.
        vars(self.model.config).pop("use_cache", None)
        self.remove_callback(ProgressCallback)
        if not self.args.disable_tqdm:
            self.add_callback(LossProgress())
        if self.args.max_train_minutes is not None:
            self.add_callback(TimeLimit(self.args.max_train_minutes))
        self.stop_on_signal = StopOnSignal()
        self.add_callback(self.stop_on_signal)

    def train(self, *args, **kwargs) -> TrainOutput:
        """Train.

        Raises:
            FloatingPointError: where the loss or its gradient is NaN or infinite.
            OSError: where a checkpoint cannot be written.
            TrainingStopped: where SIGTERM or Ctrl+C ended it, after the update and with a checkpoint.
        """
        with self.stop_on_signal:
            return super().train(*args, **kwargs)

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        progress = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint is not None:
            # Its state names the best checkpoint where that was; the folder of both may have moved since.
            best = Path(resume_from_checkpoint).with_name(f"checkpoint-{self.state.best_global_step}")
            if best.is_dir():
                self.state.best_model_checkpoint = str(best)
        return progress

    def _prepare_for_training(self, *args, **kwargs) -> tuple[torch.nn.Module, DataLoader]:
        prepared = super()._prepare_for_training(*args, **kwargs)
        inner = without_adapter(self.model)
        if isinstance(self.model, FSDPModule) and inner is not self.model:
            # FSDP gathers the embedding and the head when the adapter's model is called. Ours is called by itself too.
            inner.register_forward_pre_hook(lambda *_: self.model.unshard())
        return prepared

    def _run_epoch(self, *args, **kwargs) -> None:
        # A run that is taken up after its last update would be given one more.
        if self.state.global_step >= self.state.max_steps or self.control.should_training_stop:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> AbstractContextManager:
        """Under FSDP2, autocast as without it: accelerate wraps the model in one for all but FSDP2."""
        return self.accelerator.autocast() if self.is_fsdp_enabled else super().autocast_smart_context_manager()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write a folder that loads by itself. All processes take part where they share out the weights."""
        if not self.is_fsdp_enabled or without_adapter(self.model) is self.model:
            super().save_model(output_dir, _internal_call)
            return
        # The frozen language model is not saved, so that it need not be gathered in one process either.
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        self._save(output_dir, state_dict=get_model_state_dict(self.model, options=options))

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Write the adapter, and the config, code and processor that transformers needs beside it."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        has_card = (folder / "README.md").exists()
        # No embedding is trained. Left to find out by itself, peft would ask the Hub about the backbone.
        model = without_adapter(self.model)
        if model is self.model:
            if state_dict is not None:  # gathered from processes, where a tied head is a copy
                tied = model.all_tied_weights_keys
                state_dict = {name: tensor for name, tensor in state_dict.items() if name not in tied}
            model.save_pretrained(folder, state_dict=state_dict)
        else:
            self.model.save_pretrained(folder, state_dict=state_dict, save_embedding_layers=False)
            model.save_config_and_code(folder)
        if not has_card:
            (folder / "README.md").unlink(missing_ok=True)  # peft's template, which knows nothing of ECGs
        self.processing_class.save_pretrained(folder)
        write_run_record(self.run, folder)

    def _save_checkpoint(self, model, trial) -> None:
        """Write `checkpoint-N` and, once it is whole, remove those that it makes superfluous.

        Where it fails in one process, that one ends with the reason, and its launcher ends the others.
        """
        checkpoint = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        # transformers would remove older ones before the other processes have written their part of this one.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            # A folder of that name is one that was not resumed from, and holds nothing that this save needs.
            if self.args.should_save and checkpoint.exists():
                shutil.rmtree(checkpoint)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                mark_whole(checkpoint, self.state.global_step)
        except (OSError, RuntimeError, SafetensorError) as error:  # each library's word for a full disk
            raise OSError(f"{checkpoint} could not be written; earlier checkpoints stay ({error})") from error
        finally:
            self.args.save_total_limit = limit
        if self.args.should_save:
            remove_older_checkpoints(checkpoint, limit, self.state.best_model_checkpoint)

    def create_model_card(self, *args, **kwargs) -> None:
        """Write none: `meit-ecg push` writes the card, with the data, the settings and the risks."""

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer, with what reads the ECG in groups of its own where it has its own rate."""
        if self.optimizer is not None or self.args.ecg_learning_rate is None:
            return super().create_optimizer(model)
        optimizer = super().create_optimizer(model)
        named = (self.model if model is None else model).named_parameters()
        of_ecg = {id(weight) for name, weight in named if any(part in name for part in TRAINED_WHOLE)}
        for group in list(optimizer.param_groups):
            parts = {True: [], False: []}
            for weight in group["params"]:
                parts[id(weight) in of_ecg].append(weight)
            group["params"] = parts[False]
            optimizer.add_param_group({**group, "params": parts[True], "lr": self.args.ecg_learning_rate})
        return optimizer

    def get_train_dataloader(self) -> DataLoader:
        """The batches; where the last would hold a single record, that one is left out, another in each epoch.

        A single ECG has no batch statistics, so BatchNorm refuses it in training. Several processes are given whole
        batches alone: the last are filled up with the epoch's first records.
        """
        takes_batch_statistics = without_adapter(self.model).config.ecg_config.norm == "batch"
        is_last_alone = self.args.world_size == 1 and len(self.train_dataset) % self._train_batch_size == 1
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = drop_last or (takes_batch_statistics and is_last_alone)
        try:
            return super().get_train_dataloader()
        finally:
            self.args.dataloader_drop_last = drop_last

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        """Batches of about one length where lengths are known; the order then is of seed and epoch alone."""
        if self.report_lengths is None:
            return super()._get_train_sampler(train_dataset)
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return SeededLengthGroupedSampler(batch, self.report_lengths, self.args.seed)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler | None:
        # transformers would group these as well, by a column that our records lack.
        strategy, self.args.train_sampling_strategy = self.args.train_sampling_strategy, "random"
        try:
            return super()._get_eval_sampler(eval_dataset)
        finally:
            self.args.train_sampling_strategy = strategy

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """TRL's loss; on a CPU, computed from the positions that have a label alone.

        Elsewhere TRL leaves the others out by itself. Without its kernels it projects every position to the
        vocabulary, which is a third of the step where reports are short.

        An encoder-decoder gives its own loss: TRL's head would shift labels that are in their places, and leave out
        T5's scale and BART's bias.
        """
        if self.model.config.is_encoder_decoder:
            return Trainer.compute_loss(self, model, {**inputs, "use_cache": False}, return_outputs, num_items_in_batch)
        head = self.model.get_output_embeddings()
        if isinstance(head, FSDPModule):
            head.unshard()  # TRL takes the weight without a call, and would not sum the gradient of a shard
        labels = inputs.get("labels")
        if labels is None or labels.device.type != "cpu" or return_outputs or self.label_smoother is not None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        next_tokens = labels[:, 1:]
        has_label = next_tokens != -100

        def keep_labelled(module, args, output):
            output.last_hidden_state = output.last_hidden_state[:, :-1][has_label][None]

        inputs = {name: value for name, value in inputs.items() if name != "labels"}
        inputs["shift_labels"] = next_tokens[has_label][None]  # TRL takes these as they are
        hook = without_adapter(self.model).model.register_forward_hook(keep_labelled)
        try:
            return super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        finally:
            hook.remove()

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        """One forward and backward.

        Raises:
            FloatingPointError: where the loss of any process is NaN or infinite, before it reaches the weights.
        """
        loss = super().training_step(*args, **kwargs)
        if in_any_process(not torch.isfinite(loss)):
            raise self._diverged(
                "loss", loss.item() if not torch.isfinite(loss) else "NaN or infinite in another process"
            )
        return loss

    def _get_grad_norm(self, *args, **kwargs) -> torch.Tensor | float | None:
        """The norm over all processes, before the update.

        Raises:
            FloatingPointError: where it is NaN or infinite: the weights would be, and a checkpoint of them, before a
                loss says so. With `--fp16` torch leaves out such an update by itself.
        """
        norm = super()._get_grad_norm(*args, **kwargs)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if norm is not None and self.accelerator.scaler is None and not math.isfinite(norm):
            raise self._diverged("norm of the gradient", float(norm))
        return norm

    def _diverged(self, what: str, found: object) -> FloatingPointError:
        return FloatingPointError(
            f"the {what} became {found} in update {self.state.global_step + 1}: nothing is saved of it, "
            f"earlier checkpoints in {self.args.output_dir} stay; a lower --learning_rate or --bf16 false may help"
        )


class LossProgress(ProgressCallback):
    """The progress bar, with the latest loss at its end instead of a line per log entry."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if self.training_bar is not None and logs is not None:
            shown = {name: f"{logs[name]:.3f}" for name in ("loss", "eval_loss") if name in logs}
            if shown:
                self.training_bar.set_postfix(shown, refresh=False)


class TimeLimit(TrainerCallback):
    """Ends training after the update in which `minutes` of training have passed, as if it were the last one."""

    def __init__(self, minutes: float):
        self.minutes = minutes
        self.deadline = float("inf")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.deadline = time.monotonic() + 60 * self.minutes

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if in_any_process(time.monotonic() > self.deadline):  # or one would end while the others wait for it
            control.should_training_stop = True


class StopOnSignal(TrainerCallback):
    """Where SIGTERM comes, or Ctrl+C once: finishes the update, saves a checkpoint and ends training.

    A scheduler sends SIGTERM some seconds before it takes the machine away, and to the processes of a run not all at
    once. Within `with`, it stands in for the signals' usual handlers; a second Ctrl+C interrupts as ever.
    """

    def __init__(self):
        self.received: int | None = None
        self.is_stopping = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():  # no other may set a handler
            self._handlers = {number: signal.signal(number, self._receive) for number in _STOP_SIGNALS}

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = number

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.is_stopping = in_any_process(self.received is not None)
        if self.is_stopping:
            control.should_save, control.should_evaluate = True, False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.is_stopping:
            number = self.received or signal.SIGTERM
            raise TrainingStopped(
                f"stopped by {signal.Signals(number).name} after update {state.global_step}, of which a checkpoint is "
                f"in {args.output_dir}: go on with --resume_from_checkpoint auto",
                128 + number,
            )
