"""PTB-XL's SCP-ECG statements as findings."""

from collections.abc import Collection, Mapping

from .finding import Finding
from .finding_classes import FINDING_CLASSES

_FINDING_OF = {scp: code for code, finding_class in FINDING_CLASSES.items() for scp in finding_class.scp}
_SITES = {
    "AMI": ("anterior",),
    "ASMI": ("anterior", "septal"),
    "ALMI": ("anterior", "lateral"),
    "LMI": ("lateral",),
    "IMI": ("inferior",),
    "ILMI": ("inferior", "lateral"),
    "IPMI": ("inferior", "posterior"),
    "IPLMI": ("inferior", "posterior", "lateral"),
    "PMI": ("posterior",),
    "INJAS": ("anterior", "septal"),
    "INJAL": ("anterior", "lateral"),
    "INJLA": ("lateral",),
    "INJIN": ("inferior",),
    "INJIL": ("inferior", "lateral"),
    "ISCAN": ("anterior",),
    "ISCAS": ("anterior", "septal"),
    "ISCAL": ("anterior", "lateral"),
    "ISCLA": ("lateral",),
    "ISCIN": ("inferior",),
    "ISCIL": ("inferior", "lateral"),
}
# As the reports that bear them say it: AXL "borderline left axis deviation", AXR "Steiltyp", MID "Lagetyp normal". SAG
# (sagittal, S1Q3) has no frontal axis to speak of.
_AXES = {
    "LAD": "LAX",
    "ALAD": "LAX",
    "AXL": "LAX",
    "RAD": "RAX",
    "ARAD": "RAX",
    "AXR": "VAX",
    "MID": "NAX",
    "SAG": "IAX",
}
# Reports of stage II-III say "wahrscheinlich alt" (probably old).
_AGES = {
    "unknown": "undetermined",
    "Stadium I": "acute",
    "Stadium I-II": "recent",
    "Stadium II": "recent",
    "Stadium II-III": "old",
    "Stadium III": "old",
}
_LIKELY = 50.0


def scp_findings(
    scp_codes: Mapping[str, float], heart_axis: str | None = None, infarction_stadia: Collection[str] = ()
) -> list[Finding]:
    """What PTB-XL's statements say of one recording.

    Args:
        scp_codes: statement to likelihood in percent. 0 means that the likelihood is unknown, as it is for all
            statements on rhythm and form, not that the finding is absent; 1 to 49 makes it "possible".
        heart_axis: the column of that name of `ptbxl_database.csv`.
        infarction_stadia: what its columns `infarction_stadium1` and `infarction_stadium2` hold. Which infarction a
            stage is of, the table does not say: all get the stage if there is one, and none if there are two.

    Returns:
        Each finding once: the certain one where two statements say the same.

    Raises:
        ValueError: an unknown statement, axis or stage, or a likelihood that is not between 0 and 100.
    """
    age = _age(infarction_stadia)
    likelihoods: dict[tuple[str, tuple[str, ...]], float] = {}
    for scp, likelihood in scp_codes.items():
        if scp not in _FINDING_OF:
            raise ValueError(f"{scp!r} is no SCP-ECG statement of PTB-XL; known are {', '.join(sorted(_FINDING_OF))}")
        if likelihood is None or not 0 <= likelihood <= 100:
            raise ValueError(f"{scp}: likelihood {likelihood}, expected 0 to 100 percent")
        key = (_FINDING_OF[scp], _SITES.get(scp, ()))
        likelihoods[key] = max(likelihoods.get(key, 0.0), 100.0 if likelihood == 0 else float(likelihood))
    findings = [
        Finding(code, sites, age if code == "MI" else None, "certain" if likelihood >= _LIKELY else "possible")
        for (code, sites), likelihood in likelihoods.items()
    ]
    if heart_axis is not None:
        if heart_axis not in _AXES:
            raise ValueError(f"heart_axis is {heart_axis!r}, expected one of {', '.join(_AXES)}")
        findings.append(Finding(_AXES[heart_axis]))
    return findings


def _age(stadia: Collection[str]) -> str | None:
    if unknown := set(stadia) - set(_AGES):
        raise ValueError(f"infarction stage {', '.join(map(repr, unknown))}, expected one of {', '.join(_AGES)}")
    ages = {_AGES[stage] for stage in stadia}
    return ages.pop() if len(ages) == 1 else None
