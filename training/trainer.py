"""TRL's `SFTTrainer`, writing folders that load by themselves and ending at a loss that is no number."""

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ProgressCallback
from trl import SFTTrainer

from .run_record import write_run_record

# Trained and saved in full; the last is there with the fusion "flamingo".
TRAINED_WHOLE = ("ecg_encoder", "ecg_projector", "ecg_cross_attention")


class ReportTrainer(SFTTrainer):
    """Trains LoRA and what reads the ECG; each folder it saves holds all that loading needs but the backbone.

    Args:
        run: the run's record, written into each saved folder.
        **kwargs: as of `SFTTrainer`.
    """

    def __init__(self, *args, run: dict, **kwargs):
        self.run = run
        super().__init__(*args, **kwargs)
        # The trainer notes there that training keeps no cache; saved, it would be said of generation.
        vars(self.model.config).pop("use_cache", None)
        self.remove_callback(ProgressCallback)
        if not self.args.disable_tqdm:
            self.add_callback(LossProgress())
        if self.args.max_train_minutes is not None:
            self.add_callback(TimeLimit(self.args.max_train_minutes))

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Write the adapter, and the config, code and processor that transformers needs beside it."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        has_card = (folder / "README.md").exists()
        # No embedding is trained. Left to find out by itself, peft would ask the Hub about the backbone.
        self.model.save_pretrained(folder, state_dict=state_dict, save_embedding_layers=False)
        if not has_card:
            (folder / "README.md").unlink(missing_ok=True)  # peft's template, which knows nothing of ECGs
        self.model.get_base_model().save_config_and_code(folder)
        self.processing_class.save_pretrained(folder)
        write_run_record(self.run, folder)

    def _save_checkpoint(self, model, trial) -> None:
        # A folder of that name is one that was not resumed from: were this save cut short, old files between the
        # new ones would make it look whole.
        checkpoint = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save and checkpoint.exists():
            shutil.rmtree(checkpoint)
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:  # each library's word for a full disk
            raise OSError(f"{checkpoint} could not be written; earlier checkpoints stay ({error})") from error

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

        A single ECG has no batch statistics, so BatchNorm refuses it in training.
        """
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = drop_last or len(self.train_dataset) % self._train_batch_size == 1
        try:
            return super().get_train_dataloader()
        finally:
            self.args.dataloader_drop_last = drop_last

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
        labels = inputs.get("labels")
        if labels is None or labels.device.type != "cpu" or return_outputs or self.label_smoother is not None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        next_tokens = labels[:, 1:]
        has_label = next_tokens != -100

        def keep_labelled(module, args, output):
            output.last_hidden_state = output.last_hidden_state[:, :-1][has_label][None]

        inputs = {name: value for name, value in inputs.items() if name != "labels"}
        inputs["shift_labels"] = next_tokens[has_label][None]  # TRL takes these as they are
        hook = self.model.get_base_model().model.register_forward_hook(keep_labelled)
        try:
            return super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        finally:
            hook.remove()

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        """One forward and backward.

        Raises:
            FloatingPointError: where the loss is NaN or infinite, before it reaches the weights.
        """
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {loss.item()} in update {self.state.global_step + 1}: nothing is saved of it, "
                f"earlier checkpoints in {self.args.output_dir} stay; a lower --learning_rate or --bf16 false may help"
            )
        return loss


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
        if time.monotonic() > self.deadline:
            control.should_training_stop = True
