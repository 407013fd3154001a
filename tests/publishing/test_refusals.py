"""What may stand in no published file, under whatever name, and what looks like it and is none."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from publishing.model_folder import prepare_model

from .folders import REPO, read_json, refusal, write_json


@pytest.mark.parametrize("name", ["pytorch_model.bin", "extra.pt", "inner/weights.pkl", "model.pth", "last.ckpt"])
def test_pickles_are_refused_by_name(adapter, name):
    (adapter / name).parent.mkdir(exist_ok=True)
    (adapter / name).write_bytes(b"pickle")
    assert f"{name}: a pickle" in refusal(adapter)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["notes.txt", "weights.safetensors", "settings.json", "LICENSE"])
def test_pickles_are_refused_by_content(adapter, protocol, name):
    (adapter / name).write_bytes(pickle.dumps({"weights": [1, 2], "of": print}, protocol))
    assert f"{name}: a pickle under another name" in refusal(adapter)


def test_what_torch_saves_is_refused_under_any_name(adapter):
    for is_zip, words in ((True, "a zip archive"), (False, "a pickle under another name")):
        torch.save({"a": torch.ones(2)}, adapter / "weights.dump", _use_new_zipfile_serialization=is_zip)
        assert f"weights.dump: {words}" in refusal(adapter)
    with zipfile.ZipFile(adapter / "weights.dump", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(1))
    assert "weights.dump: a zip archive" in refusal(adapter)


@pytest.mark.parametrize("text", ["A sentence.", "I.", "(see above).", "N.", "0.", ".", "a\nb\n."])
def test_prose_is_no_pickle(adapter, text):
    (adapter / "NOTICE").write_text(text, encoding="utf-8")
    prepare_model(adapter, REPO)


@pytest.mark.parametrize("path", ["/data/ecg", "C:\\data", "D:/data", "~/data", "\\\\server\\share", "file:///data"])
def test_local_paths_are_refused_by_file_and_key(adapter, path):
    write_json(adapter / "processor_config.json", {"sources": [{"folder": path}]})
    assert f"processor_config.json: sources[0].folder is a path of this machine: {path}" in refusal(adapter)


PATHS = [
    "/home/me/ecg",
    "/Users/me",
    "/root/models",
    "/tmp/run-1",
    "/mnt/disk",
    "/nfs/lab/ecg/records",
    "C:\\Users\\me\\ecg",
    "D:/ecg/records",
    "\\\\server\\share",
    "~/models/llama",
    "~me/models",
    "file:///nfs/ecg",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["helper.py", "notes.md", "recipe.yaml", "run.log", "template.jinja", "LICENSE"])
def test_local_paths_are_refused_in_every_text(adapter, name, path):
    (adapter / name).write_text(f"first line\ntaken from {path} of ours\n", encoding="utf-8")
    assert f"{name}: line 2 holds a path of this machine: " in refusal(adapter)


@pytest.mark.parametrize("path", PATHS)
def test_local_paths_are_refused_inside_json_values(adapter, path):
    run = read_json(adapter / "training_run.json") | {"notes": [f"begun from {path}"]}
    write_json(adapter / "training_run.json", run)
    assert "training_run.json: notes[0] holds a path of this machine: " in refusal(adapter)


def test_local_paths_are_refused_in_the_notes_of_weights(adapter):
    save_file({"a": torch.ones(2)}, adapter / "adapter_model.safetensors", metadata={"from": "/home/me/run"})
    assert "adapter_model.safetensors: from is a path of this machine: /home/me/run" in refusal(adapter)


def test_the_folder_itself_is_refused_even_in_a_vocabulary(adapter):
    write_json(adapter / "tokenizer.json", {"model": {"vocab": {"/usr/lib/x": 0}}, "source": str(adapter)})
    assert f"tokenizer.json: the path of this folder stands in it: {adapter}" in refusal(adapter)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/home/me/x",
        "sinus and/or flutter, 80/min, mV/s/kg",
        "`/usr/bin/env`, `/dev/null`, `/etc/hosts`, /path/to/ecg",
        "hf://datasets/org/name and org/name/file.py",
        "a regular expression: r'(\\d+)/(\\w+)' and 'D:\\s'",
        "</think> [/INST] // a comment",
        "with open(name) as file:",
        "x = y / z / w",
        "~5 mV",
    ],
)
def test_what_is_no_local_path_goes_up(adapter, text):
    (adapter / "notes.md").write_text(text, encoding="utf-8")
    run = read_json(adapter / "training_run.json") | {"notes": text}
    write_json(adapter / "training_run.json", run)
    prepare_model(adapter, REPO)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("00001_hr.hea", b"00001_hr 12 500 5000"),
        ("00001_hr.dat", b"\0\1"),
        ("inner/records.parquet", b""),
        ("patients.csv", b"a,b"),
        ("drafts.jsonl", b"{}"),
        ("ecg.xml", b"<a/>"),
        ("table", b"PAR1"),
        ("scan", b"\0" * 128 + b"DICM"),
    ],
)
def test_recordings_and_tables_have_no_place_beside_a_model(adapter, name, content):
    (adapter / name).parent.mkdir(exist_ok=True)
    (adapter / name).write_bytes(content)
    assert f"{name}: a " in refusal(adapter)
    assert "no place beside a model" in refusal(adapter)


def test_an_array_has_no_place_beside_a_model(adapter):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((12, 5000)))
    (adapter / "example").write_bytes(buffer.getvalue())
    assert "example: a recording or a table" in refusal(adapter)


def test_the_loss_curve_goes_up(adapter):
    (adapter / "loss_curve.csv").write_text("update,loss\n1,2.5\n", encoding="utf-8")
    assert "loss_curve.csv" in {file.name for file in prepare_model(adapter, REPO).files}


@pytest.mark.parametrize(
    "field", ["patient_id", "subject_id", "studyId", "ecg_id", "record_ids", "PatientName", "Patient-ID", "mrn", "dob"]
)
@pytest.mark.parametrize("value", ["17", 17, ["17"]])
def test_identifiers_are_refused_by_the_name_of_their_field(adapter, field, value):
    run = read_json(adapter / "training_run.json") | {"checked": [{field: value}]}
    write_json(adapter / "training_run.json", run)
    assert f"training_run.json: checked[0].{field}" in refusal(adapter)
    assert "names a patient" in refusal(adapter)


@pytest.mark.parametrize("words", ["p10000032", "files/p1000/p10000032/s40689238/40689238", "study s40689238, bad"])
def test_identifiers_are_refused_as_mimic_writes_them(adapter, words):
    run = read_json(adapter / "training_run.json") | {"outcome": {"broken": words}}
    write_json(adapter / "training_run.json", run)
    assert "training_run.json: outcome.broken holds the id of a patient or study of MIMIC-IV" in refusal(adapter)
    (adapter / "training_run.json").unlink()
    (adapter / "notes.txt").write_text(words, encoding="utf-8")
    assert "notes.txt: line 1 holds the id of a patient or study of MIMIC-IV" in refusal(adapter)


def test_names_of_fields_are_looked_at_as_their_values_are(adapter):
    broken = {"s40689238": "a flat line", "/home/me/ecg/1": "a flat line"}
    write_json(adapter / "training_run.json", read_json(adapter / "training_run.json") | {"broken": broken})
    message = refusal(adapter)
    assert "training_run.json: broken holds the id of a patient or study of MIMIC-IV: s40689238" in message
    assert "training_run.json: broken is a path of this machine: /home/me/ecg/1" in message


def test_local_paths_are_refused_in_a_text_of_another_encoding(adapter):
    (adapter / "notes.txt").write_bytes("Größe\nfrom /home/jürgen/ecg\n".encode("latin-1"))
    assert "notes.txt: line 2 holds a path of this machine: /home/j" in refusal(adapter)


def test_fields_that_only_sound_like_identifiers_go_up(adapter):
    fields = {"ecg_token_id": 307, "pad_token_id": 0, "record_ids_sha256": "c7170b", "patient_id": None, "ids": [1]}
    write_json(adapter / "training_run.json", read_json(adapter / "training_run.json") | fields)
    (adapter / "notes.txt").write_text("sha256 ap10000032 p100000321 s50000000 p20000000", encoding="utf-8")
    assert json.loads(next(f for f in prepare_model(adapter, REPO).files if f.name == "training_run.json").read())
