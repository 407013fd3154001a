"""Batches of signals in mV for training: read in place from the dataset's memory-mapped file, written once."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch

from processing.adc import INVALID_SAMPLE, to_millivolts
from processing.leads import LEADS

_CALIBRATION = ("ecg_gain", "ecg_baseline")


class ECGSignals(torch.utils.data.Dataset):
    """The rows of a split for a torch `DataLoader`, each with a signal that is a view of the file, not a copy.

        signals = ECGSignals(load_dataset("meit-ecg", "ptb-xl", split="train"), columns=("id", "report"))
        loader = DataLoader(signals, batch_size=64, shuffle=True, num_workers=2, collate_fn=collate_millivolts)
        next(iter(loader))["millivolts"]  # float32 (64, 12, 5000)

    Workers open the file themselves, forked or spawned; no signal travels to them.

    Attributes:
        records: one split of the dataset, or what `select`, `filter` or `shuffle` make of it.
        columns: the columns of a row beside `ecg`, `ecg_gain` and `ecg_baseline`.

    Raises:
        ValueError: the dataset has no such columns, or its `ecg` is not int16 of twelve leads.
    """

    def __init__(self, records: datasets.Dataset, columns: Sequence[str] = ("id", "report")) -> None:
        others = list(dict.fromkeys((*_CALIBRATION, *columns)))
        if missing := {"ecg", *others} - set(records.column_names):
            raise ValueError(f"the dataset lacks the columns {sorted(missing)}; found {records.column_names}")
        described = records.features["ecg"]
        shape = getattr(described, "shape", None)
        if shape is None or len(shape) != 2 or shape[0] != len(LEADS) or not shape[1] or described.dtype != "int16":
            raise ValueError(f"ecg is {described}; expected int16 of 12 leads, as a build writes it")
        self.records = records
        self.columns = tuple(columns)
        self._shape = shape
        self._others = records.select_columns(others).with_format("arrow")
        self._signals: _MappedSignals | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row, as `__getitems__` gives it."""
        return self.__getitems__([range(len(self))[index]])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of a batch; a `DataLoader` asks for them at once.

        Args:
            indices: numbers of rows, at least one.

        Returns:
            Per row `ecg`, int16 (12, samples) in ADC units, read-only; `ecg_gain` and `ecg_baseline`, (12,); and
            `columns` as Python values.

        Raises:
            IndexError: there is no such row.
            ValueError: a row has no signal, or one of another length.
        """
        table = self._others[indices]
        gain, baseline = (
            table[name].combine_chunks().flatten().to_numpy().reshape(-1, len(LEADS)) for name in _CALIBRATION
        )
        others = [table[name].to_pylist() for name in self.columns]
        if self._signals is None:
            self._signals = _MappedSignals(self.records, self._shape)
        signals = self._signals.rows(np.asarray(indices))
        named = ("ecg", *_CALIBRATION, *self.columns)
        return [dict(zip(named, row, strict=True)) for row in zip(signals, gain, baseline, *others, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_signals": None}  # a view pickles as a copy of what it shows


class _MappedSignals:
    """The column `ecg` as NumPy views of its Arrow chunks.

    `datasets` would give the same views, but makes an extension type in Python for each row that it gathers, which
    takes as long as all the rest.
    """

    def __init__(self, records: datasets.Dataset, shape: tuple[int, int]) -> None:
        self._shape = shape
        # The cast takes the extension type off; the memory stays the same.
        self._chunks = records.data.column("ecg").cast(pa.list_(pa.list_(pa.int16()))).chunks
        self._ends = np.cumsum([len(chunk) for chunk in self._chunks])
        self._views: dict[int, np.ndarray] = {}
        # What `select`, `filter` and `shuffle` leave in the place of a rewritten table.
        mapping = records._indices
        self._positions = np.arange(len(records)) if mapping is None else mapping.column(0).to_numpy()

    def rows(self, indices: np.ndarray) -> list[np.ndarray]:
        positions = self._positions[indices].astype(np.int64)
        numbers = np.searchsorted(self._ends, positions, side="right")
        return [
            self._view(number)[position - self._ends[number]]  # counted from the chunk's end
            for number, position in zip(numbers.tolist(), positions.tolist(), strict=True)
        ]

    def _view(self, number: int) -> np.ndarray:
        view = self._views.get(number)
        if view is None:
            chunk = self._chunks[number]
            # Keeps to a slice's own rows and leaves out nulls, which then show in the length.
            samples = chunk.flatten(recursive=True)
            if len(samples) != len(chunk) * self._shape[0] * self._shape[1] or samples.null_count:
                raise ValueError(
                    f"a signal among the {len(chunk)} rows before row {self._ends[number]} of the table is missing or "
                    f"incomplete: {len(samples)} samples, {samples.null_count} of them null; expected "
                    f"{self._shape[0]} x {self._shape[1]} per row"
                )
            view = samples.to_numpy(zero_copy_only=True).reshape(-1, *self._shape)
            self._views[number] = view
        return view


def collate_millivolts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Collate rows of the dataset: of `ECGSignals`, of `load_dataset`, or streamed.

    Args:
        rows: each with `ecg`, integers (12, samples) in ADC units, and `ecg_gain` and `ecg_baseline`, (12,).

    Returns:
        `millivolts`, float32 (batch, 12, samples), NaN where a sample is invalid; every other column as a list.

    Raises:
        ValueError: the rows differ in length, or one is refused by `processing.adc.to_millivolts`.
    """
    signals = [np.asarray(row["ecg"]) for row in rows]
    if shapes := {signal.shape for signal in signals} - {signals[0].shape}:
        raise ValueError(f"signals of shape {signals[0].shape} and {sorted(shapes)} in one batch; expected one shape")
    gain, baseline = (np.array([row[name] for row in rows], dtype=np.float64) for name in _CALIBRATION)
    exact = _exact_in_float32(gain, baseline)
    gain32, baseline32 = gain.astype(np.float32)[..., None], baseline.astype(np.float32)[..., None]
    millivolts = np.empty((len(rows), *signals[0].shape), dtype=np.float32)
    for row, (signal, out) in enumerate(zip(signals, millivolts, strict=True)):
        if signal.dtype == np.int16 and exact[row]:
            np.copyto(out, signal)
            out -= baseline32[row]
            out /= gain32[row]
            if signal.min() == INVALID_SAMPLE:  # no int16 is smaller
                out[signal == INVALID_SAMPLE] = np.nan
        else:
            out[:] = to_millivolts(signal, gain[row], baseline[row])
    others = [name for name in rows[0] if name not in ("ecg", *_CALIBRATION)]
    return {"millivolts": torch.from_numpy(millivolts)} | {name: [row[name] for row in rows] for name in others}


def _exact_in_float32(gain: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Which rows float32 arithmetic converts to the very values that float64 arithmetic, then rounded, gives.

    The difference of a 16-bit sample and a whole baseline below 2^23 is a whole number below 2^24, so it is exact in
    float32. So is a gain that float32 holds. Their quotient, rounded to 53 bits and then to 24, is the same as rounded
    to 24 at once, since 53 >= 2 * 24 + 2 (Figueroa 1995, "When is double rounding innocuous?"), as long as it is
    neither too large nor too small for float32; the bounds of the gain see to that.
    """
    magnitude = np.abs(gain)
    whole = (np.abs(baseline) < 2**23) & (baseline == np.rint(baseline))
    return (whole & (gain == gain.astype(np.float32)) & (magnitude > 2.0**-60) & (magnitude < 2.0**60)).all(axis=1)
