"""Records whose recording cannot be learnt from are found beforehand, each with its reason."""

import datasets
import numpy as np
import pytest

from dataset_builder.records import load_records
from dataset_builder.usable_records import broken_recordings
from processing import ECGFeatureExtractor, row_recording
from processing.adc import INVALID_SAMPLE
from tests.training.tiny_run import FEATURES, record, write_dataset


def flat():
    return np.full((12, 5000), 7, dtype=np.int16)


def dead_lead(lead):
    signal = record(0)["ecg"].copy()
    signal[lead] = INVALID_SAMPLE
    return signal


def flat_where_valid():
    signal = flat()
    signal[:, ::2] = INVALID_SAMPLE
    return signal


BROKEN = {
    "no signal": {"ecg": None},
    "no valid sample in aVR": {"ecg": dead_lead(3)},
    "every lead is constant": {"ecg": flat()},
    "gain is": {"ecg_gain": [1000.0] * 11 + [0.0]},
    "baseline is": {"ecg_baseline": None},
    "sampling rate is 0.0": {"sampling_rate": 0.0},
    "20 s long; expected at most 10 s": {"sampling_rate": 250.0},
}


@pytest.fixture(scope="module")
def rows():
    rows = [record(number) for number in range(300)]
    for number, changes in enumerate(BROKEN.values()):
        rows[40 * number + 3] |= changes
    rows[299]["ecg"] = flat_where_valid()
    rows[1]["ecg"] = rows[1]["ecg"].copy()
    rows[1]["ecg"][2, :4000] = INVALID_SAMPLE  # a gap, which is no reason
    return rows


@pytest.fixture(scope="module")
def records(rows, tmp_path_factory):
    folder = write_dataset(tmp_path_factory.mktemp("usable") / "dataset", train=rows)
    return load_records(str(folder), None, "train")[0]


def test_each_broken_recording_is_found_with_its_reason(records):
    found = broken_recordings(records)
    assert sorted(found) == [40 * number + 3 for number in range(len(BROKEN))] + [299]
    for row, reason in zip(sorted(found), (*BROKEN, "every lead is constant"), strict=True):
        assert found[row].startswith(reason), found[row]


def test_the_feature_extractor_refuses_the_same(records):
    extractor, refused = ECGFeatureExtractor(), []
    for number in [*range(0, 300, 40), *range(3, 300, 40), 1, 299]:
        try:
            extractor(row_recording(records[number]))
        except (ValueError, TypeError):
            refused.append(number)
    assert sorted(refused) == sorted(broken_recordings(records))


def test_what_select_leaves_is_looked_at(records):
    assert broken_recordings(records.select([0, 3, 2])).keys() == {1}
    assert broken_recordings(records.select(range(4, 40))) == {}


def test_a_signal_of_fewer_leads_is_found():
    row = {name: None for name in FEATURES} | record(0)
    features = datasets.Features({**FEATURES, "ecg": datasets.List(datasets.List(datasets.Value("int16")))})
    short = datasets.Dataset.from_list([row, row | {"ecg": row["ecg"][:11]}], features=features)
    [reason] = broken_recordings(short).values()
    assert "expected 12 of one length" in reason
