"""Statements of a report that can be measured, held against the ECG: rate, regularity, intervals and axis.

Limits are those of the AHA/ACCF/HRS recommendations of 2009 (part III: conduction, Surawicz et al.; part IV: ST, T and
QT, Rautaharju et al.). To each a tolerance is added, so that only what is clearly otherwise counts as contradicted:

- rates: 5 bpm or 10 %, whichever is more, as ANSI/AAMI EC13 grants a heart rate meter;
- PR and QRS: 20 ms, QT: 30 ms, about two standard deviations between measuring programs (CSE Working Party 1985);
- axis: 20 degrees, within which the signal's axis and the cart's agree on 98 % of real recordings.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .finding import Finding
from .measurements import Measurements

_INFINITE = float("inf")
_RATE, _RATE_SHARE, _INTERVAL, _QT, _AXIS = 5.0, 0.1, 20.0, 30.0, 20.0


@dataclass(frozen=True)
class Check:
    """One statement beside what was measured.

    Attributes:
        statement: the code of the finding, or "rate 45/min".
        quantity: the field of `Measurements` that it is about.
        measured: its value.
        expected: the lowest and highest value that would agree, tolerance included; of an axis, clockwise from the
            first to the second.
    """

    statement: str
    quantity: str
    measured: float
    expected: tuple[float, float]

    @property
    def is_contradicted(self) -> bool:
        """Whether the measured value lies outside."""
        low, high = self.expected
        if self.quantity == "axis_degrees":
            return (self.measured - low) % 360 > high - low
        return not low <= self.measured <= high


# By finding: quantity, lowest and highest value, tolerance included.
_EXPECTED: dict[str, tuple[str, float, float]] = {
    "SBRAD": ("heart_rate_bpm", 0, 60 + _RATE),
    "BRAD": ("heart_rate_bpm", 0, 60 + _RATE),
    "STACH": ("heart_rate_bpm", 100 - _RATE, _INFINITE),
    "TACH": ("heart_rate_bpm", 100 - _RATE, _INFINITE),
    # Sustained: a short run leaves the mean rate lower, and the report then says "run" or names the rhythm besides.
    "SVTAC": ("heart_rate_bpm", 100 - _RATE, _INFINITE),
    "VT": ("heart_rate_bpm", 100 - _RATE, _INFINITE),
    # In AF by a quarter (Tateno and Glass 2001), in PTB-XL's steadiest by 0.11; half of its sinus rhythms: below 0.023.
    "AFIB": ("rr_irregularity", 0.03, _INFINITE),
    # Longest and shortest PP differ by more than 10 %, which is 0.035 where they swing like a sine.
    "SARRH": ("rr_irregularity", 0.02, _INFINITE),
    "1AVB": ("pr_ms", 200 - _INTERVAL, _INFINITE),
    "CRBBB": ("qrs_ms", 120 - _INTERVAL, _INFINITE),
    "CLBBB": ("qrs_ms", 120 - _INTERVAL, _INFINITE),
    "IRBBB": ("qrs_ms", 0, 120 + _INTERVAL),
    "ILBBB": ("qrs_ms", 0, 120 + _INTERVAL),
    "LNGQT": ("qtc_ms", 450 - _QT, _INFINITE),
    "SQT": ("qtc_ms", 0, 390 + _QT),
    # "Linkstyp" and "leftward axis" begin at +30, left axis deviation at -30.
    "LAX": ("axis_degrees", -90 - _AXIS, 30 + _AXIS),
    "RAX": ("axis_degrees", 90 - _AXIS, 270 + _AXIS),
    "NAX": ("axis_degrees", -30 - _AXIS, 90 + _AXIS),
    "VAX": ("axis_degrees", 60 - _AXIS, 90 + _AXIS),
    # From -45 in the recommendations; PTB-XL's readers, and the older criteria, begin at -30.
    "LAFB": ("axis_degrees", -90 - _AXIS, -30 + _AXIS),
    "LPFB": ("axis_degrees", 90 - _AXIS, 180 + _AXIS),
}
# The ventricles then keep a beat of their own under a fibrillating atrium.
_REGULAR_IN_AF = {"PACE", "3AVB", "JR", "IVR"}

_NUMBER = r"(?P<{}>\d{{2,3}})(?![\d.,:]*\d)"
_PER_MINUTE = r"(?:bpm|(?:(?:beats|schl[aä]ge|slag)\s*)?(?:/|per\b|pro\b)\s*min)"
_STATED_RATE = re.compile(
    r"(?P<ventricular>\bventricular\s+)?"
    r"\b(?:rate|response|hr|hf|(?:herz)?frequenz|(?:hj[aä]rt)?frekvens)\b"
    r"(?:\s|of|is|at|=|:|um|ca\.?|approx\.?|approximately|about|around)*"
    rf"{_NUMBER.format('after')}(?!\s*(?:ms|%|mv))"
    rf"|(?<![\d.,:]){_NUMBER.format('before')}\s*{_PER_MINUTE}",
    re.IGNORECASE,
)
# Of the atria (unless they fibrillate), or of another time.
_ATRIAL = re.compile(
    r"\b(?:atrial|atrium|vorhof\w*|flutter)\b(?!\s*fibrillation)(?:[^.;]|\bca\.|\bapprox\.){0,30}$", re.IGNORECASE
)
_OTHER_TIME = re.compile(
    r"\b(?:previous|previously|compared|after|nach|run of|from|to)\b[^.;]*$"
    r"|(?:>|&gt;|\bover|\bmore than|\b[uü]ber)\s*$",
    re.IGNORECASE,
)
_POSSIBLE_RATES = (20, 300)  # bpm


def checked(findings: Iterable[Finding], text: str, measurements: Measurements) -> list[Check]:
    """Each statement of a report for which there is a measurement.

    Findings that are negated, or only possible, state nothing that a measurement could refute.

    Args:
        findings: of the report.
        text: the report, for a rate that it gives in numbers. Where it gives several, one must agree.
        measurements: of the recording, for example `with_machine(measure(...), machine_measurements(...))`.
    """
    certain = [finding.code for finding in findings if finding.certainty == "certain" and not finding.is_negated]
    checks = []
    for code in dict.fromkeys(certain):
        if code not in _EXPECTED or (code == "AFIB" and _REGULAR_IN_AF & set(certain)):
            continue
        quantity, low, high = _EXPECTED[code]
        measured = getattr(measurements, quantity)
        if measured is not None:
            checks.append(Check(code, quantity, measured, (low, high)))
    return checks + _rate_check(text, measurements.heart_rate_bpm)


def contradictions(findings: Iterable[Finding], text: str, measurements: Measurements) -> list[Check]:
    """The statements among `checked(...)` that the ECG contradicts."""
    return [check for check in checked(findings, text, measurements) if check.is_contradicted]


def stated_rates(text: str) -> list[int]:
    """Ventricular rates that a text gives in numbers, in bpm: "rate 45", "45/min", "hf 70"."""
    rates = []
    for match in _STATED_RATE.finditer(text):
        rate = int(match["after"] or match["before"])
        before = text[max(0, match.start() - 60) : match.start()]
        is_atrial = not match["ventricular"] and _ATRIAL.search(before)
        if _POSSIBLE_RATES[0] <= rate <= _POSSIBLE_RATES[1] and not is_atrial and not _OTHER_TIME.search(before):
            rates.append(rate)
    return rates


def _rate_check(text: str, measured: float | None) -> list[Check]:
    rates = stated_rates(text)
    if measured is None or not rates:
        return []
    nearest = min(rates, key=lambda rate: abs(rate - measured))
    tolerance = max(_RATE, _RATE_SHARE * nearest)
    return [Check(f"rate {nearest}/min", "heart_rate_bpm", measured, (nearest - tolerance, nearest + tolerance))]
