"""What `read_ecg` says of a file that it refuses."""

import pytest

from processing import ECGReadError, read_ecg


def refused(path, **stated) -> str:
    """The message, which begins with the file."""
    with pytest.raises(ECGReadError) as raised:
        read_ecg(path, **stated)
    assert str(raised.value).startswith(f"{path}: "), str(raised.value)
    return str(raised.value)
