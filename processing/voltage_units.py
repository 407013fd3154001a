"""Units of voltage, as files spell them."""

import re

import numpy as np

_MAX_TITLE = 100  # characters
# "I (uV)", "II [mV]", "V1_uV"
_WITH_UNIT = re.compile(r"(.*?)(?:\s*[(\[](.*)[)\]]|[\s_]([nuµμm]?v))?", re.IGNORECASE)

# How many of a unit make one mV. Case tells mV from MV (megavolt) in theory; no ECG is in megavolts.
_PER_MILLIVOLT = {
    "nv": 1e6,
    "nanovolt": 1e6,
    "nanovolts": 1e6,
    "uv": 1e3,
    "µv": 1e3,  # the micro sign
    "μv": 1e3,  # the Greek letter
    "microvolt": 1e3,
    "microvolts": 1e3,
    "mv": 1.0,
    "millivolt": 1.0,
    "millivolts": 1.0,
    "v": 1e-3,
    "volt": 1e-3,
    "volts": 1e-3,
}
# mV. Nothing on the skin reaches the larger, so that more without a unit is a count or in µV. The largest deflection of
# any ECG is above the smaller, so that less is in V.
_UNSTATED_MILLIVOLTS = (0.02, 100.0)


def units_per_millivolt(unit: str) -> float:
    """Return how many of `unit` make one mV.

    Raises:
        ValueError: not a unit of voltage; the message quotes it and says what was expected.
    """
    per_millivolt = _PER_MILLIVOLT.get(unit.strip().lower())
    if per_millivolt is None:
        raise ValueError(f"the unit {unit[:20]!r}; expected mV, uV, nV or V")
    return per_millivolt


def check_unstated_unit(millivolts: np.ndarray) -> None:
    """Refuse numbers that no ECG in mV reaches, or stays below, in a file that states no unit.

    Raises:
        ValueError: the largest sample is too large or too small; the message says what was expected. All samples
            may be 0 or NaN.
    """
    largest = np.nanmax(np.abs(millivolts), initial=0.0)
    lowest, highest = _UNSTATED_MILLIVOLTS
    if 0 < largest < lowest or largest > highest:
        found = f"values of up to {largest:g} and no unit{', perhaps in V' if largest < lowest else ''}"
        raise ValueError(f"{found}; expected mV, or a unit such as uV stated beside the numbers")


def split_unit(title: str) -> tuple[str, str | None]:
    """Return the name in a title such as "V1 (uV)", "V1 [mV]" or "V1_uV", and the unit behind it or None."""
    if len(title) > _MAX_TITLE:  # no name, and long to search
        return title, None
    name, bracketed, behind = _WITH_UNIT.fullmatch(title.replace("\n", " ")).groups()
    return name, behind if bracketed is None else bracketed
