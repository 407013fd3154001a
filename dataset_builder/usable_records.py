"""Which records of a split hold a recording that can be learnt from, seen before a run and not in its midst."""

from collections.abc import Iterator

import datasets
import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from processing.adc import INVALID_SAMPLE
from processing.leads import LEADS

_COLUMNS = ["ecg", "ecg_gain", "ecg_baseline", "sampling_rate"]
_ROWS = 256  # 30 MB of signal


def broken_recordings(records: datasets.Dataset, duration_s: float = 10.0, progress: bool = False) -> dict[int, str]:
    """Find the records whose recording the feature extractor would refuse.

    Every signal is read once, at the speed of the disk, as integers; nothing is converted or kept.

    Args:
        records: one split of the dataset.
        duration_s: longest recording in seconds.
        progress: whether to show a progress bar.

    Returns:
        Number of the row -> what is wrong with it.
    """
    table = records.select_columns(_COLUMNS).with_format("arrow")
    broken = {}
    starts = range(0, len(records), _ROWS)
    for start in tqdm(starts, desc="checking recordings", unit_scale=_ROWS, unit=" records", disable=not progress):
        rows = table[start : start + _ROWS]
        for row, reason in _defects(rows, duration_s):
            broken[start + row] = reason
    return broken


def _defects(rows: pa.Table, duration_s: float) -> Iterator[tuple[int, str]]:
    signals = rows["ecg"].cast(pa.list_(pa.list_(pa.int16()))).combine_chunks()
    calibration = {name: rows[name].to_pylist() for name in _COLUMNS[1:]}
    for row, found in enumerate(_signals(signals)):
        gain, baseline, rate = (calibration[name][row] for name in _COLUMNS[1:])
        reason = (
            found
            if isinstance(found, str)
            else _calibration_defect(gain, baseline, rate) or _signal_defect(found, rate, duration_s)
        )
        if reason is not None:
            yield row, reason


def _signals(signals: pa.ListArray) -> Iterator[np.ndarray | str]:
    """Each row's int16 (12, samples), or why there is none."""
    for row in range(len(signals)):
        leads = signals[row]
        if not leads.is_valid:
            yield "no signal"
            continue
        lengths = leads.values.value_lengths().to_pylist()
        if len(lengths) != len(LEADS) or len(set(lengths)) != 1 or not lengths[0]:
            yield f"leads of {lengths} samples; expected {len(LEADS)} of one length"
            continue
        samples = leads.values.flatten()
        if samples.null_count:
            yield f"{samples.null_count} samples are missing"
        else:
            yield samples.to_numpy().reshape(len(LEADS), -1)


def _calibration_defect(gain: list | None, baseline: list | None, rate: float | None) -> str | None:
    for name, values in (("gain", gain), ("baseline", baseline)):
        numbers = np.asarray([] if values is None else values, dtype=np.float64)
        if numbers.shape != (len(LEADS),) or not np.isfinite(numbers).all() or (name == "gain" and not numbers.all()):
            return f"{name} is {values}; expected {len(LEADS)} finite numbers{', none of them 0' * (name == 'gain')}"
    if rate is None or not (np.isfinite(rate) and rate > 0):
        return f"sampling rate is {rate}; expected a number of Hz above 0"
    return None


def _signal_defect(signal: np.ndarray, rate: float, duration_s: float) -> str | None:
    if signal.shape[1] > np.ceil(duration_s * rate - 1e-6):
        return f"{signal.shape[1] / rate:g} s long; expected at most {duration_s:g} s"
    highest = signal.max(axis=1)
    # No int16 is smaller than the code of a sample that was not measured.
    if dead := [lead for lead, top in zip(LEADS, highest, strict=True) if top == INVALID_SAMPLE]:
        return f"no valid sample in {', '.join(dead)}"
    lowest = signal.min(axis=1)
    for lead in np.flatnonzero(lowest == INVALID_SAMPLE):
        lowest[lead] = signal[lead][signal[lead] != INVALID_SAMPLE].min()
    return "every lead is constant" if (lowest == highest).all() else None
