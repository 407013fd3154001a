"""What is measured on an ECG, so that a report's statements can be checked against it."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Measurements:
    """Figures of one recording; None for what was not measured.

    Attributes:
        heart_rate_bpm: ventricular rate, 60 / mean RR interval.
        rr_irregularity: coefficient of variation of the RR intervals (standard deviation / mean, of the population).
        pr_ms: from the beginning of P to that of QRS.
        qrs_ms: duration of QRS.
        qt_ms: from the beginning of QRS to the end of T.
        qtc_ms: QT corrected for the rate, QT + 154 ms * (1 - RR in s) (Sagie et al. 1992, Framingham): linear, as the
            AHA/ACCF/HRS recommendations of 2009 ask for in place of Bazett's.
        axis_degrees: mean frontal QRS axis, above -180 and at most 180.
    """

    heart_rate_bpm: float | None = None
    rr_irregularity: float | None = None
    pr_ms: float | None = None
    qrs_ms: float | None = None
    qt_ms: float | None = None
    qtc_ms: float | None = None
    axis_degrees: float | None = None

    def filled_from(self, other: "Measurements") -> "Measurements":
        """These, and where one is None, that of `other`.

        `measure(...)` has the beats themselves, hence rate and irregularity; a cart's intervals come from better
        delineation. `machine_intervals.with_machine` takes the best of both.
        """
        return Measurements(
            **{
                field.name: getattr(other, field.name) if (own := getattr(self, field.name)) is None else own
                for field in fields(self)
            }
        )
