"""Any ECG file in: `read_ecg` gives a `Recording` in millivolts."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .clinical_files import read_clinical
from .csv_files import read_csv
from .file_format import CSV, NPY, NPZ, WFDB, detect_format
from .leads import canonical_lead, is_lead
from .numpy_files import read_npy, read_npz
from .recording import ECGReadError, Recording, short
from .wfdb_reading import read_wfdb_millivolts

_ARRAY_READERS = {CSV: read_csv, NPY: read_npy, NPZ: read_npz}
# Hz. Less shows no QRS complex, and no device takes more.
_RATES = (10.0, 100_000.0)
_MAX_QUOTED = 200  # characters


def read_ecg(
    path: str | os.PathLike, *, sampling_rate: float | None = None, lead_names: Sequence[str] | None = None
) -> Recording:
    """Read an ECG file of any format that is known here, told by its content.

    Args:
        path: a WFDB record, with or without `.hea` or `.dat` at its end; or a file of SCP-ECG, DICOM waveform, HL7
            aECG, GE MUSE XML, Philips XML, EDF, ISHNE, MFER, CSV (`read_csv`) or NumPy (`read_npy`, `read_npz`).
        sampling_rate: in Hz, for a CSV or NumPy file that does not say it.
        lead_names: for a NumPy file, one name per row; for a CSV file, the columns to read.

    Returns:
        The rhythm, in mV. A file that says its own rate and leads is refused if the caller states others.

    Raises:
        ECGReadError: the path is not an ECG recording, or a damaged one.
        ImportError: the package that reads this format is not installed.
    """
    file = Path(path)
    file_format = detect_format(file)
    with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers become infinite, which is refused below
        if file_format in _ARRAY_READERS:
            recording = _ARRAY_READERS[file_format](file, sampling_rate, lead_names)
        elif file_format == WFDB:
            recording = read_wfdb_millivolts(path)
        else:
            recording = read_clinical(file, file_format)
    _check(recording, sampling_rate, lead_names)
    return recording


def _check(recording: Recording, sampling_rate: float | None, lead_names: Sequence[str] | None) -> None:
    """Refuse what no recording is, whatever its format, and what is not as the caller states."""
    source, rate = recording.source, recording.sampling_rate
    if sampling_rate not in (None, rate):
        raise ECGReadError(f"{source}: recorded at {rate:g} Hz; sampling_rate={sampling_rate}")
    if lead_names is not None and tuple(lead_names) != recording.lead_names:
        raise ECGReadError(
            f"{source}: its leads are {short(recording.lead_names, _MAX_QUOTED)}; "
            f"lead_names={short(tuple(lead_names), _MAX_QUOTED)}"
        )
    if not _RATES[0] <= rate <= _RATES[1]:
        raise ECGReadError(f"{source}: sampling rate {rate:g} Hz; expected {_RATES[0]:g} to {_RATES[1]:g} Hz")
    leads = [canonical_lead(name) for name in recording.lead_names if is_lead(name)]
    if twice := {lead for lead in leads if leads.count(lead) > 1}:
        raise ECGReadError(f"{source}: lead {', '.join(sorted(twice))} appears twice; expected each lead once")
    if recording.signal.size == 0 or np.isnan(recording.signal).all():
        raise ECGReadError(f"{source}: 0 samples that were measured; expected a recording that holds samples")
    if np.isinf(recording.signal).any():
        raise ECGReadError(f"{source}: samples that are infinite; expected numbers in mV")
