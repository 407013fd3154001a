"""Which terms of a report make which finding. No language: the terms are those of `report_words`.

A finding is named by a head with modifiers before it ("incomplete right bundle BLOCK") or by a subject with a quality
on either side ("T inverted", "low VOLTAGE").
"""

from collections.abc import Iterable

from .finding_classes import FINDING_CLASSES

Codes = tuple[str, ...]


def _rules(*rules: tuple[str, str]) -> tuple[tuple[frozenset[str], Codes], ...]:
    return tuple((frozenset(needed.split()), tuple(codes.split())) for needed, codes in rules)


# The first rule counts whose modifiers are all there. A head whose rules all fail names nothing.
HEADS: dict[str, tuple[tuple[frozenset[str], Codes], ...]] = {
    "rhythm": _rules(
        ("sinus", "SR"),
        ("junctional", "JR"),
        ("idioventricular", "IVR"),
        ("ventricular", "IVR"),
        ("escape", "ESC"),
        ("ectopic", "SVARR"),
        ("atrial", "SVARR"),
        ("supraventricular", "SVARR"),
        ("normal", ""),
        ("rapid", "TACH"),
        ("slow", "BRAD"),
    ),
    "tachycardia": _rules(
        ("sinus", "STACH"),
        ("supraventricular", "SVTAC"),
        ("atrial", "SVTAC"),
        ("junctional", "SVTAC"),
        ("ventricular", "VT"),
        ("", "TACH"),
    ),
    "bradycardia": _rules(
        ("sinus", "SBRAD"), ("junctional", "JR"), ("ectopic", "SVARR BRAD"), ("atrial", "SVARR BRAD"), ("", "BRAD")
    ),
    "arrhythmia": _rules(
        ("sinus", "SARRH"),
        ("absolute", "AFIB"),
        ("supraventricular", "SVARR"),
        ("atrial", "SVARR"),
        ("ventricular", ""),
    ),
    "fibrillation": _rules(("atrial", "AFIB"), ("ventricular", ""), ("", "AFIB")),
    "flutter": _rules(("atrial", "AFLT"), ("ventricular", ""), ("", "AFLT")),
    "beat": _rules(
        ("escape", "ESC"),
        ("premature ventricular", "PVC"),
        ("premature idioventricular", "PVC"),
        ("premature supraventricular", "PAC"),
        ("premature atrial", "PAC"),
        ("premature junctional", "PAC"),
        ("premature", "PRC"),
        ("ectopic ventricular", "PVC"),
        ("ectopic supraventricular", "PAC"),
        ("ectopic atrial", "PAC"),
        ("ectopic", "PRC"),
    ),
    "bigeminy": _rules(
        ("ventricular", "BIGU PVC"), ("supraventricular", "BIGU PAC"), ("atrial", "BIGU PAC"), ("", "BIGU")
    ),
    "rate": _rules(
        ("escape ventricular", "IVR"),
        ("rapid", "TACH"),
        ("high", "TACH"),
        ("slow", "BRAD"),
        ("low", "BRAD"),
        ("normal", ""),
    ),
    "pause": _rules(("", "PAUSE")),
    "pacemaker": _rules(("ectopic", "SVARR"), ("", "PACE")),
    "block": _rules(
        ("bundle left right", "CLBBB CRBBB"),
        ("bundle right incomplete", "IRBBB"),
        ("bundle left incomplete", "ILBBB"),
        ("bundle right", "CRBBB"),
        ("fascicular posterior", "LPFB"),
        ("fascicular anterior", "LAFB"),
        ("bundle anterior left", "LAFB"),
        ("bundle posterior left", "LPFB"),
        ("bundle left", "CLBBB"),
        ("sinoatrial", "PAUSE"),
        ("bifascicular", "IVCD"),
        ("av third", "3AVB"),
        ("av complete", "3AVB"),
        ("heart complete", "3AVB"),
        ("av second", "2AVB"),
        ("av ratio", "2AVB"),
        ("av first", "1AVB"),
        ("third", "3AVB"),
        ("second", "2AVB"),
        ("first", "1AVB"),
        ("intraventricular", "IVCD"),
        ("ventricular", "IVCD"),
        ("fascicular", "IVCD"),
        ("bundle", "IVCD"),
        ("right incomplete", "IRBBB"),
    ),
    "preexcitation": _rules(("", "WPW")),
    "hypertrophy": _rules(
        ("atrial left right", "LAE RAE"),
        ("atrial left", "LAE"),
        ("atrial right", "RAE"),
        ("atrial", ""),
        ("septal", "SEHYP"),
        ("left right", "LVH RVH"),
        ("right", "RVH"),
        ("", "LVH"),
    ),
    "strain": _rules(
        ("atrial left", "LAE"), ("atrial right", "RAE"), ("atrial", ""), ("right", "RVH"), ("left", "LVH")
    ),
    "enlargement": _rules(
        ("atrial left right", "LAE RAE"),
        ("atrial left", "LAE"),
        ("atrial right", "RAE"),
        ("ventricular left", "LVH"),
        ("ventricular right", "RVH"),
    ),
    "infarct": _rules(("", "MI")),
    "damage": _rules(("", "MI")),
    "injury": _rules(("", "INJ")),
    "ischaemia": _rules(("", "ISC")),
    "involvement": _rules(("myocardial", "ISC")),
    "disease": _rules(("coronary", "ISC")),
    "aneurysm": _rules(("", "ANEUR")),
    "early_repolarisation": _rules(("", "EREP")),
    "pericarditis": _rules(("", "PERI")),
    "digitalis": _rules(("", "DIG")),
    "electrolyte": _rules(("", "EL")),
    "artefact": _rules(("", "QUAL")),
    "reversal": _rules(("", "LREV")),
    "delayed": _rules(("intraventricular", "IVCD"), ("av", "1AVB"), ("atrial", ""), ("conduction", "IVCD")),
    "disturbance": _rules(("intraventricular", "IVCD"), ("av", ""), ("atrial", ""), ("conduction", "IVCD")),
    "abnormal": _rules(
        ("atrial left right", "LAE RAE"),
        ("atrial left", "LAE"),
        ("atrial right", "RAE"),
        ("conduction intraventricular", "IVCD"),
        ("conduction", "IVCD"),
    ),
}

