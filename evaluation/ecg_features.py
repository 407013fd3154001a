"""An ECG as a short vector: what a cardiologist measures first, for finding recordings that resemble each other.

Beats are found by the energy of the slope over all leads, after Pan and Tompkins (1985); the rest follows from their
times and from the median beat of each lead.
"""

import math

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import butter, find_peaks, resample, sosfiltfilt

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

_RATE = 100.0  # Hz that everything is computed at
_LONGEST = 60.0  # seconds that are looked at
_BAND = (0.5, 40.0)  # Hz, as of a monitor
_QRS_BAND = (5.0, 20.0)  # Hz
_QRS_SECONDS = 0.12
_REFRACTORY = 0.28  # seconds: no rate above 214 per minute
_SILENT_MV = 1e-6  # a lead that stays below is flat but for rounding
_LEAST_SLOPE = 1e-4  # mV per sample: less is no QRS complex
_THRESHOLD = 0.3  # of the usual height of a QRS complex in the slope's energy
_BEAT = (-0.30, 0.50)  # seconds about the R peak
_STEP = 0.04  # seconds between the samples of the beat that are features
_BEAT_LEADS = (0, 1, 6, 7, 8, 9, 10, 11)  # the other limb leads follow from I and II
_QRS_WINDOW = (-0.08, 0.08)
_P_WINDOW, _ST_WINDOW, _T_WINDOW = (-0.26, -0.08), (0.08, 0.12), (0.14, 0.44)
_SPECTRUM = (0.5, 3.0, 5.0, 8.0, 12.0, 18.0, 26.0, 40.0)  # Hz: edges of the bands

_RHYTHM_NAMES = ("heart rate", "RR deviation", "RR successive difference", "RR range", "beat similarity")
_AMPLITUDE_NAMES = tuple(f"{wave} {lead}" for wave in ("P", "R", "S", "ST", "T") for lead in LEADS)
_AXIS_NAMES = ("QRS axis cosine", "QRS axis sine", "QRS width")
_SPECTRUM_NAMES = tuple(f"{low:g}-{high:g} Hz" for low, high in zip(_SPECTRUM, _SPECTRUM[1:], strict=False))
_BEAT_SAMPLES = round((_BEAT[1] - _BEAT[0]) / _STEP)
_BEAT_NAMES = tuple(f"beat {LEADS[lead]} {number}" for lead in _BEAT_LEADS for number in range(_BEAT_SAMPLES))
_GROUPS = (_RHYTHM_NAMES, _AMPLITUDE_NAMES, _AXIS_NAMES, _SPECTRUM_NAMES, _BEAT_NAMES)

FEATURE_NAMES: tuple[str, ...] = sum(_GROUPS, ())
# Every group counts alike in a distance between standardised features, however many members it has.
FEATURE_WEIGHTS = np.concatenate([np.full(len(group), 1 / math.sqrt(len(group))) for group in _GROUPS])


def ecg_features(signal_mv: np.ndarray, sampling_rate: float) -> np.ndarray:
    """Features of one ECG: rhythm, wave amplitudes, QRS axis and width, spectrum, and the median beat.

    Args:
        signal_mv: shape (12, samples) in mV, in the order of `LEADS`; at least one second. NaN is bridged by a
            straight line; a lead that is NaN throughout counts as flat. Only the first minute is looked at.
        sampling_rate: in Hz.
    Returns:
        float64 of shape (len(FEATURE_NAMES),), always finite. Units: 1/min, seconds, mV, and logarithms of shares of
        power. What cannot be measured (no beats, a flat recording) is 0.
    Raises:
        ValueError: another shape, less than a second, an infinite sample, or no positive sampling rate.
    """
    signal = np.asarray(signal_mv, dtype=np.float64)
    if not (np.isfinite(sampling_rate) and sampling_rate > 0):
        raise ValueError(f"sampling rate {sampling_rate}, expected a positive number of Hz")
    if signal.ndim != 2 or signal.shape[0] != len(LEADS) or signal.shape[1] < sampling_rate:
        raise ValueError(f"signal of shape {signal.shape}, expected (12, samples) of at least one second, in mV")
    if np.isinf(signal).any():
        raise ValueError("infinite samples, expected numbers in mV or NaN")
    signal = _bridge(signal[:, : math.ceil(_LONGEST * sampling_rate)])
    signal -= signal.mean(axis=1, keepdims=True)
    signal[np.abs(signal).max(axis=1) < _SILENT_MV] = 0.0
    signal = resample(signal, round(signal.shape[1] * _RATE / sampling_rate), axis=1)
    signal = sosfiltfilt(butter(2, _BAND, "bandpass", fs=_RATE, output="sos"), signal)

    peaks = r_peaks(signal)
    beats = _beats(signal, peaks)
    beat = np.median(beats, axis=0) if len(beats) else np.zeros((len(LEADS), _sample(_BEAT[1]) - _sample(_BEAT[0])))
    beat = beat - np.median(_part(beat, _P_WINDOW), axis=1, keepdims=True)
    return np.concatenate(
        [
            _rhythm(peaks, beats, beat),
            _amplitudes(beat),
            _axis_and_width(beat),
            _spectrum(signal),
            _downsampled(beat),
        ]
    )


