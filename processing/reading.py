"""Any ECG file in: `read_ecg` gives a `Recording` in millivolts."""

import os

from .recording import Recording
from .wfdb_reading import read_wfdb


def read_ecg(path: str | os.PathLike) -> Recording:
    """Read an ECG file.

    Args:
        path: a WFDB record, with or without `.hea` or `.dat` at its end.

    Raises:
        ECGReadError: the path is not an ECG recording, or a damaged one.
        ImportError: the package that reads this format is not installed.
    """
    return read_wfdb(path).to_recording()
