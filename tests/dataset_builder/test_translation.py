"""Translation with tiny models that were taught six reports in a second and know nothing else."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
)

from dataset_builder.errors import DatasetBuildError, RecordError
from dataset_builder.translation import Translator
from tests.processing.synthetic import make_tokenizer

REPORTS = {
    "sinusrhythmus linkstyp": "sinus rhythm left axis",
    "vorhofflimmern": "atrial fibrillation",
    "sinusrhythmus normales ekg": "sinus rhythm normal ecg",
    "sinusbradykardie, linksanteriorer hemiblock": "sinus bradycardia, left anterior block",
    "t abnormal": "abnormal t",
    "qrs(t) abnormal inferiorer infarkt alter unbest.": "qrs(t) abnormal, inferior infarct.",
}
TEXTS, ENGLISH = list(REPORTS), list(REPORTS.values())
SIZES = {"d_model": 48, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 96, "dropout": 0.0}
SIZES |= dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2)
SIZES |= dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 64)


def teach(
    folder: Path, model_class: type, config, tokenizer, languages: tuple[str, str] | None = None, prefix: str = ""
) -> Path:
    """Overfit a model on the six reports, and save it."""
    torch.manual_seed(0)
    model = model_class(config)
    if languages:
        tokenizer.src_lang = languages[0]
    inputs = tokenizer([prefix + text for text in TEXTS], padding=True, return_tensors="pt")
    if languages:
        tokenizer.src_lang = languages[1]  # the target begins with its language, as the source does
        labels = tokenizer(ENGLISH, padding=True, return_tensors="pt")["input_ids"]
    else:
        labels = tokenizer(text_target=ENGLISH, padding=True, return_tensors="pt")["input_ids"]
    labels = labels.masked_fill(labels == tokenizer.pad_token_id, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(600):
        loss = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels).loss
        if loss < 0.03:
            break
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert loss < 0.03, loss
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_t5(folder: Path, prefix: str = "", **config) -> Path:
    tokenizer = make_tokenizer(eos=True, pad=True)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=48, d_kv=24, d_ff=64, num_layers=1, num_heads=2, pad_token_id=2,
        eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=2, dropout_rate=0.0, **config,
    )  # fmt: skip
    return teach(folder, T5ForConditionalGeneration, config, tokenizer, prefix=prefix)


def write_nllb(folder: Path) -> Path:
    """NLLB is M2M100's network with a tokenizer of its own."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz(),.", "de", "en"]
    tokenizer = NllbTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[])
    config = M2M100Config(
        vocab_size=len(tokenizer), pad_token_id=1, eos_token_id=2, bos_token_id=0, decoder_start_token_id=2, **SIZES
    )
    return teach(folder, M2M100ForConditionalGeneration, config, tokenizer, ("deu_Latn", "eng_Latn"))


