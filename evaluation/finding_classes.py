"""The findings that reports are compared on: a code, its meaning, its group, and the SCP-ECG statements that say it.

Codes are those of PTB-XL's `scp_statements.csv` (SCP-ECG, ISO 11073-91064) where one says the finding; the others are
ours. Infarction, ischaemia and injury carry sites, so that "anteroseptal infarction" shares `septal` with "septal
infarction" although SCP-ECG has a statement for each combination.
"""

from dataclasses import dataclass

SITES = ("anterior", "septal", "lateral", "inferior", "posterior")
AGES = ("acute", "recent", "old", "undetermined")
CERTAINTIES = ("certain", "possible")


@dataclass(frozen=True)
class FindingClass:
    """One finding.

    Attributes:
        name: the standard English term.
        group: rhythm, rate, ectopy, pacing, axis, conduction, hypertrophy, QRS, infarction, ischaemia, ST-T, QT,
            summary or technical.
        scp: the SCP-ECG statements that say it, without regard to the site.
        has_site: whether it carries sites.
    """

    name: str
    group: str
    scp: tuple[str, ...] = ()
    has_site: bool = False


FINDING_CLASSES: dict[str, FindingClass] = {
    "SR": FindingClass("sinus rhythm", "rhythm", ("SR",)),
    "SBRAD": FindingClass("sinus bradycardia", "rhythm", ("SBRAD",)),
    "STACH": FindingClass("sinus tachycardia", "rhythm", ("STACH",)),
    "SARRH": FindingClass("sinus arrhythmia", "rhythm", ("SARRH",)),
    "AFIB": FindingClass("atrial fibrillation", "rhythm", ("AFIB",)),
    "AFLT": FindingClass("atrial flutter", "rhythm", ("AFLT",)),
    "SVTAC": FindingClass("supraventricular tachycardia", "rhythm", ("SVTAC", "PSVT")),
    "SVARR": FindingClass(
        "other supraventricular rhythm: ectopic atrial, wandering pacemaker, unspecified", "rhythm", ("SVARR",)
    ),
    "JR": FindingClass("junctional (nodal) rhythm", "rhythm"),
    "VT": FindingClass("ventricular tachycardia", "rhythm"),
    "IVR": FindingClass("idioventricular or ventricular escape rhythm", "rhythm"),
    "ESC": FindingClass("escape beats", "rhythm"),
    "PAUSE": FindingClass("pause, sinus arrest or sinoatrial block", "rhythm"),
    "TACH": FindingClass("tachycardia of unstated origin, or rapid ventricular response", "rate"),
    "BRAD": FindingClass("bradycardia of unstated origin, or slow ventricular response", "rate"),
    "PAC": FindingClass("atrial or supraventricular premature complexes", "ectopy", ("PAC",)),
    "PVC": FindingClass("ventricular premature complexes", "ectopy", ("PVC",)),
    "PRC": FindingClass("premature complexes of unstated origin", "ectopy", ("PRC(S)",)),
    "BIGU": FindingClass("bigeminy or trigeminy", "ectopy", ("BIGU", "TRIGU")),
    "PACE": FindingClass("paced rhythm or artificial pacemaker", "pacing", ("PACE",)),
    "LAX": FindingClass("leftward axis or left axis deviation", "axis"),
    "RAX": FindingClass("rightward axis or right axis deviation", "axis"),
    "NAX": FindingClass("normal (intermediate) axis", "axis"),
    "VAX": FindingClass("vertical axis", "axis"),
    "IAX": FindingClass("indeterminate axis", "axis"),
    "1AVB": FindingClass("first degree AV block or prolonged PR interval", "conduction", ("1AVB", "LPR")),
    "2AVB": FindingClass("second degree AV block", "conduction", ("2AVB",)),
    "3AVB": FindingClass("third degree (complete) AV block", "conduction", ("3AVB",)),
    "CRBBB": FindingClass("right bundle branch block, complete or of unstated degree", "conduction", ("CRBBB",)),
    "IRBBB": FindingClass("incomplete right bundle branch block", "conduction", ("IRBBB",)),
    "CLBBB": FindingClass("left bundle branch block, complete or of unstated degree", "conduction", ("CLBBB",)),
    "ILBBB": FindingClass("incomplete left bundle branch block", "conduction", ("ILBBB",)),
    "LAFB": FindingClass("left anterior fascicular block", "conduction", ("LAFB",)),
    "LPFB": FindingClass("left posterior fascicular block", "conduction", ("LPFB",)),
    "IVCD": FindingClass("intraventricular conduction disturbance", "conduction", ("IVCD",)),
    "WPW": FindingClass("preexcitation (Wolff-Parkinson-White)", "conduction", ("WPW",)),
    "LVH": FindingClass("left ventricular hypertrophy or its voltage criteria", "hypertrophy", ("LVH", "VCLVH")),
    "RVH": FindingClass("right ventricular hypertrophy", "hypertrophy", ("RVH",)),
    "SEHYP": FindingClass("septal hypertrophy", "hypertrophy", ("SEHYP",)),
    "LAE": FindingClass("left atrial enlargement or abnormality", "hypertrophy", ("LAO/LAE",)),
    "RAE": FindingClass("right atrial enlargement or abnormality", "hypertrophy", ("RAO/RAE",)),
    "ABQRS": FindingClass("abnormal QRS, not further specified", "QRS", ("ABQRS",)),
    "QWAVE": FindingClass("abnormal Q waves or QS complexes", "QRS", ("QWAVE",)),
    "PRWP": FindingClass("poor or delayed R wave progression, small or lost R waves", "QRS"),
    "LVOLT": FindingClass("low QRS voltage", "QRS", ("LVOLT",)),
    "HVOLT": FindingClass("high QRS voltage, not said to be hypertrophy", "QRS", ("HVOLT",)),
    "MI": FindingClass(
        "myocardial infarction",
        "infarction",
        ("IMI", "ASMI", "ILMI", "AMI", "ALMI", "LMI", "IPLMI", "IPMI", "PMI"),
        has_site=True,
    ),
    "ANEUR": FindingClass("ventricular aneurysm", "infarction", ("ANEUR",)),
    "INJ": FindingClass("myocardial injury", "ischaemia", ("INJAS", "INJAL", "INJIN", "INJLA", "INJIL"), has_site=True),
    "ISC": FindingClass(
        "myocardial ischaemia or ischaemic ST-T change",
        "ischaemia",
        ("ISC_", "ISCAL", "ISCIN", "ISCIL", "ISCAS", "ISCLA", "ISCAN"),
        has_site=True,
    ),
    "STD": FindingClass("ST depression", "ST-T", ("STD_",)),
    "STE": FindingClass("ST elevation", "ST-T", ("STE_",)),
    "STC": FindingClass("ST change, not further specified", "ST-T", ("NST_",)),
    "TINV": FindingClass("inverted (negative) T waves", "ST-T", ("INVT",)),
    "LOWT": FindingClass("low or flat T waves", "ST-T", ("LOWT",)),
    "TC": FindingClass("T wave change, not further specified", "ST-T", ("NDT", "NT_", "TAB_")),
    "EREP": FindingClass("early repolarisation", "ST-T"),
    "PERI": FindingClass("pericarditis", "ST-T"),
    "DIG": FindingClass("digitalis effect", "ST-T", ("DIG",)),
    "EL": FindingClass("electrolyte disturbance or drug effect", "ST-T", ("EL",)),
    "LNGQT": FindingClass("prolonged QT interval", "QT", ("LNGQT",)),
    "SQT": FindingClass("short QT interval", "QT"),
    "NORM": FindingClass("normal ECG, also otherwise normal or normal but for the rate", "summary", ("NORM",)),
    "BORD": FindingClass("borderline ECG", "summary"),
    "ABN": FindingClass("abnormal ECG", "summary"),
    "QUAL": FindingClass("poor signal quality, artefact, leads not analysed", "technical"),
    "LREV": FindingClass("suspected lead reversal", "technical"),
}

# Each must not be missed: the infarction only where it is acute (`Finding.is_critical`).
CRITICAL = ("AFIB", "AFLT", "VT", "3AVB", "LNGQT", "PACE", "MI")
