"""How true a draft is: its findings against those of the reference, and of the SCP-ECG statements where there are any.

A possible finding counts as stated. Whoever reads "possible infarct" acts on it, and a system could otherwise say
anything at no cost as long as it hedges.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .bootstrap import Statistic
from .finding import Finding, labels_of
from .finding_classes import FINDING_CLASSES

# What follows from what is said. Not in here: hypertrophy does not imply high voltage (the strain pattern names it
# too), nor infarction Q waves, nor bundle branch block of one degree that of another.
_IMPLIES: dict[str, tuple[str, ...]] = {
    "SBRAD": ("SR", "BRAD"),
    "STACH": ("SR", "TACH"),
    "SARRH": ("SR",),
    "SVTAC": ("TACH",),
    "VT": ("TACH", "ABQRS"),
    "IVR": ("ABQRS",),
    "PAC": ("PRC",),
    "PVC": ("PRC",),
    "BIGU": ("PRC",),
    "LAFB": ("LAX", "IVCD"),  # the deviation of the axis is its criterion, likewise of LPFB
    "LPFB": ("RAX", "IVCD"),
    "CRBBB": ("IVCD",),
    "IRBBB": ("IVCD",),
    "CLBBB": ("IVCD",),
    "ILBBB": ("IVCD",),
    "IVCD": ("ABQRS",),
    "WPW": ("ABQRS",),
    "QWAVE": ("ABQRS",),
    "PRWP": ("ABQRS",),
    "LVOLT": ("ABQRS",),
    "ISC": ("STC", "TC"),  # SCP-ECG defines it as ST-T changes; which of the two, it does not say
    "INJ": ("STC",),
    "ANEUR": ("STC",),  # "ST-T changes compatible with ventricular aneurysm"
    "PERI": ("STC",),
    "EREP": ("STC",),  # not STE: a notched J point is enough for it
    "DIG": ("STC",),
    "STD": ("STC",),
    "STE": ("STC",),
    "TINV": ("TC",),
    "LOWT": ("TC",),
}
# What makes an ECG abnormal wherever it is certain. The others also occur in what PTB-XL's readers call a normal ECG
# (incomplete right bundle branch block, single premature complexes, first degree AV block, unspecific T waves).
_PATHOLOGICAL = {
    "AFIB", "AFLT", "SVTAC", "VT", "IVR", "JR", "PAUSE", "PACE", "BIGU", "2AVB", "3AVB",
    "CRBBB", "CLBBB", "ILBBB", "LAFB", "LPFB", "WPW", "LVH", "RVH", "SEHYP", "QWAVE", "MI", "ANEUR",
    "INJ", "ISC", "STD", "STE", "TINV", "PERI", "DIG", "EL", "LNGQT", "SQT",
}  # fmt: skip
# Ages of an infarction that name, or leave open, what "acute" warns of. "Age undetermined" warns of nothing.
_MAY_BE_ACUTE = ("acute", "recent", None)

_COUNTED = ("stated", "expected", "correct", "hallucinated", "omitted", "critical", "critical_missed")
_MOST = 99  # of one kind of error, so that `harm` keeps the kinds apart


def implied(labels: Iterable[str]) -> frozenset[str]:
    """The labels, and all that follows from them: LAFB also says LAX, and any pathological finding ABN.

    Args:
        labels: as `Finding.labels`; `MI:inferior` says MI.
    """
    closed: set[str] = set()
    open_labels = list(labels)
    while open_labels:
        label = open_labels.pop()
        if label in closed:
            continue
        closed.add(label)
        code = label.partition(":")[0]
        open_labels += [code, *_IMPLIES.get(code, ()), *(("ABN",) if code in _PATHOLOGICAL else ())]
    return frozenset(closed)


@dataclass(frozen=True)
class ReportTruth:
    """One draft against its reference, as sets of labels (see `Finding.labels`).

    Attributes:
        stated: what the draft says.
        expected: what the reference says.
        correct: what both say, to the word, less what is hallucinated.
        hallucinated: stated, and implied neither by the reference nor by the SCP-ECG statements; `MI` also where an
            infarction that they call old, or of undetermined age, is said to be acute.
        omitted: expected, and not implied by the draft.
        critical: codes that must not be missed (`Finding.is_critical`) in the reference or the statements.
        critical_missed: those that the draft does not imply. An acute infarction is missed by a draft that calls it
            old or of undetermined age.
        critical_hallucinated: critical codes of the draft that neither reference nor statements imply.
        contradicted: what the draft asserts and the reference denies, or the other way round; NORM where the draft
            calls an ECG normal that certain findings of the reference make abnormal.
    """

    stated: frozenset[str]
    expected: frozenset[str]
    correct: frozenset[str]
    hallucinated: frozenset[str]
    omitted: frozenset[str]
    critical: frozenset[str]
    critical_missed: frozenset[str]
    critical_hallucinated: frozenset[str]
    contradicted: frozenset[str]

    @property
    def precision(self) -> float:
        """Correct of the stated; NaN where nothing is stated."""
        return _ratio(len(self.correct), len(self.stated))

    @property
    def recall(self) -> float:
        """Correct of the expected; NaN where nothing is expected."""
        return _ratio(len(self.correct), len(self.expected))

    @property
    def f1(self) -> float:
        """Harmonic mean of both; NaN where nothing is stated or expected."""
        return _ratio(2 * len(self.correct), len(self.stated) + len(self.expected))


def report_truth(draft: Iterable[Finding], reference: Iterable[Finding], scp: Iterable[Finding] = ()) -> ReportTruth:
    """Compare the findings of a draft with those of its reference.

    Args:
        draft: the findings of the draft.
        reference: those of its reference.
        scp: those of the recording's SCP-ECG statements (`scp_findings`), which may know more than the reference.
    """
    draft, reference, scp = list(draft), list(reference), list(scp)
    known = [*reference, *scp]
    stated, expected = labels_of(draft), labels_of(reference)
    critical = {finding.code for finding in known if finding.is_critical}
    warned_of = {finding.code for finding in draft if finding.is_critical}
    # A statement on an infarction without an age leaves open what the reference may settle.
    is_age_known = any(finding.age is not None for finding in reference if not finding.is_negated)
    supporting = [finding for finding in scp if not is_age_known or finding.code != "MI" or finding.age is not None]
    critical_hallucinated = frozenset(code for code in warned_of if not _warns_of([*reference, *supporting], code))
    hallucinated = (stated - implied(labels_of(known))) | critical_hallucinated
    return ReportTruth(
        stated=stated,
        expected=expected,
        correct=(stated & expected) - hallucinated,
        hallucinated=hallucinated,
        omitted=expected - implied(stated),
        critical=frozenset(critical),
        critical_missed=frozenset(code for code in critical if not _warns_of(draft, code)),
        critical_hallucinated=critical_hallucinated,
        contradicted=_contradicted(draft, reference),
    )


def _warns_of(findings: Iterable[Finding], code: str) -> bool:
    return code in labels_of(f for f in findings if f.code != "MI" or f.age in _MAY_BE_ACUTE)


def _contradicted(draft: list[Finding], reference: list[Finding]) -> frozenset[str]:
    # What one report says both of ("ST elevation in V2", "no ST elevation in V5") contradicts nothing.
    ours = _denied(draft, reference) - _denied(reference, reference) - _denied(draft, draft)
    theirs = _denied(reference, draft) - _denied(reference, reference) - _denied(draft, draft)
    labels = ours | theirs
    certain = labels_of(finding for finding in reference if finding.certainty == "certain")
    if "NORM" in labels_of(draft) and "ABN" in implied(certain) and "NORM" not in labels_of(reference):
        labels |= {"NORM"}
    return labels


def _denied(denying: Iterable[Finding], asserting: Sequence[Finding]) -> frozenset[str]:
    """What one side denies and the other implies: sites where sites are denied, the age where an age is."""
    denied = set()
    for finding in denying:
        if not finding.is_negated:
            continue
        asserted = implied(labels_of(f for f in asserting if finding.age is None or f.age == finding.age))
        labels = [f"{finding.code}:{site}" for site in finding.sites] or [finding.code]
        denied.update(asserted.intersection(labels))
    return frozenset(denied)


def truth_statistics(truths: Sequence[ReportTruth]) -> dict[str, Statistic]:
    """Figures over any choice of reports, for `bootstrap.resample`.

    Each sums labels over the reports before it divides (micro average), and is NaN where there is nothing to divide by:
    a critical-miss rate without a critical finding.

    - findings precision, recall, F1: correct of the stated, of the expected, and their harmonic mean;
    - hallucination rate: hallucinated of the stated; omission rate: omitted of the expected;
    - critical-miss rate: missed of the critical findings.

    Raises:
        ValueError: no reports.
    """
    if not truths:
        raise ValueError("no reports: truths is empty")
    count = {name: np.array([len(getattr(truth, name)) for truth in truths], dtype=np.int64) for name in _COUNTED}

    def share(part: str, whole: str) -> Statistic:
        return lambda rows: _ratio(count[part][rows].sum(), count[whole][rows].sum())

    return {
        "findings precision": share("correct", "stated"),
        "findings recall": share("correct", "expected"),
        "findings F1": lambda rows: _ratio(
            2 * count["correct"][rows].sum(), count["stated"][rows].sum() + count["expected"][rows].sum()
        ),
        "hallucination rate": share("hallucinated", "stated"),
        "omission rate": share("omitted", "expected"),
        "critical-miss rate": share("critical_missed", "critical"),
    }


@dataclass(frozen=True)
class FindingFigures:
    """One finding over all reports: in how many it is; the ratios are NaN where there is nothing to divide by."""

    in_references: int
    in_drafts: int
    correct: int
    hallucinated: int
    omitted: int

    @property
    def precision(self) -> float:
        return _ratio(self.correct, self.in_drafts)

    @property
    def recall(self) -> float:
        return _ratio(self.correct, self.in_references)

    @property
    def f1(self) -> float:
        return _ratio(2 * self.correct, self.in_drafts + self.in_references)


def per_finding(truths: Sequence[ReportTruth]) -> dict[str, FindingFigures]:
    """Figures of each finding that any draft or reference states, sites aside, in the order of `FINDING_CLASSES`."""
    columns = ("expected", "stated", "correct", "hallucinated", "omitted")
    counts = [Counter(label for truth in truths for label in getattr(truth, column)) for column in columns]
    figures = {code: FindingFigures(*(count[code] for count in counts)) for code in FINDING_CLASSES}
    return {code: figure for code, figure in figures.items() if figure.in_references or figure.in_drafts}


def harm(truth: ReportTruth) -> int:
    """How much a draft may harm, to sort a reader's list of errors.

    The count of each kind of error is a digit to base 100, the gravest first, so that one critical finding missed
    outweighs any number of lesser errors: critical missed, critical hallucinated, contradicted, other hallucinations,
    omitted.
    """
    kinds = (
        truth.critical_missed,
        truth.critical_hallucinated,
        truth.contradicted,
        truth.hallucinated - truth.critical_hallucinated,
        truth.omitted,
    )
    total = 0
    for kind in kinds:
        total = total * (_MOST + 1) + min(len(kind), _MOST)
    return total


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
