"""Which checkpoint a run goes on from: real folders of a tiny run, cut short in every way a kill can."""

import json
import shutil

import pytest

from training.checkpoints import checkpoint_to_resume, checkpoints, defect, last_whole_checkpoint, remove_checkpoints

from .tiny_run import record, run, write_backbone, write_dataset


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole `checkpoint-1`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    rows = [record(number) for number in range(4)]
    dataset = write_dataset(folder / "dataset", train=rows, validation=rows[:1])
    run(write_backbone(folder / "backbone"), dataset, folder / "run", max_steps=1, save_steps=1)
    return folder / "run" / "checkpoint-1"


@pytest.fixture
def output(whole, tmp_path):
    """An output folder with the whole checkpoint of update 1 and a copy of it as that of update 10."""
    shutil.copytree(whole, tmp_path / "checkpoint-1")
    later = shutil.copytree(whole, tmp_path / "checkpoint-10")
    state = json.loads((later / "trainer_state.json").read_text())
    (later / "trainer_state.json").write_text(json.dumps({**state, "global_step": 10}))
    return tmp_path


def test_the_highest_step_wins_and_not_the_last_name(output, whole):
    shutil.copytree(whole, output / "checkpoint-9")
    assert [path.name for path in checkpoints(output)] == ["checkpoint-1", "checkpoint-9", "checkpoint-10"]
    assert last_whole_checkpoint(output) == (output / "checkpoint-10", [])


NEEDED = (
    "config.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
)


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("damage", ["missing", "empty", "half"])
def test_a_checkpoint_cut_short_is_passed_over(output, name, damage):
    path = output / "checkpoint-10" / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2 if damage == "half" else 0])
    found, [reason] = last_whole_checkpoint(output)
    assert found == output / "checkpoint-1"
    assert str(path.with_suffix("")) in reason


def test_the_step_of_the_state_must_be_that_of_the_name(output):
    (output / "checkpoint-1").rename(output / "checkpoint-11")
    assert "found global step 1, expected that of the folder's name" in defect(output / "checkpoint-11")


def test_what_can_be_asked_for(output, tmp_path_factory):
    none_there = tmp_path_factory.mktemp("empty")
    last = output / "checkpoint-10"
    assert checkpoint_to_resume("auto", output) == (last, [])
    assert checkpoint_to_resume("True", output) == (last, [])
    assert checkpoint_to_resume(str(output / "checkpoint-1"), none_there) == (output / "checkpoint-1", [])
    assert checkpoint_to_resume("auto", none_there) == (None, [])
    assert checkpoint_to_resume(None, none_there / "not-yet-there") == (None, [])
    with pytest.raises(ValueError, match="no whole checkpoint"):
        checkpoint_to_resume("true", none_there)
    with pytest.raises(ValueError, match="no such folder"):
        checkpoint_to_resume(str(none_there / "checkpoint-3"), output)
    with pytest.raises(ValueError, match="earlier run"):
        checkpoint_to_resume(None, output)


def test_removing_checkpoints_leaves_everything_else(output):
    (output / "loss_curve.csv").write_text("step")
    (output / "checkpoint-best").mkdir()
    remove_checkpoints(output)
    assert sorted(path.name for path in output.iterdir()) == ["checkpoint-best", "loss_curve.csv"]
