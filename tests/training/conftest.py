"""What the tests of training share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from .tiny_run import write_backbone


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order: an equal run gives equal bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where a file's tests put what they share."""
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def backbone(folder) -> Path:
    """The tiny Llama."""
    return write_backbone(folder / "backbone")
