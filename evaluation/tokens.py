"""How a report is cut into tokens, the same for every metric and for whoever checks them with another package."""

import re
from collections.abc import Mapping, Sequence, Set
from functools import lru_cache

from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

# "13a": sacrebleu's, punctuation stands alone; for BLEU, METEOR and CIDEr-D.
# "words": runs of letters and digits; for ROUGE. On ASCII text these are the tokens of rouge_score's own tokenizer.
# That one drops every other letter, which would tear German or Swedish reports apart ("für" becomes "f", "r").
KINDS = ("13a", "words")
_13A = Tokenizer13a()
_WORD = re.compile(r"[^\W_]+")


def tokenize(report: str, kind: str = "13a") -> list[str]:
    """The tokens of one report, lower-cased.

    `" ".join(tokenize(report))` is what `pycocoevalcap` is to be given to find the same figures.

    Args:
        kind: "13a" (BLEU, METEOR, CIDEr-D) or "words" (ROUGE).
    Raises:
        ValueError: another kind.
    """
    if kind == "13a":
        # 13a looks no further than the spaces around a word, but for these two, which join words.
        joined = report.lower().replace("<skipped>", "").replace("-\n", "")
        return [token for word in joined.split() for token in _tokens_of_word(word)]
    if kind == "words":
        return _WORD.findall(report.lower())
    raise ValueError(f"tokens {kind!r} are unknown; expected one of {', '.join(KINDS)}")


@lru_cache(maxsize=2**16)
def _tokens_of_word(word: str) -> tuple[str, ...]:
    return tuple(_13A(word).split())


def tokenize_all(reports: Sequence[str], kind: str = "13a") -> list[list[str]]:
    """The tokens of each report; equal reports share one list."""
    tokens_of = {report: tokenize(report, kind) for report in dict.fromkeys(reports)}
    return [tokens_of[report] for report in reports]


def check_reports(drafts: Sequence[str], references: Sequence[str]) -> None:
    """Refuse what no metric can score; an empty draft can be scored, and gets 0.

    Raises:
        ValueError: something else than a list, such as one string, a dict, which would be scored by its keys, or None;
            unequal lengths, no reports at all, a report that is no string, or an empty reference.
    """
    for reports in (drafts, references):
        if isinstance(reports, (str, bytes, Mapping, Set)) or not hasattr(reports, "__len__"):
            raise ValueError(f"drafts and references must be lists of reports, not one {type(reports).__name__}")
    if len(drafts) != len(references):
        raise ValueError(f"{len(drafts)} drafts but {len(references)} references; each draft needs exactly one")
    if len(drafts) == 0:
        raise ValueError("no reports to score: drafts and references are empty")
    for kind, reports in (("draft", drafts), ("reference", references)):
        for index, report in enumerate(reports):
            if not isinstance(report, str):
                raise ValueError(f"{kind} {index} is {type(report).__name__}, expected a string")
    blank = [index for index, report in enumerate(references) if not report.strip()]
    if blank:
        raise ValueError(f"references {blank[:10]} ({len(blank)} in all) are empty; leave such records out")
