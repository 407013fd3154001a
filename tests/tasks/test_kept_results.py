"""Results on disk: found again, mended after a kill, refused where they are of another run."""

import json

import pytest

from tasks.kept_results import KeptResults, read_results

SETTINGS = {"model": {"name": "m"}, "max_new_tokens": 8}


def test_results_are_found_again(tmp_path):
    KeptResults(tmp_path / "run", "draft", SETTINGS).add([(("1", "1"), "sinus rhythm\nnormal"), (("1", "2"), "für")])
    again = KeptResults(tmp_path / "run", "draft", SETTINGS)
    assert again.values == {("1", "1"): "sinus rhythm\nnormal", ("1", "2"): "für"}
    again.add([(("2", "2"), "af\u2028x")])
    assert len(read_results(again.path)[1]) == 3


def test_a_line_that_was_cut_short_is_made_again(tmp_path):
    kept = KeptResults(tmp_path, "loss", SETTINGS)
    kept.add([(("1", "1"), [3.5, 7]), (("2", "2"), [1.0, 2])])
    kept.path.write_text(kept.path.read_text()[:-5])
    again = KeptResults(tmp_path, "loss", SETTINGS)
    assert again.values == {("1", "1"): [3.5, 7]}
    again.add([(("2", "2"), [1.0, 2])])
    assert read_results(again.path, "loss") == (SETTINGS, {("1", "1"): [3.5, 7], ("2", "2"): [1.0, 2]})


def test_each_process_writes_its_own_file_and_reads_all(tmp_path):
    first, second = (KeptResults(tmp_path, "draft", SETTINGS, process) for process in (0, 1))
    first.add([(("1", "1"), "a")])
    second.add([(("2", "2"), "b")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draft-1.jsonl", "draft.jsonl"]
    assert len(first.values) == 1
    first.read()
    assert first.values == {("1", "1"): "a", ("2", "2"): "b"}
    # A run that goes on with one process finds what two have written.
    assert KeptResults(tmp_path, "draft", SETTINGS).values == first.values


def test_results_of_other_settings_are_refused(tmp_path):
    KeptResults(tmp_path, "draft", SETTINGS).add([(("1", "1"), "a")])
    with pytest.raises(ValueError, match=r"holds 1 results made with other settings \(max_new_tokens\)"):
        KeptResults(tmp_path, "draft", SETTINGS | {"max_new_tokens": 9})


@pytest.mark.parametrize("end", [b"", b'{"settings": {"mod', b'{"settings": {}}\n{"id": "f\xc3'])
def test_a_file_that_was_cut_anywhere_is_gone_on_with(tmp_path, end):
    path = tmp_path / "draft.jsonl"
    path.write_bytes(end)
    settings = {} if b"\n" in end else SETTINGS
    kept = KeptResults(tmp_path, "draft", settings)
    assert kept.values == {}
    kept.add([(("1", "1"), "für")])
    assert read_results(path) == (settings, {("1", "1"): "für"})


@pytest.mark.parametrize("text", ["x\n", "{}\n", json.dumps({"settings": {}}) + "\n[]\n"])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "draft.jsonl").write_text(text)
    with pytest.raises(ValueError, match="not a file of drafts"):
        KeptResults(tmp_path, "draft", {})
