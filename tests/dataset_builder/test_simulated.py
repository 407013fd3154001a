import re
from collections import Counter

import neurokit2 as nk
import numpy as np
import pytest
from datasets import load_dataset

from dataset_builder.build import build_config
from dataset_builder.columns import MACHINE_MEASUREMENTS
from dataset_builder.simulated import (
    RATE_CLASSES,
    Simulated,
    classify_rate,
    simulated_record,
    simulated_split,
)
from dataset_builder.simulated_ecg import MORPHOLOGIES, draw_beats, simulate
from processing.leads import LEADS

CLASS_WORDS = ("bradycardia", "normal rate", "tachycardia")


def stated_rate(report: str) -> int:
    return int(re.search(r"\. rate (\d+)/min\.", report)[1])


def measured_rate(ecg: np.ndarray) -> float:
    """Beats per minute that neurokit2's R-peak detector finds: the median of seven leads. `ecg` (12, 5000) in mV."""
    rates = []
    for lead in (0, 1, 7, 8, 9, 10, 11):
        peaks = nk.ecg_peaks(nk.ecg_clean(ecg[lead], sampling_rate=500), sampling_rate=500)[1]["ECG_R_Peaks"]
        if len(peaks) > 1:
            rates.append(60 / np.diff(peaks / 500).mean())
    return float(np.median(rates))


def test_the_same_seed_gives_the_same_record():
    (first, first_ecg), (second, second_ecg) = simulated_record(4, 17), simulated_record(4, 17)
    np.testing.assert_array_equal(first_ecg, second_ecg)
    assert first == second
    assert not np.array_equal(first_ecg, simulated_record(5, 17)[1])
    assert not np.array_equal(first_ecg, simulated_record(4, 18)[1])


def test_the_report_states_the_rate_that_a_detector_finds():
    off = []
    for index in range(60):
        record, ecg = simulated_record(1, index)
        difference = measured_rate(ecg / 1000) - stated_rate(record["report"])
        if abs(difference) > 2:
            off.append((record["report"], difference))
    # The detector mistakes a T wave for a beat now and then; a wrong report would be off throughout.
    assert len(off) <= 3, off


def test_the_report_names_one_rate_class_and_classes_are_balanced():
    named = Counter()
    for index in range(150):
        report = simulated_record(2, index)[0]["report"]
        words = [word for word in CLASS_WORDS if word in report]
        assert len(words) == 1, report
        assert classify_rate(stated_rate(report)) == words[0], report
        named[words[0]] += 1
    assert named == dict.fromkeys(CLASS_WORDS, 50)


@pytest.mark.parametrize(
    ("rate", "rate_class"),
    [(59.4, "bradycardia"), (59.6, "normal rate"), (60, "normal rate"), (100.4, "normal rate"), (100.6, "tachycardia")],
)
def test_rate_classes(rate, rate_class):
    assert classify_rate(rate) == rate_class


def test_splits_are_80_10_10_and_hold_each_class_equally_often():
    splits = [simulated_split(0, index) for index in range(300)]
    for split, records in (("train", 80), ("validation", 10), ("test", 10)):
        classes = Counter(index % 3 for index, name in enumerate(splits) if name == split)
        assert classes == {0: records, 1: records, 2: records}
    for first in range(0, 300, 30):
        assert set(splits[first : first + 30]) == {"train", "validation", "test"}
    assert splits != [simulated_split(1, index) for index in range(300)]


def test_limb_leads_belong_together():
    for index in range(6):
        i, ii, iii, avr, avl, avf = simulated_record(0, index)[1][:6].astype(int)
        for difference in (iii - (ii - i), avr + (i + ii) / 2, avl - (i - iii) / 2, avf - (ii + iii) / 2):
            assert np.abs(difference).max() <= 1.5  # ADC units: what rounding leaves


