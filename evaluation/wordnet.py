"""Synonyms from the files of WordNet 3.0 (Fellbaum 1998), read where they lie."""

import os
import re
import sys
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

PARTS = ("noun", "verb", "adj", "adv")
VERSION = b"WordNet 3.0 "
DEBIAN = Path("/usr/share/wordnet")
_HOW_TO_GET_IT = (
    "One of these three gives it: "
    "(1) Debian or Ubuntu: apt-get install wordnet-base; "
    "(2) anywhere: python -c \"import nltk; nltk.download('wordnet')\"; "
    "(3) a copy of its folder, with MEIT_WORDNET=FOLDER or the argument wordnet=FOLDER. "
    "Or leave METEOR out with meteor=False."
)
# Endings of an inflected form and of its base form (WordNet's morphy).
_ENDINGS = {
    "noun": (
        ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
        ("men", "man"), ("ies", "y"),
    ),
    "verb": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}  # fmt: skip
# A syntactic marker behind an adjective: "(a)", "(p)" or "(ip)".
_MARKER = re.compile(r"\([^()]*\)$")


class WordNetNotFoundError(FileNotFoundError):
    """No WordNet where it is looked for; the message says how to get one."""


class WordNet:
    """The words that share a meaning with a word, as `nltk.corpus.wordnet` finds them.

    Args:
        path: a folder with `index.noun`, `data.noun`, `noun.exc` and their kind, or NLTK's `wordnet.zip`.

    Raises:
        WordNetNotFoundError: a file is missing, or `path` is a file and no zip file.
        ValueError: another version than 3.0, which has other synonyms.
    """

    def __init__(self, path: str | Path):
        read = _reader(Path(path))
        self._data = {part: read(f"data.{part}") for part in PARTS}
        if VERSION not in self._data["noun"][:2000]:
            raise ValueError(f"{path}: not WordNet 3.0 (data.noun does not say so); METEOR is defined with that one")
        self._senses = {part: _senses(read(f"index.{part}")) for part in PARTS}
        self._exceptions = {part: _exceptions(read(f"{part}.exc")) for part in PARTS}
        self._synonyms: dict[str, frozenset[str]] = {}

    def synonyms(self, word: str) -> frozenset[str]:
        """All single words of all meanings of a word in all its base forms; empty where WordNet lacks it."""
        if word not in self._synonyms:
            self._synonyms[word] = frozenset(
                name
                for part in PARTS
                for form in self._base_forms(word.lower(), part)
                for name in self._names(form, part)
            )
        return self._synonyms[word]

    def _base_forms(self, word: str, part: str) -> set[str]:
        forms = self._exceptions[part].get(word)
        if forms is None:
            forms = [word[: -len(old)] + new for old, new in _ENDINGS[part] if word.endswith(old)]
        return {form for form in (word, *forms) if form in self._senses[part]}

    def _names(self, form: str, part: str) -> list[str]:
        # index: lemma part senses pointers [pointer ...] senses tagged offset [offset ...]
        fields = self._senses[part][form].split()
        names: list[str] = []
        for offset in map(int, fields[-int(fields[1]) :]):
            data = self._data[part]
            # data: offset file part words(hexadecimal) [word id ...] ...
            line = data[offset : data.index(b"\n", offset)].decode().split()
            words = line[4 : 4 + 2 * int(line[3], 16) : 2]
            names += [_MARKER.sub("", name) for name in words if "_" not in name]
        return names


def open_wordnet(path: str | Path | None = None) -> WordNet:
    """WordNet from `path`, or else from where `find_wordnet` finds it; read once per process.

    Raises:
        WordNetNotFoundError: there is none.
        ValueError: another version than 3.0.
    """
    return _open(Path(path).resolve() if path is not None else find_wordnet())


_open = lru_cache(maxsize=None)(WordNet)


def find_wordnet() -> Path:
    """Where WordNet is: `MEIT_WORDNET`, this environment's `wordnet/`, NLTK's folders, Debian's `wordnet-base`.

    Raises:
        WordNetNotFoundError: in none of these, or not where `MEIT_WORDNET` says.
    """
    if named := os.environ.get("MEIT_WORDNET"):
        return Path(named)
    # Imported here: NLTK takes seconds to import.
    import nltk

    corpora = [Path(folder, "corpora") for folder in nltk.data.path]
    candidates = [
        Path(sys.prefix, "wordnet", "usr", "share", "wordnet"),
        *(corpus / name for corpus in corpora for name in ("wordnet", "wordnet.zip")),
        DEBIAN,
    ]
    for candidate in candidates:
        if (candidate / "index.noun").is_file() or candidate.is_file():
            return candidate
    raise WordNetNotFoundError(f"METEOR needs WordNet 3.0, and none was found. {_HOW_TO_GET_IT}")


def _reader(path: Path) -> Callable[[str], bytes]:
    """A function from a file's name to its bytes."""
    if path.is_file():
        if not zipfile.is_zipfile(path):
            raise WordNetNotFoundError(f"{path}: no WordNet, and no zip file. {_HOW_TO_GET_IT}")
        archive = zipfile.ZipFile(path)
        names = {Path(name).name: name for name in archive.namelist()}
        files = {name: archive.read(names[name]) for name in _FILES if name in names}
    else:
        files = {name: (path / name).read_bytes() for name in _FILES if (path / name).is_file()}
    if missing := [name for name in _FILES if name not in files]:
        raise WordNetNotFoundError(f"{path}: no WordNet, it lacks {', '.join(missing)}. {_HOW_TO_GET_IT}")
    return files.__getitem__


_FILES = [name for part in PARTS for name in (f"index.{part}", f"data.{part}", f"{part}.exc")]


def _senses(index: bytes) -> dict[str, str]:
    """lemma -> the rest of its line."""
    lines = index.decode().splitlines()
    return dict(line.split(" ", 1) for line in lines if not line.startswith(" "))


def _exceptions(file: bytes) -> dict[str, list[str]]:
    """inflected form -> base forms."""
    return {word: forms for word, *forms in map(str.split, file.decode().splitlines())}
