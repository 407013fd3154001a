"""A build of ten times the recordings takes no more memory, its processes included."""

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.dataset_builder.synthetic_mimic import write_corpus

# What the system says of a process that has ended, and of the largest of those that it has waited for. In kB on Linux.
MEASURE = """
import json, resource, sys
from dataset_builder.cli import main
status = main(sys.argv[1:])
peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps([status, *peaks]))
"""


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    for records in (2_000, 20_000):
        write_corpus(folder / str(records), records)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_peak_memory_does_not_grow_with_the_corpus(corpora, tmp_path, processes):
    peaks = {}
    for records in (2_000, 20_000):
        arguments = ["--data-dir", corpora / str(records), "--output", tmp_path / str(records), "--num-proc", processes]
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, "mimic-iv-ecg", *map(str, arguments)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        status, *peaks[records] = json.loads(done.stdout.splitlines()[-1])
        assert status == 0, done.stderr
    assert sum(peaks[20_000]) <= 1.2 * sum(peaks[2_000]), peaks
    if processes == 2:
        assert peaks[20_000][1] <= 1.2 * peaks[2_000][1], peaks
