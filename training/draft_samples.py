"""Drafts of a few evaluation records at every evaluation: what the loss cannot say, in the log beside it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback

from dataset_builder.instructions import instruction_for
from processing import ECGProcessor, row_recording
from reporting.draft import end_tokens

from .tuning import without_adapter

SAMPLES = "samples.jsonl"
_MAX_NEW_TOKENS = 128


class DraftSamples(TrainerCallback):
    """Drafts the same records at every evaluation, greedily.

    Each evaluation adds its lines to `samples.jsonl` in the output folder (update, record, draft, reference), and a
    text or table to tensorboard or trackio where the run reports to them.

    Args:
        records: rows of the dataset.
        processor: of the run.
        trackers: the run's other callbacks; those of tensorboard and trackio are given the drafts.
    """

    def __init__(
        self, records: Sequence[Mapping[str, Any]], processor: ECGProcessor, trackers: Sequence[TrainerCallback]
    ):
        self.records = records
        self.processor = processor
        self.trackers = trackers

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep of an earlier process what was before the checkpoint that this one goes on from."""
        path = Path(args.output_dir) / SAMPLES
        if state.is_world_process_zero and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            # A kill may have left the last line without its end.
            kept = [line for line in lines if line.endswith("}\n") and json.loads(line)["update"] <= state.global_step]
            path.write_text("".join(kept), encoding="utf-8")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        lines = [
            {"update": state.global_step, "id": row["id"], "draft": draft, "reference": row["report"]}
            for row, draft in zip(self.records, self._drafts(without_adapter(model)), strict=True)
        ]
        with open(Path(args.output_dir) / SAMPLES, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        for tracker in self.trackers:
            if isinstance(tracker, TensorBoardCallback) and tracker.tb_writer is not None:
                for line in lines:
                    text = f"draft: {line['draft']}\n\nreference: {line['reference']}"
                    tracker.tb_writer.add_text(f"samples/{line['id']}", text, state.global_step)
            elif isinstance(tracker, TrackioCallback):
                import trackio

                columns = list(lines[0])
                data = [list(line.values()) for line in lines]
                trackio.log({"samples": trackio.Table(columns=columns, data=data)}, step=state.global_step)

    @torch.no_grad()
    def _drafts(self, model: Any) -> list[str]:
        was_training = model.training
        model.eval()
        drafts = []
        for row in self.records:
            content = [{"type": "ecg", "ecg": row_recording(row)}, {"type": "text", "text": instruction_for(row["id"])}]
            inputs = self.processor.apply_chat_template(
                [{"role": "user", "content": content}],
                tokenize=True,
                add_generation_prompt=True,
                return_dict=True,
                return_tensors="pt",
            ).to(model.device)
            tokens = model.generate(
                **inputs,
                max_new_tokens=_MAX_NEW_TOKENS,
                do_sample=False,
                num_beams=1,
                eos_token_id=end_tokens(model, self.processor),
                pad_token_id=self.processor.tokenizer.pad_token_id,
            )[0]
            if not model.config.is_encoder_decoder:
                tokens = tokens[inputs["input_ids"].shape[1] :]
            drafts.append(self.processor.decode(tokens, skip_special_tokens=True).strip())
        model.train(was_training)
        return drafts
