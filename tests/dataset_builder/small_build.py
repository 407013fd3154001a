"""`meit-ecg build` with small shards and slow records, for tests that break it off:

python -m tests.dataset_builder.small_build RECORDS_PER_SHARD SECONDS_PER_RECORD mimic-iv-ecg ...
"""

import signal
import sys
import time

from dataset_builder import plan
from dataset_builder.cli import main
from dataset_builder.mimic_iv_ecg import MIMICIVECG


def slow_down(seconds: float) -> None:
    """Let each record of MIMIC-IV-ECG take so much longer."""
    row = MIMICIVECG.row

    def slow_row(corpus, entry):
        time.sleep(seconds)
        return row(corpus, entry)

    MIMICIVECG.row = slow_row


if __name__ == "__main__":
    # Ignored in what a shell runs in the background, tests among it, and then by its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    plan.RECORDS_PER_SHARD = int(sys.argv[1])
    if float(sys.argv[2]):
        slow_down(float(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
