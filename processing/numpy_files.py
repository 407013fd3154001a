"""Recordings in NumPy files: `.npy` (an array alone) and `.npz` (an array with rate, lead names and unit)."""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from .recording import ECGReadError, Recording
from .voltage_units import check_unstated_unit, units_per_millivolt

_KEYS = {
    "signal": ("signal", "ecg"),
    "sampling_rate": ("sampling_rate", "fs"),
    "lead_names": ("lead_names", "leads"),
    "unit": ("unit", "units"),
}
_MAX_QUOTED = 300  # characters
_MAX_MEMBER_BYTES = 256 << 20
_MAX_NAME_BYTES = 1 << 16


def read_npy(path: Path, sampling_rate: float | None, lead_names: Sequence[str] | None) -> Recording:
    """Read an array of shape (leads, samples) in mV, whose rate and names the caller states.

    Raises:
        ECGReadError: a rate or names are missing, or the file is damaged or of another shape or type.
    """
    try:
        with path.open("rb") as file:
            signal = _read_array(file, path.stat().st_size)
        return _recording(path, signal, sampling_rate, lead_names, None)
    except Exception as error:  # numpy raises many kinds for a damaged header
        raise ECGReadError(f"{path}: {str(error)[:_MAX_QUOTED]}") from error


def read_npz(path: Path, sampling_rate: float | None, lead_names: Sequence[str] | None) -> Recording:
    """Read an archive of `signal` (or `ecg`), `sampling_rate` (`fs`), `lead_names` (`leads`) and `unit` (`units`).

    The signal has the shape (leads, samples) and is in mV where no unit is there. What the caller states fills in
    what is not there.

    Raises:
        ECGReadError: something is missing or stated twice, or the file is damaged or of another shape or type.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            signal = _member(archive, "signal", _MAX_MEMBER_BYTES)
            rate, names, unit = (
                _member(archive, key, _MAX_NAME_BYTES) for key in ("sampling_rate", "lead_names", "unit")
            )
        if signal is None:
            raise ValueError("no array called signal or ecg; expected one of shape (leads, samples)")
        if rate is not None:
            sampling_rate = float(rate.item())
        if names is not None:
            lead_names = [str(name) for name in _text(names, "lead_names").ravel()]
        if unit is not None:
            unit = str(_text(unit, "unit").item())
        return _recording(path, signal, sampling_rate, lead_names, unit)
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for a damaged file
        raise ECGReadError(f"{path}: {str(error)[:_MAX_QUOTED]}") from error


def _member(archive: zipfile.ZipFile, key: str, limit: int) -> np.ndarray | None:
    names = [f"{name}.npy" for name in _KEYS[key]]
    found = [member for member in archive.infolist() if member.filename in names]
    if len(found) > 1:
        raise ValueError(f"it holds {' and '.join(member.filename for member in found)}; expected one of them")
    if not found:
        return None
    # A compressed member never gives more than the size that is stated for it, so that is what has to be small.
    if found[0].file_size > limit:
        raise ValueError(f"{found[0].filename} has {found[0].file_size} bytes; expected at most {limit}")
    with archive.open(found[0]) as file:
        return _read_array(file, found[0].file_size)


def _read_array(file: IO[bytes], size: int) -> np.ndarray:
    """Read one array in NumPy's own format, never a pickled object, once its header agrees with `size` in bytes."""
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
        version
    )
    if read_header is None:
        raise ValueError(f"NumPy's format {version}; expected 1.0 or 2.0")
    shape, is_fortran, dtype = read_header(file)
    if dtype.hasobject or dtype.names is not None:
        raise ValueError(f"an array of {str(dtype)[:40]}; expected numbers or text")
    stated = math.prod(shape) * dtype.itemsize
    held = size - file.tell()
    if min(shape, default=1) < 0 or stated != held:
        raise ValueError(f"truncated or damaged: shape {shape} of {dtype} takes {stated} bytes, {held} are there")
    array = np.frombuffer(file.read(stated), dtype=dtype, count=math.prod(shape))
    return array.reshape(shape, order="F" if is_fortran else "C")


def _text(array: np.ndarray, key: str) -> np.ndarray:
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    if array.dtype.kind != "U":
        raise ValueError(f"{key} of type {array.dtype}; expected text")
    return array


def _recording(
    path: Path, signal: np.ndarray, sampling_rate: float | None, lead_names: Sequence[str] | None, unit: str | None
) -> Recording:
    if sampling_rate is None or lead_names is None:
        raise ValueError(
            "it holds an array alone; expected sampling_rate= (in Hz) and lead_names= (one per row) with it"
        )
    names = tuple(lead_names)
    if signal.ndim != 2 or len(signal) != len(names):
        turned = signal.ndim == 2 and signal.shape[1] == len(names)
        raise ValueError(
            f"shape {signal.shape} with {len(names)} lead names; expected (leads, samples) with one row per name"
            f"{': the array is (samples, leads), save its transpose' if turned else ''}"
        )
    if signal.dtype.kind != "f" and (unit is None or signal.dtype.kind not in "iu"):
        raise ValueError(f"{signal.dtype} without a unit; expected floating-point numbers in mV")
    millivolts = signal / units_per_millivolt(unit or "mV")
    if unit is None:
        check_unstated_unit(millivolts)
    return Recording(millivolts.astype(np.float32), float(sampling_rate), names, str(path))
