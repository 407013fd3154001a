import json

import pytest

from evaluation.drafts_file import DraftsFile, read_drafts

SETTINGS = {"model": {"name": "m"}, "max_new_tokens": 8}


def test_drafts_are_found_again(tmp_path):
    path = tmp_path / "run" / "drafts.jsonl"
    DraftsFile(path, SETTINGS).add([(("1", "1"), "sinus rhythm\nnormal"), (("1", "2"), "für")])
    again = DraftsFile(path, SETTINGS)
    assert again.drafts == {("1", "1"): "sinus rhythm\nnormal", ("1", "2"): "für"}
    again.add([(("2", "2"), "af\u2028x")])
    assert len(read_drafts(path)[1]) == 3


def test_a_line_that_was_cut_short_is_made_again(tmp_path):
    path = tmp_path / "drafts.jsonl"
    DraftsFile(path, SETTINGS).add([(("1", "1"), "a"), (("2", "2"), "b")])
    path.write_text(path.read_text()[:-5])
    again = DraftsFile(path, SETTINGS)
    assert again.drafts == {("1", "1"): "a"}
    again.add([(("2", "2"), "b")])
    assert read_drafts(path) == (SETTINGS, {("1", "1"): "a", ("2", "2"): "b"})


def test_drafts_of_other_settings_are_refused(tmp_path):
    path = tmp_path / "drafts.jsonl"
    DraftsFile(path, SETTINGS).add([(("1", "1"), "a")])
    with pytest.raises(ValueError, match=r"holds 1 drafts made with other settings \(max_new_tokens\)"):
        DraftsFile(path, SETTINGS | {"max_new_tokens": 9})


@pytest.mark.parametrize("text", ["", "x\n", "{}\n", json.dumps({"settings": {}}) + "\n[]\n"])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "drafts.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match="not a file of drafts"):
        DraftsFile(path, {})
