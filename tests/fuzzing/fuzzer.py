"""What the fuzzers share: a bound on memory, the command line, and the short run that the tests start."""

import argparse
import ast
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]


@contextmanager
def bounded_growth(growth: int) -> Iterator[None]:
    """Let this process take so many bytes more at most: what the system refuses beyond that is a MemoryError."""
    before = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (before + growth, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def run_command(main: Callable[[float, int], Counter], description: str) -> None:
    """`python -m tests.fuzzing.NAME SECONDS [SEED]`: print what was counted."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("seconds", type=float)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    arguments = parser.parse_args()
    sys.stdout.write(f"{dict(main(arguments.seconds, arguments.seed))}\n")


def counted_by(module: str, seconds: int) -> dict[str, int]:
    """What a short run counts, in a process of its own: it lowers a limit of the system and hears what is opened."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.fuzzing.{module}", str(seconds)],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return ast.literal_eval(done.stdout)
