"""What the cart measured, as the column `machine_measurements` of the dataset holds it."""

from collections.abc import Mapping
from dataclasses import replace

from .measurements import Measurements

_INTERVALS = ("rr_interval", "p_onset", "qrs_onset", "qrs_end", "t_end")
# As in the dataset: 29999, the corpus' "not measured", lies beyond what 10 s hold.
_LONGEST_MS, _LARGEST_ANGLE = 10_000.0, 360.0


def machine_measurements(row: Mapping[str, float | None] | None) -> Measurements:
    """Rate, intervals and axis from the times of the averaged beat.

    Args:
        row: `rr_interval`, `p_onset`, `qrs_onset`, `qrs_end`, `t_end` in ms and `qrs_axis` in degrees: a row of
            MIMIC-IV-ECG's `machine_measurements.csv` (29999: not measured), or the dataset's column of that name
            (None: not measured), which is None where a corpus has no such table.

    Returns:
        None for what was not measured, or what has no positive length; the regularity is always None.

    Raises:
        ValueError: a column is absent (the message names it).
    """
    if row is None:
        return Measurements()
    if absent := [name for name in (*_INTERVALS, "qrs_axis") if name not in row]:
        raise ValueError(f"machine measurements without {', '.join(absent)}; found {', '.join(row) or 'none'}")
    at = {name: _measured(row[name], 0.0, _LONGEST_MS) for name in _INTERVALS}
    rr, qt = at["rr_interval"] or None, _span(at["qrs_onset"], at["t_end"])
    axis = _measured(row["qrs_axis"], -_LARGEST_ANGLE, _LARGEST_ANGLE)
    return Measurements(
        heart_rate_bpm=None if rr is None else 60_000 / rr,
        pr_ms=_span(at["p_onset"], at["qrs_onset"]),
        qrs_ms=_span(at["qrs_onset"], at["qrs_end"]),
        qt_ms=qt,
        qtc_ms=None if qt is None or rr is None else qt + 154 * (1 - rr / 1000),
        # The carts write an axis of exactly 0 where they found none, above all where they state "indeterminate axis".
        axis_degrees=None if not axis else 180 - (180 - axis) % 360,
    )


def with_machine(signal: Measurements, machine: Measurements) -> Measurements:
    """The best of both: rate and regularity from the signal's own beats, intervals and axis from the cart."""
    rate = signal.heart_rate_bpm
    return replace(machine, heart_rate_bpm=machine.heart_rate_bpm if rate is None else rate).filled_from(signal)


def _measured(value: float | None, lowest: float, highest: float) -> float | None:
    if value is None or not lowest <= float(value) <= highest:
        return None
    return float(value)


def _span(begin: float | None, end: float | None) -> float | None:
    return end - begin if begin is not None and end is not None and end > begin else None
