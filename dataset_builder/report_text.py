"""What a report's text says about itself: whether it reports anything, and in which language."""

import re

_TRACE_ONLY = re.compile(r"\s*trace only requested\b", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")

# Words and word parts that mark a language in ECG reports. Loan words that two languages share ("st",
# "infarkt", "abnormal") decide nothing and are left out; a part that ends in "-" matches the beginning of a word.
_MARKERS = {
    "en": (
        "rhythm left right axis wave waves is are be with and or possible probably probable cannot "
        "excluded otherwise infarction fibrillation flutter bradycardia tachycardia arrhythmia premature "
        "contraction- complex- ischemi- ischaemi- hypertrophy elevat- depress- invert- low high voltage- old "
        "branch lead- type unconfirmed pacemaker ecg damage conduction disturbance of the this due to"
    ),
    "de": (
        "rhythmus sinusrhythmus normales sonst linkstyp rechtstyp steiltyp lagetyp indifferenztyp überdrehter "
        "ueberdrehter vorhof- schenkelblock linksschenkelblock rechtsschenkelblock kammer- myokardschaden nicht "
        "möglich wahrscheinlich alter sinusbradykardie sinustachykardie arrhythmie unbestätigter bericht "
        "hypertrophie linkshypertrophie ausgeschlossen auszuschliessen ventrikuläre inferiorer anteroseptaler "
        "anterolateraler septaler lateraler niederspannung und oder mit bei für verlängerung verdacht "
        "linksanteriorer linksposteriorer extrasystole(n extrasystolen flimmern flattern alt ist senkung hebung "
        "leitungsstörung periphere mässige unspezifische ekg"
    ),
    "sv": (
        "sinusrytm rytm normalt ekg vänster höger el-axel avvikande förlopp bör övervägas såsom vid eller möjlig "
        "möjligen förmaks- flimmer fladder förändring sänkning höjning kammar- låg låga hög och myokardpåverkan "
        "myokardaffektion skänkel- trolig troligen ischemi sinusbradykardi sinustakykardi patologiskt förlängd "
        "amplitudkrit extremitetsavledningarna obekräftad"
    ),
}


def _pattern(markers: str) -> re.Pattern[str]:
    parts = [re.escape(word[:-1]) + r"\w*" if word.endswith("-") else re.escape(word) for word in markers.split()]
    return re.compile(r"(?<!\w)(?:" + "|".join(parts) + r")(?!\w)")


_PATTERNS = {language: _pattern(markers) for language, markers in _MARKERS.items()}


def is_empty_report(text: str) -> bool:
    """True if the text holds no letter: there is nothing that anyone reported."""
    return _LETTER.search(text) is None


def is_trace_only(text: str) -> bool:
    """True for "trace only requested": the recording was ordered without a report.

    What may follow it in PTB-XL is an editor's note of SCP codes and no report either.
    """
    return _TRACE_ONLY.match(text) is not None


def report_language(text: str) -> str | None:
    """The language of an ECG report: "en", "de" or "sv"; None where the text does not tell.

    A vote of words that are typical for ECG reports in each language; a tie is not decided. It tells whole
    reports apart, and takes a half-translated one for the language of its larger part.
    """
    lowered = text.lower()
    votes = {language: len(pattern.findall(lowered)) for language, pattern in _PATTERNS.items()}
    best = max(votes.values())
    winners = [language for language, count in votes.items() if count == best]
    return winners[0] if best and len(winners) == 1 else None
