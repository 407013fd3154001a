"""Each kind of noise against a plain computation: its power, its spectrum, and how the leads relate."""

import math

import numpy as np
import pytest
from scipy.signal import welch

from evaluation.noise import (
    BASELINE_WANDER,
    ELECTRODE_MOTION,
    KINDS,
    LEAD_DROPOUT,
    LIMB_LEAD_SWAP,
    MAINS_50_HZ,
    MAINS_60_HZ,
    MUSCLE,
    PERTURBATIONS,
    WHITE_WINDOW,
    Perturbation,
    perturb,
)
from processing.leads import place_leads
from processing.reading import read_ecg

RATE = 500.0
FROM_ELECTRODES = (BASELINE_WANDER, MUSCLE, MAINS_50_HZ, MAINS_60_HZ, ELECTRODE_MOTION)


def leads_of(potentials):
    """The twelve leads by their definition, from a dict of electrode potentials."""
    ra, la, ll = (potentials[name] for name in ("RA", "LA", "LL"))
    centre = (ra + la + ll) / 3
    limb = [la - ra, ll - ra, ll - la, ra - (la + ll) / 2, la - (ra + ll) / 2, ll - (ra + la) / 2]
    return np.stack(limb + [potentials[f"V{number}"] - centre for number in range(1, 7)])


def some_potentials(samples=5000):
    rng = np.random.default_rng(0)
    names = ("RA", "LA", "LL", *(f"V{number}" for number in range(1, 7)))
    return {name: np.convolve(rng.normal(size=samples), np.ones(40) / 40, "same") for name in names}


@pytest.fixture
def ecg():
    return leads_of(some_potentials())


def level_of(kind, level=6.0):
    return {WHITE_WINDOW: 0.2, LEAD_DROPOUT: 3, LIMB_LEAD_SWAP: None}.get(kind, level)


def plain_power(signal):
    squares = []
    for lead in signal:
        values = [value for value in lead.tolist() if not math.isnan(value)]
        mean = math.fsum(values) / len(values)
        squares += [(value - mean) ** 2 for value in values]
    return math.fsum(squares) / len(squares)


@pytest.mark.parametrize("kind", FROM_ELECTRODES)
@pytest.mark.parametrize("decibels", [12, 0])
def test_the_ratio_of_powers_is_the_stated_one(ecg, kind, decibels):
    ecg[3, :700] = np.nan
    ecg[:, 2000:2500] = np.nan
    noise = perturb(ecg, RATE, Perturbation(kind, decibels), "a") - ecg
    assert 10 * math.log10(plain_power(ecg) / plain_power(noise)) == pytest.approx(decibels, abs=0.1)


@pytest.mark.parametrize("kind", FROM_ELECTRODES)
def test_noise_from_electrodes_obeys_einthoven_goldberger_and_wilson(ecg, kind):
    one, two, three, avr, avl, avf, *_ = noisy = perturb(ecg, RATE, Perturbation(kind, 0), "a")
    assert np.abs(noisy - ecg).max() > 0.05
    np.testing.assert_allclose(one + three, two, atol=1e-12)
    np.testing.assert_allclose(avr + avl + avf, 0, atol=1e-12)
    np.testing.assert_allclose(avl, one - two / 2, atol=1e-12)


@pytest.mark.parametrize("kind", [BASELINE_WANDER, MUSCLE, MAINS_50_HZ])
def test_each_electrode_has_noise_of_its_own(ecg, kind):
    noise = perturb(ecg, RATE, Perturbation(kind, 0), "a") - ecg
    # Differences of chest leads hold two chest electrodes each and no limb electrode.
    independent = np.stack([noise[0], noise[6] - noise[7], noise[8] - noise[9], noise[10] - noise[11]])
    assert np.abs(np.corrcoef(independent) - np.eye(4)).max() < 0.999
    assert np.linalg.matrix_rank(noise) == (8 if kind != MAINS_50_HZ else 6)  # 3 frequencies, sine and cosine


