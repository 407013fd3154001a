"""Which ECG a system is shown for each record: its own, another patient's, a flat line, or its own with noise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation import other_patients
from evaluation.grounding import FLAT, OTHER, RIGHT
from evaluation.noise import Perturbation, perturb
from processing import INVALID_SAMPLE, row_recording
from reporting.report_loss import with_ecg_of

Row = Mapping[str, Any]
# What the largest sample becomes: int16 has room for it, and a step is far below the resolution of any ECG machine.
_FULL_SCALE = 32000


@dataclass(frozen=True)
class Showing:
    """One way to show ECGs.

    Attributes:
        name: "right", "other", "flat", or the name of a perturbation.
        keys: per record, what tells the ECG that is shown.
        row: the record of that number, with the ECG that is shown in place of its own.
    """

    name: str
    keys: Sequence[str]
    row: Callable[[int], Row]


def right(rows: Sequence[Row], ids: Sequence[str]) -> Showing:
    """Each record with its own ECG."""
    return Showing(RIGHT, ids, lambda number: rows[number])


def other(rows: Sequence[Row], ids: Sequence[str], patient_ids: Sequence[str], seed: int) -> Showing:
    """Each record with the ECG of another patient; each ECG is shown once."""
    donors = other_patients(patient_ids, seed)
    return Showing(
        OTHER, [ids[donor] for donor in donors], lambda number: with_ecg_of(rows[number], rows[donors[number]])
    )


def flat(rows: Sequence[Row], ids: Sequence[str]) -> Showing:
    """Each record with 0 mV in every lead."""

    def row(number: int) -> Row:
        return {**rows[number], "ecg": np.zeros_like(rows[number]["ecg"]), "ecg_baseline": [0] * 12}

    return Showing(FLAT, [FLAT] * len(ids), row)


def perturbed(rows: Sequence[Row], ids: Sequence[str], perturbation: Perturbation, seed: int) -> Showing:
    """Each record with its own ECG, perturbed; the same seed gives the same noise."""

    def row(number: int) -> Row:
        recording = row_recording(rows[number])
        signal = perturb(
            recording.signal.astype(np.float64), recording.sampling_rate, perturbation, key=ids[number], seed=seed
        )
        return {**rows[number], **_stored(signal)}

    return Showing(perturbation.name, [f"{record} {perturbation.name}, seed {seed}" for record in ids], row)


def is_flat(row: Row) -> bool:
    """Whether every lead of the row is constant where it was measured."""
    ecg = np.asarray(row["ecg"])
    measured = ecg != INVALID_SAMPLE
    highest = ecg.max(axis=1, initial=INVALID_SAMPLE, where=measured)
    lowest = ecg.min(axis=1, initial=np.iinfo(ecg.dtype).max, where=measured)
    return bool((lowest >= highest).all())


def _stored(signal_mv: np.ndarray) -> dict[str, Any]:
    """The columns of the dataset that hold a signal in mV (12, samples); NaN becomes the code of an invalid sample."""
    measured = np.isfinite(signal_mv)
    gain = _FULL_SCALE / max(np.abs(signal_mv[measured]).max(initial=0.0), 1e-3)
    ecg = np.where(measured, np.rint(np.where(measured, signal_mv, 0.0) * gain), INVALID_SAMPLE).astype(np.int16)
    return {"ecg": ecg, "ecg_gain": [gain] * 12, "ecg_baseline": [0] * 12}
