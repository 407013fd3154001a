"""The twelve standard ECG leads: their order here, the spellings that files use, and how they follow from
one another."""

import re
from collections.abc import Sequence

import numpy as np

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

# "MDC_ECG_LEAD_V1" (ISO/IEEE 11073), "Lead II", "ECG V1", "EKG I". A hyphen is no separator: "-aVR" is the
# inverted lead of the Cabrera sequence, which must not be taken for aVR.
_PREFIX = re.compile(r"^(?:mdc[\s_]*)?(?:ecg|ekg)?[\s_]*(?:lead)?[\s_:]*", re.IGNORECASE)
_BY_SPELLING = {lead.lower(): lead for lead in LEADS} | {"di": "I", "dii": "II", "diii": "III"}


def canonical_lead(name: str) -> str:
    """Return the name in `LEADS` that a lead name in any usual spelling stands for.

    Case, spaces, underscores and the prefixes "Lead", "ECG", "EKG" and "MDC_ECG_LEAD_" do not matter; DI, DII
    and DIII are I, II and III.

    Args:
        name: the name as a file spells it, such as "AVR", "avr", "Lead II", "MDC_ECG_LEAD_V1" or " v1 ".

    Raises:
        ValueError: the name is not one of the twelve leads.
    """
    spelling = re.sub(r"[\s_]+", "", _PREFIX.sub("", str(name).strip())).lower()
    if spelling not in _BY_SPELLING:
        raise ValueError(f"{name!r} is not one of the twelve leads {', '.join(LEADS)}")
    return _BY_SPELLING[spelling]


def is_lead(name: str) -> bool:
    """True if `canonical_lead` knows the name."""
    try:
        canonical_lead(name)
    except ValueError:
        return False
    return True


def place_leads(signal: np.ndarray, lead_names: Sequence[str]) -> np.ndarray:
    """Put the leads into the order of `LEADS` by their names, deriving limb leads that are absent.

    Two of I, II and III give the third (Einthoven) and the augmented leads (Goldberger): II = I + III,
    aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2. A lead that is present is never replaced. Signals
    that are none of the twelve leads (Frank leads, respiration) are left out.

    Args:
        signal: shape (leads, samples), any unit.
        lead_names: one name per row, any spelling that `canonical_lead` knows.

    Returns:
        float64 of shape (12, samples). A derived sample is NaN where one of its sources is.

    Raises:
        ValueError: a lead appears twice, or one is absent and cannot be derived.
    """
    placed = {}
    for row, name in zip(signal, lead_names, strict=True):
        if not is_lead(name):
            continue
        lead = canonical_lead(name)
        if lead in placed:
            raise ValueError(f"lead {lead} appears twice among {', '.join(lead_names)}; expected each lead once")
        placed[lead] = np.asarray(row, dtype=np.float64)
    placed = _derived_limb_leads(placed) | placed
    missing = [lead for lead in LEADS if lead not in placed]
    if missing:
        raise ValueError(
            f"lead{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing: found "
            f"{', '.join(lead_names) or 'none'}; expected {', '.join(LEADS)}, of which limb leads may be absent "
            "where two of I, II and III are there"
        )
    return np.stack([placed[lead] for lead in LEADS])


def _derived_limb_leads(placed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if sum(lead in placed for lead in ("I", "II", "III")) < 2:
        return {}
    one = placed["I"] if "I" in placed else placed["II"] - placed["III"]
    two = placed["II"] if "II" in placed else placed["I"] + placed["III"]
    return {
        "I": one,
        "II": two,
        "III": two - one,
        "aVR": -(one + two) / 2,
        "aVL": one - two / 2,
        "aVF": two - one / 2,
    }