def _bridge(signal: np.ndarray) -> np.ndarray:
    bridged = signal.copy()
    for lead in bridged:
        missing = np.isnan(lead)
        if missing.all():
            lead[:] = 0.0
        elif missing.any():
            lead[missing] = np.interp(np.flatnonzero(missing), np.flatnonzero(~missing), lead[~missing])
    return bridged


def r_peaks(signal: np.ndarray) -> np.ndarray:
    """Samples at which the QRS complexes are, of a signal (12, samples) at 100 Hz.

    The slope of each lead between 5 and 20 Hz is squared and summed over the leads and over 0.12 s. A peak of that
    counts if it reaches 0.3 of the usual height: the median over the seconds of each second's highest value.
    """
    slope = np.diff(sosfiltfilt(butter(2, _QRS_BAND, "bandpass", fs=_RATE, output="sos"), signal), prepend=0.0)
    # The root, so that one tall beat, or one tall lead, does not hide the others.
    energy = np.sqrt(uniform_filter1d((slope**2).sum(axis=0), _sample(_QRS_SECONDS)))
    # The slowest rhythms leave some seconds without a beat, so each span holds a second and a half.
    spans = np.array_split(energy, max(1, int(energy.size / (1.5 * _RATE))))
    usual = np.median([span.max() for span in spans])
    if usual < _LEAST_SLOPE:
        return np.zeros(0, dtype=np.int64)
    return find_peaks(energy, height=_THRESHOLD * usual, distance=_sample(_REFRACTORY))[0]


def _sample(seconds: float) -> int:
    return round(seconds * _RATE)


def _beats(signal: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Every whole beat: shape (beats, 12, samples of `_BEAT`)."""
    first, last = _sample(_BEAT[0]), _sample(_BEAT[1])
    whole = peaks[(peaks + first >= 0) & (peaks + last <= signal.shape[1])]
    return signal[:, whole[:, None] + np.arange(first, last)].transpose(1, 0, 2)


def _part(beat: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    start, stop = (_sample(edge) - _sample(_BEAT[0]) for edge in window)
    return beat[:, start:stop]


def _rhythm(peaks: np.ndarray, beats: np.ndarray, beat: np.ndarray) -> np.ndarray:
    intervals = np.diff(peaks) / _RATE
    if intervals.size == 0:
        return np.zeros(len(_RHYTHM_NAMES))
    usual = np.median(intervals)
    successive = np.abs(np.diff(intervals)) if intervals.size > 1 else np.zeros(1)
    # How far single beats depart from the median one: ectopy, or a rhythm with waves of its own between the beats.
    spread = np.sqrt(np.mean((beats - np.median(beats, axis=0)) ** 2)) if len(beats) else 0.0
    size = np.sqrt(np.mean(beat**2))
    return np.array(
        [
            60 / usual,
            intervals.std() / usual,
            successive.mean() / usual,
            (intervals.max() - intervals.min()) / usual,
            size / (size + spread) if size + spread > 0 else 0.0,
        ]
    )


def _amplitudes(beat: np.ndarray) -> np.ndarray:
    qrs, t_wave = _part(beat, _QRS_WINDOW), _part(beat, _T_WINDOW)
    tallest = np.abs(t_wave).argmax(axis=1)[:, None]
    return np.concatenate(
        [
            np.ptp(_part(beat, _P_WINDOW), axis=1),
            qrs.max(axis=1),
            qrs.min(axis=1),
            _part(beat, _ST_WINDOW).mean(axis=1),
            np.take_along_axis(t_wave, tallest, axis=1)[:, 0],
        ]
    )


def _axis_and_width(beat: np.ndarray) -> np.ndarray:
    qrs = _part(beat, _QRS_WINDOW)
    net = qrs.max(axis=1) + qrs.min(axis=1)
    # aVF is 2/sqrt(3) times as sensitive in the frontal plane as I is.
    horizontal, vertical = net[0], net[5] * 2 / math.sqrt(3)
    length = math.hypot(horizontal, vertical)
    slope = np.abs(np.diff(_part(beat, (-0.15, 0.15)), axis=1)).sum(axis=0)
    width = np.count_nonzero(slope > 0.15 * slope.max()) / _RATE if slope.max() > 0 else 0.0
    return np.array([horizontal / length, vertical / length, width] if length > 0 else [0.0, 0.0, width])


def _spectrum(signal: np.ndarray) -> np.ndarray:
    power = (np.abs(np.fft.rfft(signal, axis=1)) ** 2).sum(axis=0)
    frequencies = np.fft.rfftfreq(signal.shape[1], 1 / _RATE)
    bands = np.array(
        [
            power[(frequencies >= low) & (frequencies < high)].sum()
            for low, high in zip(_SPECTRUM, _SPECTRUM[1:], strict=False)
        ]
    )
    return np.log10(bands / bands.sum() + 1e-6) if bands.sum() > 0 else np.zeros(bands.size)


def _downsampled(beat: np.ndarray) -> np.ndarray:
    return beat[list(_BEAT_LEADS)].reshape(len(_BEAT_LEADS), _BEAT_SAMPLES, -1).mean(axis=2).ravel()
