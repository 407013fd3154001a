"""Whether a report is in English, German or Swedish, by the words that it is made of."""

import re
from functools import lru_cache

from .report_terms import LONGEST_WORD, Vocabulary, fold, terms_of_word
from .report_words import ELSEWHERE, ENGLISH, ENGLISH_ONLY, GERMAN, GERMAN_ONLY, SWEDISH, SWEDISH_ONLY

LANGUAGES = ("en", "de", "sv")

_VOCABULARIES = {
    "en": Vocabulary(ENGLISH, ENGLISH_ONLY),
    "de": Vocabulary(GERMAN, GERMAN_ONLY),
    "sv": Vocabulary(SWEDISH, SWEDISH_ONLY),
}
_ELSEWHERE = frozenset(ELSEWHERE.split())
_SMALL_WORDS = frozenset(fold(f"{ENGLISH_ONLY} {GERMAN_ONLY} {SWEDISH_ONLY}").split())
# A word of any of the languages, a small one of them, one of others.
_ANY, _SMALL, _OTHER = "any", "small", "other"
_WORD = re.compile(r"[^\W\d_]{2,}")
# Of the words that have two letters or more.
_LOWEST_SHARE = 0.4
_FEW_WORDS = 3


def report_language(text: str) -> str | None:
    """The language that most of a report's words are known in; English where two know as many.

    A report of shorthand ("sr, lvh") is English, and so is an empty one.

    Returns:
        "en", "de" or "sv"; None where less than 40 % of the words are of any of them.
    Raises:
        ValueError: not a string.
    """
    words = _WORD.findall(fold(text))
    if not words:
        return None if any(letter.isalpha() for letter in text) else "en"
    counts = dict.fromkeys((*LANGUAGES, _ANY, _SMALL, _OTHER), 0)
    for word in words:
        for kind in _kinds(word) if len(word) <= LONGEST_WORD else ():
            counts[kind] += 1
    # One word of another language is a name or a slip, unless there is little else.
    is_elsewhere = counts[_OTHER] > counts[_SMALL] and (counts[_OTHER] > 1 or len(words) <= _FEW_WORDS)
    if counts[_ANY] < _LOWEST_SHARE * len(words) or is_elsewhere:
        return None
    return max(LANGUAGES, key=counts.__getitem__)


@lru_cache(maxsize=1 << 14)
def _kinds(word: str) -> tuple[str, ...]:
    """What a folded word counts for."""
    kinds = [language for language, vocabulary in _VOCABULARIES.items() if word in vocabulary]
    if kinds or terms_of_word(word) is not None:
        kinds.append(_ANY)
    if word in _SMALL_WORDS:
        kinds.append(_SMALL)
    if word in _ELSEWHERE:
        kinds.append(_OTHER)
    return tuple(kinds)
