"""Synonyms equal those of NLTK's reader of the same files."""

import shutil
import warnings
import zipfile

import nltk
import pytest
from nltk.corpus.reader.wordnet import WordNetCorpusReader

from evaluation.wordnet import WordNet, WordNetNotFoundError, find_wordnet, open_wordnet

from .report_pairs import real_pairs, wordnet_or_skip


class Reader(WordNetCorpusReader):
    def map_wn(self, version="wordnet"):
        """For other languages alone, and needs a file that Debian leaves out."""


@pytest.fixture(scope="module")
def nltk_wordnet(tmp_path_factory):
    """NLTK's reader of the WordNet that is here; it asks for a file of 45 names that METEOR does not use."""
    wordnet_or_skip()
    folder = find_wordnet()
    if not folder.is_dir():
        pytest.skip(f"{folder} is an archive")
    copy = tmp_path_factory.mktemp("corpora") / "wordnet"
    shutil.copytree(folder, copy)
    (copy / "lexnames").write_text("".join(f"{number:02d}\tname.{number}\t1\n" for number in range(45)))
    nltk.data.path.append(str(copy))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield Reader(str(copy), None)
    nltk.data.path.remove(str(copy))


def of_nltk(reader, word):
    return {lemma.name() for synset in reader.synsets(word) for lemma in synset.lemmas() if "_" not in lemma.name()}


def test_every_word_of_real_reports_has_the_synonyms_that_nltk_finds(nltk_wordnet, ptb_xl, mimic_iv_ecg):
    stem = nltk.stem.porter.PorterStemmer().stem
    words = {word.strip(".,()") for report in sum(real_pairs(ptb_xl, mimic_iv_ecg), []) for word in report.split()}
    words |= {stem(word) for word in words}
    assert len(words) > 500
    for word in words:
        assert open_wordnet().synonyms(word) == of_nltk(nltk_wordnet, word), word


@pytest.mark.parametrize(
    "word", ["men", "geese", "ran", "better", "best", "boxes", "churches", "galore", "x-ray", "", "a"]
)
def test_inflected_and_odd_words_have_the_synonyms_that_nltk_finds(nltk_wordnet, word):
    assert open_wordnet().synonyms(word) == of_nltk(nltk_wordnet, word)


def test_nltks_archive_reads_as_its_folder_does(tmp_path):
    wordnet_or_skip()
    with zipfile.ZipFile(tmp_path / "wordnet.zip", "w") as archive:
        for file in find_wordnet().iterdir():
            archive.write(file, f"wordnet/{file.name}")
    assert WordNet(tmp_path / "wordnet.zip").synonyms("heart") == open_wordnet().synonyms("heart")


def test_the_environment_variable_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("MEIT_WORDNET", str(tmp_path))
    with pytest.raises(WordNetNotFoundError, match=r"it lacks index.noun, data.noun.*apt-get install wordnet-base"):
        open_wordnet()


def test_a_file_that_is_no_archive_is_named(tmp_path):
    (tmp_path / "wordnet.zip").write_text("not found")
    with pytest.raises(WordNetNotFoundError, match=r"wordnet\.zip: no WordNet, and no zip file.*wordnet-base"):
        WordNet(tmp_path / "wordnet.zip")


def test_where_there_is_none_the_error_names_three_ways(tmp_path, monkeypatch):
    monkeypatch.delenv("MEIT_WORDNET", raising=False)
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    monkeypatch.setattr("evaluation.wordnet.DEBIAN", tmp_path / "wordnet")
    with pytest.raises(WordNetNotFoundError) as caught:
        find_wordnet()
    assert all(way in str(caught.value) for way in ("wordnet-base", "nltk.download('wordnet')", "MEIT_WORDNET"))


def test_another_version_is_refused(tmp_path):
    for part in ("noun", "verb", "adj", "adv"):
        for name in (f"index.{part}", f"data.{part}", f"{part}.exc"):
            (tmp_path / name).write_text("  1 WordNet 3.1 Copyright\n")
    with pytest.raises(ValueError, match="not WordNet 3.0"):
        WordNet(tmp_path)
