"""Measurements of made and real ECGs, and statements held against them."""

import csv
import re

import numpy as np
import pytest
import wfdb

from evaluation.finding import Finding
from evaluation.machine_intervals import machine_measurements, with_machine
from evaluation.measurements import Measurements
from evaluation.signal_check import checked, contradictions, stated_rates
from evaluation.signal_measurements import measure

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
MACHINE = {"rr_interval": 1000, "p_onset": 40, "p_end": 150, "qrs_onset": 200, "qrs_end": 300, "t_end": 600}


def wave(times, centre, width, height):
    return height * np.exp(-0.5 * ((times - centre) / width) ** 2)


def made_ecg(beats, sampling_rate=500, seconds=10, axis=60.0, noise=0.01, t_height=0.3):
    """P, QRS and T at given times in s; the frontal leads are projections of a vector at `axis` degrees."""
    times = np.arange(round(seconds * sampling_rate)) / sampling_rate
    shape = sum(
        wave(times, beat - 0.16, 0.025, 0.1) + wave(times, beat, 0.012, 1.0) + wave(times, beat + 0.3, 0.05, t_height)
        for beat in beats
    )
    angles = {"I": 0, "II": 60, "III": 120, "aVR": -150, "aVL": -30, "aVF": 90}
    # An augmented lead is sqrt(3) / 2 of a bipolar one.
    heights = [
        np.cos(np.radians(axis - angle)) * (np.sqrt(3) / 2 if name.startswith("a") else 1)
        for name, angle in angles.items()
    ] + [-0.8, -0.5, 0.4, 0.9, 1.0, 0.8]
    rng = np.random.default_rng(0)
    return np.array(heights)[:, None] * shape + rng.normal(0, noise, (12, len(times)))


def real(record):
    recording = wfdb.rdrecord(str(record))
    return measure(recording.p_signal.T, recording.fs, recording.sig_name)


