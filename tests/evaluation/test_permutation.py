import numpy as np
import pytest

from evaluation.permutation import other_patients


@pytest.mark.parametrize("seed", range(20))
def test_every_record_gets_the_ecg_of_another_patient(seed):
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, 12, size=40).tolist()
    donors = other_patients(patients, seed)
    assert sorted(donors) == list(range(40))
    assert all(patients[donor] != patients[index] for index, donor in enumerate(donors))


def test_half_of_the_records_may_be_one_patients():
    assert sorted(other_patients(["a", "a", "b", "c"])[:2]) == [2, 3]


def test_the_seed_decides():
    patients = list(range(50))
    assert other_patients(patients, 1) == other_patients(patients, 1)
    assert other_patients(patients, 1) != other_patients(patients, 2)


def test_a_patient_with_most_records_is_refused():
    with pytest.raises(ValueError, match="one patient has 3 of 5 records"):
        other_patients(["a", "a", "a", "b", "c"])
