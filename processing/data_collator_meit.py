"""`ECGDataCollator`: rows of the dataset to a training batch whose loss is on the report alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedConfig
from transformers.utils import logging

from .adc import to_millivolts
from .leads import LEADS
from .processing_meit import ECGProcessor
from .recording import Recording

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

    For an encoder-decoder, the prompt is the encoder's text and the report the decoder's: as its tokenizer writes any
    text, the token that ends it added where it is missing.

    Attributes:
        processor: prepares the ECG and the text exactly as it does for generation.
        instruction_for: the instruction for a record id.
        max_length: longest sequence in tokens; for an encoder-decoder, of prompt and of report. A longer report loses
            its end (and with it the end token); a longer prompt is an error.
        is_encoder_decoder: whether the batch is for an encoder-decoder.
        decoder_start_token_id: what the decoder of an encoder-decoder starts with.
        truncated_reports: how many reports lost their end so far, in this process.

    Raises:
        ValueError: an encoder-decoder without a `decoder_start_token_id`.
    """

    processor: ECGProcessor
    instruction_for: Callable[[str], str]
    max_length: int | None = None
    is_encoder_decoder: bool = False
    decoder_start_token_id: int | None = None
    truncated_reports: int = field(default=0, init=False)

    def __post_init__(self):
        if self.is_encoder_decoder and self.decoder_start_token_id is None:
            raise ValueError("decoder_start_token_id is None; expected the id that the decoder starts with")

    @classmethod
    def for_model(
        cls,
        config: PreTrainedConfig,
        processor: ECGProcessor,
        instruction_for: Callable[[str], str],
        max_length: int | None = None,
    ) -> "ECGDataCollator":
        """The collator that the model with this configuration needs."""
        start = config.text_config.decoder_start_token_id if config.is_encoder_decoder else None
        return cls(processor, instruction_for, max_length, config.is_encoder_decoder, start)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate rows.

        Args:
            rows: each with `id`, `ecg` (ADC units, (12, samples) in the order of `LEADS`), `ecg_gain`,
                `ecg_baseline`, `sampling_rate` and `report`.

        Returns:
            `input_ids`, `attention_mask` and `labels` of shape (batch, tokens), padded at the right, and
            `ecg_values` of shape (batch, 12, samples). For an encoder-decoder `labels` have the shape (batch, report
            tokens), and so have `decoder_input_ids`, the same one place later.

        Raises:
            ValueError: a report is empty, a prompt leaves no room for its report, or an ECG is refused.
        """
        return self._prompts_and_reports(rows) if self.is_encoder_decoder else self._whole_texts(rows)

    def _whole_texts(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        encoded = self.processor.apply_chat_template(
            [self._conversation(row) for row in rows],
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            padding=False,
        )
        input_ids, labels = [], []
        for row, ids, mask in zip(rows, encoded["input_ids"], encoded["assistant_masks"], strict=True):
            self._check_lengths(row["id"], mask)
            ids, mask = torch.tensor(ids[: self.max_length]), torch.tensor(mask[: self.max_length])
            input_ids.append(ids)
            labels.append(ids.masked_fill(mask == 0, IGNORED_LABEL))
        return self._batch(input_ids, labels, encoded["ecg_values"])

    def _prompts_and_reports(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        encoded = self.processor.apply_chat_template(
            [self._conversation(row)[:1] for row in rows],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            padding=False,
        )
        tokenizer = self.processor.tokenizer
        labels = []
        for row, prompt in zip(rows, encoded["input_ids"], strict=True):
            self._check_prompt(row["id"], len(prompt), room=0)
            report = tokenizer(row["report"].strip())["input_ids"]
            if report[-1] != tokenizer.eos_token_id:
                report = [*report, tokenizer.eos_token_id]
            if self.max_length is not None and len(report) > self.max_length:
                self._count_truncated(row["id"])
            labels.append(torch.tensor(report[: self.max_length]))
        batch = self._batch([torch.tensor(ids) for ids in encoded["input_ids"]], labels, encoded["ecg_values"])
        shifted = batch["labels"].roll(1, dims=1)
        shifted[:, 0] = self.decoder_start_token_id
        batch["decoder_input_ids"] = shifted.masked_fill(shifted == IGNORED_LABEL, tokenizer.pad_token_id)
        return batch

    def _batch(
        self, input_ids: list[torch.Tensor], labels: list[torch.Tensor], ecg_values: np.ndarray
    ) -> dict[str, torch.Tensor]:
        attention = [torch.ones_like(ids) for ids in input_ids]
        pad_token_id = self.processor.tokenizer.pad_token_id
        return {
            "input_ids": pad_sequence(input_ids, batch_first=True, padding_value=pad_token_id),
            "attention_mask": pad_sequence(attention, batch_first=True, padding_value=0),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED_LABEL),
            "ecg_values": torch.from_numpy(ecg_values),
        }

    def _conversation(self, row: Mapping[str, Any]) -> list[dict]:
        if not row["report"].strip():
            raise ValueError(f"record {row['id']}: the report is empty; expected text to learn from")
        instruction = {"type": "text", "text": self.instruction_for(row["id"])}
        return [
            {"role": "user", "content": [{"type": "ecg", "ecg": row_recording(row)}, instruction]},
            {"role": "assistant", "content": row["report"]},
        ]

    def _check_lengths(self, record_id: str, mask: list[int]) -> None:
        if 1 not in mask:
            raise ValueError(
                f"record {record_id}: no token of the report is marked; expected a chat template with a "
                "{% generation %} block"
            )
        self._check_prompt(record_id, mask.index(1), room=1)
        if self.max_length is not None and 1 in mask[self.max_length :]:
            self._count_truncated(record_id)

    def _check_prompt(self, record_id: str, num_tokens: int, room: int) -> None:
        """Refuse a prompt of `num_tokens` where it and `room` further tokens are more than `max_length`."""
        if self.max_length is not None and num_tokens + room > self.max_length:
            raise ValueError(
                f"record {record_id}: the prompt has {num_tokens} tokens, max_length is {self.max_length}; expected "
                f"room for {'the report' if room else 'it'}"
            )

    def _count_truncated(self, record_id: str) -> None:
        if self.truncated_reports == 0:
            logger.warning(
                f"record {record_id}: the report was cut at max_length {self.max_length}; further ones are "
                "counted in truncated_reports"
            )
        self.truncated_reports += 1
