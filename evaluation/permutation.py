"""Give each record another patient's ECG: what a system writes then, it did not read from this patient."""

from collections.abc import Hashable, Sequence

import numpy as np


def other_patients(patient_ids: Sequence[Hashable], seed: int = 0) -> list[int]:
    """For each record the index of a record of another patient; each index is given once.

    Args:
        patient_ids: one per record.
        seed: of the draw.
    Raises:
        ValueError: where one patient has more than half of the records, so that some must keep their own.
    """
    records_of: dict[Hashable, list[int]] = {}
    for index, patient in enumerate(patient_ids):
        records_of.setdefault(patient, []).append(index)
    largest = max(map(len, records_of.values()), default=0)
    if 2 * largest > len(patient_ids):
        raise ValueError(
            f"one patient has {largest} of {len(patient_ids)} records; at most half leave every record an ECG of "
            "another patient"
        )
    rng = np.random.default_rng(seed)
    patients = list(records_of)
    order = [index for number in rng.permutation(len(patients)) for index in records_of[patients[number]]]
    # With the records of a patient side by side, a turn by at least the largest group, and by no more than would
    # bring it back round, leaves each patient's block.
    turn = int(rng.integers(largest, len(order) - largest + 1)) if order else 0
    donors = [0] * len(order)
    for position, index in enumerate(order):
        donors[index] = order[(position + turn) % len(order)]
    return donors
