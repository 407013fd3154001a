"""A report as a list of terms: what `report_words` knows of its words, in their order."""

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from .report_words import ABBREVIATIONS, ENGLISH, ENGLISH_ONLY, GERMAN, GERMAN_ONLY, SWEDISH, SWEDISH_ONLY

# Ends a sentence; parts a list; a word that no table knows.
STOP, COMMA, UNKNOWN = ".", ",", "?"

_LEAD = r"v[1-6](?!\d)"
_TOKEN = re.compile(
    rf"(?P<chest>{_LEAD}(?: ?(?:-|,|/|\+|&|to|through|and|bis|und|till|och) ?(?:v ?)?[1-6](?![\d:.]))*)"
    r"|(?P<ratio>\b[2-9] ?: ?1\b)"
    r"|(?P<degree>\b[123] ?(?:\.|°) ?(?=grad|deg))"
    r"|(?P<word>[^\W\d_][^\W_]*|\d+[^\W\d_]+|[&/])"
    r"|(?P<number>\d+(?:[.,]\d+)*)"
    r"|(?P<stop>[.;!{}\n]|\*{2,}|-{2,})"
    r"|(?P<comma>[,:()+?]| - )"
)
_SPACES = re.compile(r"[^\S\n]+")
_PLURAL = re.compile(r"\((?:s|n|a|er|en|e)\)")
_GLUED_LEAD = re.compile(r"(.{1,4}?)(iii|ii|avf|avl|avr|v[1-6])$")
# "ä" as two letters; LAE and RAE are no such words.
_AE = re.compile(r"(?<!\b[lr])ae|ae\B")
_DIGRAPHS = str.maketrans({"ß": "ss", "æ": "ae", "ø": "o", "\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "-"})
_SITES = {
    "v1": "septal",
    "v2": "septal",
    "v3": "anterior",
    "v4": "anterior",
    "v5": "lateral",
    "v6": "lateral",
    "i": "lateral",
    "avl": "lateral",
    "ii": "inferior",
    "iii": "inferior",
    "avf": "inferior",
}
# A longer one is unknown.
LONGEST_WORD = 40
# Stems that may be parts of a compound have at least this many letters.
_SHORTEST_PART = 4
_ENDING = re.compile(r"(?:e|es|en|er|em|s|n|t|a|ar|na|et|ly|al|ed|ing)?")


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a report.

    Attributes:
        name: of `report_words`, or `STOP`, `COMMA`, `UNKNOWN`, or "lead".
        word: the place of its word in the report; the terms of an abbreviation share it.
        sites: of leads, the sites that they look at.
    """

    name: str
    word: int
    sites: tuple[str, ...] = ()


def fold(text: str) -> str:
    """Lower case, without accents, umlauts or their spellings as two letters: "Überleitung", "ueberleitung" and
    "uberleitung" become one.

    Raises:
        ValueError: not a string.
    """
    if not isinstance(text, str):
        raise ValueError(f"a report is a string, found {type(text).__name__}")
    text = html.unescape(text).lower().translate(_DIGRAPHS)
    if not text.isascii():
        text = "".join(mark for mark in unicodedata.normalize("NFKD", text) if not unicodedata.combining(mark))
    return _AE.sub("a", text).replace("oe", "o").replace("ue", "u")


def entries(*tables: dict[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each word of the tables, folded, with its terms."""
    for table in tables:
        for terms, words in table.items():
            for word in fold(words).split():
                yield tuple(terms.split(" ")), word


class _Lexicon:
    def __init__(self, *tables: dict[str, str]) -> None:
        self.whole: dict[str, tuple[str, ...]] = {}
        self.open: dict[str, tuple[str, ...]] = {}
        self.phrases: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
        for terms, word in entries(*tables):
            if "_" in word:
                first, *others = word.split("_")
                self.phrases.setdefault(first, []).append((tuple(others), terms))
            else:
                (self.open if word.endswith("*") else self.whole).setdefault(word.rstrip("*"), terms)
        for phrases in self.phrases.values():
            phrases.sort(key=lambda phrase: -len(phrase[0]))
        self.longest = max(map(len, (*self.whole, *self.open)))

    def terms_of(self, word: str) -> tuple[str, ...] | None:
        """None for a word that is neither known nor made of known ones."""
        return self.whole.get(word) or self._parts(word, 0)

    def _parts(self, word: str, start: int) -> tuple[str, ...] | None:
        """Of the longest stems, from the left; joined by nothing or by "s"."""
        for end in range(min(len(word), start + self.longest), start, -1):
            stem = word[start:end]
            terms = self.open.get(stem) or self.whole.get(stem)
            if terms is None or (start and end - start < _SHORTEST_PART):
                continue
            rest = word[end:]
            if not rest or (len(stem) >= _SHORTEST_PART and _ENDING.fullmatch(rest)):
                return terms
            if len(stem) >= _SHORTEST_PART:
                following = self._parts(word, end) or (self._parts(word, end + 1) if rest[0] == "s" else None)
                if following:
                    return terms + following
            if stem in self.open:
                return terms
        return None


class Vocabulary:
    """The words of one language, whether or not they stand for a term."""

    def __init__(self, table: dict[str, str], only: str) -> None:
        words = [part for _, word in entries(table) for part in word.split("_")]
        self._whole = {word for word in words if not word.endswith("*")} | set(fold(only).split())
        self._stems = tuple({word[:-1] for word in words if word.endswith("*")})

    def __contains__(self, word: str) -> bool:
        """Of a folded word."""
        return word in self._whole or word.startswith(self._stems)


_LEXICON = _Lexicon(ABBREVIATIONS, ENGLISH, GERMAN, SWEDISH)
_FILLERS = frozenset(fold(f"{ENGLISH_ONLY} {GERMAN_ONLY} {SWEDISH_ONLY}").split())


@lru_cache(maxsize=1 << 14)
def terms_of_word(word: str) -> tuple[str, ...] | None:
    """Of a folded word of at most `LONGEST_WORD` letters; None for one that is unknown. A lead's name is "lead"."""
    if word in _SITES or word == "avr":
        return ("lead",)
    terms = _LEXICON.terms_of(word)
    if terms is None and (glued := _GLUED_LEAD.fullmatch(word)):
        terms = _LEXICON.whole.get(glued[1])
        return None if terms is None else (*terms, "lead")
    return terms


def _chest_leads(written: str) -> tuple[str, ...]:
    """The sites of such as "v2-6" or "v4,5,6"."""
    sites: list[str] = []
    previous, spans = 0, False
    for part in re.findall(r"[1-6]|-|to|through|bis|till", written):
        if not part.isdigit():
            spans = True
            continue
        lead = int(part)
        first = previous + 1 if spans and previous < lead else lead
        sites.extend(_SITES[f"v{number}"] for number in range(first, lead + 1))
        previous, spans = lead, False
    return tuple(dict.fromkeys(sites))


_DEGREES = {"1": "first", "2": "second", "3": "third", "i": "first", "ii": "second", "iii": "third"}


def read_terms(text: str) -> list[Term]:
    """The terms of a report: words that are known but stand for no term are left out, as are numbers.

    Time is linear in the length of the text.

    Raises:
        ValueError: not a string.
    """
    tokens = _tokens(_PLURAL.sub("", _SPACES.sub(" ", fold(text))))
    terms: list[Term] = []
    index = 0
    while index < len(tokens):
        kind, written = tokens[index]
        if kind == "word" and (phrase := _phrase(tokens, index)):
            names, length = phrase
            terms.extend(Term(name, index) for name in names)
            index += length
            continue
        terms.extend(_terms_of_token(kind, written, index, terms))
        index += 1
    return terms


def _tokens(folded: str) -> list[tuple[str, str]]:
    """Kind and text of each token; without the full stops of abbreviations."""
    tokens: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(folded):
        kind, written = match.lastgroup or "", match[0]
        if written == "." and tokens and _is_abbreviation(f"{tokens[-1][1]}."):
            tokens[-1] = (tokens[-1][0], f"{tokens[-1][1]}.")
            continue
        tokens.append((kind, written))
    return tokens


def _is_abbreviation(written: str) -> bool:
    return written in _LEXICON.whole or written in _FILLERS


def _phrase(tokens: list[tuple[str, str]], index: int) -> tuple[tuple[str, ...], int] | None:
    """Terms and length in tokens of the longest phrase that starts here."""
    phrases = _LEXICON.phrases.get(tokens[index][1])
    if phrases is None or index + 1 == len(tokens):
        return None
    following = tokens[index + 1][1]
    for others, names in phrases:
        if _is_word(following, others[0]) and len(tokens) > index + len(others):
            found = tokens[index + 2 : index + 1 + len(others)]
            if all(_is_word(written, word) for (_, written), word in zip(found, others[1:], strict=True)):
                return names, 1 + len(others)
    return None


def _is_word(written: str, word: str) -> bool:
    return written == word or (word[-1] == "*" and written.startswith(word[:-1]))


def _terms_of_token(kind: str, written: str, index: int, before: list[Term]) -> Iterable[Term]:
    if kind in ("word", "number") and written in _DEGREES and _is_degree(index, before):
        return [Term(_DEGREES[written], index)]
    if kind == "word":
        names = terms_of_word(written) if len(written) <= LONGEST_WORD else None
        if names is None:
            return [] if written in _FILLERS else [Term(UNKNOWN, index)]
        return [Term(name, index, _lead_sites(written) if name == "lead" else ()) for name in names]
    if kind == "chest":
        return [Term("lead", index, _chest_leads(written))]
    if kind == "ratio":
        return [Term("ratio", index)]
    if kind == "degree":
        return [Term(_DEGREES[written[0]], index)]
    if kind == "stop":
        return [Term(STOP, index)]
    if kind == "comma":
        return [Term("perhaps" if written == "?" else COMMA, index)]
    return []


def _is_degree(index: int, before: list[Term]) -> bool:
    """Whether a number is that of an AV block: "AV block II", "AV block II or III"."""
    if not before or index - before[-1].word > 1:
        return False
    *earlier, last = (term.name for term in before[-3:])
    if last in ("or", "and"):
        return len(earlier) == 2 and earlier[0] == "block" and earlier[1] in _DEGREES.values()
    return last == "block"


def _lead_sites(word: str) -> tuple[str, ...]:
    if word in _SITES:
        return (_SITES[word],)
    glued = _GLUED_LEAD.fullmatch(word)
    return (_SITES[glued[2]],) if glued and glued[2] in _SITES else ()
