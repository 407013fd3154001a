"""What the tests of `processing` share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb

from processing import LEADS, ECGFeatureExtractor, ECGProcessor
from tests.processing.synthetic import make_ecg, make_tokenizer


@pytest.fixture
def ecg() -> np.ndarray:
    return make_ecg()


@pytest.fixture
def extractor() -> ECGFeatureExtractor:
    return ECGFeatureExtractor()


@pytest.fixture(params=["chatml", "plain", "bos", "pad"])
def processor(request) -> ECGProcessor:
    """A processor for each kind of tokenizer: with ChatML, without, with a first token, with a padding token."""
    return ECGProcessor(ECGFeatureExtractor(), make_tokenizer(**{request.param: True}))


@pytest.fixture
def write_record(tmp_path) -> Callable[..., Path]:
    """Write a WFDB record into `tmp_path` and return its path without a suffix."""

    def write(name="record", adc=None, rate=500, lead_names=LEADS, fmt="16", gain=1000.0, baseline=0, units="mV"):
        adc = np.rint(make_ecg() * 1000).astype(np.int64) if adc is None else adc
        count = len(adc)
        wfdb.wrsamp(
            name,
            fs=rate,
            units=[units] * count,
            sig_name=list(lead_names),
            d_signal=np.ascontiguousarray(adc.T),
            fmt=[fmt] * count,
            adc_gain=[gain] * count,
            baseline=[baseline] * count,
            write_dir=str(tmp_path),
        )
        return tmp_path / name

    return write
