"""`ECGFeatureExtractor`: recordings of any rate, length and lead order to what the ECG encoder takes."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers.feature_extraction_utils import BatchFeature, FeatureExtractionMixin
from transformers.utils import logging

from .leads import LEADS, place_leads
from .reading import read_ecg
from .recording import DigitalRecording, Recording
from .resampling import resample

logger = logging.get_logger(__name__)

FORMAT_VERSION = 1
ECG = str | os.PathLike | Recording | DigitalRecording | np.ndarray


class ECGFeatureExtractor(FeatureExtractionMixin):
    """Turn ECG recordings into `ecg_values`, float32 of shape (batch, 12, samples).

    In this order: leads placed by name (`place_leads`), a window chosen, samples that are NaN or infinite set to
    0 mV, resampled, padded at its end with 0 mV, scaled. Each recording is treated alone, so a batch holds
    exactly what its members give alone.

    Args:
        sampling_rate: rate of the output in Hz.
        duration_s: length of the output in seconds.
        scaling: `"minmax"` maps the smallest and the largest sample of all twelve leads together to 0 and 1;
            `"zscore"` gives each lead mean 0 and standard deviation 1, and a constant lead 0. Both look at the
            measured samples of the window alone, neither at padding nor at samples that were invalid. In the rare
            window whose samples are all above or all below 0 mV, `"minmax"` clips the padding into [0, 1].
        format_version: version of what is saved; a folder written by a later version is refused.
    """

    model_input_names = ["ecg_values"]

    def __init__(
        self,
        sampling_rate: int = 500,
        duration_s: float = 10.0,
        scaling: str = "minmax",
        format_version: int = FORMAT_VERSION,
        **kwargs: Any,
    ):
        if scaling not in ("minmax", "zscore"):
            raise ValueError(f"scaling is {scaling!r}; expected 'minmax' or 'zscore'")
        if not sampling_rate > 0 or not duration_s > 0:
            raise ValueError(f"sampling_rate is {sampling_rate}, duration_s {duration_s}; expected both above 0")
        if format_version > FORMAT_VERSION:
            raise ValueError(
                f"the feature extractor was saved in format {format_version}; this version of meit-ecg reads up "
                f"to {FORMAT_VERSION}"
            )
        self.sampling_rate = sampling_rate
        self.duration_s = duration_s
        self.scaling = scaling
        self.format_version = format_version
        super().__init__(**kwargs)

    @property
    def num_samples(self) -> int:
        """Samples per lead of the output."""
        return round(self.sampling_rate * self.duration_s)

    def __call__(
        self,
        ecg: ECG | Sequence[ECG],
        sampling_rate: float | Sequence[float | None] | None = None,
        lead_names: Sequence[str] | Sequence[Sequence[str] | None] | None = None,
        start_s: float | str | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Prepare one ECG or several.

        Args:
            ecg: a path, a `Recording`, a `DigitalRecording`, an array of shape (leads, samples) in mV, or a list
                of these (an array of shape (batch, leads, samples) is such a list).
            sampling_rate: of the arrays, in Hz: one for all, or one per ECG. A file states its own, or is a CSV or
                NumPy file (`read_ecg`).
            lead_names: of the arrays, one name per row: one list for all, or one per ECG. A file as above.
            start_s: which `duration_s` of a longer recording: the second at which the window starts, or `"all"`
                for every window from 0 s on, one after the other, each a member of the batch. A window that
                reaches past the recording's end is padded like a shorter recording.
            return_tensors: `"pt"` or `"np"`; a NumPy array by default.

        Returns:
            `ecg_values`, float32 of shape (batch, 12, sampling_rate * duration_s).

        Raises:
            ECGReadError: a file is no ECG recording that can be read.
            ValueError: leads, rate, shape or length are not what is expected, or the recording is flat.
            ImportError: another rate needs scipy, a WFDB file needs wfdb, and it is not installed.
        """
        windows = [
            self._finish(window, recording)
            for recording in self.recordings(ecg, sampling_rate, lead_names)
            for window in self._windows(recording, start_s)
        ]
        return BatchFeature({"ecg_values": np.stack(windows)}, tensor_type=return_tensors)

    def recordings(
        self,
        ecg: ECG | Sequence[ECG],
        sampling_rate: float | Sequence[float | None] | None = None,
        lead_names: Sequence[str] | Sequence[Sequence[str] | None] | None = None,
    ) -> list[Recording]:
        """Read files and name arrays: one checked `Recording` per ECG. Arguments and errors as in a call."""
        several = isinstance(ecg, (list, tuple)) or getattr(ecg, "ndim", 2) == 3
        ecgs = list(ecg) if several else [ecg]
        if not ecgs:
            raise ValueError("an empty list of ECGs; expected at least one")
        rates = _one_per_ecg(sampling_rate, "sampling_rate", len(ecgs), nested=np.ndim(sampling_rate) > 0)
        names_nested = lead_names is not None and not all(isinstance(name, str) for name in lead_names)
        names = _one_per_ecg(lead_names, "lead_names", len(ecgs), nested=names_nested)
        return [_recording(*one) for one in zip(ecgs, rates, names, strict=True)]

    def count_invalid(
        self,
        ecg: ECG | Sequence[ECG],
        sampling_rate: float | Sequence[float | None] | None = None,
        lead_names: Sequence[str] | Sequence[Sequence[str] | None] | None = None,
    ) -> list[int]:
        """Count, per ECG, the samples of the twelve leads that are NaN or infinite and become 0 mV.

        Arguments and errors as in a call; the whole recording is counted, at its own sampling rate.
        """
        return [
            int((~np.isfinite(_twelve_leads(recording))).sum())
            for recording in self.recordings(ecg, sampling_rate, lead_names)
        ]

    def _windows(self, recording: Recording, start_s: float | str | None) -> list[np.ndarray]:
        """Cut a recording's twelve leads, still at its own rate, into the windows that were asked for."""
        signal = _twelve_leads(recording)
        rate, samples = recording.sampling_rate, signal.shape[1]
        _refuse_flat(signal, f"{recording.source}: flat recording")
        length = math.ceil(self.duration_s * rate - 1e-6)
        if start_s is None:
            if samples > length:
                raise ValueError(
                    f"{recording.source}: {samples / rate:g} s long; expected at most {self.duration_s:g} s, or "
                    'start_s= with the second at which the window starts, or start_s="all" for every window'
                )
            return [signal]
        if isinstance(start_s, str):
            if start_s != "all":
                raise ValueError(f"start_s is {start_s!r}; expected seconds or 'all'")
            starts = range(math.ceil(samples / (self.duration_s * rate) - 1e-9))
            starts = [round(window * self.duration_s * rate) for window in starts]
        else:
            if not (math.isfinite(start_s) and start_s >= 0) or round(start_s * rate) >= samples:
                raise ValueError(
                    f"{recording.source}: start_s is {start_s} and the recording lasts {samples / rate:g} s; "
                    "expected a second within it"
                )
            starts = [round(start_s * rate)]
        windows = [signal[:, start : start + length] for start in starts]
        for start, window in zip(starts, windows, strict=True):
            _refuse_flat(window, f"{recording.source}: flat recording in the window from {start / rate:g} s")
        return windows

    def _finish(self, signal: np.ndarray, recording: Recording) -> np.ndarray:
        """Clean, resample, pad and scale one window of twelve leads."""
        measured = np.isfinite(signal)
        _warn_of_invalid(measured, recording)
        rate = recording.sampling_rate
        if rate != self.sampling_rate:
            # Across a gap a straight line, for a step would ring into the samples beside it.
            signal = resample(_bridge_gaps(signal, measured), rate, self.sampling_rate)
            nearest = np.rint(np.arange(signal.shape[1]) * rate / self.sampling_rate).astype(np.int64)
            measured = measured[:, np.minimum(nearest, measured.shape[1] - 1)]
        signal, measured = signal[:, : self.num_samples], measured[:, : self.num_samples]
        padding = ((0, 0), (0, self.num_samples - signal.shape[1]))
        measured = np.pad(measured, padding)
        signal = np.where(measured, np.pad(signal, padding), 0.0)
        scale = _min_max if self.scaling == "minmax" else _z_score
        return scale(signal, measured).astype(np.float32)


