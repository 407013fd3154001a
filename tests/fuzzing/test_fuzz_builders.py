"""A short run of the fuzzer, in a process of its own: it lowers a limit of the system and hears all that is opened."""

import ast
import subprocess
import sys

from tests.conftest import REPOSITORY


def test_damaged_corpora_are_built_in_part_or_refused():
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing.fuzz_builders", "5"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counted = ast.literal_eval(done.stdout)
    assert counted["cases"] == counted["built"] + counted["in part"] + counted["refused"]
    assert counted["in part"] > 5
    assert counted["refused"] > 5
    assert counted["zips"] > 5
