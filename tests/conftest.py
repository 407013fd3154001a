"""What every test needs: no network, no cache shared with the user, and the real recordings where they are."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

# Before anything imports huggingface_hub or datasets: they read these once.
_CACHE = tempfile.mkdtemp(prefix="meit-ecg-tests-")
os.environ["HF_HOME"] = _CACHE
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# The models here are tiny: handing their work from thread to thread takes several times as long as doing it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
for _variable in ("HF_DATASETS_CACHE", "HF_MODULES_CACHE", "HF_HUB_CACHE"):
    os.environ.pop(_variable, None)

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--support-table", choices=("check", "write"), help="of the README: see tests/modeling/support.py")


def pytest_configure(config: pytest.Config) -> None:
    if choice := config.getoption("--support-table"):
        from tests.modeling.support import SupportTable

        config.pluginmanager.register(SupportTable(REPOSITORY / "README.md", choice == "write"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes minutes comes first: another process runs all the others meanwhile."""
    items.sort(key=lambda item: item.path.name != "test_learning.py")


def pytest_unconfigure() -> None:
    shutil.rmtree(_CACHE, ignore_errors=True)


def _corpus(name: str) -> Path:
    data = Path(os.environ.get("MEIT_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (data / name).is_dir():
        pytest.skip(f"no real recordings: {data / name} is absent; MEIT_DATA names the folder that holds {name}/")
    return data / name


@pytest.fixture(scope="session")
def ptb_xl() -> Path:
    """Folder of real PTB-XL recordings in the corpus' own layout; skips where absent."""
    return _corpus("ptb-xl")


@pytest.fixture(scope="session")
def mimic_iv_ecg() -> Path:
    """Folder of real MIMIC-IV-ECG recordings in the corpus' own layout; skips where absent."""
    return _corpus("mimic-iv-ecg")
