"""Builds that are killed and taken up again: the result is that of an unbroken build, bit for bit."""

import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dataset_builder import plan
from dataset_builder.build import build_config
from tests.dataset_builder.synthetic_mimic import write_corpus

CONFIG = "mimic-iv-ecg"
# What Python tells of changes to a folder, before each of them is made.
CHANGES = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}


def build_until(corpus, output: Path, changes: int) -> None:
    """Build, in a process of its own, and be killed before the n-th change below the output folder."""
    left = changes

    def count(event: str, arguments: tuple) -> None:
        nonlocal left
        is_change = event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if is_change and str(arguments[0]).startswith(str(output)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    build_config(corpus, output, limit=2)


@pytest.mark.parametrize("start", ["in a new folder", "over an older build"])
def test_a_kill_before_any_change_of_the_folder(mimic_of_60, open_mimic, files_of, tmp_path, monkeypatch, start):
    """Every single step from the first folder to the last is tried, as many as there are."""
    corpus, output = open_mimic(mimic_of_60), tmp_path / "meit-ecg"
    monkeypatch.setattr(plan, "RECORDS_PER_SHARD", 2)
    build_config(corpus, tmp_path / "older", limit=1)
    older = files_of(tmp_path / "older")
    build_config(corpus, tmp_path / "unbroken", limit=2)
    unbroken = files_of(tmp_path / "unbroken")
    context = multiprocessing.get_context("fork")
    changes, statuses = 0, []
    while 0 not in statuses:
        shutil.rmtree(output, ignore_errors=True)
        if start == "over an older build":
            shutil.copytree(tmp_path / "older", output)
        killed = context.Process(target=build_until, args=(corpus, output, changes))
        killed.start()
        killed.join()
        statuses.append(killed.exitcode)
        visible = {name: content for name, content in files_of(output).items() if name.startswith(f"{CONFIG}/")}
        whole = [{name: all_[name] for name in all_ if name.startswith(f"{CONFIG}/")} for all_ in (older, unbroken)]
        assert visible in (*whole, {}), f"half a config after {changes} changes"
        build_config(corpus, output, limit=2)
        assert files_of(output) == unbroken, f"after a kill before change {changes}"
        changes += 1
    assert set(statuses) == {-signal.SIGKILL, 0}
    assert changes > 30


def digests(folder: Path) -> dict[str, str]:
    """All files below a folder, as `files_of` gives them but for their content."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def build_in_a_group(*arguments, **options) -> None:
    """Build in a process group of its own, whose id is that of this process."""
    os.setsid()
    build_config(*arguments, **options)


def build_until_killed(corpus, output: Path, processes: int, seconds: float | None) -> bool:
    """Build and be killed with all processes after so many seconds; False if it had ended by then."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=build_in_a_group, args=(corpus, output), kwargs={"num_proc": processes})
    process.start()
    process.join(seconds)
    if process.exitcode is not None:
        assert process.exitcode == 0
        return False
    with suppress(ProcessLookupError):  # it has only just begun
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
    return True


def kill_at_random_moments(corpus, folder: Path, kills: int) -> None:
    """Build unbroken, then be killed again and again, with one process and with two, each taking up what was left."""
    start = time.monotonic()
    assert not build_until_killed(corpus, folder / "unbroken", 1, None)
    unbroken, seconds = digests(folder / "unbroken"), time.monotonic() - start
    randomly, killed = random.Random(0), 0
    for number in range(20 * kills):
        if build_until_killed(corpus, folder / "broken", 1 + number % 2, seconds * randomly.uniform(0, 0.6)):
            killed += 1
        else:  # it got through between two kills, so the next one begins anew
            assert digests(folder / "broken") == unbroken
            shutil.rmtree(folder / "broken")
        if killed == kills:
            break
    assert killed == kills
    assert not build_until_killed(corpus, folder / "broken", 1, None)
    assert digests(folder / "broken") == unbroken


def test_ten_kills_at_random_moments(open_mimic, tmp_path, monkeypatch):
    write_corpus(tmp_path / "mimic", 300)
    monkeypatch.setattr(plan, "RECORDS_PER_SHARD", 20)
    kill_at_random_moments(open_mimic(tmp_path / "mimic"), tmp_path, 10)


@pytest.mark.slow
def test_ten_kills_at_random_moments_of_a_build_of_20000(open_mimic, tmp_path):
    write_corpus(tmp_path / "mimic", 20_000)
    kill_at_random_moments(open_mimic(tmp_path / "mimic"), tmp_path, 10)