def ptb_xl_table(folder):
    with open(folder / "ptbxl_database.csv", newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


@pytest.mark.parametrize("rate", [30, 45, 72, 110, 180])
@pytest.mark.parametrize("sampling_rate", [100, 500])
def test_rate_of_a_made_ecg(rate, sampling_rate):
    beats = np.arange(0.4, 9.9, 60 / rate)
    measured = measure(made_ecg(beats, sampling_rate), sampling_rate, LEADS)
    assert measured.heart_rate_bpm == pytest.approx(rate, rel=0.01)
    assert measured.rr_irregularity < 0.015


def test_irregularity_is_the_coefficient_of_variation():
    beats = np.cumsum(np.random.default_rng(1).uniform(0.5, 1.2, 11))
    intervals = np.diff(beats)
    measured = measure(made_ecg(beats), 500, LEADS)
    assert measured.heart_rate_bpm == pytest.approx(60 / intervals.mean(), rel=0.01)
    assert measured.rr_irregularity == pytest.approx(intervals.std() / intervals.mean(), abs=0.01)


@pytest.mark.parametrize("axis", [-80, -30, 0, 60, 100, 170])
def test_axis_of_a_made_ecg(axis):
    measured = measure(made_ecg(np.arange(0.4, 9.9, 0.8), axis=axis, noise=0.001), 500, LEADS)
    assert (measured.axis_degrees - axis + 180) % 360 - 180 == pytest.approx(0, abs=5)


def test_tall_t_waves_of_a_slow_rhythm_are_no_beats():
    ecg = made_ecg(np.arange(0.4, 9.9, 1.5), t_height=0.7)
    assert measure(ecg, 500, LEADS).heart_rate_bpm == pytest.approx(40, rel=0.02)


def test_a_gap_is_bridged_and_does_not_slow_the_heart():
    ecg = made_ecg(np.arange(0.4, 9.9, 0.8))
    ecg[:, 2000:3000] = np.nan
    assert measure(ecg, 500, LEADS).heart_rate_bpm == pytest.approx(75, rel=0.02)


def test_leads_are_taken_by_name_and_flat_or_absent_ones_left_out():
    ecg = made_ecg(np.arange(0.4, 9.9, 0.8), axis=-60)
    expected = measure(ecg, 500, LEADS)
    order = np.random.default_rng(0).permutation(12)
    names = [LEADS[lead].upper() for lead in order]
    assert measure(ecg[order], 500, names) == expected
    ecg[0], ecg[6] = 0, np.nan
    measured = measure(ecg, 500, LEADS)
    assert measured.axis_degrees is None
    assert measured.heart_rate_bpm == pytest.approx(75, rel=0.02)
    assert measure(ecg[10:11], 500, ["V5"]).heart_rate_bpm == pytest.approx(75, rel=0.02)


@pytest.mark.parametrize("kind", ["flat", "invalid", "short", "empty", "noise", "wander", "one beat"])
def test_nothing_is_measured_where_there_is_no_rhythm(kind):
    rng = np.random.default_rng(3)
    ecg = {
        "flat": np.zeros((12, 5000)),
        "invalid": np.full((12, 5000), np.nan),
        "short": made_ecg([0.4, 1.0], seconds=1.5),
        "empty": np.zeros((12, 0)),
        "noise": rng.normal(0, 0.1, (12, 5000)),
        "wander": np.cumsum(rng.normal(0, 0.02, (12, 5000)), axis=1),
        "one beat": made_ecg([5.0], noise=0),
    }[kind]
    assert measure(ecg, 500, LEADS) == Measurements()


def test_a_signal_that_does_not_fit_its_names_is_refused():
    with pytest.raises(ValueError, match=r"\(12, 5000\) for 2 lead names"):
        measure(np.zeros((12, 5000)), 500, ["I", "II"])
    with pytest.raises(ValueError, match="50 Hz, expected at least 80"):
        measure(np.zeros((12, 500)), 50, LEADS)


def test_measured_rate_axis_and_qrs_agree_with_the_carts(mimic_iv_ecg):
    with open(mimic_iv_ecg / "record_list.csv", newline="", encoding="utf-8") as table:
        paths = {row["study_id"]: row["path"].replace("\\", "/") for row in csv.DictReader(table)}
    with open(mimic_iv_ecg / "machine_measurements.csv", newline="", encoding="utf-8") as table:
        machine = {
            row["study_id"]: machine_measurements({name: float(row[name]) for name in (*MACHINE, "qrs_axis")})
            for row in csv.DictReader(table)
        }
    signal = {study: real(mimic_iv_ecg / path) for study, path in paths.items()}
    rates = np.array([signal[study].heart_rate_bpm - machine[study].heart_rate_bpm for study in paths])
    assert len(rates) == 226
    assert np.mean(np.abs(rates) <= 5) > 0.95
    assert np.mean(np.abs(rates) <= 10) > 0.99
    axes = [
        (signal[study].axis_degrees - machine[study].axis_degrees + 180) % 360 - 180
        for study in paths
        if None not in (signal[study].axis_degrees, machine[study].axis_degrees)
    ]
    assert len(axes) > 200
    assert np.mean(np.abs(axes) <= 20) > 0.97
    qrs = np.array([signal[study].qrs_ms - machine[study].qrs_ms for study in paths])
    assert np.mean(np.abs(qrs) <= 20) > 0.9


def test_rate_statements_of_real_recordings_hold(ptb_xl):
    rows = [row for row in ptb_xl_table(ptb_xl) if re.search("'(SBRAD|STACH)'", row["scp_codes"])]
    assert len(rows) == 22
    for row in rows:
        code = re.search("SBRAD|STACH", row["scp_codes"])[0]
        measured = real(ptb_xl / row["filename_hr"])
        assert len(checked([Finding(code)], "", measured)) == 1
        assert not contradictions([Finding(code)], "", measured), row["ecg_id"]
        other = {"SBRAD": "STACH", "STACH": "SBRAD"}[code]
        assert contradictions([Finding(other)], "", measured), row["ecg_id"]


def test_100_hz_gives_the_rate_of_500_hz(ptb_xl):
    rows = [row for row in ptb_xl_table(ptb_xl) if (ptb_xl / (row["filename_lr"] + ".dat")).exists()][:20]
    assert rows
    for row in rows:
        low, high = real(ptb_xl / row["filename_lr"]), real(ptb_xl / row["filename_hr"])
        assert low.heart_rate_bpm == pytest.approx(high.heart_rate_bpm, abs=3), row["ecg_id"]


def test_machine_times_become_intervals():
    measured = machine_measurements({**MACHINE, "qrs_axis": -57})
    assert measured == Measurements(60.0, None, 160, 100, 400, 400.0, -57)
    # Framingham: 400 + 154 * (1 - 0.5).
    assert machine_measurements({**MACHINE, "rr_interval": 500, "qrs_axis": 270}).qtc_ms == pytest.approx(477)
    assert machine_measurements({**MACHINE, "qrs_axis": 270}).axis_degrees == -90
    assert machine_measurements({**MACHINE, "qrs_axis": -180}).axis_degrees == 180


def test_what_the_machine_did_not_measure_is_none():
    assert machine_measurements(None) == Measurements()
    assert machine_measurements(dict.fromkeys((*MACHINE, "qrs_axis"))) == Measurements()
    assert machine_measurements(dict.fromkeys((*MACHINE, "qrs_axis"), 29999)) == Measurements()
    measured = machine_measurements({**MACHINE, "p_onset": 29999, "t_end": 200, "qrs_axis": 0})
    assert (measured.pr_ms, measured.qt_ms, measured.qtc_ms, measured.axis_degrees) == (None, None, None, None)
    assert measured.qrs_ms == 100
    with pytest.raises(ValueError, match="without qrs_axis"):
        machine_measurements(MACHINE)


def test_rate_is_the_signals_and_intervals_are_the_carts():
    signal = Measurements(heart_rate_bpm=50, rr_irregularity=0.2, qrs_ms=90, axis_degrees=10)
    machine = Measurements(heart_rate_bpm=60, pr_ms=160, qrs_ms=100)
    assert with_machine(signal, machine) == Measurements(50, 0.2, 160, 100, None, None, 10)
    assert with_machine(Measurements(), machine) == machine


@pytest.mark.parametrize(
    ("code", "holds", "fails"),
    [
        ("SBRAD", {"heart_rate_bpm": 64}, {"heart_rate_bpm": 66}),
        ("STACH", {"heart_rate_bpm": 96}, {"heart_rate_bpm": 94}),
        ("VT", {"heart_rate_bpm": 150}, {"heart_rate_bpm": 70}),
        ("AFIB", {"rr_irregularity": 0.1}, {"rr_irregularity": 0.01}),
        ("SARRH", {"rr_irregularity": 0.05}, {"rr_irregularity": 0.01}),
        ("1AVB", {"pr_ms": 190}, {"pr_ms": 160}),
        ("CLBBB", {"qrs_ms": 110}, {"qrs_ms": 90}),
        ("IRBBB", {"qrs_ms": 110}, {"qrs_ms": 150}),
        ("LNGQT", {"qtc_ms": 430}, {"qtc_ms": 410}),
        ("SQT", {"qtc_ms": 350}, {"qtc_ms": 430}),
        ("LAX", {"axis_degrees": -60}, {"axis_degrees": 120}),
        ("LAX", {"axis_degrees": 20}, {"axis_degrees": 60}),
        ("RAX", {"axis_degrees": 110}, {"axis_degrees": 0}),
        ("RAX", {"axis_degrees": -140}, {"axis_degrees": -45}),
        ("NAX", {"axis_degrees": -40}, {"axis_degrees": 180}),
        ("VAX", {"axis_degrees": 80}, {"axis_degrees": 0}),
        ("LAFB", {"axis_degrees": -45}, {"axis_degrees": 30}),
        ("LPFB", {"axis_degrees": 180}, {"axis_degrees": -45}),
    ],
)
def test_a_statement_is_held_against_its_measurement(code, holds, fails):
    for values, expected in ((holds, False), (fails, True)):
        (check,) = checked([Finding(code)], "", Measurements(**values))
        assert check.measured == next(iter(values.values()))
        assert check.is_contradicted == expected, (code, values)
    assert checked([Finding(code)], "", Measurements()) == []


def test_hedged_and_denied_findings_and_regular_rhythms_under_fibrillation_are_not_checked():
    measured = Measurements(heart_rate_bpm=80, rr_irregularity=0.001)
    assert contradictions([Finding("STACH"), Finding("AFIB")], "", measured) == checked(
        [Finding("STACH"), Finding("AFIB"), Finding("LVH")], "", measured
    )
    assert checked([Finding("STACH", certainty="possible"), Finding("SBRAD", is_negated=True)], "", measured) == []
    assert checked([Finding("AFIB"), Finding("PACE")], "", measured) == []


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("sinus rhythm, rate 45.", [45]),
        ("sinus rhythm (rate = 74/min) qs complexes in v2", [74]),
        ("ventricular response of 98 per minute", [98]),
        ("rapid ventricular response 166 bpm", [166]),
        ("atrial fibrillation, rate 101 per minute", [101]),
        ("sinusrhythmus hf 70", [70]),
        ("a rate of approximately 72", [72]),
        ("sinus rhythm at 75 beats/min", [75]),
        ("Sinusrhythmus, 72 Schläge pro Minute", [72]),
        ("hjärtfrekvens 64", [64]),
        ("atrial rate = 82/min., ventricular rate = 38/min", [38]),
        ("sinus rhythm, 98/min. with complete heart block and ventricular escape rate of 40/min.", [98, 40]),
        ("vorhof:ca. hf:265 linkstyp", []),
        ("rhythm is atrial tachycardia (rate = 205/min) with block", []),
        ("ventricular extrasystoles over 5/min", []),
        ("extrasystole(s), uniform, &gt; 12/min", []),
        ("normal ecg 5 min after supraventricular tachycardia hf 190", []),
        ("slower heart rate from 140 to 128", []),
        ("compared with tracing of 3:8:92, rate is a little slower", []),
        ("pr interval slightly long for rate. qrs 120 ms", []),
        ("rate 450", []),
        ("normal ecg except for rate", []),
    ],
)
def test_rates_that_a_text_states_in_numbers(text, rates):
    assert stated_rates(text) == rates


def test_a_stated_rate_is_held_against_the_beats():
    (wrong,) = contradictions([], "sinus rhythm, rate 45", Measurements(heart_rate_bpm=80))
    assert (wrong.statement, wrong.measured, wrong.expected) == ("rate 45/min", 80, (40, 50))
    assert len(checked([], "sinus rhythm, rate 78", Measurements(heart_rate_bpm=80))) == 1
    assert not contradictions([], "sinus rhythm, rate 78", Measurements(heart_rate_bpm=80))
    # Of atria and ventricles, one is the rate of the beats.
    assert not contradictions([], "sinus 98/min, escape rate of 40/min", Measurements(heart_rate_bpm=41))
