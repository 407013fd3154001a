"""The signal of a row: twelve leads in their order, 10 s at 500 Hz, in the ADC units of the recording."""

from pathlib import Path

import numpy as np

from dataset_builder.errors import RecordError
from processing.adc import INVALID_SAMPLE
from processing.leads import LEADS, canonical_lead
from processing.recording import DigitalRecording
from processing.wfdb_reading import read_wfdb

SAMPLING_RATE = 500.0  # Hz
SAMPLES = 5000


def read_stored_signal(folder: str, filename: str) -> dict[str, object]:
    """Read one WFDB recording of a corpus as `stored_signal` gives it.

    Args:
        folder: the corpus' folder.
        filename: the recording below it, without a suffix; see `ptb_xl_table.relative_path`.

    Raises:
        RecordError: it cannot be read, or `stored_signal` refuses it. The message holds no path above `folder`,
            as it becomes part of a published build report.
    """
    try:
        recording = read_wfdb(Path(folder, filename))
    except Exception as error:  # whatever a broken file does to the reader, one recording never stops a build
        detail = f"{type(error).__name__}: {error}"
        for prefix in (Path(folder).absolute(), Path(folder)):
            detail = detail.replace(f"{prefix}/", "")
        raise RecordError("unreadable recording", detail) from error
    return stored_signal(recording)


def stored_signal(recording: DigitalRecording) -> dict[str, object]:
    """The columns of one recording: its samples untouched, its leads placed by name.

    Returns:
        `ecg` int16 (12, 5000) in ADC units, the order of the leads being `processing.leads.LEADS`;
        `ecg_gain` (12,) in ADC units per mV; `ecg_baseline` (12,), the ADC value of 0 mV; `sampling_rate` in Hz.

    Raises:
        RecordError: the leads are not the twelve, it is not 5000 samples at 500 Hz, or it is flat throughout.
    """
    if recording.sampling_rate != SAMPLING_RATE or recording.adc.shape[1] != SAMPLES:
        found = f"{recording.adc.shape[1]} samples at {recording.sampling_rate:g} Hz"
        raise RecordError("not 10 s at 500 Hz", f"{found}, expected {SAMPLES} at {SAMPLING_RATE:g} Hz")
    try:
        leads = [canonical_lead(name) for name in recording.lead_names]
    except ValueError as error:
        raise RecordError("not the twelve leads", str(error)) from error
    if sorted(leads) != sorted(LEADS):
        raise RecordError("not the twelve leads", f"found {', '.join(leads)}")
    order = [leads.index(lead) for lead in LEADS]
    adc = recording.adc[order]
    if all(_is_flat(lead) for lead in adc):
        raise RecordError("flat recording", "no lead holds a signal")
    return {
        "ecg": adc,
        "ecg_gain": recording.gain[order].tolist(),
        "ecg_baseline": recording.baseline[order].tolist(),
        "sampling_rate": recording.sampling_rate,
    }


def _is_flat(lead: np.ndarray) -> bool:
    valid = lead[lead != INVALID_SAMPLE]
    return valid.size == 0 or valid.max() == valid.min()
