"""From one sampling rate to another with a library's polyphase resampler, without aliasing."""

import importlib
from fractions import Fraction

import numpy as np

# What an ECG recorder may use; and the largest term of the ratio of two rates, which the length of the
# polyphase filter grows with.
_LOWEST_RATE, _HIGHEST_RATE = 10.0, 100_000.0
_LARGEST_TERM = 20_000


def resample(signal: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """Resample along the last axis with a zero-phase low-pass at the lower of the two Nyquist frequencies.

    Two rates in no ratio of small whole numbers are taken for the nearest that are: the rate is then off by
    less than one in 20,000, a quarter of a 500 Hz sample at the end of ten seconds.

    Args:
        signal: finite values of shape (leads, samples).
        from_rate: the rate of `signal` in Hz, between 10 and 100,000.
        to_rate: the wanted rate in Hz.

    Returns:
        float64 of shape (leads, ceil(samples * to_rate / from_rate)).

    Raises:
        ValueError: the rate is outside of what ECG recorders use.
        ImportError: the package scipy, which resamples, is not installed.
    """
    if not _LOWEST_RATE <= from_rate <= _HIGHEST_RATE:
        raise ValueError(f"sampling rate {from_rate:g} Hz; expected between {_LOWEST_RATE:g} and {_HIGHEST_RATE:g} Hz")
    try:
        # By name: the import scan of remote code must not demand a package that 500 Hz does without.
        resample_poly = importlib.import_module("scipy.signal").resample_poly
    except ImportError as error:
        raise ImportError(
            f"resampling from {from_rate:g} Hz to {to_rate:g} Hz needs the package scipy (pip install scipy)"
        ) from error
    larger, smaller = max(from_rate, to_rate), min(from_rate, to_rate)
    ratio = Fraction(larger / smaller).limit_denominator(int(_LARGEST_TERM * smaller / larger))
    up, down = ratio.as_integer_ratio() if to_rate > from_rate else (1 / ratio).as_integer_ratio()
    # Without its offset, which an electrode can make far larger than the ECG, a lead has nothing that the filter's
    # stop band must hold back; beyond its ends it goes on along the line between them, so that drift does not ring.
    offset = signal.mean(axis=-1, keepdims=True)
    return resample_poly(signal - offset, up, down, axis=-1, padtype="line") + offset
