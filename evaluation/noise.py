"""What happens to ECGs on the ward: noise at a stated signal-to-noise ratio, lost leads, exchanged electrodes.

Noise arises at the electrodes, so it is drawn there, independently for each of the nine, and carried into the leads by
their definition. Noisy leads then obey Einthoven's and Goldberger's relations as far as the clean ones did. Only
`WHITE_WINDOW`, which repeats the paper's noise, is added to the leads themselves.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfftfreq
from scipy.signal.windows import hann

WHITE_WINDOW = "white_window"
BASELINE_WANDER = "baseline wander"
MUSCLE = "muscle"
MAINS_50_HZ = "mains 50 Hz"
MAINS_60_HZ = "mains 60 Hz"
ELECTRODE_MOTION = "electrode motion"
LEAD_DROPOUT = "lead dropout"
LIMB_LEAD_SWAP = "limb-lead swap"

# Leads I, II, III, aVR, aVL, aVF, V1-V6 from the potentials of the electrodes RA, LA, LL, V1-V6. Each chest lead is
# measured against Wilson's central terminal, the mean of the limb electrodes.
_LIMBS = [[-1, 1, 0], [-1, 0, 1], [0, -1, 1], [1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1]]
LEADS_FROM_ELECTRODES = np.block([[np.array(_LIMBS), np.zeros((6, 6))], [np.full((6, 3), -1 / 3), np.eye(6)]])
_LEADS, _ELECTRODES = LEADS_FROM_ELECTRODES.shape

_PAPER_MAX_SD = 0.1  # of the recording's range
_WANDER_HZ = (0.05, 0.5)
_MUSCLE_HZ = (20.0, 150.0)
_MOTION_HZ = (1.0, 10.0)
_MOTION_SECONDS = (0.5, 1.5)
_MOTION_PER_SECOND = 0.3
_HARMONICS = (1.0, 0.1, 0.2)  # amplitude of the mains frequency, of twice and of three times it
_USABLE = 0.45  # of the sampling rate: no noise above it
# Hz that a sampling rate has to let through, or nothing is left of the noise.
_NEEDED_HZ = {MUSCLE: _MUSCLE_HZ[0], MAINS_50_HZ: 50.0, MAINS_60_HZ: 60.0, ELECTRODE_MOTION: _MOTION_HZ[1]}
# Long enough that the noise does not repeat itself and that the slowest band holds many frequencies.
_SHORTEST_PERIOD = 60.0  # seconds


@dataclass(frozen=True)
class Perturbation:
    """One way to spoil an ECG.

    Attributes:
        kind: one of `KINDS`.
        level: of `WHITE_WINDOW`, the longest window as a share of the recording, above 0 and at most 1; of
            `LEAD_DROPOUT`, the number of flat leads, 1 to 12; of `LIMB_LEAD_SWAP`, None; of any other kind, the
            signal-to-noise ratio in dB.

    Raises:
        ValueError: an unknown kind, or a level that this kind does not have.
    """

    kind: str
    level: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of noise {self.kind!r}; known are {', '.join(KINDS)}")
        is_number = isinstance(self.level, int | float) and math.isfinite(self.level)
        if self.kind == LIMB_LEAD_SWAP:
            expected, is_right = "None", self.level is None
        elif self.kind == WHITE_WINDOW:
            expected, is_right = "a share above 0 and at most 1", is_number and 0 < self.level <= 1
        elif self.kind == LEAD_DROPOUT:
            expected, is_right = "a number of leads from 1 to 12", is_number and self.level in range(1, _LEADS + 1)
        else:
            expected, is_right = "a signal-to-noise ratio in dB", is_number
        if not is_right:
            raise ValueError(f"{self.kind}: level {self.level!r}, expected {expected}")

    @property
    def level_text(self) -> str:
        """The level with its unit: "0.05", "6 dB", "3 leads", or nothing."""
        if self.kind == LIMB_LEAD_SWAP:
            return ""
        if self.kind == WHITE_WINDOW:
            return f"{self.level:g}"
        if self.kind == LEAD_DROPOUT:
            return f"{self.level:g} lead{'s' if self.level > 1 else ''}"
        return f"{self.level:g} dB"

    @property
    def name(self) -> str:
        """Kind and level, for tables."""
        return f"{self.kind} {self.level_text}".strip()


def perturb(
    signal_mv: np.ndarray, sampling_rate: float, perturbation: Perturbation, key: str, seed: int = 0
) -> np.ndarray:
    """Spoil one ECG.

    The draws depend on `key`, `seed` and the kind, not on the level: along a curve of levels the same noise grows, and
    the flat leads of a low level are flat at a higher one too.

    The signal-to-noise ratio in dB is 10 log10(P_ecg / P_noise). P is the mean square over the finite samples of all
    leads, each lead about its own mean. It is one figure per recording: a ratio per lead would scale the leads apart
    and so break the relations between them. A recording without power (flat) gets no noise.

    - `WHITE_WINDOW`: the paper's, as its published code computes it, but seeded. With n samples and level p, white
      Gaussian noise on int(U(0, p) n) samples from a random start, of standard deviation U(0, 0.1) times the range of
      the recording (the code works on an ECG scaled to 0..1), the same values on every lead. Where the noise reaches
      beyond that range, a model that scales by the range afterwards sees the ECG a little smaller than theirs did.
    - `BASELINE_WANDER`: Gaussian, 0.05 to 0.5 Hz, as from breathing and sweating.
    - `MUSCLE`: Gaussian, 20 to 150 Hz (or 0.45 times the sampling rate).
    - `MAINS_50_HZ`, `MAINS_60_HZ`: a sine with 0.1 and 0.2 times its amplitude at twice and three times the frequency;
      each electrode has its own amplitude and phase.
    - `ELECTRODE_MOTION`: bursts of 0.5 to 1.5 s, Gaussian, 1 to 10 Hz, three in 10 s, each at one electrode.
    - `LEAD_DROPOUT`: that many leads are 0 mV throughout.
    - `LIMB_LEAD_SWAP`: the electrodes of the right and the left arm are exchanged: I is inverted, II and III change
      places, and so do aVR and aVL.

    Args:
        signal_mv: shape (12, samples) in mV, in the order I, II, III, aVR, aVL, aVF, V1-V6; at least one second.
        sampling_rate: in Hz.
        perturbation: what to do.
        key: names the recording, so that each has noise of its own.
        seed: of the draws.
    Returns:
        float64 of the same shape. A sample that is NaN stays NaN, and moves with its lead in a swap.
    Raises:
        ValueError: another shape, less than a second, an infinite sample, or a sampling rate too low for the kind.
    """
    signal = np.array(signal_mv, dtype=np.float64)
    if not (np.isfinite(sampling_rate) and sampling_rate > 0):
        raise ValueError(f"{key}: sampling rate {sampling_rate}, expected a positive number of Hz")
    if signal.ndim != 2 or signal.shape[0] != _LEADS or signal.shape[1] < sampling_rate:
        raise ValueError(f"{key}: signal of shape {signal.shape}, expected (12, samples) of at least one second, in mV")
    if np.isinf(signal).any():
        raise ValueError(f"{key}: infinite samples, expected numbers in mV or NaN")
    needed = _NEEDED_HZ.get(perturbation.kind, 0.0) / _USABLE
    if sampling_rate <= needed:
        raise ValueError(
            f"{key}: sampling rate {sampling_rate:g} Hz; {perturbation.kind} needs more than {needed:.0f} Hz"
        )
    digest = hashlib.sha256(f"{seed}\0{perturbation.kind}\0{key}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest))

    if perturbation.kind == LIMB_LEAD_SWAP:
        one, two, three, avr, avl = signal[:5]
        signal[:5] = np.stack([-one, three, two, avl, avr])
    elif perturbation.kind == LEAD_DROPOUT:
        flat = rng.permutation(_LEADS)[: int(perturbation.level)]
        signal[flat] = np.where(np.isnan(signal[flat]), np.nan, 0.0)
    elif perturbation.kind == WHITE_WINDOW:
        _add_white_window(signal, perturbation.level, rng)
    elif (power := _power(signal, np.isfinite(signal))) > 0:
        finite = np.isfinite(signal)
        noise = LEADS_FROM_ELECTRODES @ _ELECTRODE_NOISE[perturbation.kind](rng, finite, sampling_rate)
        signal += noise * math.sqrt(power / 10 ** (perturbation.level / 10) / _power(noise, finite))
    return signal


def _power(signal: np.ndarray, finite: np.ndarray) -> float:
    """Mean square over the samples that are marked `finite`, each lead about its own mean; 0 where none is."""
    counts = finite.sum(axis=1, keepdims=True)
    if not counts.any():
        return 0.0
    held = np.where(finite, signal, 0.0)
    deviations = np.where(finite, held - held.sum(axis=1, keepdims=True) / np.maximum(counts, 1), 0.0)
    return float((deviations**2).sum() / counts.sum())


def _add_white_window(signal: np.ndarray, longest: float, rng: np.random.Generator) -> None:
    samples = signal.shape[1]
    length = int(rng.uniform(0, longest) * samples)
    start = rng.integers(samples - length)
    deviation = rng.uniform(0, _PAPER_MAX_SD)
    if np.isfinite(signal).any():
        extent = np.nanmax(signal) - np.nanmin(signal)
        signal[:, start : start + length] += rng.normal(0, deviation * extent, size=length)


def _band_noise(
    rng: np.random.Generator, rows: int, samples: int, sampling_rate: float, low: float, high: float
) -> np.ndarray:
    """Gaussian noise of shape (rows, samples) with a flat spectrum from `low` to `high` Hz and none elsewhere."""
    period = next_fast_len(max(2 * samples, math.ceil(_SHORTEST_PERIOD * sampling_rate)), real=True)
    frequencies = rfftfreq(period, 1 / sampling_rate)
    inside = (frequencies >= low) & (frequencies <= high)
    spectrum = np.zeros((rows, frequencies.size), dtype=np.complex128)
    spectrum[:, inside] = rng.normal(size=(rows, inside.sum(), 2)) @ (1, 1j)
    return irfft(spectrum, period)[:, :samples]


def _baseline_wander(rng: np.random.Generator, finite: np.ndarray, sampling_rate: float) -> np.ndarray:
    return _band_noise(rng, _ELECTRODES, finite.shape[1], sampling_rate, *_WANDER_HZ)


def _muscle(rng: np.random.Generator, finite: np.ndarray, sampling_rate: float) -> np.ndarray:
    low, high = _MUSCLE_HZ
    high = min(high, _USABLE * sampling_rate)
    return _band_noise(rng, _ELECTRODES, finite.shape[1], sampling_rate, low, high)


def _mains(frequency: float) -> Callable[[np.random.Generator, np.ndarray, float], np.ndarray]:
    def noise(rng: np.random.Generator, finite: np.ndarray, sampling_rate: float) -> np.ndarray:
        seconds = np.arange(finite.shape[1]) / sampling_rate
        total = np.zeros((_ELECTRODES, seconds.size))
        size = rng.uniform(0.5, 1.5, size=(_ELECTRODES, 1))
        for order, amplitude in enumerate(_HARMONICS, start=1):
            phase = rng.uniform(0, 2 * np.pi, size=(_ELECTRODES, 1))
            if order * frequency < _USABLE * sampling_rate:
                total += amplitude * size * np.sin(2 * np.pi * order * frequency * seconds + phase)
        return total

    return noise


def _electrode_motion(rng: np.random.Generator, finite: np.ndarray, sampling_rate: float) -> np.ndarray:
    samples = finite.shape[1]
    carrier = _band_noise(rng, _ELECTRODES, samples, sampling_rate, *_MOTION_HZ)
    # A burst where nothing was measured would leave no noise to scale.
    measured = (LEADS_FROM_ELECTRODES != 0).T.astype(int) @ finite.astype(int) > 0
    envelope = np.zeros((_ELECTRODES, samples))
    for _ in range(max(1, round(_MOTION_PER_SECOND * samples / sampling_rate))):
        electrode = rng.choice(np.flatnonzero(measured.any(axis=1)))
        centre = rng.choice(np.flatnonzero(measured[electrode]))
        burst = hann(round(rng.uniform(*_MOTION_SECONDS) * sampling_rate), sym=False)
        start = centre - burst.size // 2
        first, last = max(0, start), min(samples, start + burst.size)
        envelope[electrode, first:last] += burst[first - start : last - start]
    return carrier * envelope


_ELECTRODE_NOISE = {
    BASELINE_WANDER: _baseline_wander,
    MUSCLE: _muscle,
    MAINS_50_HZ: _mains(50.0),
    MAINS_60_HZ: _mains(60.0),
    ELECTRODE_MOTION: _electrode_motion,
}
KINDS = (WHITE_WINDOW, *_ELECTRODE_NOISE, LEAD_DROPOUT, LIMB_LEAD_SWAP)

# The benchmark's: the paper's levels, and each other kind from mild to severe.
PERTURBATIONS: tuple[Perturbation, ...] = (
    *(Perturbation(WHITE_WINDOW, share) for share in (0.05, 0.10, 0.15, 0.20)),
    *(
        Perturbation(kind, decibels)
        for kind in (BASELINE_WANDER, MUSCLE, MAINS_50_HZ, ELECTRODE_MOTION)
        for decibels in (12, 6, 0)
    ),
    *(Perturbation(LEAD_DROPOUT, leads) for leads in (1, 3, 6)),
    Perturbation(LIMB_LEAD_SWAP),
)
