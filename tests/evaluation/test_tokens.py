"""The tokens are those of the packages that define them."""

import random

import pytest
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from evaluation.tokens import check_reports, tokenize, tokenize_all

from .report_pairs import real_pairs

SACREBLEU = Tokenizer13a()


def test_13a_equals_sacrebleus_on_real_reports(ptb_xl, mimic_iv_ecg):
    for report in set(sum(real_pairs(ptb_xl, mimic_iv_ecg), [])):
        assert tokenize(report) == SACREBLEU(report.lower()).split()


def test_13a_equals_sacrebleus_on_odd_characters():
    """Our tokens are found word by word; 13a looks across characters."""
    rng = random.Random(0)
    for _ in range(5000):
        text = "".join(rng.choices("aB5.,-&;<>/%$(é \n\t\u00a0", k=rng.randrange(15)))
        assert tokenize(text) == SACREBLEU(text.lower()).split()
    for text in ("block-\ned", "a<skipped>b", "&quot;normal&amp;ecg&lt;"):
        assert tokenize(text) == SACREBLEU(text).split()


def test_words_of_ascii_reports_equal_rouge_scores_own_tokens():
    text = "Sinus rhythm, QRS 150 ms. ST-T_changes (V1-V3)"
    assert tokenize(text, "words") == DefaultTokenizer().tokenize(text)


def test_words_with_umlauts_stay_whole():
    assert tokenize("Verdacht für Block", "words") == ["verdacht", "für", "block"]


def test_all_reports_are_tokenized_in_their_order():
    assert tokenize_all(["normal ecg", "x", "normal ecg"]) == [["normal", "ecg"], ["x"], ["normal", "ecg"]]


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="'bpe' are unknown; expected one of 13a, words"):
        tokenize("x", "bpe")


@pytest.mark.parametrize(
    ("drafts", "references", "message"),
    [
        (["a", "b"], ["a"], "2 drafts but 1 references"),
        ([], [], "no reports to score"),
        (["a", "b"], ["a", " \n"], r"references \[1\] \(1 in all\) are empty"),
        ("sinus", "sinus", "not one str"),
        ({"1": "sinus"}, {"1": "sinus"}, "not one dict"),
        (["sinus"], {"sinus"}, "not one set"),
        ((draft for draft in ["sinus"]), ["sinus"], "not one generator"),
        (None, ["sinus"], "not one NoneType"),
        ([None], ["a"], "draft 0 is NoneType"),
        (["a"], [3.5], "reference 0 is float"),
    ],
)
def test_what_cannot_be_scored_is_refused(drafts, references, message):
    with pytest.raises(ValueError, match=message):
        check_reports(drafts, references)
