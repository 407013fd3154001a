"""A simulated 12-lead ECG: how the heart beats, what each wave looks like in each lead, and noise.

What it is made from, and is not: the shape of a single wave is a solution of ECGSYN (McSharry et al. 2003) as
`neurokit2` integrates it. neurokit2's own 12-lead mode takes up to a second per recording, scales every lead to
the same height and ties the waves to a regular rhythm. Here its waves are instead placed beat by beat at times of
our choosing, with an amplitude in mV per lead. Limb leads follow from electrode potentials, so that
III = II - I and the augmented leads hold. Amplitudes and durations are textbook values with a spread between
subjects; the result resembles an ECG and is no model of any patient's heart.
"""

import functools
from dataclasses import dataclass

import neurokit2 as nk
import numpy as np

SAMPLING_RATE = 500  # Hz
SAMPLES = 5000  # 10 s
RHYTHMS = ("sinus", "sinus arrhythmia", "atrial fibrillation", "ventricular premature complexes")
MORPHOLOGIES = (
    "none",
    "inferior st elevation",
    "anterior st elevation",
    "lateral st depression",
    "lateral t wave inversion",
    "low voltage",
    "left bundle branch block",
    "right bundle branch block",
    "first degree av block",
)

_DURATION = SAMPLES / SAMPLING_RATE  # s
_TIME = np.arange(SAMPLES) / SAMPLING_RATE
# A wave's standard deviation as ECGSYN's defaults have it, in radians of a beat (`bi`); a beat is 1 s here.
_WIDTH = {"P": 0.25, "Q": 0.1, "R": 0.1, "S": 0.1, "T": 0.4}

# Wave amplitudes in mV in I, II, V1, V2, V3, V4, V5, V6. The other four leads follow from I and II.
_NORMAL = {
    "P": (0.08, 0.13, 0.05, 0.06, 0.06, 0.06, 0.06, 0.06),
    "Q": (-0.05, -0.06, 0.00, 0.00, 0.00, -0.03, -0.06, -0.07),
    "R": (0.60, 1.00, 0.20, 0.40, 0.80, 1.40, 1.30, 1.00),
    "S": (-0.10, -0.12, -0.90, -1.20, -0.80, -0.40, -0.20, -0.08),
    "T": (0.18, 0.28, -0.04, 0.30, 0.36, 0.38, 0.30, 0.22),
}
_LEFT_BUNDLE_BRANCH_BLOCK = {
    "R": (0.80, 0.60, 0.05, 0.05, 0.10, 0.60, 1.10, 1.20),
    "S": (-0.05, -0.20, -1.40, -1.90, -1.50, -0.60, -0.05, -0.02),
    "T": (-0.18, -0.06, 0.35, 0.50, 0.50, 0.15, -0.18, -0.26),
}
_RIGHT_BUNDLE_BRANCH_BLOCK_LATE = (-0.30, -0.22, 0.80, 0.45, 0.05, -0.15, -0.28, -0.32)
_PREMATURE_R = (-0.50, 1.30, 1.20, 1.30, 1.00, 0.60, -0.20, -0.50)
_PREMATURE_T = (0.20, -0.45, -0.40, -0.45, -0.35, -0.20, 0.08, 0.18)
_FIBRILLATION = (0.02, 0.05, 0.08, 0.05, 0.03, 0.02, 0.02, 0.02)
# mV at the height of the ST segment.
_ST = {
    "inferior st elevation": (-0.06, 0.24, -0.04, -0.06, -0.02, 0.00, 0.00, 0.00),
    "anterior st elevation": (0.02, 0.00, 0.16, 0.36, 0.40, 0.32, 0.06, 0.02),
    "lateral st depression": (-0.04, -0.04, 0.04, 0.02, -0.04, -0.20, -0.24, -0.20),
}


@dataclass(frozen=True)
class Beats:
    """When the ventricles beat.

    Attributes:
        times: R peaks in s from the start of the recording, from before its start to after its end.
        premature: which of them are ventricular premature complexes.
    """

    times: np.ndarray
    premature: np.ndarray

    def inside(self) -> np.ndarray:
        """The beats whose R peak lies in the recording, with 50 ms to spare at either end: a boolean mask."""
        return (self.times >= 0.05) & (self.times < _DURATION - 0.05)

    def rate(self) -> float:
        """Ventricular rate in beats per minute: 60 s over the mean RR interval of the beats inside."""
        return 60.0 / float(np.diff(self.times[self.inside()]).mean())


