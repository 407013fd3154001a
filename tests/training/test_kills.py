"""Training that is killed at any moment and started again gives the weights of an unbroken run, bit for bit."""

import json
import multiprocessing
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from training.checkpoints import FILE_LIST, checkpoints

from .forked import Processes
from .tiny_run import WIDTHS, record, write_backbone, write_dataset

NUM_RECORDS = 10  # five batches of two: the last update of each epoch has one batch instead of two
LONGEST = 120  # seconds that an attempt may take


@pytest.fixture(scope="module")
def start():
    return Processes().start


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    write_backbone(folder / "backbone")
    write_dataset(folder / "synthetic", train=[record(number) for number in range(NUM_RECORDS)])
    return folder


@pytest.fixture(scope="module")
def real_dataset(ptb_xl, tmp_path_factory):
    """As many recordings of PTB-XL; skips where it is absent."""
    from dataset_builder.build import build_config
    from dataset_builder.corpus_files import open_corpus_files
    from dataset_builder.ptb_xl import PTBXL
    from dataset_builder.ptb_xl_table import DATABASE

    output = tmp_path_factory.mktemp("ptb-xl") / "meit-ecg"
    build_config(PTBXL(open_corpus_files(ptb_xl, DATABASE)), output, limit=NUM_RECORDS)
    return output


def write_recipe(folder: Path, dataset: Path, **options) -> Path:
    """A recipe with dropout, several epochs, an update of fewer batches in each, and BatchNorm statistics."""
    recipe = {
        "text_model": str(folder / "backbone"),
        "encoder_widths": WIDTHS,
        "dataset": str(dataset),
        "max_train_records": NUM_RECORDS,
        "lora_r": 4,
        "max_steps": 24,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "bf16": False,
        "use_cpu": True,
        "save_strategy": "steps",
        "save_steps": 2,
        "resume_from_checkpoint": "auto",
        "disable_tqdm": True,
        **options,
    }
    path = folder / f"{dataset.name}-{options.get('tuning', 'lora')}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def is_saving(output: Path) -> bool:
    return any(not (checkpoint / FILE_LIST).exists() for checkpoint in checkpoints(output))


class Killer:
    """Kills processes at moments drawn with a seed: every other one while it writes a checkpoint.

    Attributes:
        kills: processes killed.
        cut_short: those of them that left a checkpoint that is not whole.
    """

    def __init__(self, seed: int, duration: float):
        self.random = random.Random(seed)
        self.duration = duration
        self.kills = self.cut_short = 0

    def watch(self, process: multiprocessing.Process, output: Path) -> None:
        """Kill `process`, unless it ends before its moment."""
        for leftover in checkpoints(output):
            if not (leftover / FILE_LIST).exists():
                shutil.rmtree(leftover)  # so that one that is being written shows
        waits_for_save = self.kills % 2 == 0
        whole = checkpoints(output)
        delay = self.random.uniform(0, 0.02 if waits_for_save else 0.1 * self.duration)
        moment = time.monotonic() + self.random.uniform(0.1, 0.6) * self.duration
        deadline = time.monotonic() + LONGEST
        while process.is_alive() and time.monotonic() < deadline:
            is_time = not waits_for_save and (time.monotonic() > moment or checkpoints(output)[-1:] != whole[-1:])
            if is_time or (waits_for_save and is_saving(output)):
                time.sleep(delay)
                process.kill()
                break
            time.sleep(0.001)
        process.join(LONGEST)
        if process.exitcode == -signal.SIGKILL:
            self.kills += 1
            self.cut_short += is_saving(output)
        else:
            assert process.exitcode == 0


def check_kills(start: Callable, recipe: Path, folder: Path, num_kills: int, seed: int, weights: str) -> Killer:
    """Kill runs that take each other up, as often as asked, and compare what they end with."""

    def attempt(name: str) -> multiprocessing.Process:
        return start(["--config", str(recipe), "--output_dir", str(folder / name)], folder / "log")

    def finish(name: str) -> Path:
        last = attempt(name)
        last.join(LONGEST)
        assert last.exitcode == 0, (folder / "log").read_text()[-2000:]
        return folder / name

    begin = time.monotonic()
    unbroken = finish("unbroken")
    killer = Killer(seed, time.monotonic() - begin)
    expected = load_file(unbroken / weights)
    for number in range(1, num_kills + 1):
        output = folder / f"killed-{number}"
        before = killer.kills
        while not (output / weights).exists() and killer.kills < num_kills:
            killer.watch(attempt(output.name), output)
        finish(output.name)
        found = load_file(output / weights)
        assert found.keys() == expected.keys()
        different = [name for name, tensor in expected.items() if not tensor.equal(found[name])]
        assert not different, f"after {killer.kills - before} kills, {len(different)} differ, as {different[0]}"
        assert logged(output) == logged(unbroken)
        if killer.kills == num_kills:
            return killer
    pytest.fail("runs end before they are killed")


def logged(output: Path) -> list[tuple[int, float, float]]:
    """(update, loss, gradient norm) of every update."""
    history = json.loads((checkpoints(output)[-1] / "trainer_state.json").read_text())["log_history"]
    return [(entry["step"], entry["loss"], entry["grad_norm"]) for entry in history if "loss" in entry]


def test_killed_three_times(start, folder, tmp_path):
    recipe = write_recipe(folder, folder / "synthetic", max_steps=7)
    killer = check_kills(start, recipe, tmp_path, 3, 1, "adapter_model.safetensors")
    assert killer.cut_short > 0


@pytest.mark.slow
@pytest.mark.parametrize(("tuning", "weights"), [("lora", "adapter_model.safetensors"), ("full", "model.safetensors")])
def test_killed_at_twenty_random_moments(start, folder, real_dataset, tmp_path, tuning, weights):
    recipe = write_recipe(folder, real_dataset, tuning=tuning)
    killer = check_kills(start, recipe, tmp_path, 20, 20, weights)
    assert killer.cut_short >= 5
