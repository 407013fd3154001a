"""Measures an ECG: beats that several leads agree on (`neurokit2`), and rate, regularity, QRS duration and axis.

PR and QT are left to the carts: the ends of P and T need a delineation that is not robust in noise.
"""

from collections.abc import Sequence

import neurokit2
import numpy as np
from scipy.signal import butter, find_peaks, savgol_filter, sosfiltfilt
from scipy.signal.windows import gaussian

from .measurements import Measurements

_LOWEST_RATE = 80.0  # Hz; the band of a QRS complex reaches to 30 Hz
_SHORTEST = 2.0  # s
_VOTERS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")  # the others are sums of I and II
_AGREE_WITHIN = 0.1  # s. A wide QRS has its peak in one lead up to 0.1 s after that in another
_REFRACTORY = 0.25  # s
_QRS_BAND = (8.0, 30.0)  # Hz: T and P waves are slower, muscle is quicker
# A T wave follows its QRS within 0.5 s and is flatter. Pan and Tompkins 1985: a slope of less than half, within 0.36 s;
# long QT asks for more time, ventricular ectopy for a lower share.
_T_WAVE_WITHIN, _T_WAVE_SHARE = 0.5, 0.4
_NOISE_SHARE = 0.15  # of the steepest quarter of the beats: below it, no QRS
_FEWEST_BEATS = 3
_LEAST_AGREEMENT = 0.5  # of the peaks of all leads that are beats; less in each of 300 recordings of made noise
_ONSET_SHARE = 0.04  # of the steepest slope, where QRS begins and ends
_QUIET = 0.012  # s below it
_SMALLEST_AXIS_VECTOR = 0.15  # mV; the direction of a smaller one is chance


def measure(signal_mv: np.ndarray, sampling_rate: float, lead_names: Sequence[str]) -> Measurements:
    """Rate, regularity, QRS duration and axis of one recording.

    Args:
        signal_mv: shape (leads, samples), in mV; NaN where a sample is invalid.
        sampling_rate: in Hz, at least 80.
        lead_names: one per row, in any case; the axis needs I and aVF, the beats any of I, II and V1 to V6.

    Returns:
        None for what cannot be measured: no beats on which leads agree, leads that are flat or absent. PR and QT are
        always None.

    Raises:
        ValueError: another shape than the leads have names, or a sampling rate that is too low.
    """
    signal = np.asarray(signal_mv, dtype=np.float64)
    if signal.ndim != 2 or len(signal) != len(lead_names):
        raise ValueError(f"signal of shape {signal.shape} for {len(lead_names)} lead names; expected (leads, samples)")
    if not sampling_rate >= _LOWEST_RATE:
        raise ValueError(f"sampling_rate is {sampling_rate} Hz, expected at least {_LOWEST_RATE:g} Hz")
    if signal.shape[1] < _SHORTEST * sampling_rate:
        return Measurements()
    leads = _usable_leads(signal, lead_names)
    voters = [leads[name] for name in _VOTERS if name in leads]
    if not voters:
        return Measurements()
    beats = _beats(np.stack(voters), sampling_rate)
    intervals = _rr_intervals(beats, np.isfinite(signal).any(axis=0)) / sampling_rate
    if len(intervals) < _FEWEST_BEATS - 1:
        return Measurements()
    complexes = _median_beats(leads, beats, sampling_rate)
    return Measurements(
        heart_rate_bpm=float(60 / intervals.mean()),
        rr_irregularity=float(intervals.std() / intervals.mean()),
        qrs_ms=_qrs_duration(complexes, sampling_rate),
        axis_degrees=_axis(complexes, sampling_rate),
    )


