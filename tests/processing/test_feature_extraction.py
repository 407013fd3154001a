import json

import numpy as np
import pytest
import torch
from transformers.utils import logging

from processing import LEADS, ECGFeatureExtractor, Recording, read_ecg, read_wfdb, to_millivolts
from tests.processing.synthetic import make_ecg


def values(extractor, ecg, **kwargs):
    kwargs = {"sampling_rate": 500, "lead_names": LEADS, **kwargs}
    return extractor(ecg, **kwargs)["ecg_values"]


def min_max(signal, lowest, highest):
    return ((signal - lowest) / (highest - lowest)).astype(np.float32)


def test_min_max_is_one_scale_for_the_whole_record(extractor, ecg):
    out = values(extractor, ecg)
    assert out.shape == (1, 12, 5000)
    assert out.dtype == np.float32
    assert out.min() == 0
    assert out.max() == 1
    np.testing.assert_array_equal(out[0], min_max(ecg, ecg.min(), ecg.max()))


def test_z_score_is_per_lead(ecg):
    ecg = ecg * np.arange(1, 13)[:, None] + np.arange(12)[:, None]
    ecg[4] = 3.7
    out = values(ECGFeatureExtractor(scaling="zscore"), ecg)[0]
    for lead in range(12):
        expected = 0 * ecg[lead] if lead == 4 else (ecg[lead] - ecg[lead].mean()) / ecg[lead].std()
        np.testing.assert_allclose(out[lead], expected, atol=1e-6)


def test_every_kind_of_input_gives_the_same(extractor, write_record):
    record = write_record(lead_names=[lead.upper() for lead in LEADS])
    digital, recording = read_wfdb(record), read_ecg(record)
    expected = extractor(record)["ecg_values"]
    for ecg in (str(record), digital, recording):
        np.testing.assert_array_equal(extractor(ecg)["ecg_values"], expected)
    for array in (recording.signal, torch.from_numpy(recording.signal)):
        np.testing.assert_array_equal(values(extractor, array), expected)
    tensor = extractor(record, return_tensors="pt")["ecg_values"]
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), expected)


def test_leads_in_another_order_and_limb_leads_left_out(extractor, ecg):
    expected = values(extractor, ecg)
    mimic_order = [0, 1, 2, 3, 5, 4, *range(6, 12)]
    names = [LEADS[lead].lower() for lead in mimic_order]
    np.testing.assert_array_equal(values(extractor, ecg[mimic_order], lead_names=names), expected)
    eight = [0, 1, *range(6, 12)]
    out = values(extractor, ecg[eight], lead_names=[LEADS[lead] for lead in eight])
    np.testing.assert_allclose(out, expected, atol=1e-6)


def test_a_batch_gives_what_its_members_give_alone(extractor, write_record, ecg):
    record = write_record(rate=250, adc=np.rint(make_ecg(2500, 1) * 1000).astype(int))
    short, damaged = make_ecg(1800, 2), make_ecg(5000, 3)
    damaged[2, 7:90] = np.nan
    ecgs = [record, ecg, short, damaged]
    batch = extractor(
        ecgs, sampling_rate=[None, 500, 360, 500], lead_names=[None, LEADS, LEADS, LEADS], return_tensors="pt"
    )["ecg_values"]
    alone = [extractor(record)["ecg_values"], *(values(extractor, one) for one in (ecg,))]
    alone += [values(extractor, short, sampling_rate=360), values(extractor, damaged)]
    assert batch.shape == (4, 12, 5000)
    np.testing.assert_array_equal(batch.numpy(), np.concatenate(alone))
    stacked = np.stack([ecg, damaged])
    np.testing.assert_array_equal(values(extractor, stacked), np.concatenate([alone[1], alone[3]]))


def test_a_shorter_recording_ends_in_zero_millivolts(extractor, ecg):
    out = values(extractor, ecg[:, :3000])[0]
    lowest, highest = ecg[:, :3000].min(), ecg[:, :3000].max()
    np.testing.assert_array_equal(out[:, :3000], min_max(ecg[:, :3000], lowest, highest))
    np.testing.assert_array_equal(out[:, 3000:], np.float32(-lowest / (highest - lowest)))


def test_min_max_stays_within_its_range_where_zero_millivolts_lie_outside(extractor, ecg):
    out = values(extractor, ecg[:, :3000] + 50)[0]
    np.testing.assert_allclose(out[:, :3000], values(extractor, ecg[:, :3000])[0][:, :3000], atol=1e-6)
    assert (out[:, 3000:] == 0).all()