def write_pieces(folder: Path) -> Path:
    """A model of the sentencepiece package, as Marian and M2M100 tokenise with."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="Marian and M2M100 tokenise with sentencepiece")
    folder.mkdir(exist_ok=True)
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join([*TEXTS, *ENGLISH, "abcdefghijklmnopqrstuvwxyz"] * 3), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "pieces"), vocab_size=60, model_type="bpe", minloglevel=2
    )
    return folder / "pieces.model"


def vocabulary(pieces: Path, special: list[str]) -> dict[str, int]:
    lines = pieces.with_suffix(".vocab").read_text("utf-8").splitlines()[3:]  # behind <unk>, <s> and </s>
    return {word: number for number, word in enumerate([*special, *(line.split("\t")[0] for line in lines)])}


def write_marian(folder: Path) -> Path:
    from transformers import MarianTokenizer

    pieces = write_pieces(folder)
    words = vocabulary(pieces, ["</s>", "<unk>"])
    words["<pad>"] = len(words)
    (folder / "words.json").write_text(json.dumps(words), "utf-8")
    tokenizer = MarianTokenizer(
        str(pieces), str(pieces), str(folder / "words.json"), source_lang="de", target_lang="en"
    )
    config = MarianConfig(
        vocab_size=len(words), pad_token_id=words["<pad>"], decoder_start_token_id=words["<pad>"], eos_token_id=0,
        forced_eos_token_id=0, **SIZES,
    )  # fmt: skip
    return teach(folder, MarianMTModel, config, tokenizer)


def write_m2m100(folder: Path) -> Path:
    from transformers import M2M100Tokenizer

    pieces = write_pieces(folder)
    words = vocabulary(pieces, ["<s>", "<pad>", "</s>", "<unk>"])
    (folder / "words.json").write_text(json.dumps(words), "utf-8")
    tokenizer = M2M100Tokenizer(str(folder / "words.json"), str(pieces), src_lang="en", tgt_lang="en")
    config = M2M100Config(
        vocab_size=max(tokenizer.lang_code_to_id.values()) + 1,
        pad_token_id=1,
        eos_token_id=2,
        bos_token_id=0,
        decoder_start_token_id=2,
        **SIZES,
    )
    return teach(folder, M2M100ForConditionalGeneration, config, tokenizer, ("de", "en"))


FAMILIES = {"t5": write_t5, "nllb": write_nllb, "marian": write_marian, "m2m100": write_m2m100}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Writes the model of a family once."""
    written: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in written:
            written[family] = FAMILIES[family](tmp_path_factory.mktemp("models") / family)
        return written[family]

    return get


@pytest.mark.parametrize("family", FAMILIES)
def test_every_batch_size_gives_each_text_its_translation(family, models):
    for batch_size in (1, 4, 16):
        translator = Translator(models(family), batch_size=batch_size)
        assert translator.translate(TEXTS) == ENGLISH
        assert translator.translate(TEXTS[::-1]) == ENGLISH[::-1]


def test_beams_find_it_too(models):
    assert Translator(models("t5"), num_beams=3).translate(TEXTS) == ENGLISH


def test_repeated_texts_are_translated_once(models, monkeypatch):
    translator = Translator(models("t5"), batch_size=2)
    seen = []
    generate = translator._model.generate
    monkeypatch.setattr(
        translator._model, "generate", lambda **inputs: seen.append(len(inputs["input_ids"])) or generate(**inputs)
    )
    results = translator.translate([TEXTS[0], TEXTS[1], f" {TEXTS[0]} ", "", " - ", TEXTS[2], TEXTS[1]])
    assert sum(seen) == 3
    assert results == [ENGLISH[0], ENGLISH[1], ENGLISH[0], "", "", ENGLISH[2], ENGLISH[1]]
    assert translator.translate([]) == []