def _usable_leads(signal: np.ndarray, lead_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Leads by their names in capitals, gaps bridged; without those that are flat or half invalid."""
    leads = {}
    for name, row in zip(lead_names, signal, strict=True):
        valid = np.isfinite(row)
        if valid.mean() < 0.5 or np.ptp(row[valid]) == 0:
            continue
        places = np.arange(len(row))
        leads[name.strip().upper()] = np.interp(places, places[valid], row[valid])
    return leads


def _beats(leads: np.ndarray, sampling_rate: float) -> np.ndarray:
    """Samples of the QRS complexes (int64), from leads of shape (leads, samples); empty where leads disagree."""
    padding = min(round(sampling_rate), leads.shape[1] - 1)  # or the filters' ends cost the first and last beat
    padded = np.pad(leads, ((0, 0), (padding, padding)), mode="reflect", reflect_type="odd")
    peaks = [_lead_peaks(lead, sampling_rate) for lead in padded]
    peaks = [found for found in peaks if len(found) >= _FEWEST_BEATS]
    if not peaks:
        return np.array([], dtype=np.int64)
    votes = np.zeros(padded.shape[1])
    for found in peaks:
        votes[found] += 1
    agreeing = np.convolve(votes, np.ones(2 * round(_AGREE_WITHIN * sampling_rate) + 1), "same")
    density = np.convolve(votes, gaussian(2 * round(0.2 * sampling_rate) + 1, 0.04 * sampling_rate), "same")
    candidates, _ = find_peaks(density, distance=max(1, round(_REFRACTORY * sampling_rate)))
    candidates = candidates[agreeing[candidates] >= len(peaks) / 2]
    if agreeing[candidates].sum() < _LEAST_AGREEMENT * votes.sum():
        return np.array([], dtype=np.int64)
    beats = _without_t_waves(candidates, padded, sampling_rate) - padding
    return beats[(beats >= 0) & (beats < leads.shape[1])]


def _lead_peaks(lead: np.ndarray, sampling_rate: float) -> np.ndarray:
    clean = neurokit2.ecg_clean(lead, sampling_rate=sampling_rate, method="neurokit")
    found = neurokit2.ecg_findpeaks(clean, sampling_rate=sampling_rate, method="neurokit")["ECG_R_Peaks"]
    return np.asarray(found, dtype=np.int64)


def _without_t_waves(candidates: np.ndarray, leads: np.ndarray, sampling_rate: float) -> np.ndarray:
    band = sosfiltfilt(butter(2, _QRS_BAND, "bandpass", fs=sampling_rate, output="sos"), leads, axis=1)
    steepness = np.sqrt((band**2).mean(axis=0))
    reach = round(0.08 * sampling_rate)
    moved = [
        max(0, place - reach) + int(np.argmax(steepness[max(0, place - reach) : place + reach])) for place in candidates
    ]
    places = np.unique(np.array(moved, dtype=np.int64))
    floor = _NOISE_SHARE * np.quantile(steepness[places], 0.75) if len(places) else 0.0
    beats: list[int] = []
    for place in places:
        is_t_wave = (
            beats
            and place - beats[-1] < _T_WAVE_WITHIN * sampling_rate
            and steepness[place] < _T_WAVE_SHARE * steepness[beats[-1]]
        )
        if steepness[place] >= floor and not is_t_wave:
            beats.append(int(place))
    return np.array(beats, dtype=np.int64)


def _rr_intervals(beats: np.ndarray, is_valid: np.ndarray) -> np.ndarray:
    """In samples; without those during which no lead was valid, where a beat may be missing."""
    invalid_before = np.concatenate([[0], np.cumsum(~is_valid)])[beats]
    return np.diff(beats)[np.diff(invalid_before) == 0]


def _median_beats(leads: dict[str, np.ndarray], beats: np.ndarray, sampling_rate: float) -> dict[str, np.ndarray]:
    """Each lead's median beat, 0.25 s before to 0.3 s after the QRS; empty where too few beats are whole."""
    before, after = _window(sampling_rate)
    band = butter(2, (0.7, min(100.0, 0.45 * sampling_rate)), "bandpass", fs=sampling_rate, output="sos")
    length = len(next(iter(leads.values())))
    whole = beats[(beats >= before) & (beats + after <= length)]
    if len(whole) < _FEWEST_BEATS:
        return {}
    samples = whole[:, None] + np.arange(-before, after)
    return {name: np.median(sosfiltfilt(band, lead)[samples], axis=0) for name, lead in leads.items()}


def _window(sampling_rate: float) -> tuple[int, int]:
    return round(0.25 * sampling_rate), round(0.3 * sampling_rate)


def _qrs_duration(beats: dict[str, np.ndarray], sampling_rate: float) -> float | None:
    """In ms: how long the spatial velocity, over all leads, stays above a share of its peak; None without leads."""
    voters = [beats[name] for name in _VOTERS if name in beats]
    if len(voters) < 2:
        return None
    velocity = np.sqrt((np.gradient(np.stack(voters), axis=1) ** 2).sum(axis=0))
    velocity = savgol_filter(velocity, max(5, round(0.018 * sampling_rate) // 2 * 2 + 1), 2)
    before, _ = _window(sampling_rate)
    reach, quiet = round(0.12 * sampling_rate), max(1, round(_QUIET * sampling_rate))
    peak = before - reach + int(np.argmax(velocity[before - reach : before + reach]))
    noise = np.median(np.sort(velocity)[: len(velocity) // 4])
    is_quiet = velocity < noise + _ONSET_SHARE * (velocity[peak] - noise)
    runs = np.convolve(is_quiet, np.ones(quiet), "valid") == quiet  # of `quiet` samples from each on
    onsets, ends = np.flatnonzero(runs[: peak - quiet + 1]), np.flatnonzero(runs[peak:])
    if not len(onsets) or not len(ends):
        return None
    return float(1000 * (peak + ends[0] - (onsets[-1] + quiet)) / sampling_rate)


def _axis(beats: dict[str, np.ndarray], sampling_rate: float) -> float | None:
    """From the net amplitudes of QRS (R less Q or S); aVF, an augmented lead, shows sqrt(3) / 2 of what I would."""
    if "I" not in beats or "AVF" not in beats:
        return None
    before, _ = _window(sampling_rate)
    reach = round(0.06 * sampling_rate)
    net = {}
    for name in ("I", "AVF"):
        beat = beats[name]
        baseline = np.median(beat[before - round(0.09 * sampling_rate) : before - reach])
        qrs = beat[before - reach : before + reach] - baseline
        net[name] = qrs.max() + qrs.min()
    across, down = net["I"], 2 / np.sqrt(3) * net["AVF"]
    if np.hypot(across, down) < _SMALLEST_AXIS_VECTOR:
        return None
    return float(np.degrees(np.arctan2(down, across)))
