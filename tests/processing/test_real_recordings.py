"""The reader and the feature extractor on the corpora themselves (see MEIT_DATA)."""

import numpy as np
import pytest

from processing import LEADS, ECGFeatureExtractor, read_ecg, read_wfdb
from processing.leads import place_leads
from processing.resampling import resample


def records(folder, pattern, step):
    return [header.with_suffix("") for header in sorted(folder.glob(pattern))[::step]]


def assert_goldberger(signal, tolerance):
    """After placement, the augmented leads follow from the limb leads."""
    one, two, three, avr, avl, avf = signal[:6]
    for found, expected in ((avr, -(one + two) / 2), (avl, (one - three) / 2), (avf, (two + three) / 2)):
        assert np.median(np.abs(found - expected)) < tolerance


@pytest.mark.parametrize("step", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_ptb_xl(ptb_xl, extractor, step):
    for record in records(ptb_xl, "records500/*/*.hea", step):
        assert_goldberger(place_leads(*_signal_and_names(record)), 0.002)
        values = extractor(record)["ecg_values"]
        assert values.shape == (1, 12, 5000)
        assert values.min() == 0
        assert values.max() == 1


@pytest.mark.parametrize("step", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_mimic_iv_ecg_is_placed_by_name(mimic_iv_ecg, extractor, step):
    for record in records(mimic_iv_ecg, "files/*/*/*/*.hea", step):
        assert read_wfdb(record).lead_names == (*LEADS[:4], "aVF", "aVL", *LEADS[6:])
        signal = place_leads(*_signal_and_names(record))
        assert_goldberger(signal, 0.03)
        values = extractor(record)["ecg_values"][0]
        np.testing.assert_allclose(values, (signal - signal.min()) / (signal.max() - signal.min()), atol=1e-6)


def test_a_100_hz_recording_resampled_is_its_500_hz_twin(ptb_xl):
    alike = []
    for record in records(ptb_xl, "records100/*/*.hea", 5):
        twin = ptb_xl / "records500" / record.parent.name / record.name.replace("_lr", "_hr")
        slow, fast = place_leads(*_signal_and_names(record)), place_leads(*_signal_and_names(twin))
        resampled = resample(slow, 100, 500)
        assert resampled.shape == fast.shape
        alike += [np.corrcoef(resampled[lead], fast[lead])[0, 1] for lead in range(12)]
    assert np.mean(np.array(alike) > 0.95) > 0.9


def test_a_10_second_recording_at_100_hz_fills_the_window(ptb_xl):
    record = records(ptb_xl, "records100/*/*.hea", 1)[0]
    values = ECGFeatureExtractor()(record)["ecg_values"][0]
    assert values.shape == (12, 5000)
    assert np.ptp(values[:, -50:]) > 0


def _signal_and_names(record):
    recording = read_ecg(record)
    return recording.signal, recording.lead_names