def test_a_killed_build_goes_on_from_its_cache(models, tmp_path, monkeypatch):
    cache = tmp_path / "translations.sqlite"
    first = Translator(models("t5"), batch_size=2, cache_file=cache)
    generate = first._model.generate
    calls = []

    def dies_at_the_third(**inputs):
        calls.append(inputs)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(**inputs)

    monkeypatch.setattr(first._model, "generate", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        first.translate(TEXTS)

    second = Translator(models("t5"), batch_size=2, cache_file=cache)
    generate_again = second._model.generate
    calls = []
    monkeypatch.setattr(second._model, "generate", lambda **inputs: calls.append(1) or generate_again(**inputs))
    assert second.translate(TEXTS) == ENGLISH
    assert len(calls) == 1  # two of three batches were there
    assert second.translate(TEXTS) == ENGLISH
    assert len(calls) == 1

    # Another model or other settings do not take them.
    for other in ({"num_beams": 2}, {"target_language": "sv"}):
        with sqlite3.connect(cache) as connection:
            before = connection.execute("SELECT COUNT(*) FROM translations").fetchone()[0]
        Translator(models("t5"), cache_file=cache, **other).translate(TEXTS[:2])
        with sqlite3.connect(cache) as connection:
            assert connection.execute("SELECT COUNT(*) FROM translations").fetchone()[0] == before + 2


def test_failures_are_kept_in_the_cache_too(models, tmp_path):
    for _ in range(2):
        (result,) = Translator(models("t5"), cache_file=tmp_path / "cache").translate(["sinus " * 2000])
        assert isinstance(result, RecordError)
        assert (result.reason, "tokens" in str(result)) == ("too long to translate", True)


def test_a_file_that_is_no_cache(models, tmp_path):
    (tmp_path / "cache").write_text("not SQLite" * 1000)
    with pytest.raises(DatasetBuildError, match="cache: not a cache of translations"):
        Translator(models("t5"), cache_file=tmp_path / "cache").translate(TEXTS)


def test_what_is_not_translated_whole(models, monkeypatch):
    translator = Translator(models("marian"), batch_size=2)
    assert translator._max_tokens == 96
    long, short = translator.translate(["sinusrhythmus " * 60, TEXTS[0]])
    assert long.reason == "too long to translate"
    assert short == ENGLISH[0]

    pad, end = translator._tokenizer.pad_token_id, translator._tokenizer.eos_token_id
    outputs = {
        "translation cut short": [pad, 5, 6, 7],
        "empty translation": [pad, end, pad, pad],
    }
    for reason, tokens in outputs.items():
        monkeypatch.setattr(translator._model, "generate", lambda tokens=tokens, **inputs: torch.tensor([tokens]))
        (result,) = translator.translate([TEXTS[1]])
        assert result.reason == reason


@pytest.mark.parametrize(
    ("family", "german", "swedish", "english"),
    [("nllb", "deu_Latn", "swe_Latn", "eng_Latn"), ("m2m100", "__de__", "__sv__", "__en__")],
)
def test_the_languages_reach_tokenizer_and_model(family, german, swedish, english, models, monkeypatch):
    for source, token in (("de", german), ("sv", swedish)):
        translator = Translator(models(family), source_language=source)
        tokenizer, generate = translator._tokenizer, translator._model.generate
        calls = []

        def recorded(generate=generate, calls=calls, **inputs):
            calls.append((inputs["input_ids"], generate(**inputs)))
            return calls[-1][1]

        monkeypatch.setattr(translator._model, "generate", recorded)
        translator.translate(TEXTS[:1])
        ((read, written),) = calls
        assert read[0, 0] == tokenizer.convert_tokens_to_ids(token)
        assert written[0, 1] == tokenizer.convert_tokens_to_ids(english)


def test_a_language_that_the_model_does_not_know(models):
    with pytest.raises(DatasetBuildError, match="does not know the language 'xx'; tried xx"):
        Translator(models("nllb"), source_language="xx")


def test_the_prefix_of_a_model_of_many_tasks(tmp_path):
    prefix = "translate German to English: "
    tasks = {"translation_de_to_en": {"prefix": prefix}}
    folder = write_t5(tmp_path / "t5", prefix, task_specific_params=tasks)
    assert Translator(folder).translate(TEXTS) == ENGLISH
    assert Translator(folder)._prefix == prefix


def test_models_that_are_refused(tmp_path, models):
    tokenizer = make_tokenizer(eos=True, pad=True)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    with pytest.raises(DatasetBuildError, match="type llama; expected a sequence-to-sequence model"):
        Translator(tmp_path / "llama")

    with pytest.raises(DatasetBuildError, match="cannot be loaded for translation"):
        Translator(tmp_path / "nowhere")
    with pytest.raises(DatasetBuildError, match="cannot be loaded for translation"):
        Translator("some-organisation/no-such-model")

    pickled = shutil.copytree(models("t5"), tmp_path / "pickled")
    weights = AutoModelForSeq2SeqLM.from_pretrained(pickled).state_dict()
    torch.save(weights, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(DatasetBuildError, match="weights in safetensors"):
        Translator(pickled)

    damaged = shutil.copytree(models("t5"), tmp_path / "damaged")
    content = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetBuildError, match="cannot be loaded for translation"):
        Translator(damaged)


def test_missing_weights_are_not_made_up(tmp_path, models):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(models("t5"), tmp_path / "t5")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "decoder" in name and "DenseReluDense" in name)
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DatasetBuildError, match="weights are missing"):
        Translator(folder)


def test_building_without_translation_imports_no_torch():
    code = "import sys, dataset_builder.translation; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