@pytest.mark.parametrize(("rate", "samples"), [(100, 1000), (257, 2570), (499.5, 4995), (333.3, 3333), (1000, 10000)])
def test_ten_seconds_at_any_rate_fill_the_window(extractor, rate, samples):
    time = np.arange(samples) / rate
    ecg = np.sin(2 * np.pi * (np.arange(12)[:, None] + 2) * time)
    out = values(extractor, ecg, sampling_rate=rate)[0]
    expected = np.sin(2 * np.pi * (np.arange(12)[:, None] + 2) * np.arange(5000) / 500)
    np.testing.assert_allclose(out[:, 50:-50], (expected[:, 50:-50] + 1) / 2, atol=0.03)


def test_a_tone_above_the_band_does_not_fold(extractor):
    time = np.arange(10_000) / 1000
    slow, fast = np.sin(2 * np.pi * 100 * time), np.sin(2 * np.pi * 400 * time)
    clean = values(extractor, np.tile(slow, (12, 1)), sampling_rate=1000)
    mixed = values(extractor, np.tile(slow + fast, (12, 1)), sampling_rate=1000)
    np.testing.assert_allclose(mixed[..., 100:-100], clean[..., 100:-100], atol=0.02)
    assert clean[..., 100:-100].std() > 0.3


def test_longer_recordings_are_never_cut_in_silence(extractor):
    ecg = make_ecg(12_500)
    with pytest.raises(ValueError, match=r"25 s long; expected at most 10 s, or start_s="):
        values(extractor, ecg)
    with pytest.raises(ValueError, match=r"10\.002 s long"):
        values(extractor, ecg[:, :5001])
    np.testing.assert_array_equal(values(extractor, ecg, start_s=3.5), values(extractor, ecg[:, 1750:6750]))
    windows = values(extractor, ecg, start_s="all")
    alone = [ecg[:, :5000], ecg[:, 5000:10_000], ecg[:, 10_000:]]
    np.testing.assert_array_equal(windows, np.concatenate([values(extractor, one) for one in alone]))
    assert len(values(extractor, ecg[:, :10_000], start_s="all")) == 2
    np.testing.assert_array_equal(values(extractor, ecg, start_s=20), values(extractor, ecg[:, 10_000:]))


@pytest.mark.parametrize("start_s", [-1, 25, float("nan"), float("inf"), "first"])
def test_windows_that_are_not_there(extractor, start_s):
    with pytest.raises(ValueError, match=r"start_s is .* expected"):
        values(extractor, make_ecg(12_500), start_s=start_s)


def test_invalid_samples_become_zero_millivolts_and_are_counted(extractor, ecg):
    damaged = ecg.copy()
    damaged[1, 100:120] = np.nan
    damaged[7, 4000] = np.inf
    damaged[8, 4001] = -np.inf
    valid = np.isfinite(damaged)
    lowest, highest = damaged[valid].min(), damaged[valid].max()
    out = values(extractor, damaged)[0]
    np.testing.assert_array_equal(out, min_max(np.where(valid, damaged, 0), lowest, highest))
    assert extractor.count_invalid([damaged, ecg], 500, LEADS) == [22, 0]
    assert sorted(extractor(damaged, 500, LEADS)) == ["ecg_values"]

    standard = values(ECGFeatureExtractor(scaling="zscore"), damaged)[0]
    mean, std = damaged[1][valid[1]].mean(), damaged[1][valid[1]].std()
    np.testing.assert_allclose(standard[1, 100:120], -mean / std, atol=1e-6)


def test_the_count_is_logged(extractor, ecg, caplog):
    logging.enable_propagation()
    ecg[0, :3] = np.nan
    extractor(Recording(ecg, 500.0, LEADS, "bed 7"))
    logging.disable_propagation()
    assert "bed 7: 3 invalid samples of 60000 were set to 0 mV" in caplog.text


def test_an_invalid_stretch_does_not_disturb_resampling(extractor):
    time = np.arange(2500) / 250
    ecg = 3 + np.tile(np.sin(2 * np.pi * 5 * time), (12, 1))
    damaged = ecg.copy()
    damaged[0, 1000:1250] = np.nan
    out, clean = values(extractor, damaged, sampling_rate=250)[0], values(extractor, ecg, sampling_rate=250)[0]
    np.testing.assert_allclose(out[1:], clean[1:], atol=1e-5)
    np.testing.assert_allclose(out[0, :1980], clean[0, :1980], atol=0.01)
    assert (out[0, 2001:2499] == 0).all()


