"""Which tasks are run on which corpora."""

import json

import pytest

from tasks.plan import planned, trained_corpus

BOTH = ["ptb-xl", "ptb-xl-100hz", "mimic-iv-ecg"]


def test_each_task_takes_the_corpus_that_suits_it():
    assert planned(["quality", "zero_shot", "noise"], BOTH, "ptb-xl", None) == [
        ("quality", "ptb-xl"),
        ("zero_shot", "mimic-iv-ecg"),
        ("noise", "ptb-xl"),
    ]
    assert planned(["quality"], BOTH, "ptb-xl", "mimic-iv-ecg") == [("quality", "mimic-iv-ecg")]
    assert planned(["quality"], ["default"], None, None) == [("quality", "default")]


@pytest.mark.parametrize(
    ("tasks", "configs", "trained_on", "message"),
    [
        (["quality"], BOTH, None, "choose a corpus with --dataset-config; found ptb-xl, ptb-xl-100hz, mimic-iv-ecg"),
        (["zero_shot"], BOTH, None, "--trained-on"),
        (["zero_shot"], ["mimic-iv-ecg"], "ptb-xl", "ptb-xl, which the model was trained on, is not in the dataset"),
        (["zero_shot"], ["ptb-xl", "ptb-xl-100hz"], "ptb-xl", "no corpus but ptb-xl"),
    ],
)
def test_what_cannot_be_told_is_asked_for(tasks, configs, trained_on, message):
    with pytest.raises(ValueError, match=message):
        planned(tasks, configs, trained_on, None)


def test_what_a_model_was_trained_on_is_read_from_its_folder(tmp_path):
    assert trained_corpus(tmp_path) is None
    note = tmp_path / "training_run.json"
    note.write_text(json.dumps({"data": {"corpora": [{"config": "ptb-xl"}]}}))
    assert trained_corpus(tmp_path) == "ptb-xl"
    note.write_text(json.dumps({"data": {"corpora": [{"config": "ptb-xl"}, {"config": "mimic-iv-ecg"}]}}))
    assert trained_corpus(tmp_path) is None
    note.write_text("[]")
    with pytest.raises(ValueError, match="not the record of a training run"):
        trained_corpus(tmp_path)
