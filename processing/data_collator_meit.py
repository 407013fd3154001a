"""`ECGDataCollator`: rows of the dataset to a training batch whose loss is on the report alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.utils import logging

from .adc import to_millivolts
from .leads import LEADS
from .processing_meit import ECGProcessor
from .reading import Recording

logger = logging.get_logger(__name__)

IGNORED_LABEL = -100


def row_recording(row: Mapping[str, Any]) -> Recording:
    """The recording in a row of the `meit-ecg` dataset: ADC units in the order of `LEADS` to mV."""
    return Recording(
        signal=to_millivolts(np.asarray(row["ecg"]), row["ecg_gain"], row["ecg_baseline"]),
        sampling_rate=float(row["sampling_rate"]),
        lead_names=LEADS,
        source=f"record {row['id']}",
    )


@dataclass
class ECGDataCollator:
    """Turn rows of the `meit-ecg` dataset into a batch for the model.

    Every label is -100 except those of the report and of the token that ends it. They come from the chat
    template's generation block and not from the padding token, which may be the end token itself.

    Attributes:
        processor: prepares the ECG and the text exactly as it does for generation.
        instruction_for: the instruction for a record id.
        max_length: longest sequence in tokens. A longer report loses its end (and with it the end token); a
            longer prompt is an error.
        truncated_reports: how many reports lost their end so far, in this process.
    """

    processor: ECGProcessor
    instruction_for: Callable[[str], str]
    max_length: int | None = None
    truncated_reports: int = field(default=0, init=False)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate rows.

        Args:
            rows: each with `id`, `ecg` (ADC units, (12, samples) in the order of `LEADS`), `ecg_gain`,
                `ecg_baseline`, `sampling_rate` and `report`.

        Returns:
            `input_ids`, `attention_mask` and `labels` of shape (batch, tokens), padded at the right, and
            `ecg_values` of shape (batch, 12, samples).

        Raises:
            ValueError: a report is empty, a prompt leaves no room for its report, or an ECG is refused.
        """
        encoded = self.processor.apply_chat_template(
            [self._conversation(row) for row in rows],
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            padding=False,
        )
        input_ids, labels = [], []
        for row, ids, mask in zip(rows, encoded["input_ids"], encoded["assistant_masks"], strict=True):
            self._check_length(row["id"], mask)
            ids, mask = torch.tensor(ids[: self.max_length]), torch.tensor(mask[: self.max_length])
            input_ids.append(ids)
            labels.append(ids.masked_fill(mask == 0, IGNORED_LABEL))
        attention = [torch.ones_like(ids) for ids in input_ids]
        pad_token_id = self.processor.tokenizer.pad_token_id
        return {
            "input_ids": pad_sequence(input_ids, batch_first=True, padding_value=pad_token_id),
            "attention_mask": pad_sequence(attention, batch_first=True, padding_value=0),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED_LABEL),
            "ecg_values": torch.from_numpy(encoded["ecg_values"]),
        }

    def _conversation(self, row: Mapping[str, Any]) -> list[dict]:
        if not row["report"].strip():
            raise ValueError(f"record {row['id']}: the report is empty; expected text to learn from")
        instruction = {"type": "text", "text": self.instruction_for(row["id"])}
        return [
            {"role": "user", "content": [{"type": "ecg", "ecg": row_recording(row)}, instruction]},
            {"role": "assistant", "content": row["report"]},
        ]

    def _check_length(self, record_id: str, mask: list[int]) -> None:
        if 1 not in mask:
            raise ValueError(
                f"record {record_id}: no token of the report is marked; expected a chat template with a "
                "{% generation %} block"
            )
        if self.max_length is None:
            return
        prompt = mask.index(1)
        if prompt >= self.max_length:
            raise ValueError(
                f"record {record_id}: the prompt has {prompt} tokens, max_length is {self.max_length}; expected "
                "room for the report"
            )
        if 1 in mask[self.max_length :]:
            if self.truncated_reports == 0:
                logger.warning(
                    f"record {record_id}: the report was cut at max_length {self.max_length}; further ones are "
                    "counted in truncated_reports"
                )
            self.truncated_reports += 1
