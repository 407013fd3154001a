"""Which checkpoint a run goes on from: real folders of a tiny run, cut short in every way a kill can."""

import json
import shutil

import pytest

from training.checkpoints import (
    FILE_LIST,
    checkpoint_to_resume,
    checkpoints,
    defect,
    last_whole_checkpoint,
    mark_whole,
    remove_checkpoints,
    remove_older_checkpoints,
)

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
    mark_whole(later, 10)
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
    FILE_LIST,
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


def test_a_checkpoint_of_several_processes_is_whole_with_the_files_of_all(output):
    checkpoint = output / "checkpoint-10"
    (checkpoint / "global_step10").mkdir()
    for name in ("rng_state_1.pth", "global_step10/zero_pp_rank_1_mp_rank_00_optim_states.pt"):
        (checkpoint / name).write_bytes(b"12345")
    mark_whole(checkpoint, 10)
    assert defect(checkpoint) is None
    (checkpoint / name).write_bytes(b"1234")
    assert defect(checkpoint) == f"{checkpoint / name}: found 4 bytes, expected 5"
    (checkpoint / name).unlink()
    assert f"{name}: the file is missing" in defect(checkpoint)
    (checkpoint / name).write_bytes(b"12345")
    (checkpoint / "rng_state_1.pth").unlink()
    assert "rng_state_1.pth: the file is missing" in defect(checkpoint)


def test_the_list_comes_last(output, monkeypatch):
    """A kill before it appears leaves a checkpoint without one, even where it had one."""
    checkpoint = output / "checkpoint-10"

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.rename", killed)
    with pytest.raises(KeyboardInterrupt):
        mark_whole(checkpoint, 10)
    assert "the checkpoint was not finished" in defect(checkpoint)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside"])
def test_a_list_names_nothing_outside(output, name):
    path = output / "checkpoint-10" / FILE_LIST
    listed = json.loads(path.read_text())
    listed["bytes"][name] = 1
    path.write_text(json.dumps(listed))
    assert "outside of the checkpoint" in defect(path.parent)


@pytest.mark.parametrize("content", ["[]", "{}", '{"global_step": 10, "bytes": 3}', '{"global_step": 10'])
def test_a_list_of_another_kind_is_said(output, content):
    path = output / "checkpoint-10" / FILE_LIST
    path.write_text(content)
    assert defect(path.parent).startswith(f"{path}: no readable list of files")


def test_the_step_must_be_that_of_the_name(output):
    (output / "checkpoint-1").rename(output / "checkpoint-11")
    assert "found global step 1, expected 11" in defect(output / "checkpoint-11")
    mark_whole(output / "checkpoint-10", 9)
    assert "found global step 10, expected 10" in defect(output / "checkpoint-10")


def test_a_checkpoint_of_another_name_is_whole_too(output):
    assert defect((output / "checkpoint-10").rename(output / "kept")) is None


@pytest.mark.parametrize(
    ("limit", "best", "kept"),
    [
        (None, None, [2, 4, 6, 8]),
        (0, None, [2, 4, 6, 8]),
        (2, None, [6, 8]),
        (1, None, [8]),
        (1, 2, [2, 8]),
        (2, 2, [2, 8]),
        (3, 2, [2, 6, 8]),
        (2, 8, [6, 8]),
        (9, 2, [2, 4, 6, 8]),
    ],
)
def test_older_checkpoints_go_and_the_best_and_later_ones_stay(tmp_path, limit, best, kept):
    for step in (2, 4, 6, 8, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    best = None if best is None else str(tmp_path / f"checkpoint-{best}")
    remove_older_checkpoints(tmp_path / "checkpoint-8", limit, best)
    assert [path.name for path in checkpoints(tmp_path)] == [f"checkpoint-{step}" for step in (*kept, 10)]


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
