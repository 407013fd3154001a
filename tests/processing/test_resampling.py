import sys

import numpy as np
import pytest

from processing.resampling import resample


def tone(frequency, rate, seconds=10.0):
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def amplitude(signal, frequency, rate):
    """Of one frequency, by plain correlation, away from the ends."""
    signal = signal[500:-500]
    return 2 * abs(np.mean(signal * np.exp(-2j * np.pi * frequency * np.arange(len(signal)) / rate)))


@pytest.mark.parametrize("rate", [1000, 1024, 2000, 4096, 16000])
def test_a_tone_in_the_band_comes_back(rate):
    out = resample(tone(100, rate)[None], rate, 500)[0]
    assert amplitude(out, 100, 500) == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(out[100:-100], tone(100, 500)[100 : len(out) - 100], atol=0.02)


@pytest.mark.parametrize(("frequency", "folded"), [(400, 100), (490, 10), (300, 200)])
def test_a_tone_above_the_band_does_not_fold(frequency, folded):
    out = resample(tone(frequency, 1000)[None], 1000, 500)[0]
    assert amplitude(tone(frequency, 1000)[::2], folded, 500) > 0.9  # what dropping samples would give
    assert np.abs(out[100:-100]).max() < 0.01


@pytest.mark.parametrize("rate", [100, 128, 250, 256, 257, 360, 499.5, 333.3, 499.97, 500.03, 977.123])
def test_any_rate_keeps_time(rate):
    out = resample(tone(10, rate)[None], rate, 500)[0]
    assert abs(len(out) - 5000) <= 1
    np.testing.assert_allclose(out[100:-100], tone(10, 500, 10.1)[100 : len(out) - 100], atol=0.03)


def test_offset_and_drift_do_not_ring():
    offset = 300.0  # mV: what an electrode may add
    out = resample(offset + tone(5, 250)[None], 250, 500)[0]
    np.testing.assert_allclose(out[2:-2] - offset, tone(5, 500)[2:-2], atol=0.02)
    drift = np.linspace(0, 1, 2500)
    out = resample(drift[None], 250, 500)[0]
    np.testing.assert_allclose(out[:-1], np.interp(np.arange(4999) / 2, np.arange(2500), drift), atol=1e-3)


@pytest.mark.parametrize("rate", [0.5, 9, 2e5])
def test_rates_of_no_recorder_are_refused(rate):
    with pytest.raises(ValueError, match="expected between 10 and 100000 Hz"):
        resample(np.zeros((1, 100)), rate, 500)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.signal", None)
    with pytest.raises(ImportError, match="from 250 Hz to 500 Hz needs the package scipy"):
        resample(np.zeros((1, 100)), 250, 500)
