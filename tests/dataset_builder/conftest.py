"""A tiny PTB-XL folder written by hand, the real one where it is at hand, and caches that stay in the test's folder."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import wfdb

from dataset_builder.corpus_files import open_corpus_files
from dataset_builder.mimic_iv_ecg import MIMICIVECG
from dataset_builder.mimic_iv_ecg_table import RECORDS
from dataset_builder.ptb_xl import PTBXL
from dataset_builder.ptb_xl_table import DATABASE
from tests.dataset_builder.synthetic_mimic import write_corpus

LEADS_AS_PTB_XL_SPELLS_THEM = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
COLUMNS = [
    "ecg_id",
    "patient_id",
    "age",
    "sex",
    "report",
    "scp_codes",
    "validated_by_human",
    "strat_fold",
    "filename_hr",
]
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of `datasets`, offline and empty."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def real_ptb_xl() -> Path:
    folder = Path(os.environ.get("MEIT_DATA", REPOSITORY.parent / "shared" / "data")) / "ptb-xl"
    if not (folder / "ptbxl_database.csv").is_file():
        pytest.skip(f"no PTB-XL in {folder} (set MEIT_DATA)")
    return folder


def make_adc(seed: int, samples: int = 5000) -> np.ndarray:
    """ADC units of twelve leads: int16 (12, samples), the largest and the smallest valid value among them."""
    adc = np.random.default_rng(seed).integers(-3000, 3000, (12, samples))
    adc[0, :2] = 32767, -32767
    return adc.astype(np.int16)


def write_wfdb(
    folder: Path,
    name: str,
    adc: np.ndarray,
    leads: list[str] = LEADS_AS_PTB_XL_SPELLS_THEM,
    sampling_rate: float = 500,
    gain: float = 1000.0,
    baseline: int = 0,
) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        path.name,
        fs=sampling_rate,
        units=["mV"] * len(leads),
        sig_name=leads,
        d_signal=adc.T,
        fmt=["16"] * len(leads),
        adc_gain=[gain] * len(leads),
        baseline=[baseline] * len(leads),
        write_dir=str(path.parent),
    )


def write_csv(
    folder: Path, entries: list[dict], name: str = "ptbxl_database.csv", columns: list[str] = COLUMNS
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(entries)


def make_entry(number: int, **values: object) -> dict:
    """A good line of the table, with what the test wants to be different."""
    line = {
        "ecg_id": number,
        "patient_id": f"{1000 + number}.0",
        "age": "56.0",
        "sex": 1,
        "report": "sinusrhythmus normales ekg",
        "scp_codes": "{'NORM': 80.0, 'SR': 0.0}",
        "validated_by_human": "True",
        "strat_fold": 1,
        "filename_hr": f"records500/00000/{number:05d}_hr",
    }
    return line | values


# The helpers above as fixtures: test modules are imported by path and cannot import one another.
@pytest.fixture
def random_adc() -> Callable[..., np.ndarray]:
    return make_adc


@pytest.fixture
def write_recording() -> Callable[..., None]:
    return write_wfdb


@pytest.fixture
def write_table() -> Callable[..., None]:
    return write_csv


@pytest.fixture
def entry() -> Callable[..., dict]:
    return make_entry


@pytest.fixture
def small_ptb_xl(tmp_path: Path) -> Callable[..., Path]:
    """Writes a PTB-XL folder of the given lines, with a recording for each line that names a plain new one."""

    def write(*entries: dict) -> Path:
        folder = tmp_path / "ptb-xl-as-published"
        write_csv(folder, list(entries))
        for line in entries:
            name = f"records500/00000/{int(line['ecg_id']):05d}_hr"
            if not (folder / f"{name}.hea").exists():
                write_wfdb(folder, name, make_adc(int(line["ecg_id"])))
        return folder

    return write


@pytest.fixture
def small_mimic(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder in MIMIC-IV-ECG's layout with so many recordings, two of each patient."""

    def write(records: int, name: str = "mimic-as-published") -> Path:
        write_corpus(tmp_path / name, records)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def mimic_of_60(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 synthetic recordings, for whoever changes nothing in them."""
    folder = tmp_path_factory.mktemp("mimic")
    write_corpus(folder, 60)
    return folder


def mimic_of(folder: Path) -> MIMICIVECG:
    return MIMICIVECG(open_corpus_files(folder, RECORDS))


def ptb_xl_of(folder: Path, *arguments: object, **options: object) -> PTBXL:
    return PTBXL(open_corpus_files(folder, DATABASE), *arguments, **options)


@pytest.fixture(scope="session")
def open_mimic() -> Callable[[Path], MIMICIVECG]:
    return mimic_of


@pytest.fixture(scope="session")
def open_ptb_xl() -> Callable[..., PTBXL]:
    return ptb_xl_of


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def files_of() -> Callable[[Path], dict[str, bytes]]:
    """All files below a folder: path and content."""
    return read_all