def _one_per_ecg(value: Any, name: str, count: int, nested: bool) -> list:
    if not nested:
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{len(value)} {name} came with {count} ECGs; expected one for all or one per ECG")
    return list(value)


def _recording(ecg: Any, sampling_rate: float | None, lead_names: Sequence[str] | None) -> Recording:
    """One ECG of any accepted kind as a `Recording` whose shape, names and rate belong together.

    Recordings are told by their attributes and not by their class: loaded as remote code, this module has
    classes of its own, and a user's `Recording` may come from the installed package.
    """
    if isinstance(ecg, (str, os.PathLike)):
        ecg = read_ecg(ecg, sampling_rate=sampling_rate, lead_names=lead_names)
    elif hasattr(ecg, "to_recording"):
        ecg = ecg.to_recording()
    if hasattr(ecg, "lead_names"):
        if sampling_rate not in (None, ecg.sampling_rate):
            raise ValueError(f"{ecg.source}: recorded at {ecg.sampling_rate:g} Hz; sampling_rate={sampling_rate}")
        if lead_names is not None and tuple(lead_names) != tuple(ecg.lead_names):
            raise ValueError(f"{ecg.source}: its leads are {ecg.lead_names}; lead_names={tuple(lead_names)}")
        recording = ecg
    else:
        recording = _named_array(ecg, sampling_rate, lead_names)
    _check(recording)
    return recording


