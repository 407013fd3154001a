import itertools

import numpy as np
import pytest

from processing import LEADS, canonical_lead
from processing.leads import place_leads


@pytest.mark.parametrize(
    ("spelling", "lead"),
    [
        ("AVR", "aVR"),
        ("avr", "aVR"),
        ("aVf", "aVF"),
        ("Lead II", "II"),
        ("lead_iii", "III"),
        ("MDC_ECG_LEAD_V1", "V1"),
        ("MDC_ECG_LEAD_AVL", "aVL"),
        (" v1 ", "V1"),
        ("V 6", "V6"),
        ("ECG I", "I"),
        ("EKG: aVF", "aVF"),
        ("DII", "II"),
        ("i", "I"),
    ],
)
def test_spellings(spelling, lead):
    assert canonical_lead(spelling) == lead


@pytest.mark.parametrize("name", ["", "VX", "V7", "V10", "-aVR", "MLII", "IV", "lead", "ECG", "aVRR", "resp"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="not one of the twelve leads"):
        canonical_lead(name)


def test_leads_are_placed_by_name(ecg):
    order = np.random.default_rng(1).permutation(12)
    names = [LEADS[lead].upper() for lead in order]
    np.testing.assert_array_equal(place_leads(ecg[order], names), ecg)


@pytest.mark.parametrize("kept", list(itertools.combinations(("I", "II", "III"), 2)))
def test_limb_leads_are_derived_from_any_two(ecg, kept):
    # make_ecg computes every limb lead from electrode potentials, which is independent of the derivation.
    rows = [LEADS.index(lead) for lead in (*kept, *LEADS[6:])]
    placed = place_leads(ecg[rows], [LEADS[row] for row in rows])
    np.testing.assert_allclose(placed, ecg, atol=1e-12)


def test_a_lead_that_is_present_is_not_replaced(ecg):
    ecg[5] += 0.25
    np.testing.assert_array_equal(place_leads(ecg, LEADS), ecg)


def test_a_derived_sample_is_invalid_where_its_source_is(ecg):
    ecg[0, 17] = np.nan
    placed = place_leads(np.delete(ecg, 2, axis=0), [lead for lead in LEADS if lead != "III"])
    assert np.isnan(placed[2]).nonzero()[0].tolist() == [17]


def test_signals_that_are_no_standard_lead_are_left_out(ecg):
    names = ["vx", *LEADS, "resp"]
    np.testing.assert_array_equal(place_leads(np.vstack([ecg[:1] + 9, ecg, ecg[:1] - 9]), names), ecg)


def test_missing_leads_are_named(ecg):
    with pytest.raises(ValueError, match=r"leads V1, V6 missing: found I, II, .*; expected I, II, III, aVR"):
        place_leads(np.delete(ecg, [6, 11], axis=0), [lead for lead in LEADS if lead not in ("V1", "V6")])
    rows = [0, 3, *range(6, 12)]
    with pytest.raises(ValueError, match=r"leads II, III, aVL, aVF missing"):
        place_leads(ecg[rows], [LEADS[row] for row in rows])


def test_duplicate_leads_are_refused_whatever_their_spelling(ecg):
    names = [*LEADS[:-1], "avr"]
    with pytest.raises(ValueError, match="lead aVR appears twice"):
        place_leads(ecg, names)
