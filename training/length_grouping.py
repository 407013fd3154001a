"""Batches of reports of about one length, so that little of a batch is padding."""

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedTokenizerBase
from transformers.trainer_pt_utils import LengthGroupedSampler

_REPORTS = 1000


def report_lengths(reports: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens of each report. Prompts differ less, and an ECG takes the same place in all."""
    lengths = []
    for start in range(0, len(reports), _REPORTS):
        encoded = tokenizer(list(reports[start : start + _REPORTS]), add_special_tokens=False)["input_ids"]
        lengths.extend(map(len, encoded))
    return lengths


class SeededLengthGroupedSampler(LengthGroupedSampler):
    """transformers' sampler with an order that seed and epoch decide alone, so that a resumed run finds it again.

    Args:
        batch_size: records of an update in this process.
        lengths: of the records.
        seed: of the run.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int):
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.seed + self.epoch)
        return super().__iter__()