def draw(rhythm: str, morphology: str, rate: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A simulated ECG in mV without its mean, and its beats inside the middle 8 s, as sample numbers."""
    rng = np.random.default_rng(seed)
    beats = draw_beats(rhythm, rate, rng)
    ecg = simulate(beats, rhythm, morphology, rng)
    peaks = beats.times[~beats.premature]
    return ecg - np.median(ecg, axis=1, keepdims=True), np.round(peaks[(peaks > 1) & (peaks < 9)] * 500).astype(int)


def mean_beat(ecg: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """The mean of all beats from 0.4 s before to 0.4 s after their R peaks: (12, 400)."""
    return np.mean([ecg[:, peak - 200 : peak + 200] for peak in peaks], axis=0)


@pytest.mark.parametrize(
    ("morphology", "leads", "sign"),
    [
        ("inferior st elevation", ("II", "III", "aVF"), 1),
        ("anterior st elevation", ("V1", "V2", "V3", "V4"), 1),
        ("lateral st depression", ("V4", "V5", "V6"), -1),
    ],
)
def test_st_segments_deviate_in_the_leads_that_the_report_names(morphology, leads, sign):
    rows = [LEADS.index(lead) for lead in leads]
    for seed in range(5):
        level = {}
        for name in ("none", morphology):
            beat = mean_beat(*draw("sinus", name, 70, seed))
            level[name] = beat[:, 240:250].mean(axis=1) - beat[:, 175:180].mean(axis=1)  # ST at 80-100 ms less PQ
        deviation = (level[morphology] - level["none"])[rows]
        assert np.all(sign * deviation > 0.08), deviation  # mV


def test_low_voltage_and_bundle_branch_blocks_show():
    for seed in range(5):
        qrs = mean_beat(*draw("sinus", "low voltage", 70, seed))[:6, 160:240]
        assert np.ptp(qrs, axis=1).max() < 0.5  # mV, peak to peak, in every limb lead
        normal = mean_beat(*draw("sinus", "none", 70, seed))
        assert np.ptp(normal[:6, 160:240], axis=1).max() > 0.5
        left = mean_beat(*draw("sinus", "left bundle branch block", 70, seed))
        right = mean_beat(*draw("sinus", "right bundle branch block", 70, seed))
        v1, v6 = LEADS.index("V1"), LEADS.index("V6")
        assert left[v1, 190:210].min() < -0.8
        assert left[v6, 190:210].max() > 0.6
        assert right[v1, 220:245].max() > 0.4 > normal[v1, 220:245].max()
        assert right[v6, 220:245].min() < -0.15
        width = [np.count_nonzero(np.abs(beat[v1, 130:270]) > 0.2) for beat in (normal, left)]
        assert width[1] > 1.8 * width[0]


def test_p_waves_come_before_sinus_beats_and_not_in_atrial_fibrillation():
    lead_ii = LEADS.index("II")
    for seed in range(5):
        sinus = mean_beat(*draw("sinus", "none", 70, seed))[lead_ii]
        delayed = mean_beat(*draw("sinus", "first degree av block", 70, seed))[lead_ii]
        fibrillation = mean_beat(*draw("atrial fibrillation", "none", 70, seed))[lead_ii]
        assert sinus[100:160].max() - sinus[172:178].mean() > 0.06
        assert np.argmax(delayed[50:165]) < np.argmax(sinus[50:165]) - 30  # samples: 60 ms earlier at least
        assert fibrillation[100:160].max() - fibrillation[172:178].mean() < 0.06


def test_rhythms_differ_in_their_intervals():
    def spread(rhythm: str, rate: float) -> float:
        beats = [draw_beats(rhythm, rate, np.random.default_rng(seed)) for seed in range(20)]
        return float(np.mean([np.std(np.diff(b.times)) / np.mean(np.diff(b.times)) for b in beats]))

    assert spread("sinus", 70) < 0.03
    assert 0.08 < spread("sinus arrhythmia", 70) < 0.15
    assert spread("atrial fibrillation", 70) > 0.17
    premature = draw_beats("ventricular premature complexes", 60, np.random.default_rng(0))
    early = np.flatnonzero(premature.premature)
    assert 1 <= early.size <= 3
    intervals = np.diff(premature.times)
    np.testing.assert_allclose(intervals[early - 1] + intervals[early], 2.0, rtol=0.1)  # s: the pause compensates
    assert np.all(intervals[early - 1] < 0.7)


def test_all_findings_occur():
    reports = " ".join(simulated_record(0, index)[0]["report"] for index in range(300))
    for words in (
        "sinus rhythm with normal rate", "sinus bradycardia", "sinus tachycardia", "sinus arrhythmia",
        "atrial fibrillation", "ventricular premature complex.", "ventricular premature complexes.",
        "st elevation in ii", "st elevation in v1", "st depression", "t wave inversion", "low voltage", 
        "left bundle", "right bundle", "first degree av block", "normal ecg", "otherwise normal ecg",
    ):  # fmt: skip
        assert words in reports
    assert len(MORPHOLOGIES) == 9


def test_build_and_load(tmp_path, cache):
    report = build_config(Simulated(num_records=60, seed=3), tmp_path / "meit-ecg", num_proc=2)
    assert not cache.exists()
    assert sum(counts["records"] for counts in report["splits"].values()) == 60
    assert set(RATE_CLASSES) == set(CLASS_WORDS)
    for split, counts in report["splits"].items():
        rows = load_dataset(str(tmp_path / "meit-ecg"), "simulated", split=split)
        assert len(rows) == counts["records"] == counts["patients"]
        for row in rows:
            index = int(row["id"].split("-")[1])
            wanted, ecg = simulated_record(3, index)
            np.testing.assert_array_equal(np.array(row.pop("ecg")), ecg)
            assert row.pop("machine_measurements") in (None, dict.fromkeys(MACHINE_MEASUREMENTS))
            assert row.pop("split") == split == simulated_split(3, index)
            assert row == wanted


def test_plain_records_differ_in_rate_alone():
    for index in range(9):
        report = simulated_record(0, index, plain=True)[0]["report"]
        assert re.fullmatch(
            r"sinus (bradycardia|rhythm with normal rate|tachycardia)\. rate \d+/min\. (otherwise )?normal ecg\.",
            report,
        )
