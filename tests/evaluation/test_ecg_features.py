"""The features against what was put into an ECG, and against the rate that ECG machines measured."""

import csv
import time

import numpy as np
import pytest

from evaluation.ecg_features import FEATURE_NAMES, FEATURE_WEIGHTS, LEADS, ecg_features
from processing.leads import place_leads
from processing.reading import read_ecg

RATE = 500.0
R_WAVES = (0.8, 1.2, 0.4, -1.0, 0.2, 0.8, -0.6, -0.9, 0.5, 1.4, 1.3, 1.0)  # mV in the order of LEADS


def plain_ecg(beats, seconds=10.0, rate=RATE, r_waves=R_WAVES):
    """Gaussian P, R and T waves about the given times in seconds."""
    times = np.arange(round(seconds * rate)) / rate
    signal = np.zeros((12, times.size))
    for lead, height in enumerate(r_waves):
        for beat in beats:
            for size, centre, width in ((0.15, -0.16, 0.03), (height, 0.0, 0.012), (0.3, 0.28, 0.05)):
                signal[lead] += size * np.exp(-((times - beat - centre) ** 2) / (2 * width**2))
    return signal


def named(signal, rate=RATE):
    return dict(zip(FEATURE_NAMES, ecg_features(signal, rate), strict=True))


def read(path):
    recording = read_ecg(path)
    return place_leads(recording.signal, recording.lead_names), recording.sampling_rate


@pytest.mark.parametrize("per_minute", [32, 48, 75, 110, 170])
@pytest.mark.parametrize("rate", [100.0, 257.0, 500.0, 1000.0])
def test_the_rate_is_that_of_the_beats(per_minute, rate):
    signal = plain_ecg(np.arange(0.3, 10, 60 / per_minute), rate=rate)
    assert named(signal, rate)["heart rate"] == pytest.approx(per_minute, rel=0.02)


def test_irregular_beats_show_as_deviation_and_a_steady_rhythm_as_none():
    steady = named(plain_ecg(np.arange(0.4, 10, 0.8)))
    intervals = np.random.default_rng(0).uniform(0.5, 1.1, size=11)
    irregular = named(plain_ecg(0.3 + np.cumsum(intervals)))
    assert steady["RR deviation"] < 0.01
    assert irregular["RR deviation"] == pytest.approx(intervals[1:].std() / np.median(intervals[1:]), rel=0.1)
    assert irregular["RR range"] > 0.5


def test_amplitudes_are_those_of_the_waves():
    features = named(plain_ecg(np.arange(0.4, 10, 0.9)))
    for lead, height in zip(LEADS, R_WAVES, strict=True):
        wave = "R" if height > 0 else "S"
        # A 12 ms wave loses height between 0.5 and 40 Hz.
        assert features[f"{wave} {lead}"] == pytest.approx(height, rel=0.3)
        assert features[f"T {lead}"] == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize("degrees", [-60, 0, 45, 90, 150])
def test_the_axis_is_that_of_the_heart(degrees):
    # Lead k at angle a_k sees cos(axis - a_k); augmented leads see sqrt(3)/2 of it.
    angles = np.radians([0, 60, 120, -150, -30, 90])
    gains = np.array([1, 1, 1, *[np.sqrt(3) / 2] * 3])
    limb = gains * np.cos(np.radians(degrees) - angles)
    features = named(plain_ecg(np.arange(0.4, 10, 0.9), r_waves=(*limb, *R_WAVES[6:])))
    found = np.degrees(np.arctan2(features["QRS axis sine"], features["QRS axis cosine"]))
    assert found == pytest.approx(degrees, abs=12)


def test_voltage_offset_and_slow_wander_change_next_to_nothing():
    signal = plain_ecg(np.arange(0.4, 10, 0.9))
    wander = 0.4 * np.sin(2 * np.pi * 0.1 * np.arange(5000) / RATE)
    plain, moved = named(signal), named(signal + 2.0 + wander)
    assert moved["heart rate"] == pytest.approx(plain["heart rate"], rel=0.01)
    assert all(moved[f"{wave} V5"] == pytest.approx(plain[f"{wave} V5"], abs=0.06) for wave in ("R", "S", "ST", "T"))


def test_gaps_are_bridged_and_a_lost_lead_is_flat():
    signal = plain_ecg(np.arange(0.4, 10, 0.9))
    gaps = signal.copy()
    gaps[3] = np.nan
    gaps[:, 1000:1030] = np.nan
    features = named(gaps)
    assert features["heart rate"] == pytest.approx(60 / 0.9, rel=0.02)
    assert features["R aVR"] == features["S aVR"] == 0
    assert features["R V5"] == pytest.approx(named(signal)["R V5"], abs=0.02)


@pytest.mark.parametrize("value", [0.0, 0.7, np.nan])
@pytest.mark.parametrize("samples", [500, 5000])
def test_a_flat_recording_has_features_of_zero(value, samples):
    assert np.array_equal(ecg_features(np.full((12, samples), value), RATE), np.zeros(len(FEATURE_NAMES)))


def test_noise_alone_and_a_single_beat_give_finite_numbers():
    noise = np.random.default_rng(0).normal(size=(12, 5000))
    for signal in (noise, plain_ecg([0.5], seconds=1.0), plain_ecg([0.1, 9.95])):
        assert np.isfinite(ecg_features(signal, RATE)).all()


def test_every_feature_has_a_name_and_a_weight():
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES) == len(FEATURE_WEIGHTS)
    assert ecg_features(np.zeros((12, 500)), RATE).shape == (len(FEATURE_NAMES),)


@pytest.mark.parametrize(
    ("signal", "rate", "message"),
    [
        (np.zeros((3, 5000)), RATE, r"signal of shape \(3, 5000\)"),
        (np.zeros((12, 100)), RATE, "at least one second"),
        (np.zeros((12, 5000)), float("nan"), "sampling rate nan"),
        (np.full((12, 5000), -np.inf), RATE, "infinite samples"),
    ],
)
def test_signals_that_are_no_ecg_are_refused(signal, rate, message):
    with pytest.raises(ValueError, match=message):
        ecg_features(signal, rate)


def test_the_rate_of_real_recordings_is_that_of_the_machine(mimic_iv_ecg):
    with (mimic_iv_ecg / "machine_measurements.csv").open(encoding="utf-8") as file:
        intervals = {row["study_id"]: float(row["rr_interval"] or "nan") for row in csv.DictReader(file)}
    with (mimic_iv_ecg / "record_list.csv").open(encoding="utf-8") as file:
        records = list(csv.DictReader(file))[::3]
    close = []
    for record in records:
        interval = intervals[record["study_id"]]
        if 200 < interval < 5000:  # 29999 is "not measured"
            found = named(*read(mimic_iv_ecg / record["path"].replace("\\", "/")))["heart rate"]
            close.append(abs(found - 60_000 / interval) < 0.1 * 60_000 / interval)
    assert len(close) > 20
    assert np.mean(close) > 0.93


def test_features_of_ten_seconds_take_less_than_thirty_milliseconds(ptb_xl):
    signal, rate = read(ptb_xl / "records500/00000/00001_hr")
    ecg_features(signal, rate)
    fastest = min(_seconds(signal, rate) for _ in range(5))
    assert fastest < 0.03


def _seconds(signal, rate):
    start = time.perf_counter()
    ecg_features(signal, rate)
    return time.perf_counter() - start