# What a quality makes of a subject. "" is a quality that fits and names nothing.
SUBJECTS: dict[str, dict[str, str]] = {
    "st": {
        "depressed": "STD",
        "elevated": "STE",
        "change": "STC",
        "abnormal": "STC",
        "pathological": "STC",
        "disturbance": "STC",
        "borderline": "STC",
        "normal": "",
        "high": "STE",
        "low": "STD",
    },
    "t": {
        "inverted": "TINV",
        "flat": "LOWT",
        "low": "LOWT",
        "small": "LOWT",
        "high": "TC",
        "elevated": "TC",
        "depressed": "TC",
        "biphasic": "TC",
        "change": "TC",
        "abnormal": "TC",
        "pathological": "TC",
        "disturbance": "TC",
        "normal": "",
    },
    "stt": {
        "depressed": "STD TC",
        "elevated": "STE TC",
        "inverted": "TINV",
        "flat": "LOWT",
        "change": "STC TC",
        "abnormal": "STC TC",
        "pathological": "STC TC",
        "disturbance": "STC TC",
        "normal": "",
    },
    "repolarisation": {
        "change": "STC TC",
        "abnormal": "STC TC",
        "pathological": "STC TC",
        "disturbance": "STC TC",
        "delayed": "STC TC",
        "normal": "",
    },
    "qrs": {
        "abnormal": "ABQRS",
        "aberrant": "ABQRS",
        "pathological": "ABQRS",
        "change": "ABQRS",
        "low": "LVOLT",
        "high": "HVOLT",
        "wide": "IVCD",
        "long": "IVCD",
        "normal": "",
        "small": "LVOLT",
    },
    "q": {"abnormal": "QWAVE", "pathological": "QWAVE", "small": "QWAVE", "wide": "QWAVE"},
    "r": {"small": "PRWP", "low": "PRWP", "delayed": "PRWP", "high": "ABQRS", "normal": "", "abnormal": "PRWP"},
    "progression": {
        "small": "PRWP",
        "low": "PRWP",
        "delayed": "PRWP",
        "abnormal": "PRWP",
        "slow": "PRWP",
        "normal": "",
    },
    "qt": {"long": "LNGQT", "short": "SQT", "normal": "", "borderline": ""},
    "pr": {"long": "1AVB", "short": "", "normal": "", "wide": "1AVB"},
    "voltage": {"low": "LVOLT", "high": "HVOLT", "small": "LVOLT", "normal": ""},
    "axis": {
        "left": "LAX",
        "horizontal": "LAX",
        "right": "RAX",
        "vertical": "VAX",
        "normal": "NAX",
        "intermediate": "NAX",
        "undetermined": "IAX",
        "sagittal": "IAX",
        "abnormal": "",
    },
    "type": {
        "left": "LAX",
        "horizontal": "LAX",
        "right": "RAX",
        "vertical": "VAX",
        "intermediate": "NAX",
        "sagittal": "IAX",
    },
    "ecg": {"normal": "NORM", "borderline": "BORD", "abnormal": "ABN", "pathological": "ABN"},
    "quality": {"small": "QUAL", "low": "QUAL", "may": "QUAL"},
    "p": dict.fromkeys(
        (
            "abnormal",
            "pathological",
            "normal",
            "wide",
            "high",
            "inverted",
            "biphasic",
            "small",
            "change",
            "long",
            "flat",
        ),
        "",
    ),
    "u": dict.fromkeys(("abnormal", "pathological", "normal", "high", "inverted"), ""),
    "transition": dict.fromkeys(("left", "right", "delayed", "normal", "abnormal", "change", "early", "slow"), ""),
    "variant": {"normal": "", "abnormal": "", "borderline": "", "wide": "", "long": "", "short": ""},
}
# Named by the subject itself, and by its absence.
ALONE = {"q": "QWAVE"}
ABSENT = {"progression": "PRWP"}
QUALITIES = frozenset(quality for qualities in SUBJECTS.values() for quality in qualities)