def _named_array(ecg: Any, sampling_rate: float | None, lead_names: Sequence[str] | None) -> Recording:
    ecg = ecg.detach().cpu() if hasattr(ecg, "detach") else ecg
    if not hasattr(ecg, "__array__"):
        raise TypeError(
            f"an ECG of type {type(ecg).__name__}; expected a path, a Recording or an array (leads, samples)"
        )
    signal = np.asarray(ecg)
    source = f"array of shape {signal.shape}"
    if sampling_rate is None or lead_names is None:
        raise ValueError(f"{source}: expected sampling_rate= (in Hz) and lead_names= (one per row) with an array")
    if not np.issubdtype(signal.dtype, np.floating):
        raise ValueError(
            f"{source} and type {signal.dtype}; expected floating-point numbers in mV (ADC units become mV by "
            "to_millivolts)"
        )
    return Recording(signal, float(sampling_rate), tuple(lead_names), source)


def _check(recording: Recording) -> None:
    shape, count = np.shape(recording.signal), len(recording.lead_names)
    if len(shape) != 2 or shape[0] != count:
        turned = len(shape) == 2 and shape[1] == count
        raise ValueError(
            f"{recording.source}: found shape {shape} with {count} lead names; expected (leads, samples) with one "
            f"row per name{': the array is (samples, leads), pass its transpose' if turned else ''}"
        )
    if shape[1] == 0:
        raise ValueError(f"{recording.source}: 0 samples; expected a recording that holds samples")
    if not (math.isfinite(recording.sampling_rate) and recording.sampling_rate > 0):
        raise ValueError(f"{recording.source}: sampling rate {recording.sampling_rate} Hz; expected above 0 Hz")


def _twelve_leads(recording: Recording) -> np.ndarray:
    """float64 of shape (12, samples) in mV, in the order of `LEADS`."""
    try:
        return place_leads(recording.signal, recording.lead_names)
    except ValueError as error:
        raise ValueError(f"{recording.source}: {error}") from error


def _refuse_flat(signal: np.ndarray, message: str) -> None:
    measured = np.isfinite(signal)
    if not measured.any(axis=1).all():
        dead = [lead for lead, alive in zip(LEADS, measured.any(axis=1), strict=True) if not alive]
        raise ValueError(f"{message}: no valid sample in {', '.join(dead)}; expected a signal in every lead")
    lowest = np.where(measured, signal, np.inf).min(axis=1)
    highest = np.where(measured, signal, -np.inf).max(axis=1)
    if (lowest == highest).all():
        raise ValueError(f"{message}: every lead is constant; expected a signal")


def _warn_of_invalid(measured: np.ndarray, recording: Recording) -> None:
    invalid = int((~measured).sum())
    if invalid:
        logger.warning_once(f"{recording.source}: {invalid} invalid samples of {measured.size} were set to 0 mV")


def _bridge_gaps(signal: np.ndarray, measured: np.ndarray) -> np.ndarray:
    if measured.all():
        return signal
    time = np.arange(signal.shape[1])
    return np.stack([np.interp(time, time[valid], lead[valid]) for lead, valid in zip(signal, measured, strict=True)])


def _min_max(signal: np.ndarray, measured: np.ndarray) -> np.ndarray:
    lowest, highest = signal[measured].min(), signal[measured].max()
    return np.clip((signal - lowest) / (highest - lowest), 0.0, 1.0)


def _z_score(signal: np.ndarray, measured: np.ndarray) -> np.ndarray:
    count = measured.sum(axis=1, keepdims=True)
    mean = signal.sum(axis=1, keepdims=True) / count
    deviation = np.where(measured, signal - mean, 0.0)
    std = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / count)
    constant = np.ptp(np.where(measured, signal, mean), axis=1, keepdims=True) == 0
    return np.where(constant, 0.0, (signal - mean) / np.where(constant, 1.0, std))


ECGFeatureExtractor.register_for_auto_class()
