import numpy as np
import pytest

from processing import INVALID_SAMPLE, to_millivolts


def test_millivolts_and_invalid_samples():
    adc = np.array([[0, 1000, INVALID_SAMPLE], [10, 210, -190]], dtype=np.int16)
    signal = to_millivolts(adc, np.array([1000.0, 200.0]), np.array([0, 10]))
    assert signal.dtype == np.float32
    np.testing.assert_array_equal(signal, np.array([[0, 1, np.nan], [0, 1, -1]], dtype=np.float32))


def test_a_baseline_beyond_16_bits_does_not_wrap():
    adc = np.array([[32767, -32767]], dtype=np.int16)
    np.testing.assert_allclose(to_millivolts(adc, [1.0], [-40000]), [[72767.0, 7233.0]])


@pytest.mark.parametrize(
    ("adc", "gain", "baseline", "message"),
    [
        (np.zeros((2, 5)), [1.0, 1.0], [0, 0], "float64"),
        (np.zeros(5, dtype=np.int16), [1.0], [0], "shape"),
        (np.zeros((2, 5), dtype=np.int16), [1.0], [0, 0], "2 leads came with gain of shape"),
        (np.zeros((1, 5), dtype=np.int16), [0.0], [0], "no gain may be 0"),
        (np.zeros((1, 5), dtype=np.int16), [np.nan], [0], "finite"),
    ],
)
def test_what_does_not_belong_together_is_refused(adc, gain, baseline, message):
    with pytest.raises(ValueError, match=message):
        to_millivolts(adc, gain, baseline)