@pytest.mark.parametrize(
    ("kind", "bands"),
    [
        (BASELINE_WANDER, [(0.0, 0.6)]),
        (MUSCLE, [(19.0, 151.0)]),
        (MAINS_50_HZ, [(49, 51), (99, 101), (149, 151)]),
        (MAINS_60_HZ, [(59, 61), (119, 121), (179, 181)]),
        (ELECTRODE_MOTION, [(0.25, 12.0)]),
    ],
)
def test_the_spectrum_is_the_stated_one(kind, bands):
    ecg = leads_of(some_potentials(60_000))
    noise = perturb(ecg, RATE, Perturbation(kind, 0), "a") - ecg
    frequencies, power = welch(noise, RATE, nperseg=10_000, detrend=False)
    power = power.sum(axis=0)
    inside = np.zeros(frequencies.size, dtype=bool)
    for low, high in bands:
        held = (frequencies >= low) & (frequencies <= high)
        # A harmonic of a tenth of the amplitude has a hundredth of the power.
        assert power[held].sum() > 0.003 * power.sum()
        inside |= held
    assert power[inside].sum() > 0.99 * power.sum()


def test_muscle_noise_fills_its_band_evenly():
    ecg = leads_of(some_potentials(60_000))
    noise = perturb(ecg, RATE, Perturbation(MUSCLE, 0), "a") - ecg
    frequencies, power = welch(noise, RATE, nperseg=1000)
    shares = [power[:, (frequencies >= low) & (frequencies < low + 25)].sum() for low in range(22, 147, 25)]
    assert max(shares) < 1.3 * min(shares)


def test_electrode_motion_comes_in_bursts_at_single_electrodes():
    ecg = leads_of(some_potentials())
    quiet, chest_only = [], 0
    for key in "abcdefghijkl":
        noise = np.abs(perturb(ecg, RATE, Perturbation(ELECTRODE_MOTION, 0), key) - ecg)
        quiet.append((noise.max(axis=0) < 1e-9).mean())
        chest_only += (noise[:6].max() < 1e-9) & ((noise[6:].max(axis=1) > 1e-9).sum() <= 3)
    assert 0.6 < np.mean(quiet) < 0.95
    assert chest_only > 0


def test_the_swap_is_what_exchanged_arm_electrodes_record():
    potentials = some_potentials()
    swapped = {**potentials, "RA": potentials["LA"], "LA": potentials["RA"]}
    result = perturb(leads_of(potentials), RATE, Perturbation(LIMB_LEAD_SWAP), "a")
    np.testing.assert_allclose(result, leads_of(swapped), atol=1e-12)


def test_dropout_flattens_so_many_leads_and_more_levels_keep_them(ecg):
    flat = {}
    for leads in range(1, 13):
        result = perturb(ecg, RATE, Perturbation(LEAD_DROPOUT, leads), "a")
        flat[leads] = set(np.flatnonzero((result == 0).all(axis=1)))
        kept = sorted(set(range(12)) - flat[leads])
        assert len(flat[leads]) == leads
        assert np.array_equal(result[kept], ecg[kept])
    assert all(flat[leads] < flat[leads + 1] for leads in range(1, 12))


def test_the_papers_window_is_the_same_on_all_leads_short_and_below_a_tenth_of_the_range(ecg):
    lengths, deviations = [], []
    extent = ecg.max() - ecg.min()
    for key in range(300):
        noise = perturb(ecg, RATE, Perturbation(WHITE_WINDOW, 0.2), str(key)) - ecg
        np.testing.assert_allclose(noise, np.broadcast_to(noise[0], noise.shape), atol=1e-12)
        where = np.flatnonzero(np.abs(noise[0]) > 1e-12)
        lengths.append(where.size)
        if where.size > 200:
            assert where[-1] - where[0] + 1 <= 1000
            deviations.append(noise[0, where[0] : where[-1] + 1].std() / extent)
    # Uniform between 0 and 1000 samples, and between 0 and 0.1 of the range.
    assert max(lengths) <= 1000
    assert np.mean(lengths) == pytest.approx(500, abs=60)
    assert max(deviations) < 0.11
    assert np.mean(deviations) == pytest.approx(0.05, abs=0.006)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_key_and_seed_give_the_same_noise_and_others_another(ecg, kind):
    one = Perturbation(kind, level_of(kind))
    before = ecg.copy()
    first = perturb(ecg, RATE, one, "a", 1)
    assert first.dtype == np.float64
    assert np.array_equal(ecg, before)
    assert np.array_equal(first, perturb(ecg, RATE, one, "a", 1))
    if kind != LIMB_LEAD_SWAP:
        assert not np.array_equal(first, perturb(ecg, RATE, one, "b", 1))
        assert not np.array_equal(first, perturb(ecg, RATE, one, "a", 2))


