"""Processes that build shards side by side, each taking the next one that nobody has taken."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

from dataset_builder.corpus import Corpus
from dataset_builder.errors import DatasetBuildError
from dataset_builder.plan import Plan, Shard
from dataset_builder.shards import GOES_ON, build_shard, new_pages
from dataset_builder.signal_page import compile_encoder
from dataset_builder.stored_signal import compile_reader

_POLL_SECONDS = 0.05


def build_all(
    corpus: Corpus, plan: Plan, shards: Sequence[Shard], folder: str, processes: int, tell: Callable[[int], None]
) -> None:
    """Build shards, in this process where one is enough.

    Args:
        corpus: the builder.
        plan: where the entries are.
        shards: those to build, in the order in which they are taken.
        folder: the work folder of all shards.
        processes: how many at most.
        tell: called with the number of records that were done since the last call.

    Raises:
        DatasetBuildError: a process was killed, or could not write.
    """
    processes = min(processes, len(shards))
    if processes <= 1:
        pages = new_pages(corpus)
        for shard in shards:
            build_shard(corpus, plan, shard, folder, tell, pages)
        return
    # A forked process is there at once, with the modules and the compiled encoder; elsewhere it starts anew.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    compile_encoder()
    compile_reader()
    taken, done, failures = context.Value("q", 0), context.Value("q", 0), context.SimpleQueue()
    arguments = (os.getpid(), corpus, plan, shards, folder, taken, done, failures)
    workers = [context.Process(target=_work, args=arguments, daemon=True) for _ in range(processes)]
    told = 0
    try:
        for worker in workers:
            worker.start()
        are_working = True
        while are_working:
            time.sleep(_POLL_SECONDS)
            are_working = any(worker.is_alive() for worker in workers)
            now = done.get_obj().value  # without its lock, which a killed process may hold
            tell(now - told)
            told = now
            broken = next((worker for worker in workers if worker.exitcode), None)
            if not failures.empty():
                raise DatasetBuildError(failures.get())
            if broken is not None:
                raise DatasetBuildError(
                    f"a process of the build ended with status {broken.exitcode} (killed, perhaps for want of memory); "
                    f"{GOES_ON}"
                )
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
        for worker in workers:
            if worker.pid is not None:
                worker.join()


def _work(parent: int, corpus: Corpus, plan: Plan, shards: Sequence[Shard], folder: str, taken, done, failures) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl+C to all; the parent ends its workers

    def tell(records: int) -> None:
        with done.get_lock():
            done.value += records
        if os.getppid() != parent:  # killed; whoever starts the build again must find no process writing
            os._exit(1)

    try:
        pages = new_pages(corpus)
        while True:
            with taken.get_lock():
                number = taken.value
                taken.value += 1
            if number >= len(shards):
                return
            build_shard(corpus, plan, shards[number], folder, tell, pages)
    except DatasetBuildError as error:
        failures.put(str(error))
    except Exception as error:
        failures.put(f"{type(error).__name__}: {error}")
