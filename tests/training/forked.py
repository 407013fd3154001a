"""Processes that train, started in a fraction of a second each: forked from one that has done the imports, no more."""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import train_sft

REPOSITORY = Path(__file__).parents[2]


def train(argv: Sequence[str], environment: dict[str, str]) -> None:
    """The body of a process: `train_sft.py` with these options, its words at the end of the file `LOG`."""
    os.environ.update(environment)
    with open(environment["LOG"], "a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.exit(train_sft.main(list(argv)))


class Processes:
    """Starts them."""

    def __init__(self):
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.training.forked"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(REPOSITORY))
            patch.setenv("OMP_NUM_THREADS", "1")
            multiprocessing.forkserver.ensure_running()

    def start(self, argv: Sequence[str], log: Path, target=train, **environment: str) -> multiprocessing.Process:
        """Start one. `environment` is what it finds in `os.environ` beside its parent's."""
        process = self.context.Process(target=target, args=(argv, environment | {"LOG": str(log)}))
        process.start()
        return process

    def start_pair(self, argv: Sequence[str], log: Path, port: int, target=train) -> list[multiprocessing.Process]:
        """Start two that train together."""
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        return [self.start(argv, log, target, **place, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]