@pytest.mark.parametrize("kind", FROM_ELECTRODES)
def test_along_a_curve_the_same_noise_grows(ecg, kind):
    mild, severe = (perturb(ecg, RATE, Perturbation(kind, decibels), "a") - ecg for decibels in (20, 0))
    np.testing.assert_allclose(severe, 10 * mild, atol=1e-9)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != LIMB_LEAD_SWAP])
def test_samples_that_were_not_measured_stay_so(ecg, kind):
    ecg[4] = np.nan
    ecg[:, 100:4000] = np.nan
    result = perturb(ecg, RATE, Perturbation(kind, level_of(kind)), "a")
    assert np.array_equal(np.isnan(result), np.isnan(ecg))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 0.3, np.nan])
def test_recordings_without_power_pass(kind, value):
    flat = np.full((12, 5000), value)
    result = perturb(flat, RATE, Perturbation(kind, level_of(kind)), "a")
    assert np.array_equal(np.isnan(result), np.isnan(flat))
    if kind in FROM_ELECTRODES or kind == WHITE_WINDOW:
        np.testing.assert_allclose(result, flat, atol=1e-12)


def test_the_benchmarks_set_has_the_papers_levels_and_names_for_tables():
    names = [perturbation.name for perturbation in PERTURBATIONS]
    assert names[:4] == ["white_window 0.05", "white_window 0.1", "white_window 0.15", "white_window 0.2"]
    assert {"muscle 6 dB", "mains 50 Hz 0 dB", "lead dropout 1 lead", "lead dropout 6 leads", "limb-lead swap"} < set(
        names
    )
    assert len(set(names)) == len(names) == 20


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != MAINS_60_HZ])
def test_real_recordings_take_every_kind(ptb_xl, kind):
    recording = read_ecg(ptb_xl / "records500/00000/00001_hr")
    signal = place_leads(recording.signal, recording.lead_names)
    result = perturb(signal, recording.sampling_rate, Perturbation(kind, level_of(kind)), "1")
    assert np.isfinite(result).all()
    assert not np.array_equal(result, signal)
    if kind in FROM_ELECTRODES:
        broken = np.abs(signal[0] + signal[2] - signal[1])
        np.testing.assert_allclose(np.abs(result[0] + result[2] - result[1]), broken, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "level", "message"),
    [
        ("hum", 6, "unknown kind of noise 'hum'; known are white_window, baseline wander"),
        (MUSCLE, None, "muscle: level None, expected a signal-to-noise ratio in dB"),
        (MUSCLE, math.inf, "muscle: level inf"),
        (MUSCLE, "6", "muscle: level '6'"),
        (WHITE_WINDOW, 0, "white_window: level 0, expected a share above 0 and at most 1"),
        (WHITE_WINDOW, 1.5, "white_window: level 1.5"),
        (LEAD_DROPOUT, 0, "lead dropout: level 0, expected a number of leads from 1 to 12"),
        (LEAD_DROPOUT, 2.5, "lead dropout: level 2.5"),
        (LIMB_LEAD_SWAP, 1, "limb-lead swap: level 1, expected None"),
    ],
)
def test_kinds_and_levels_that_do_not_exist_are_refused(kind, level, message):
    with pytest.raises(ValueError, match=message):
        Perturbation(kind, level)


@pytest.mark.parametrize(
    ("signal", "rate", "kind", "message"),
    [
        (np.zeros((8, 5000)), RATE, MUSCLE, r"a: signal of shape \(8, 5000\), expected \(12, samples\)"),
        (np.zeros((12, 400)), RATE, MUSCLE, r"a: signal of shape \(12, 400\), expected .* at least one second"),
        (np.zeros((12, 5000)), 0.0, MUSCLE, "a: sampling rate 0.0"),
        (np.full((12, 5000), np.inf), RATE, MUSCLE, "a: infinite samples"),
        (np.ones((12, 1000)), 100.0, MAINS_50_HZ, "a: sampling rate 100 Hz; mains 50 Hz needs more than 111 Hz"),
        (np.ones((12, 1000)), 40.0, MUSCLE, "a: sampling rate 40 Hz; muscle needs more than 44 Hz"),
    ],
)
def test_signals_that_are_no_ecg_are_refused(signal, rate, kind, message):
    with pytest.raises(ValueError, match=message):
        perturb(signal, rate, Perturbation(kind, 6), "a")
