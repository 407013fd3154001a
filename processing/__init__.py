"""One ECG or a batch of them to tensors: reading, leads, resampling, scaling, tokenizer, chat template."""

from .adc import INVALID_SAMPLE, to_millivolts
from .data_collator_meit import ECGDataCollator, row_recording
from .feature_extraction_meit import ECGFeatureExtractor
from .leads import LEADS, canonical_lead
from .processing_meit import ECGProcessor
from .reading import read_ecg
from .recording import DigitalRecording, ECGReadError, Recording
from .wfdb_reading import read_wfdb

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
