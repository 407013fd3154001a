"""One ECG in memory: in millivolts, or in the ADC units of its file; and the error of a file that is none."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from .adc import to_millivolts


class ECGReadError(ValueError):
    """A file is not an ECG recording that can be read; the message names the file and the cause."""


def short(content: object, characters: int = 60) -> str:
    """The beginning of what a file says, for a message that quotes it."""
    text = str(content)
    return text if len(text) <= characters else f"{text[:characters]}..."


@dataclass(frozen=True)
class Recording:
    """One ECG in millivolts.

    Attributes:
        signal: float32 of shape (leads, samples) in mV; NaN marks a sample that was not measured.
        sampling_rate: samples per second (Hz).
        lead_names: one name per row of `signal`, spelled as in the file.
        source: where it came from, for messages.
        start_time: when the recording began, where the file says so.
    """

    signal: np.ndarray
    sampling_rate: float
    lead_names: tuple[str, ...]
    source: str
    start_time: datetime | None = None


@dataclass(frozen=True)
class DigitalRecording:
    """One ECG in the ADC units of its file, without any loss.

    Attributes:
        adc: int16 of shape (leads, samples); `INVALID_SAMPLE` marks a sample that was not measured.
        gain: ADC units per mV, float64 of shape (leads,).
        baseline: the ADC value of 0 mV, int64 of shape (leads,).
        sampling_rate: samples per second (Hz).
        lead_names: one name per row of `adc`, spelled as in the file.
        source: where it came from, for messages.
        start_time: when the recording began, where the file says so.
    """

    adc: np.ndarray
    gain: np.ndarray
    baseline: np.ndarray
    sampling_rate: float
    lead_names: tuple[str, ...]
    source: str
    start_time: datetime | None = None

    def to_recording(self) -> Recording:
        """Return the same recording in mV."""
        return Recording(
            signal=to_millivolts(self.adc, self.gain, self.baseline),
            sampling_rate=self.sampling_rate,
            lead_names=self.lead_names,
            source=self.source,
            start_time=self.start_time,
        )
