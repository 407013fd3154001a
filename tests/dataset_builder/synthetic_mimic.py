"""Writes a corpus of any size in the layout of MIMIC-IV-ECG: python tests/dataset_builder/synthetic_mimic.py 20000 DIR

Only the layout, the tables and the headers are like the corpus'; the signals are noisy waves. Each record differs.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

LEADS_AS_MIMIC_ORDERS_THEM = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
SAMPLES, RATE, GAIN = 5000, 500, 200.0
RECORD_COLUMNS = ["subject_id", "study_id", "file_name", "ecg_time", "path"]
MEASURED = ["rr_interval", "p_onset", "p_end", "qrs_onset", "qrs_end", "t_end", "p_axis", "qrs_axis", "t_axis"]
MEASUREMENT_COLUMNS = [
    "subject_id", "study_id", "cart_id", "ecg_time", *[f"report_{number}" for number in range(18)],
    "bandwidth", "filtering", *MEASURED,
]  # fmt: skip
STATEMENTS = [
    ["Sinus rhythm", "Normal ECG"],
    ["Sinus bradycardia", "Left axis deviation", "Borderline ECG"],
    ["Atrial fibrillation with rapid ventricular response", "Low QRS voltages in limb leads", "Abnormal ECG"],
    ["Sinus rhythm with PVC(s)", "Inferior infarct - age undetermined", "Lateral ST-T changes", "Abnormal ECG"],
]


def make_signal(number: int) -> np.ndarray:
    """int16 (samples, leads): a train of beats over noise, limb leads as Einthoven and Goldberger have them."""
    rng = np.random.default_rng(number)
    time = np.arange(SAMPLES) / RATE
    period = rng.uniform(0.5, 1.2)
    phase = (time + rng.uniform(0, period)) % period
    beat = np.exp(-(((phase - 0.2) / 0.012) ** 2)) + 0.25 * np.exp(-(((phase - 0.42) / 0.05) ** 2))
    electrodes = rng.uniform(-1.5, 1.5, (8, 1)) * beat + 0.01 * rng.standard_normal((8, SAMPLES))
    one, two, chest = electrodes[0], electrodes[1], electrodes[2:]
    limb = [one, two, two - one, -(one + two) / 2, two - one / 2, one - two / 2]
    return np.round(np.vstack([*limb, chest]) * GAIN).astype(np.int16).T


def write_corpus(folder: Path, records: int, patients_share: int = 2) -> None:
    """Write `records` recordings; `patients_share` consecutive ones belong to one patient."""
    rng = np.random.default_rng(0)
    lines, measurements = [], []
    for number in range(records):
        subject, study = 10_000_000 + number // patients_share * 7, 40_000_000 + number * 11
        path = f"files/p{subject // 10_000}/p{subject}/s{study}/{study}"
        write_recording(folder, path, make_signal(number), subject)
        time = f"2{number % 900 + 100}-03-15 12:{number % 60:02d}:00"
        lines.append([subject, study, study, time, path])
        statements = STATEMENTS[number % len(STATEMENTS)]
        measured = [int(value) for value in rng.integers(0, 180, len(MEASURED))]
        measured[number % len(MEASURED)] = 29999
        measurements.append(
            [subject, study, number % 50, time, *statements, *[""] * (18 - len(statements))]
            + ["0.005-150 Hz", "60 Hz notch Baseline filter", *measured]
        )
    write_table(folder / "record_list.csv", RECORD_COLUMNS, lines)
    rng.shuffle(measurements)  # the tables of the corpus are not in one order either
    write_table(folder / "machine_measurements.csv", MEASUREMENT_COLUMNS, measurements)


def write_recording(folder: Path, path: str, signal: np.ndarray, subject: int) -> None:
    stated = f"{RATE} {SAMPLES} 17:33:00 28/12/2130"
    write_wfdb(folder, path, signal, LEADS_AS_MIMIC_ORDERS_THEM, stated, GAIN, comment=f"# <subject_id>: {subject}\n")


def write_wfdb(
    folder: Path,
    path: str,
    signal: np.ndarray,
    leads: Sequence[str],
    stated: str,
    gain: float,
    comment: str = "",
) -> None:
    """A WFDB record of int16 (samples, leads), written without `wfdb`; `stated`: rate, samples and start time."""
    name = path.rpartition("/")[2]
    sums = signal.sum(axis=0, dtype=np.int64) % 65536
    header = [f"{name} {len(leads)} {stated}"]
    header += [
        f"{name}.dat 16 {gain}(0)/mV 16 0 {first} {checksum} 0 {lead}"
        for lead, first, checksum in zip(leads, signal[0], sums, strict=True)
    ]
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / f"{path}.hea").write_text("\n".join([*header, comment]), "ascii")
    (folder / f"{path}.dat").write_bytes(signal.astype("<i2").tobytes())


def write_table(path: Path, columns: list[str], rows: list[list]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=int)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    write_corpus(arguments.folder, arguments.records)