MODIFIERS = frozenset(term for rules in HEADS.values() for needed, _ in rules for term in needed) | {
    "anterior",
    "septal",
    "lateral",
    "inferior",
    "posterior",
    "myocardial",
    "subendocardial",
    "superior",
    "accelerated",
    "heart",
}
# Modifiers of one kind stand for each other in a list: "left anterior and posterior fascicular block".
KINDS = (
    frozenset({"left", "right"}),
    frozenset({"anterior", "posterior", "septal", "lateral", "inferior"}),
    frozenset({"sinus", "atrial", "ventricular", "supraventricular", "junctional"}),
    frozenset({"first", "second", "third"}),
    frozenset({"complete", "incomplete"}),
)
AGES = frozenset({"acute", "recent", "old", "undetermined"})

# What a report concludes, as against what it describes.
INTERPRETED = frozenset(
    code
    for code, found in FINDING_CLASSES.items()
    if found.group in ("infarction", "ischaemia", "hypertrophy")
    or code in ("EREP", "PERI", "DIG", "EL", "WPW", "AFIB", "AFLT")
)


def codes_of_head(head: str, modifiers: Iterable[str]) -> Codes | None:
    """Of the first rule that fits; None where none does."""
    there = frozenset(modifiers)
    for needed, codes in HEADS.get(head, ()):
        if needed <= there:
            return codes
    return None


def takes(term: str) -> frozenset[str]:
    """The modifiers of a head, or the qualities of a subject, that its rules ask for."""
    return _TAKES.get(term, frozenset())


_TAKES = {name: frozenset().union(*(needed for needed, _ in rules)) for name, rules in HEADS.items()} | {
    name: frozenset(qualities) for name, qualities in SUBJECTS.items()
}
