"""Signal pages against a plain decoder that was written from the format's text; pyarrow's view of them is in
test_parquet_shard.py."""

import csv

import numpy as np
import pytest

from dataset_builder.corpus_files import FolderFiles
from dataset_builder.signal_page import SignalPages
from dataset_builder.stored_signal import read_stored_signal
from tests.dataset_builder.plain_parquet import read_deltas, read_pages


def decode(pages: SignalPages) -> np.ndarray:
    """All rows of all groups, after their levels and headers were checked."""
    leads, samples = pages.shape
    signals = []
    for group in pages.groups:
        for header, repetition, definition, values in read_pages(bytes(group)):
            assert header[1] == 0, "the type of a data page"
            # Values with the nulls among them, DELTA_BINARY_PACKED, and RLE for both levels.
            assert [header[5][field] for field in (1, 2, 3, 4)] == [leads * samples, 5, 3, 3]
            expected = np.full((leads, samples), 2)
            expected[:, 0] = 1
            expected[0, 0] = 0
            assert repetition == expected.ravel().tolist()
            assert definition == [5] * (leads * samples)
            signals.append(np.array(values).reshape(leads, samples))
    return np.array(signals)


def encode(signals: np.ndarray, rows_per_group: int = 100) -> SignalPages:
    pages = SignalPages(signals.shape[1:], rows_per_group)
    for signal in signals:
        pages.add(np.ascontiguousarray(signal))
    return pages


@pytest.mark.parametrize("seed", range(40))
def test_random_signals_of_any_shape_and_roughness(seed):
    random = np.random.default_rng(seed)
    shape = (int(random.integers(1, 5)), int(random.integers(1, 13)), int(random.integers(1, 700)))
    roughness = 2 ** random.integers(0, 16, size=(*shape[:2], 1))
    signals = random.integers(-roughness, roughness, size=shape)
    if seed % 2:  # neighbours differ little, as in an ECG
        signals = np.clip(signals.cumsum(axis=2) // 8, -32768, 32767)
    signals = signals.astype(np.int16)
    np.testing.assert_array_equal(decode(encode(signals, int(random.integers(1, 5)))), signals)


@pytest.mark.parametrize("samples", [1, 2, 63, 64, 65, 127, 128, 129, 130, 256, 257, 5000])
@pytest.mark.parametrize("values", [(-32768, 32767), (32767, -32768), (0, 0), (-32768, -32768), (5, 6), (-1, 1)])
def test_alternating_values_at_the_borders_of_blocks(samples, values):
    signal = np.resize(np.array(values, np.int16), (1, 1, samples))
    np.testing.assert_array_equal(decode(encode(signal)), signal)


@pytest.mark.parametrize("rows_per_group", [1, 2])
def test_rows_that_take_as_much_space_as_any_can(rows_per_group):
    """Every difference takes 17 bits."""
    signals = np.resize(np.array([-32768, 32767], np.int16), (3, 12, 5000))
    pages = encode(signals, rows_per_group)
    np.testing.assert_array_equal(decode(pages), signals)
    assert sum(map(len, pages.groups)) > signals.size * 17 / 8


def test_the_widest_differences_within_one_block():
    """From the lowest value to the highest and back: differences of -65,535 and 65,535, which take 17 bits apart."""
    signal = np.zeros((1, 2, 300), np.int16)
    signal[0, 0, 7:9] = -32768, 32767
    signal[0, 0, 9] = -32768
    signal[0, 1, 100:102] = 32767, -32768
    np.testing.assert_array_equal(decode(encode(signal)), signal)


@pytest.mark.parametrize("leads", [1, 3, 12])
def test_one_sample_per_lead(leads):
    signals = np.arange(leads * 2, dtype=np.int16).reshape(2, leads, 1) - 3
    np.testing.assert_array_equal(decode(encode(signals)), signals)


def test_bytes_by_hand():
    """Encodings.md's own example, 7, 5, 3, 1, 2, 3, 4, 5: first value 7, differences -2 -2 -2 1 1 1 1."""
    pages = encode(np.array([[[7, 5, 3, 1, 2, 3, 4, 5]]], np.int16))
    (group,) = pages.groups
    page = bytes(group)[-(12 + 10 + 7 + 16) :]
    # Of the two miniblocks of 64, the first takes 2 bits a value: 0 0 0 3 3 3 3, and zeros that fill it.
    deltas = bytes([0x80, 0x01, 2, 8, 14, 3, 2, 0, 0b11000000, 0b00111111, *[0] * 14])
    assert page.endswith(deltas)
    assert read_deltas(deltas) == [7, 5, 3, 1, 2, 3, 4, 5]
    # Repetition levels: a run of one 0 (header 1 << 1), then seven times 2; definition levels: eight times 5.
    assert page.endswith(bytes([4, 0, 0, 0, 2, 0, 14, 2]) + bytes([2, 0, 0, 0, 16, 5]) + deltas)


def test_groups_hold_as_many_rows_as_they_should():
    pages = encode(np.zeros((7, 2, 5), np.int16), rows_per_group=3)
    assert [len(list(read_pages(bytes(group)))) for group in pages.groups] == [3, 3, 1]
    assert SignalPages((2, 5), 3).groups == []


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((12, 4), np.int16),
        np.zeros((5, 12), np.int16),
        np.zeros((12, 5), np.int32),
        np.zeros((12, 5), np.uint16),
        np.zeros((5, 12), np.int16).T,
        np.zeros((12, 10), np.int16)[:, ::2],
    ],
)
def test_another_array_is_refused(array):
    pages = SignalPages((12, 5), 3)
    with pytest.raises(ValueError, match=r"expected C-contiguous int16 \(12, 5\)"):
        pages.add(array)
    assert pages.groups == []


def test_real_recordings_take_less_than_half_their_bytes(mimic_iv_ecg):
    with open(mimic_iv_ecg / "record_list.csv", encoding="utf-8", newline="") as file:
        paths = [line["path"] for line in csv.DictReader(file)][:20]
    signals = np.array([read_stored_signal(FolderFiles(mimic_iv_ecg), path, 500.0)[1] for path in paths])
    pages = encode(signals)
    np.testing.assert_array_equal(decode(pages), signals)
    assert sum(map(len, pages.groups)) < 0.5 * signals.nbytes
