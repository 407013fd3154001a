"""The figures as the paper's published code computes them, to be set beside the paper's tables.

Its arithmetic, which differs from that of `text_metrics` in nearly everything:

- Figures are computed per batch of the test loader (8 reports) and averaged over the batches, the last one, which may
  be smaller, counting as much as the others.
- BLEU and ROUGE-L (of `pycocoevalcap`, F with beta 1.2) and CIDEr-D see the texts in their own case, with a space
  before each "."; ROUGE-L splits at single spaces.
- CIDEr-D: the document frequencies are counted over all references as if they were those of one record, so each is 1
  and every n-gram has the same weight, ln(batch size). It cancels, and a batch of one report scores 0.
- ROUGE-1 and ROUGE-2 (of the package `rouge`) compare sets: a word counts once, "." ends a sentence and is no word.
- METEOR (NLTK) on `word_tokenize`'s tokens.
- References are cut to 128 tokens of the language model, with the prompt left in. That takes its tokenizer, so the
  caller does it: `truncate`.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .bertscore import Encoder, bertscore_per_report
from .bleu import MAX_ORDER, bleu_counts_of_ngrams, bleu_from_totals
from .cider import cider_d_of_ngrams
from .meteor import meteor_of_tokens
from .ngrams import ngram_counts
from .rouge import common_subsequence
from .tokens import check_reports

BATCH_SIZE = 8
ROUGE_L_BETA = 1.2


def paper_compat_metrics(
    drafts: Sequence[str],
    references: Sequence[str],
    *,
    batch_size: int = BATCH_SIZE,
    truncate: Callable[[str], str] | None = None,
    meteor: bool = True,
    wordnet: str | Path | None = None,
    bertscore: Encoder | None = None,
) -> dict[str, float]:
    """All figures with the arithmetic above. They depend on the order of the reports.

    Where the packages fail, on a draft or a reference without a word, the report scores 0.

    Args:
        batch_size: reports per batch.
        truncate: what becomes of a reference before it is scored.
        meteor, wordnet, bertscore: as for `text_metrics`.
    Returns:
        `bleu_1` to `bleu_4`, `meteor`, `rouge_1`, `rouge_2`, `rouge_l`, `cider_d`, and with an encoder
        `bertscore_precision`, `bertscore_recall`, `bertscore_f1`.
    Raises:
        ValueError: what `check_reports` refuses, or a batch size below 1.
        WordNetNotFoundError: no WordNet, and METEOR is not left out.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1")
    check_reports(drafts, references)
    if truncate is not None:
        references = [truncate(reference) for reference in references]
        check_reports(drafts, references)
    drafted, referred = [_spaced(report) for report in drafts], [_spaced(report) for report in references]
    words = [report.split() for report in drafted], [report.split() for report in referred]
    ngrams = list(ngram_counts(*words, MAX_ORDER))
    starts = np.arange(0, len(drafts), batch_size)
    sizes = np.diff([*starts, len(drafts)])

    per_report = {}
    if meteor:
        per_report["meteor"] = meteor_of_tokens(_word_tokens(drafts), _word_tokens(references), wordnet)
    pairs = list(zip(drafts, references, strict=True))
    per_report["rouge_1"] = np.array([_rouge_n(*pair, 1) for pair in pairs])
    per_report["rouge_2"] = np.array([_rouge_n(*pair, 2) for pair in pairs])
    per_report["rouge_l"] = np.array([_rouge_l(*pair) for pair in zip(drafted, referred, strict=True)])
    # ln 1 = 0: the one report of a batch weighs nothing.
    per_report["cider_d"] = cider_d_of_ngrams(ngrams, weighted=False) * np.repeat(sizes > 1, sizes)
    if bertscore is not None:
        per_report |= bertscore_per_report(drafts, references, bertscore)

    bleus = [bleu_from_totals(totals) for totals in np.add.reduceat(bleu_counts_of_ngrams(ngrams), starts)]
    return {
        **{name: float(np.mean([scores[name] for scores in bleus])) for name in bleus[0]},
        **{name: float(np.mean(np.add.reduceat(values, starts) / sizes)) for name, values in per_report.items()},
    }


def _spaced(report: str) -> str:
    return re.sub(" +", " ", report.replace(".", " ."))


def _rouge_l(draft: str, reference: str) -> float:
    drafted, referred = draft.split(" "), reference.split(" ")
    common = common_subsequence(drafted, referred)
    if common == 0:
        return 0.0
    precision, recall, weight = common / len(drafted), common / len(referred), ROUGE_L_BETA**2
    return (1 + weight) * precision * recall / (recall + weight * precision)


def _rouge_n(draft: str, reference: str, order: int) -> float:
    drafted, referred = _distinct_ngrams(draft, order), _distinct_ngrams(reference, order)
    common = len(drafted & referred)
    if common == 0:
        return 0.0
    precision, recall = common / len(drafted), common / len(referred)
    return 2 * precision * recall / (precision + recall + 1e-8)


def _distinct_ngrams(report: str, order: int) -> set[tuple[str, ...]]:
    sentences = [" ".join(sentence.split()) for sentence in report.split(".") if sentence]
    words = [word for sentence in sentences for word in sentence.split(" ")]
    return set(zip(*(words[start:] for start in range(order)), strict=False))


def _word_tokens(reports: Sequence[str]) -> list[list[str]]:
    """The tokens of NLTK's `word_tokenize`, without the data file that it needs.

    Sentences are split by NLTK's Punkt as it is before it has learnt any abbreviations, then `NLTKWordTokenizer` splits
    each into words, which is what `word_tokenize` does with what Punkt has learnt from English newspapers. Of 10,281
    different reports of both corpora 4 have other tokens so ("st." is an abbreviation there), and METEOR is the same to
    1e-6.
    """
    # Imported here: NLTK takes seconds to import.
    from nltk.tokenize.destructive import NLTKWordTokenizer
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    split_sentences, split_words = PunktSentenceTokenizer().tokenize, NLTKWordTokenizer().tokenize
    tokens_of = {
        report: [token for sentence in split_sentences(report) for token in split_words(sentence)]
        for report in dict.fromkeys(reports)
    }
    return [tokens_of[report] for report in reports]