def draw_beats(rhythm: str, rate: float, rng: np.random.Generator) -> Beats:
    """Draw R peaks for a rhythm about a mean rate in beats per minute.

    Sinus rhythm varies by 2 % and with the breath; in sinus arrhythmia the breath shortens and lengthens the RR
    interval by about 15 %; in atrial fibrillation intervals are independent of each other with a spread of 20 %.
    A ventricular premature complex comes after 60 % of an interval, and the pause that follows makes up for it.
    """
    mean = 60.0 / rate
    count = int(np.ceil((_DURATION + 6.0) / (0.5 * mean)))
    if rhythm == "atrial fibrillation":
        intervals = mean * rng.gamma(25.0, 1 / 25.0, count)
        intervals = np.maximum(intervals, 0.32)  # the AV node's refractory time
    else:
        depth = rng.uniform(0.13, 0.18) if rhythm == "sinus arrhythmia" else rng.uniform(0.0, 0.02)
        breath = 2 * np.pi * rng.uniform(0.15, 0.3) * mean * np.arange(count) + rng.uniform(0, 2 * np.pi)
        intervals = mean * (1 + depth * np.sin(breath) + 0.01 * rng.standard_normal(count))
    times = -rng.uniform(2.0, 2.0 + mean) + np.cumsum(intervals)
    premature = np.zeros(count, dtype=bool)
    if rhythm == "ventricular premature complexes":
        inner = np.flatnonzero((times > 1.5) & (times < _DURATION - 1.5))
        first = rng.integers(0, 3)
        chosen = inner[first :: rng.integers(4, 8)][:3]
        premature[chosen] = True
        times[chosen] -= 0.4 * mean
    return Beats(times, premature)


def simulate(beats: Beats, rhythm: str, morphology: str, rng: np.random.Generator) -> np.ndarray:
    """Simulate 10 s at 500 Hz.

    Args:
        beats: when the ventricles beat.
        rhythm: one of `RHYTHMS`; in atrial fibrillation there is no P wave and the baseline fibrillates.
        morphology: one of `MORPHOLOGIES`.
        rng: draws the subject's wave amplitudes and the noise.

    Returns:
        float64 (12, 5000) in mV, leads in the order of `processing.leads.LEADS`.
    """
    normal = ~beats.premature
    mean_rr = float(np.diff(beats.times).mean())
    qt = 0.39 * np.cbrt(mean_rr)  # s, Fridericia
    pr = rng.uniform(0.24, 0.30) if morphology == "first degree av block" else rng.uniform(0.13, 0.17)
    amplitude = {wave: np.array(values) for wave, values in _NORMAL.items()}
    stretch, s_delay = 1.0, 0.028  # width of the QRS complex as a multiple; R peak to S peak in s
    if morphology == "left bundle branch block":
        amplitude |= {wave: np.array(values) for wave, values in _LEFT_BUNDLE_BRANCH_BLOCK.items()}
        amplitude["Q"] = np.zeros(8)
        stretch, s_delay = 2.4, 0.014
    elif morphology == "lateral t wave inversion":
        amplitude["T"] = amplitude["T"] * (-0.6, 0.6, 1.0, 1.0, 0.7, -0.6, -0.9, -0.9)
    elif morphology == "right bundle branch block":
        amplitude["T"] = amplitude["T"] * (1.0, 1.0, 4.0, -0.6, 0.8, 1.0, 1.0, 1.0)
    for wave in amplitude:
        amplitude[wave] = amplitude[wave] * rng.lognormal(0.0, 0.12) * rng.lognormal(0.0, 0.06, 8)
    if morphology == "low voltage":
        largest = np.abs(amplitude["R"][:2] - amplitude["S"][:2]).max()
        for wave in ("Q", "R", "S"):
            amplitude[wave][:2] *= 0.36 / largest  # mV: every limb lead stays below 0.5 mV

    t_peak = qt - 0.04 - 0.09 * np.cbrt(mean_rr)
    # name of the wave's shape, times of its peaks, its width as a multiple of ECGSYN's, mV per lead
    waves = [
        ("Q", beats.times[normal] - 0.030 * stretch, stretch, amplitude["Q"]),
        ("R", beats.times[normal], stretch, amplitude["R"]),
        ("S", beats.times[normal] + s_delay, stretch, amplitude["S"]),
        ("T", beats.times[normal] + t_peak, np.cbrt(mean_rr), amplitude["T"]),
    ]
    if rhythm != "atrial fibrillation":
        waves.append(("P", _p_peaks(beats, pr), 0.7, amplitude["P"]))
    if morphology in _ST:
        st = np.array(_ST[morphology]) * rng.uniform(0.9, 1.3)
        waves.append(("T", beats.times[normal] + 0.5 * (0.06 + t_peak), 0.9 * np.cbrt(mean_rr), st))
    if morphology == "right bundle branch block":
        late = np.array(_RIGHT_BUNDLE_BRANCH_BLOCK_LATE) * rng.lognormal(0.0, 0.1)
        waves.append(("S", beats.times[normal] + 0.065, 1.5, late))
    if beats.premature.any():
        waves.append(("R", beats.times[beats.premature], 2.6, np.array(_PREMATURE_R) * rng.lognormal(0.0, 0.1)))
        waves.append(("T", beats.times[beats.premature] + t_peak + 0.04, 1.1, np.array(_PREMATURE_T)))

    independent = sum(np.outer(leads, _train(shape, peaks, width)) for shape, peaks, width, leads in waves)
    if rhythm == "atrial fibrillation":
        independent = independent + np.outer(_FIBRILLATION, _fibrillation(rng))
    return _twelve_leads(*independent) + _twelve_leads(*_noise(rng))