def test_flat_recordings(extractor, ecg):
    flat = np.tile(np.arange(12.0)[:, None], (1, 5000))
    with pytest.raises(ValueError, match=r"array of shape \(12, 5000\): flat recording: every lead is constant"):
        values(extractor, flat)
    flat[3, 7] = np.nan
    with pytest.raises(ValueError, match="every lead is constant"):
        values(extractor, flat)
    silent = ecg.copy()
    silent[[4, 9]] = np.nan
    with pytest.raises(ValueError, match="flat recording: no valid sample in aVL, V4"):
        values(extractor, silent)
    one_flat_lead = ecg.copy()
    one_flat_lead[8] = 0
    assert np.isfinite(values(extractor, one_flat_lead)).all()
    late = np.concatenate([np.zeros((12, 5000)), ecg], axis=1)
    with pytest.raises(ValueError, match="flat recording in the window from 0 s"):
        values(extractor, late, start_s="all")
    np.testing.assert_array_equal(values(extractor, late, start_s=10), values(extractor, ecg))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ecg": np.ones((5000, 12))}, r"found shape \(5000, 12\) with 12 lead names.*pass its transpose"),
        ({"ecg": np.ones((11, 5000))}, r"found shape \(11, 5000\) with 12 lead names; expected \(leads, samples\)"),
        ({"ecg": np.ones(5000)}, r"found shape \(5000,\)"),
        ({"ecg": np.ones((12, 0))}, "0 samples"),
        ({"ecg": np.ones((12, 5000), dtype=np.int16)}, "int16; expected floating-point numbers in mV"),
        ({"ecg": []}, "empty list"),
        ({"sampling_rate": 0}, "sampling rate 0.0 Hz; expected above 0 Hz"),
        ({"sampling_rate": -500}, "sampling rate -500.0 Hz"),
        ({"sampling_rate": float("nan")}, "sampling rate nan Hz"),
        ({"sampling_rate": None}, "expected sampling_rate="),
        ({"sampling_rate": [500, 500]}, "2 sampling_rate came with 1 ECGs"),
        ({"lead_names": None}, "lead_names="),
        ({"lead_names": ["I"] * 12}, "lead I appears twice"),
        ({"lead_names": [*LEADS[:11], "V1"]}, r"array of shape \(12, 5000\): lead V1 appears twice"),
        ({"lead_names": [*LEADS[:11], "X"]}, "lead V6 missing"),
        ({"lead_names": LEADS[:3]}, "with 3 lead names"),
    ],
)
def test_bad_arrays(extractor, ecg, change, message):
    with pytest.raises(ValueError, match=message):
        extractor(**{"ecg": ecg, "sampling_rate": 500, "lead_names": LEADS, **change})


def test_something_that_is_no_ecg(extractor):
    with pytest.raises(TypeError, match="type dict; expected a path, a Recording or an array"):
        extractor({"ecg": 1})


def test_a_file_of_three_leads_names_what_is_missing(extractor, write_record):
    adc = np.rint(make_ecg()[[0, 1, 7]] * 1000).astype(int)
    with pytest.raises(ValueError, match=r"record: leads V1, V3, V4, V5, V6 missing: found I, II, V2; expected"):
        extractor(write_record(adc=adc, lead_names=["I", "II", "V2"]))


def test_a_file_is_not_told_another_rate_or_other_leads(extractor, write_record):
    record = write_record()
    with pytest.raises(ValueError, match="recorded at 500 Hz; sampling_rate=250"):
        extractor(record, sampling_rate=250)
    with pytest.raises(ValueError, match="its leads are"):
        extractor(record, lead_names=LEADS[::-1])


def test_adc_units_of_a_file_and_of_a_dataset_row_agree(extractor, write_record):
    digital = read_wfdb(write_record(gain=200.0, baseline=5))
    signal = to_millivolts(digital.adc, digital.gain, digital.baseline)
    expected = extractor(digital)["ecg_values"]
    np.testing.assert_array_equal(extractor(Recording(signal, 500.0, LEADS, "row"))["ecg_values"], expected)


def test_the_configuration_is_saved(tmp_path, ecg):
    extractor = ECGFeatureExtractor(scaling="zscore", duration_s=5)
    extractor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["auto_map"]["AutoFeatureExtractor"] == "feature_extraction_meit.ECGFeatureExtractor"
    loaded = ECGFeatureExtractor.from_pretrained(tmp_path)
    assert values(loaded, ecg[:, :2500]).shape == (1, 12, 2500)
    np.testing.assert_array_equal(values(loaded, ecg[:, :2500]), values(extractor, ecg[:, :2500]))


def test_settings_that_mean_nothing():
    with pytest.raises(ValueError, match="'minmax' or 'zscore'"):
        ECGFeatureExtractor(scaling="max")
    with pytest.raises(ValueError, match="expected both above 0"):
        ECGFeatureExtractor(sampling_rate=0)
    with pytest.raises(ValueError, match="format 99; this version of meit-ecg reads up to 1"):
        ECGFeatureExtractor(format_version=99)
