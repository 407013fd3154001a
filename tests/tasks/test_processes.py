"""Two processes that draft together, as `accelerate launch` starts them."""

import json
import os
import socket
import sys

import pytest

import run_benchmark
from tasks import processes
from tasks.results import RESULTS
from tests.training.forked import Processes


def benchmark(argv, environment):
    """The body of a process: `run_benchmark.py` with these options, its words at the end of the file `LOG`."""
    os.environ.update(environment)
    with open(environment["LOG"], "a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.exit(run_benchmark.main(list(argv)))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_others_wait_for_days_while_one_scores(monkeypatch):
    asked = {}

    class State:
        process_index, num_processes, is_main_process = 0, 1, True

        def __init__(self, **options):
            asked.update(options)

    monkeypatch.setattr(processes, "PartialState", State)
    processes.Processes()
    assert asked["timeout"].days >= 1


def test_two_processes_give_what_one_gives(arguments, tmp_path):
    options = ["--no-baselines"]
    assert run_benchmark.main(arguments(tmp_path / "one", *options)) == 0
    started = Processes().start_pair(
        arguments(tmp_path / "two", *options, "--device", "cpu"), tmp_path / "log", free_port(), benchmark
    )
    for process in started:
        process.join(120)
        assert process.exitcode == 0, (tmp_path / "log").read_text()[-3000:]
    one, two = (json.loads((tmp_path / name / RESULTS).read_text()) for name in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    (alone,), (shared,) = (task["tasks"]["quality/ptb-xl"]["systems"].values() for task in (one, two))
    for name, figure in alone["figures"].items():
        assert shared["figures"][name]["right"]["estimate"] == pytest.approx(figure["right"]["estimate"], abs=1e-5)
    # Each has drafted its half.
    drafts = tmp_path / "two" / "drafts" / "ptb-xl" / "model"
    counts = [len((drafts / name).read_text().splitlines()) - 1 for name in ("draft.jsonl", "draft-1.jsonl")]
    assert counts == [15, 15]