def _p_peaks(beats: Beats, pr: float) -> np.ndarray:
    """P waves before the beats that the atria started; a ventricular premature complex has none."""
    onset_to_peak, qrs_onset = 0.05, 0.04  # s: the P wave's first half; from QRS onset to the R peak
    return beats.times[~beats.premature] - qrs_onset - pr + onset_to_peak


@functools.cache
def _shape(wave: str) -> np.ndarray:
    """One wave of ECGSYN with a peak of 1, sampled at 500 Hz over 1 s with its peak in the middle."""
    strength = np.zeros(5)
    strength[list(_WIDTH).index(wave)] = 30.0
    signal = nk.ecg_simulate(
        duration=6,
        sampling_rate=SAMPLING_RATE,
        noise=0,
        heart_rate=60,
        heart_rate_std=0,
        method="ecgsyn",
        random_state=0,
        ti=np.zeros(5),  # every wave where R would be, so that each is seen alone and in the same place
        ai=strength,
        bi=np.array(list(_WIDTH.values())),
    )
    half = SAMPLING_RATE // 2
    peak = 3 * SAMPLING_RATE - half + int(np.argmax(signal[3 * SAMPLING_RATE - half : 3 * SAMPLING_RATE + half]))
    one = signal[peak - half : peak + half + 1]
    one = one - np.linspace(one[0], one[-1], one.size)
    return one / one.max()


def _train(wave: str, peaks: np.ndarray, width: float) -> np.ndarray:
    """The wave at each of its peak times (s), `width` times as wide as ECGSYN's: (5000,), peaks of 1."""
    shape = _shape(wave)
    shape_time = (np.arange(shape.size) - shape.size // 2) / SAMPLING_RATE
    train = np.zeros(SAMPLES)
    for peak in peaks:
        first = max(0, int((peak - 0.5 * width) * SAMPLING_RATE))
        last = min(SAMPLES, int((peak + 0.5 * width) * SAMPLING_RATE) + 1)
        if first < last:
            train[first:last] += np.interp((_TIME[first:last] - peak) / width, shape_time, shape, 0.0, 0.0)
    return train


def _fibrillation(rng: np.random.Generator) -> np.ndarray:
    """Atrial fibrillation's waves: three tones of 4 to 7 Hz that wax and wane, about 1 high."""
    tones = [
        (1 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.1, 0.5) * _TIME + rng.uniform(0, 6)))
        * np.sin(2 * np.pi * rng.uniform(4.0, 7.0) * _TIME + rng.uniform(0, 6))
        for _ in range(3)
    ]
    return sum(tones) / 2


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Noise in I, II, V1-V6, in mV, from independent noise at each of the nine electrodes.

    Baseline wander, the mains' hum and muscle noise (white); the right leg is the ground.
    """
    electrodes = rng.uniform(0.002, 0.010) * rng.standard_normal((9, SAMPLES))
    breath = rng.uniform(0.15, 0.4)
    phase = rng.uniform(0, 2 * np.pi, (9, 1))
    electrodes += rng.uniform(0.0, 0.08, (9, 1)) * np.sin(2 * np.pi * breath * _TIME + phase)
    electrodes += rng.uniform(0.0, 0.006, (9, 1)) * np.sin(2 * np.pi * 50 * _TIME + phase)
    right_arm, left_arm, left_leg = electrodes[:3]
    wilson = (right_arm + left_arm + left_leg) / 3
    return np.vstack([left_arm - right_arm, left_leg - right_arm, electrodes[3:] - wilson])


def _twelve_leads(i: np.ndarray, ii: np.ndarray, *chest: np.ndarray) -> np.ndarray:
    """I, II and V1-V6 -> all twelve, by Einthoven's and Goldberger's definitions."""
    return np.vstack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2, *chest])
