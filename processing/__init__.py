"""One ECG or a batch of them to tensors: reading, leads, resampling, scaling, tokenizer, chat template.

Names are looked up when they are first used: building a dataset reads recordings and needs no torch, whose import
takes longer than reading a thousand of them.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .adc import INVALID_SAMPLE, to_millivolts
    from .data_collator_meit import ECGDataCollator, row_recording
    from .feature_extraction_meit import ECGFeatureExtractor
    from .leads import LEADS, canonical_lead
    from .processing_meit import ECGProcessor
    from .reading import read_ecg
    from .recording import DigitalRecording, ECGReadError, Recording
    from .wfdb_reading import read_wfdb

_MODULE_OF = {
    "INVALID_SAMPLE": "adc",
    "LEADS": "leads",
    "DigitalRecording": "recording",
    "ECGDataCollator": "data_collator_meit",
    "ECGFeatureExtractor": "feature_extraction_meit",
    "ECGProcessor": "processing_meit",
    "ECGReadError": "recording",
    "Recording": "recording",
    "canonical_lead": "leads",
    "read_ecg": "reading",
    "read_wfdb": "wfdb_reading",
    "row_recording": "data_collator_meit",
    "to_millivolts": "adc",
}

__all__ = [
    "INVALID_SAMPLE",
    "LEADS",
    "DigitalRecording",
    "ECGDataCollator",
    "ECGFeatureExtractor",
    "ECGProcessor",
    "ECGReadError",
    "Recording",
    "canonical_lead",
    "read_ecg",
    "read_wfdb",
    "row_recording",
    "to_millivolts",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
