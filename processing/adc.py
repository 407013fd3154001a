"""ADC units (what a recorder stores) to millivolts (what the electrodes saw)."""

import numpy as np

INVALID_SAMPLE = -32768
"""The code that a 16-bit WFDB signal uses for a sample that was not measured."""


def to_millivolts(adc: np.ndarray, gain: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Convert ADC units to millivolts: `(adc - baseline) / gain`, as WFDB defines it.

    Args:
        adc: integers of shape (leads, samples). `INVALID_SAMPLE` stands for a sample that was not measured.
        gain: ADC units per mV, shape (leads,), finite and not zero.
        baseline: the ADC value of 0 mV, shape (leads,).

    Returns:
        float32 of shape (leads, samples) in mV, NaN where the sample is invalid.

    Raises:
        ValueError: the shapes do not belong together, `adc` is not of an integer type, or a gain is zero or
            not finite.
    """
    adc = np.asarray(adc)
    gain = np.asarray(gain, dtype=np.float64)
    baseline = np.asarray(baseline, dtype=np.float64)
    if adc.ndim != 2 or not np.issubdtype(adc.dtype, np.integer):
        raise ValueError(f"ADC units are {adc.dtype} of shape {adc.shape}; expected integers of shape (leads, samples)")
    if gain.shape != adc.shape[:1] or baseline.shape != adc.shape[:1]:
        raise ValueError(
            f"{adc.shape[0]} leads came with gain of shape {gain.shape} and baseline of shape "
            f"{baseline.shape}; expected ({adc.shape[0]},) for both"
        )
    if not np.all(np.isfinite(gain) & (gain != 0)) or not np.all(np.isfinite(baseline)):
        raise ValueError(f"gain {gain.tolist()} and baseline {baseline.tolist()} must be finite, and no gain may be 0")
    millivolts = (adc - baseline[:, None]) / gain[:, None]
    millivolts[adc == INVALID_SAMPLE] = np.nan
    return millivolts.astype(np.float32)
