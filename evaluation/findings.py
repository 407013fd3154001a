"""Findings in a report's free text: English, German or Swedish, also machine-translated or drafted by a model.

Each sentence becomes a list of terms (`report_terms`); heads and subjects take the modifiers and qualities about them
and name findings (`finding_rules`, `finding_sentence`); then words of denial and doubt reach the findings in their
scope (`finding_scope`).
"""

from collections.abc import Iterable, Sequence

from .finding import Finding
from .finding_classes import FINDING_CLASSES
from .finding_scope import apply_cues, pass_sites
from .finding_sentence import Named, Sentence
from .report_language import LANGUAGES, report_language
from .report_terms import STOP, Term, read_terms

# Longer ones are cut, so that time stays linear in the length of any text; those of real reports have less than 150.
_LONGEST_SENTENCE = 200
# A rate without an origin says nothing beside one with an origin: "the cause of the bradycardia is not evident".
_RATES = {"TACH": {"STACH", "SVTAC", "VT"}, "BRAD": {"SBRAD"}}
_OPPOSITES = {"NORM": "ABN", "ABN": "NORM", "abnormal": "NORM"}
_CONDUCTION_PARTS = {"CRBBB", "CLBBB", "IRBBB", "LAFB", "LPFB"}


class UnknownLanguageError(ValueError):
    """A report in none of the languages that findings are read in."""


def find_findings(text: str, language: str | None = None) -> list[Finding]:
    """What a report states, in the order of the text; each code with the same sites and age once.

    Args:
        text: the report.
        language: of `LANGUAGES`; None finds it out. The words of all three are known in any report, since reports mix
            them; the language decides only whether the report is refused.
    Raises:
        UnknownLanguageError: no language given, and the text is in none of them.
        ValueError: a language that is not of `LANGUAGES`, or a text that is not a string.
    """
    if language is not None and language not in LANGUAGES:
        raise ValueError(f"language {language!r}, expected one of {', '.join(LANGUAGES)} or None")
    terms = read_terms(text)
    if language is None and report_language(text) is None:
        raise UnknownLanguageError(f"report in none of {', '.join(LANGUAGES)}: {text[:60]!r}")
    named: list[Named] = []
    for sentence in _sentences(terms):
        read = Sentence(sentence).read()
        apply_cues(sentence, read)
        pass_sites(sentence, read)
        named.extend(read)
    return _findings(named)


def _sentences(terms: Iterable[Term]) -> Iterable[list[Term]]:
    sentence: list[Term] = []
    for term in terms:
        if term.name != STOP:
            sentence.append(term)
        if sentence and (term.name == STOP or len(sentence) == _LONGEST_SENTENCE):
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _findings(named: Sequence[Named]) -> list[Finding]:
    there = {code for one in named if not one.is_negated for code in one.codes}
    found: dict[tuple[str, tuple[str, ...], str | None, bool], Finding] = {}
    for one in named:
        for finding in _findings_of(one, there):
            key = (finding.code, finding.sites, finding.age, finding.is_negated)
            if key not in found or finding.certainty == "certain":
                found[key] = finding
    return list(found.values())


def _findings_of(one: Named, there: set[str]) -> Iterable[Finding]:
    if one.is_no_finding or (one.summary_of_parts and there & _CONDUCTION_PARTS):
        return
    certainty = "possible" if one.is_possible and not one.is_negated else "certain"
    if one.lone:
        code = _OPPOSITES.get(one.lone) if one.is_negated else one.lone
        if code in FINDING_CLASSES:
            yield Finding(code, certainty=certainty)
        return
    if one.absent and one.is_negated:
        yield Finding(one.absent)
    for code in one.codes:
        if code in _RATES and there & _RATES[code]:
            continue
        if code in _OPPOSITES and one.is_negated:
            yield Finding(_OPPOSITES[code])
            continue
        has_site = FINDING_CLASSES[code].has_site
        sites = tuple(one.sites) if has_site else ()
        age = ("undetermined" if "undetermined" in one.ages else one.ages[0]) if code == "MI" and one.ages else None
        yield Finding(code, sites, age, certainty, one.is_negated)
