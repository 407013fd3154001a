"""BERTScore equals bert-score's, with tiny encoders of random weights."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from bert_score import score
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
)

from evaluation.bertscore import NAMES, Encoder, bertscore_per_report

from .report_pairs import real_pairs

DRAFTS = ["sinus rhythm", "atrial fibrillation left axis", "normal ecg normal ecg", "ecg"]
REFERENCES = ["sinus rhythm normal ecg", "atrial fibrillation", "normal ecg", "left axis deviation"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "sinus", "rhythm", "normal", "ecg", "atrial", "fibrillation", "left", "axis", "deviation"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}


def save_bert(folder, words=WORDS, positions=16, dtype=torch.float32, **options):
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt"), **options).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), max_position_embeddings=positions, **SIZES)
    BertModel(config).to(dtype).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("encoders") / "bert", model_max_length=16)


def of_bert_score(path, drafts, references, layer):
    return torch.stack(score(drafts, references, model_type=path, num_layers=layer), dim=1).double().numpy()


def as_array(scores):
    return np.stack([scores[name] for name in NAMES], axis=1)


@pytest.mark.parametrize("layer", [1, 3])
def test_raw_scores_equal_the_packages(bert, layer):
    found = bertscore_per_report(DRAFTS, REFERENCES, Encoder(bert, layer, baseline=None))
    np.testing.assert_allclose(as_array(found), of_bert_score(bert, DRAFTS, REFERENCES, layer), rtol=0, atol=1e-6)


def test_real_reports_score_as_with_the_package(ptb_xl, mimic_iv_ecg, tmp_path, monkeypatch):
    drafts, references = real_pairs(ptb_xl, mimic_iv_ecg)
    words = sorted(set(re.findall(r"\w+|[^\w\s]", " ".join([*drafts, *references]).lower())))
    encoder = save_bert(tmp_path / "bert", [*SPECIAL, *words], positions=128, model_max_length=128)
    found = bertscore_per_report(drafts, references, Encoder(encoder, 2, baseline=None))
    # What the package asks for an empty draft, and transformers 5 no longer gives.
    monkeypatch.setattr(
        BertTokenizer, "build_inputs_with_special_tokens", lambda self, ids: self("").input_ids, raising=False
    )
    expected = of_bert_score(encoder, drafts, references, 2)
    np.testing.assert_allclose(as_array(found), expected, rtol=0, atol=1e-6)


def test_an_encoder_of_low_precision_is_run_in_float32(tmp_path):
    encoder = save_bert(tmp_path / "bert", dtype=torch.bfloat16)
    found = bertscore_per_report(DRAFTS, DRAFTS, Encoder(encoder, 2, baseline=None))
    assert as_array(found) == pytest.approx(1, abs=1e-6)


def test_a_tokenizer_that_marks_no_ends_is_refused(tmp_path):
    """bert-score gives nan for an empty draft and 0 for one of two tokens."""
    encoder = save_bert(tmp_path / "bert")
    words = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, "[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]").save_pretrained(encoder)
    with pytest.raises(ValueError, match="its tokenizer adds 0 tokens to a report"):
        bertscore_per_report(DRAFTS, REFERENCES, Encoder(encoder, 2, baseline=None))


def test_they_depend_on_neither_batches_nor_blocks(bert, monkeypatch):
    expected = bertscore_per_report(DRAFTS, REFERENCES, Encoder(bert, 2))
    monkeypatch.setattr("evaluation.bertscore.BLOCK", 3)
    found = bertscore_per_report(DRAFTS, REFERENCES, Encoder(bert, 2, batch_size=1))
    np.testing.assert_allclose(as_array(found), as_array(expected), rtol=0, atol=1e-5)


def test_they_are_rescaled_with_what_unrelated_references_reach(bert):
    """The two distinct references are each scored as the draft of the other."""
    references = ["sinus rhythm", "normal ecg", "sinus rhythm"]
    raw = of_bert_score(bert, ["sinus rhythm", "normal ecg"], ["normal ecg", "sinus rhythm"], 2).mean(axis=0)
    found = bertscore_per_report(["normal ecg", "normal ecg", "sinus rhythm"], references, Encoder(bert, 2))
    assert as_array(found)[1:] == pytest.approx(1, abs=1e-5)
    first = of_bert_score(bert, ["normal ecg"], ["sinus rhythm"], 2)[0]
    assert as_array(found)[0] == pytest.approx((first - raw) / (1 - raw), abs=1e-5)


def test_a_baseline_file_is_read_at_the_layer(bert, tmp_path):
    (tmp_path / "baseline.tsv").write_text("LAYER,P,R,F\n0,.1,.1,.1\n1,.2,.3,.4\n2,.5,.6,.7\n")
    raw = as_array(bertscore_per_report(DRAFTS, REFERENCES, Encoder(bert, 1, baseline=None)))
    found = bertscore_per_report(DRAFTS, REFERENCES, Encoder(bert, 1, baseline=str(tmp_path / "baseline.tsv")))
    baseline = np.array([0.2, 0.3, 0.4])
    np.testing.assert_allclose(as_array(found), (raw - baseline) / (1 - baseline))


def test_a_report_beyond_the_positions_is_cut_where_the_tokenizer_states_no_length(tmp_path):
    """bert-score alone fails here: the stated length is 1e30."""
    encoder = save_bert(tmp_path / "silent")
    long = ["sinus rhythm " * 40]
    found = bertscore_per_report(long, ["sinus rhythm " * 7], Encoder(encoder, 2, baseline=None))
    assert as_array(found) == pytest.approx(1, abs=1e-5)  # 16 positions: two special tokens and 14 words


def test_an_empty_draft_has_the_raw_score_zero(bert):
    """bert-score alone fails here with transformers 5."""
    found = as_array(bertscore_per_report(["", "normal ecg"], REFERENCES[1:3], Encoder(bert, 2, baseline=None)))
    assert found[0].tolist() == [0, 0, 0]
    assert found[1] == pytest.approx(1, abs=1e-5)


def test_robertas_first_word_is_a_word_as_any_other(tmp_path):
    """bert-score asks for the space before it in a way that has no effect in transformers 5."""
    characters = [chr(code) for code in range(33, 127)]
    vocabulary = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ"])}
    vocabulary |= {token: len(vocabulary) + number for number, token in enumerate(characters)}
    tokenizer = RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=32)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    RobertaModel(RobertaConfig(vocab_size=len(vocabulary), max_position_embeddings=34, **SIZES)).save_pretrained(
        tmp_path
    )
    encoder = Encoder(str(tmp_path), 2, baseline=None)
    without, padded = (bertscore_per_report([draft], ["ecg v1"], encoder) for draft in ("ecg", " ecg"))
    assert as_array(without) == pytest.approx(as_array(padded), abs=1e-6)
    assert as_array(without) != pytest.approx(of_bert_score(str(tmp_path), ["ecg"], ["ecg v1"], 2), abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": None}, "has no layer of its own for this model"),
        ({"layer": 4}, "should be between 0 and 3"),
        ({"path": "./no/such/folder"}, "there is no such folder"),
        ({"path": "scibert-scivocab-uncased"}, "fetches this one by a shell command"),
        ({"baseline": "package"}, "no baseline"),
        ({"baseline": "/no/such.tsv"}, "no baseline"),
    ],
)
def test_what_cannot_be_used_is_named(bert, options, message):
    with pytest.raises(ValueError, match=message):
        bertscore_per_report(DRAFTS, REFERENCES, Encoder(**({"path": bert, "layer": 2} | options)))


def test_equal_references_give_no_baseline(bert):
    with pytest.raises(ValueError, match="all references are equal"):
        bertscore_per_report(["a", "b"], ["normal ecg"] * 2, Encoder(bert, 2))


def test_without_the_package_the_extra_is_named(bert, monkeypatch):
    monkeypatch.setitem(sys.modules, "bert_score.utils", None)
    with pytest.raises(ImportError, match=r"pip install 'meit-ecg\[bertscore\]'"):
        bertscore_per_report(DRAFTS, REFERENCES, Encoder(bert, 2, batch_size=7))  # of no other test


def test_the_module_imports_neither_torch_nor_the_package():
    code = (
        "import sys, evaluation.text_metrics; print([name for name in ('torch', 'bert_score') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
