"""MIMIC-IV-ECG's machine statements -> the text of a report, and notes on the quality of the signal.

The carts' programs print up to 18 numbered statements per recording. Among the findings stand remarks on the
recording, on the patient's data, on other ECGs and on who has to sign. The rules below tell them apart by their form.
"""

import html
import re
from collections.abc import Iterable
from functools import lru_cache

from dataset_builder.errors import RecordError

STATEMENT_COLUMNS = tuple(f"report_{number}" for number in range(18))

# A published statement has fewer than 200 characters. The bound keeps the rules' time and the cache's memory small.
_MAX_CHARACTERS = 1000

# White space and punctuation that tables pick up on their way through other programs.
_ODDITIES = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": " - ", "\u2212": "-"}
    | dict.fromkeys("\ufeff\u200b\u200c\u200d\u00ad\ufffd", None)
)
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\xa0]+")  # \x80-\x9f: control characters that no report holds

_LEAD = r"(?:aV[RLF]|V[1-9]R?|III|II|I)\b"
_LEADS = rf"{_LEAD}(?:(?:\s*[-,/&]\s*|\s+and\s+|\s+)(?:{_LEAD}|\d\b))*"


def _rules(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# Headings: what follows them counts.
_HEADING = _rules(
    r"(?:summary|conclusions?|impression|interpretation|diagnos[ie]s|comments?|statements?|report)\s*:\s*",
    r"(?:critical test results?|warning|note|attention)\s*:\s*",
    r"\d{1,2}[.)]\s+(?=[^\W\d])",  # "1. Sinus rhythm"
)

# Statements that begin so say nothing about this ECG.
_BOILERPLATE = _rules(
    # What the program did not know of the patient, or took for granted.
    r"(?:report|interpretation|analysis) (?:was )?(?:made|done|performed) without ",
    r"(?:patient'?s? )?(?:age|sex|gender)(?: (?:and|or) \w+)? (?:is |was )?(?:not|unknown)",
    r"(?:age|sex|gender)(?: (?:and|or) \w+)?,? (?:is |was )?(?:assumed|specific)",
    r"interpretation (?:is |was )?based on default",
    r"(?:pa?ediatric|adult|standard|default|neonatal)\b.*\b(?:criteria|interpretation|analysis|ecg|ekg)(?: used)?$",
    # Fields of the form.
    r"(?:technician|tech|tech id|operator|physician|attending|referring \w+|referred|reviewer|location)\s*[:#]",
    r"(?:room|unit|cart|device|medications?|indications?|test ind\w*|reason|history|patient(?: \w+)?|name|id)\s*[:#]",
    r"(?:mrn|dob|date|time|age|sex|gender|height|weight|account|order|acquired|printed)\s*[:#]",
    # What is left of an empty cell.
    r"(?:end of (?:report|statement)s?|12[- ]lead (?:ecg|ekg)|ecg|ekg|electrocardiogram|report|none|null|nan|n/?a)$",
)
# Clauses that begin so say nothing about it either; a finding may follow.
_DISCLAIMER = _rules(
    r"(?:suggest |recommend |please )?clinical(?:ly)? correlat",
    r"(?:this (?:is|was|ecg|ekg|report|tracing|interpretation|analysis)|computer|automated|automatic|machine)\b"
    r".{0,40}\b(?:generated|interpretation|interpreted|analysis)\b",
)
# Who signs, and who should: also as a clause of a statement.
_SIGNATURE = _rules(
    r"(?:electronically |digitally )?(?:confirmed|reviewed|signed|edited|interpreted|verified|attested) (?:by|on)\b",
    r"(?:over-?read|referred|ordered|requested|read|approved) (?:by|on)\b",
    # As a whole: "Unconfirmed inferior infarct" is a finding.
    r"(?:un|not )(?:confirmed|reviewed|edited)(?: (?:report|ecg|ekg|diagnosis|interpretation|analysis))*$",
    r"(?:un|not )(?:confirmed|reviewed|edited) (?:by|on)\b",
    r"(?:preliminary|provisional) (?:report|ecg|ekg|interpretation|analysis|diagnosis)\b",
    r"(?:\w+ ){0,2}review(?: (?:advised|required|recommended|suggested))?$",
)

# Clauses about another ECG, which is not at hand.
_COMPARISON = _rules(
    r"\b(?:compared?|comparison)\b",
    r"\b(?:previous|prior|last|earlier|old) (?:ecg|ekg|tracing|study|record)",
    r"\b(?:since|than|as on)\b.{0,20}\b(?:previous|prior|last|yesterday)\b",
    r"\bno (?:significant |major |other |further )?(?:serial )?changes?\b",
    r"\bunchanged\b|\bno longer\b|\bserial\b.{0,20}\bchange",
    r"\b(?:has|have) (?:\w+ )?(?:increased|decreased|shortened|lengthened|improved|worsened|disappeared|resolved)\b",
    r"^since\b",
)
# Parts that compare what stands before them: "New left bundle branch block since prior".
_COMPARISON_PART = re.compile(r"\s+(?:(?:as|when) )?(?:since|compared (?:to|with))\b.*", re.IGNORECASE)
# What stands before them and is none of this ECG's findings: "Minor changes", "PVCs resolved", "Rate is slower".
_COMPARED = _rules(
    r"^(?:(?:when|as|not|no|new|this|the|some|minor|major|significant|ecg|ekg|tracing|study|changes?|differences?)\s*)+$",
    r"\b(?:changed|increased|decreased|faster|slower|shorter|longer|improved|worse|worsened|better|smaller|larger)$",
    r"\b(?:resolved|disappeared|absent|gone|cleared|similar|(?:less|more) \w+)$",
)
# ... but for what they say of this one: "Atrial fibrillation has replaced Sinus rhythm", "ST elevation now present in".
_REPLACED = re.compile(r"\s+(?:has|have) replaced\s.*", re.IGNORECASE)
_NOW = re.compile(r"\b(?:(?:is|are) )?now (evident|present|seen)\b", re.IGNORECASE)

_NOISE = r"(?:art[ie]facts?|baseline (?:wander\w*|drift)|noise|tremor|interference)\b"
_NOISE_WORDS = r"(?:(?!and |or |with )\w[\w/-]* )"  # before it: "with muscle artifact"
# Parts of a statement about the recording; what is left may be a finding.
_QUALITY_PART = _rules(
    r"(?:\ball (?:12|twelve) )?\bleads?(?:\(s\))? (?:is |are )?(?:unsuitable|missing|off|omitted|excluded)\b.*",
    rf"\b(?:hence )?(?:only )?(?:leads? )?{_LEADS} (?:(?:is|are|was|were) )?(?:omitted|analy[sz]ed|excluded)\b.*",
    r"[\s,(-]{0,3}\b(?:based|analysis) on (?:the )?(?:available|remaining) leads\)?",
    rf"\s+with (?:(?:muscle|motion|baseline|electrical) (?:and|or) )?{_NOISE_WORDS}{{0,4}}{_NOISE}",
    rf"\s+and {_NOISE_WORDS}{{0,2}}{_NOISE}",
)
# Clauses about it.
_QUALITY_CLAUSE = _rules(
    r"\bart[ie]fact|\bbaseline (?:wander|drift|shift)|\bwandering baseline|\bnois[ey]\b|\btremor\b|\binterference\b",
    r"\b(?:data|signal|record(?:ing)?|tracing|ecg|technical|poor|suboptimal) quality\b|\bquality (?:of|data|is|may)\b",
    r"\btechnical(?:ly)?\b|\bunsatisfactory\b|\buninterpretable\b|\bunsuitable\b|\bsuboptimal\b",
    r"\b(?:lead|arm|leg|limb|electrode|cable)s?\b.{0,25}\b(?:revers|interchang|misplac|displac|swap|switch|placement)",
    r"\b(?:misplac|interchang|disconnect|loose|faulty|swapped)\w*\b.{0,25}\b(?:leads?|electrodes?|cables?|V[1-6])\b",
    r"\breversal of .{0,20}\b(?:lead|electrode)s?\b|\bmissing lead|\bsimilar QRS in V leads\b|\binterspace",
    r"\b(?:measurement|analysis|sequence) error\b|\bomitted\b|\bpacer detection\b",
    r"\bno (?:further )?(?:\w+ )?analysis\b|\banalysis (?:is )?(?:not|un)|\b(?:not|cannot) be analy[sz]ed\b",
    r"\binterpretation (?:may be|is|assumes|should)\b|\bmay affect (?:the )?interpretation\b",
    r"\b(?:please|suggest|recommend) repeat\b|\brepeat (?:the )?(?:ecg|ekg|tracing|recording)\b",
)
# Clauses that leave it open whether the recording or the heart is the cause: a finding too.
_OR_FINDING = _rules(
    r"\bdextrocardia\b",
    r"^(?:(?!tremor|wander|drift|nois|interference|quality).)*\S (?:or|versus|vs\.?) art[ie]facts?\b",
)
_ONLY_LEADS = re.compile(rf"(?:and )?{_LEADS}", re.IGNORECASE)

_UNCONFIRMED = re.compile(r"\(un(?:confirmed|reviewed)\)", re.IGNORECASE)
_MARKERS = " *-=_~#<>,;:"  # around a statement: "*** ... ***", "--- ... ---", bullets
_INNER_MARKERS = re.compile(r"\s*(?:\*{2,}|-{2,}|={2,}|_{2,})\s*")
_SEPARATOR = re.compile(r"(\s+-\s+|[,;:]\s+|\.\s+(?=[A-Z]))")
_CONTINUES = re.compile(r"(?:with|and|or|but)\s", re.IGNORECASE)

# Capitals. An abbreviation stays as it is written here; without a vowel, a word in capitals is one in any case.
_ABBREVIATIONS = """
    aVR aVL aVF I II III IV VI AV A-V SA S-A MI AMI IMI PMI LMI ASMI STEMI NSTEMI ACS CAD COPD PE AF AFib VA LAE RAE
    LAA RAA LAD RAD LAFB LAHB LPFB IVCD IVCB IRBBB ILBBB IVR AIVR IVS PAC PACs PAC(s) APC APCs APB PVCs PVC(s) VPCs
    VPBs PJC PJCs AVNRT AVRT PAT PEA ICD BiV EP ECG EKG QTc QTcB QTcF
"""
_EPONYMS = """
    Wolff Parkinson White Lown Ganong Levine Mobitz Wenckebach Brugada Osborn Wellens Bazett Fridericia Ebstein Holter
    Chagas Cabrera Sokolow Lyon Cornell Ashman Bachmann Purkinje His Romano Ward Katz Wachtel Estes
"""
_SPELLING = {word.upper(): word for word in (_ABBREVIATIONS + _EPONYMS).split()}
_NAMES = frozenset(_EPONYMS.split())
_CAPITALS = re.compile(
    r"(?<![\w'])[A-Z]-[A-Z](?![A-Z])|(?<![\w'])[A-Z][A-Z\d']*(?:\([A-Z]\))?(?![a-z\d])|\d+(?:ST|ND|RD|TH)\b"
)
_CAPITAL_RUN = re.compile(r"\b[A-Z]{2,}\b(?:[\s,/-]+[A-Z][A-Z\d]*\b)+|\b[A-Z]{6,}\b")
_CAPITALISED = re.compile(r"(?<=[^\W_][\s,/-])(?<![.?!]\s)[A-Z][a-z]{2,}\b|(?<=[,;-]\s)[A-Z][a-z]{2,}\b")


def join_statements(statements: Iterable[str]) -> str:
    """The findings among machine statements as one text: "Sinus rhythm. Left axis deviation. Abnormal ECG."

    Args:
        statements: in the order of their numbers (`STATEMENT_COLUMNS`); empty ones are passed over.

    Returns:
        One sentence per finding, each once, in sentence case. "" where no statement holds a finding: who confirmed
        the ECG, how it compares to another and what hampered the analysis (see `quality_notes`) are none.

    Raises:
        RecordError: a statement is longer than any program's.
    """
    sentences: dict[str, str] = {}  # by what makes two the same
    for statement in statements:
        finding = _read(statement)[0] if statement else ""
        if not finding:
            continue
        if sentences and _CONTINUES.match(finding):  # "Sinus rhythm", "with 1st degree A-V block"
            finding = f"{sentences.popitem()[1]} {finding[0].lower()}{finding[1:]}"
        sentences.setdefault(finding.casefold(), finding)
    return " ".join(finding if finding[-1] in "?!" else f"{finding}." for finding in sentences.values())


def quality_notes(statements: Iterable[str]) -> list[str]:
    """What machine statements say about the signal: bad or reversed leads, noise, an analysis that stopped short.

    A statement that also holds a finding ("Normal ECG based on available leads") is a note as a whole, and its
    finding ("Normal ECG") goes into the report.
    """
    return list(dict.fromkeys(note for statement in statements if statement and (note := _read(statement)[1])))


# The corpus' 800,000 recordings share a few thousand statements.
@lru_cache(maxsize=16384)
def _read(statement: str) -> tuple[str, str]:
    """One statement -> its finding and its note on quality, either of which may be ""."""
    if len(statement) > _MAX_CHARACTERS:
        raise RecordError("statement too long", f"{len(statement)} characters, expected {_MAX_CHARACTERS} at most")
    text = _tidy(statement)
    if _BOILERPLATE.match(text) or _SIGNATURE.match(text):
        return "", ""
    rest = _QUALITY_PART.sub("", text)
    about_quality = rest != text
    finding, about_clause = "", False
    clauses = _SEPARATOR.split(rest)
    for separator, clause in zip(["", *clauses[1::2]], clauses[::2], strict=True):
        clause = _NOW.sub(r"\1", _REPLACED.sub("", clause)).strip()
        # "Baseline wander in leads II, III": the leads belong to what stands before them.
        about_clause = bool(_QUALITY_CLAUSE.search(clause) or about_clause and _ONLY_LEADS.fullmatch(clause))
        about_quality |= about_clause
        if about_clause and not _OR_FINDING.search(clause) or _says_nothing(clause):
            continue
        clause = _COMPARISON_PART.sub("", clause)
        finding += separator + clause if finding and clause else clause
    return _sentence(finding), _sentence(text) if about_quality else ""


def _says_nothing(clause: str) -> bool:
    """Whether a clause is about another ECG, about who signs, or a disclaimer, and holds no finding."""
    compared = _COMPARISON_PART.sub("", clause)
    return bool(
        _COMPARISON.search(compared)
        or compared != clause
        and _COMPARED.search(compared)
        or _SIGNATURE.match(clause)
        or _DISCLAIMER.match(clause)
    )


def _tidy(statement: str) -> str:
    """White space, quotes, markers and headings in order; letters as they are."""
    text = html.unescape(statement).replace("\u00c2\u00a0", " ").translate(_ODDITIES)
    text = _UNCONFIRMED.sub("", text)
    text = _INNER_MARKERS.sub(" - ", _SPACE.sub(" ", text).strip(_MARKERS))
    text = re.sub(r"\s+([,;:.?!)])", r"\1", text)
    text = re.sub(r"([,;:.?!])(?:\s*\1)+", r"\1", text)
    text = text.strip(_MARKERS + ".")
    while heading := _HEADING.match(text):
        text = text[heading.end() :].strip(_MARKERS)
    return text


def _sentence(text: str) -> str:
    """Sentence case, without a full stop: "SINUS RHYTHM" -> "Sinus rhythm", "POSSIBLE LVH" -> "Possible LVH"."""
    text = text.strip(_MARKERS + ".")
    if text.isupper():
        text = _CAPITALS.sub(_lowered, text)
    else:
        text = _CAPITAL_RUN.sub(lambda run: _CAPITALS.sub(_lowered, run[0]), text)
        text = _CAPITALISED.sub(lambda word: word[0] if word[0] in _NAMES else word[0].lower(), text)
    first = text.split(" ")[0]
    # "rSr'(V1)" and "aVL" keep their small letter.
    return text if re.match(r"[a-z]+[A-Z]", first) else text[:1].upper() + text[1:]


def _lowered(match: re.Match[str]) -> str:
    word = match[0]
    if word in _SPELLING:
        return _SPELLING[word]
    if word == "A":
        return "a" if match.string[match.end() : match.end() + 1] == " " else "A"  # "WITH A RATE OF", "TYPE A"
    is_abbreviation = len(word) == 1 or not re.search(r"[AEIOUY]", word)
    return word if is_abbreviation and not word[0].isdigit() else word.lower()
