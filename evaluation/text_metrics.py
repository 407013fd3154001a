"""How much a drafted report's wording resembles its reference: corpus BLEU-1 to BLEU-4 and ROUGE-L.

They compare words, not findings: "no ST elevation" and "ST elevation" differ by one word.
"""

import re
from collections.abc import Sequence

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

MAX_ORDER = 4


class _Words:
    """ROUGE's tokens: lower-cased runs of letters and digits.

    On ASCII text these are the tokens of rouge_score's own tokenizer. That one drops every other letter,
    which would tear German or Swedish reports apart ("für" becomes "f", "r").
    """

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


def _check(drafts: Sequence[str], references: Sequence[str]) -> None:
    if isinstance(drafts, str) or isinstance(references, str):
        raise ValueError("drafts and references must be lists of reports, not one string")
    if len(drafts) != len(references):
        raise ValueError(f"{len(drafts)} drafts but {len(references)} references; each draft needs exactly one")
    if not drafts:
        raise ValueError("no reports to score: drafts and references are empty")
    for kind, reports in (("draft", drafts), ("reference", references)):
        for index, report in enumerate(reports):
            if not isinstance(report, str):
                raise ValueError(f"{kind} {index} is {type(report).__name__}, expected a string")
    blank = [index for index, report in enumerate(references) if not report.strip()]
    if blank:
        raise ValueError(f"references {blank[:10]} ({len(blank)} in all) are empty; leave such records out")


def bleu_counts(drafts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """The counts that corpus BLEU is made of, one row per report.

    Rows may be summed over any selection of reports and given to `bleu_from_counts`, so that a bootstrap
    counts n-grams once instead of once per resample.

    Returns:
        int64 (reports, 10): draft length, reference length, matched 1- to 4-grams, drafted 1- to 4-grams.
    Raises:
        ValueError: unequal lengths, no reports at all, or an empty reference. An empty draft is allowed
            and matches nothing.
    """
    _check(drafts, references)
    # effective_order only silences a warning here: the counts do not depend on it, and the score is unused.
    scorer = BLEU(lowercase=True, max_ngram_order=MAX_ORDER, smooth_method="none", effective_order=True)
    rows = []
    for draft, reference in zip(drafts, references, strict=True):
        score = scorer.sentence_score(draft, [reference])
        rows.append([score.sys_len, score.ref_len, *score.counts, *score.totals])
    return np.array(rows, dtype=np.int64)


def bleu_from_counts(counts: np.ndarray) -> dict[str, float]:
    """BLEU-1 to BLEU-4 of the reports whose rows of `bleu_counts` are given.

    Args:
        counts: int (reports, 10), one row per report; a row may occur more than once.
    Returns:
        `{"bleu_1": ..., "bleu_4": ...}`, each in [0, 1].
    """
    draft_length, reference_length, *ngrams = (int(total) for total in np.asarray(counts).sum(axis=0))
    matched, drafted = ngrams[:MAX_ORDER], ngrams[MAX_ORDER:]
    return {
        f"bleu_{order}": BLEU.compute_bleu(
            matched[:order],
            drafted[:order],
            draft_length,
            reference_length,
            smooth_method="none",
            max_ngram_order=order,
        ).score
        / 100
        for order in range(1, MAX_ORDER + 1)
    }


def bleu(drafts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU (Papineni et al. 2002) by sacrebleu, one reference per report.

    BLEU-n = BP * exp(mean over k = 1..n of log p_k). p_k is the number of k-grams of the drafts that occur
    in their own reference (each counted at most as often as there), divided by the number of k-grams in the
    drafts, both summed over the corpus. BP = min(1, exp(1 - r / c)) with r and c the total length of the
    references and of the drafts. Tokens: sacrebleu's "13a" on lower-cased text. No smoothing: a p_k of 0
    makes BLEU-n 0.

    Returns:
        `{"bleu_1": ..., "bleu_2": ..., "bleu_3": ..., "bleu_4": ...}`, each in [0, 1].
    Raises:
        ValueError: unequal lengths, no reports at all, or an empty reference.
    """
    return bleu_from_counts(bleu_counts(drafts, references))


def rouge_l_per_report(drafts: Sequence[str], references: Sequence[str]) -> list[float]:
    """ROUGE-L F1 (Lin 2004) of each report by rouge_score, in [0, 1].

    With L the length of the longest common subsequence of tokens, P = L / tokens of the draft and
    R = L / tokens of the reference, F1 = 2PR / (P + R), and 0 where L is 0. Tokens: lower-cased runs of
    letters and digits, without stemming.

    Raises:
        ValueError: unequal lengths, no reports at all, or an empty reference.
    """
    _check(drafts, references)
    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    return [
        scorer.score(reference, draft)["rougeL"].fmeasure for draft, reference in zip(drafts, references, strict=True)
    ]


def rouge_l(drafts: Sequence[str], references: Sequence[str]) -> float:
    """Mean of `rouge_l_per_report` over the reports, in [0, 1]."""
    return float(np.mean(rouge_l_per_report(drafts, references)))


def text_metrics(drafts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """`bleu_1` to `bleu_4` and `rouge_l` of drafts against their references, each in [0, 1]."""
    return {**bleu(drafts, references), "rouge_l": rouge_l(drafts, references)}
