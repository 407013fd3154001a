"""How probable a model finds the reference reports, given an ECG."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from processing import ECGDataCollator
from processing.data_collator_meit import IGNORED_LABEL

ECG_COLUMNS = ("ecg", "ecg_gain", "ecg_baseline", "sampling_rate")


def with_ecg_of(row: Mapping[str, Any], donor: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the dataset with the ECG of another row in place of its own."""
    return {**row, **{column: donor[column] for column in ECG_COLUMNS}}


@torch.no_grad()
def report_losses(
    model: PreTrainedModel, collator: ECGDataCollator, batches: Iterable[Sequence[Mapping[str, Any]]]
) -> tuple[np.ndarray, np.ndarray]:
    """Negative log-likelihood of each report, its end token included.

    Args:
        model: in eval mode.
        collator: of the training run: the same instructions, the same labels.
        batches: of rows of the dataset.

    Returns:
        Nats (records,) float64 and tokens (records,) int64, in the order of the rows.
    """
    nats, tokens = [], []
    for rows in batches:
        inputs = {name: values.to(model.device) for name, values in collator(rows).items()}
        labels = inputs.pop("labels")
        logits = model(**inputs).logits
        if not model.config.is_encoder_decoder:  # whose decoder is given the labels one place later
            labels, logits = labels[:, 1:], logits[:, :-1]
        log_probs = logits.float().log_softmax(-1)
        counted = labels != IGNORED_LABEL
        chosen = log_probs.gather(-1, labels.masked_fill(~counted, 0)[..., None])[..., 0]
        nats.append(-(chosen.double() * counted).sum(-1).cpu().numpy())
        tokens.append(counted.sum(-1).cpu().numpy())
    return np.concatenate(nats), np.concatenate(tokens)
