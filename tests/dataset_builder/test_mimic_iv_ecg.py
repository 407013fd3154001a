"""MIMIC-IV-ECG: the real sample as `csv` and `wfdb` read it, and tables that went through other programs."""

import csv
import hashlib
import random
import shutil
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import datasets
import numpy as np
import pytest
import wfdb
from datasets import load_dataset

from dataset_builder.build import build_config
from dataset_builder.mimic_statements import join_statements
from processing.leads import LEADS
from tests.dataset_builder.synthetic_mimic import make_signal, write_recording, write_table

CONFIG = "mimic-iv-ecg"
MEASURED = ("rr_interval", "p_onset", "p_end", "qrs_onset", "qrs_end", "t_end", "p_axis", "qrs_axis", "t_axis")


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def split_of(subject: str) -> str:
    """As the card describes it: eight tenths, one and one, by a hash of the patient's id."""
    tenth = int.from_bytes(hashlib.sha256(f"mimic-iv-ecg/{subject}".encode()).digest()[:8], "big") % 10
    return {8: "validation", 9: "test"}.get(tenth, "train")


@pytest.fixture(scope="module")
def real(mimic_iv_ecg, open_mimic, tmp_path_factory) -> tuple[dict, datasets.DatasetDict]:
    """The build report of the real sample, and its splits."""
    output = tmp_path_factory.mktemp("real") / "meit-ecg"
    report = build_config(open_mimic(mimic_iv_ecg), output)
    cache = str(tmp_path_factory.mktemp("cache"))
    return report, load_dataset(str(output), CONFIG, cache_dir=cache).with_format("numpy")


def rows_of(splits: datasets.DatasetDict) -> list[dict]:
    return [row for split in splits.values() for row in split]


def test_counts_and_splits_of_the_real_sample(mimic_iv_ecg, real):
    """As a reader of the two tables counts them: what has a recording and any statement is there."""
    report, splits = real
    listed = read_table(mimic_iv_ecg / "record_list.csv")
    measured = {line["study_id"]: line for line in read_table(mimic_iv_ecg / "machine_measurements.csv")}
    expected: dict[str, list[str]] = defaultdict(list)
    dropped = []
    for line in listed:
        statements = [measured[line["study_id"]][f"report_{number}"] for number in range(18)]
        if (mimic_iv_ecg / f"{line['path']}.dat").is_file() and any(map(str.strip, statements)):
            expected[split_of(line["subject_id"])].append(line["study_id"])
        else:
            dropped.append(line["study_id"])
    assert len(listed) == report["records_in_table"] > 200
    assert {split: rows["id"][:].tolist() for split, rows in splits.items()} == expected
    assert [record["id"] for record in report["dropped"]["list"]] == dropped
    assert {split: counts["records"] for split, counts in report["splits"].items()} == {
        split: len(ids) for split, ids in expected.items()
    }
    patients = {split: set(rows["patient_id"][:].tolist()) for split, rows in splits.items()}
    subjects = {line["study_id"]: line["subject_id"] for line in listed}
    assert patients == {split: {subjects[study] for study in ids} for split, ids in expected.items()}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())), "a patient is in two splits"
    assert {split: counts["patients"] for split, counts in report["splits"].items()} == {
        split: len(ids) for split, ids in patients.items()
    }


def test_every_real_recording_is_as_wfdb_reads_it(mimic_iv_ecg, real):
    paths = {line["study_id"]: line["path"] for line in read_table(mimic_iv_ecg / "record_list.csv")}
    for row in rows_of(real[1]):
        wanted = wfdb.rdrecord(str(mimic_iv_ecg / paths[row["id"]]), physical=True)
        assert [wanted.sig_name[place] for place in (4, 5)] == ["aVF", "aVL"], "in the corpus these come so"
        order = [wanted.sig_name.index(lead) for lead in LEADS]
        adc = row["ecg"].astype(np.float64)
        adc[row["ecg"] == -32768] = np.nan
        millivolts = (adc - row["ecg_baseline"][:, None]) / row["ecg_gain"].astype(np.float64)[:, None]
        np.testing.assert_array_equal(millivolts, wanted.p_signal.T[order])
        assert row["sampling_rate"] == wanted.fs == 500
        assert [note for note in row["signal_quality"] if "invalid" in note] == [
            f"{lead}: {count} invalid samples"
            for lead, count in zip(LEADS, np.isnan(wanted.p_signal.T[order]).sum(axis=1), strict=True)
            if count
        ]


def test_avf_and_avl_of_every_real_recording_are_in_their_rows(real):
    """aVF = (II + III) / 2 and aVL = (I - III) / 2, Goldberger's equations; of two rows that were swapped each is off
    by hundreds of ADC units in nearly all recordings."""
    swapped = []
    for row in rows_of(real[1]):
        valid = (row["ecg"][:6] != -32768).all(axis=0)
        one, two, three, _, avl, avf = row["ecg"][:6, valid].astype(float)
        assert np.abs(avf - (two + three) / 2).max() <= 17, row["id"]
        assert np.abs(avl - (one - three) / 2).max() <= 17, row["id"]
        swapped.append(max(np.abs(avl - (two + three) / 2).max(), np.abs(avf - (one - three) / 2).max()))
    assert np.median(swapped) > 100
    assert min(swapped) > 17, "each recording tells the two apart"


def test_every_real_row_is_joined_by_its_id(mimic_iv_ecg, real):
    listed = {line["study_id"]: line for line in read_table(mimic_iv_ecg / "record_list.csv")}
    measured = {line["study_id"]: line for line in read_table(mimic_iv_ecg / "machine_measurements.csv")}
    not_measured = 0
    for row in rows_of(real[1]):
        line, machine = listed[row["id"]], measured[row["id"]]
        assert row["patient_id"] == line["subject_id"] == machine["subject_id"]
        assert row["study_time"].astype("datetime64[s]").item() == datetime.fromisoformat(line["ecg_time"])
        assert row["report"] == join_statements([machine[f"report_{number}"] for number in range(18)])
        assert row["machine_measurements"].keys() == set(MEASURED)
        for name in MEASURED:
            value = row["machine_measurements"][name]
            # 29999, and what the carts also write for the axis of a wave that is not there
            if float(machine[name]) == 29999 or name.endswith("axis") and machine[name] in ("32767", "999"):
                assert value is None or np.isnan(value)
                not_measured += 1
            else:
                assert value == float(machine[name])
                assert abs(value) <= 180 if name.endswith("axis") else 0 < value < 2000
        assert f"bandwidth {machine['bandwidth']}" in row["signal_quality"]
        assert (row["age"], row["sex"], row["validated_by_human"]) == (None, None, False) or np.isnan(row["age"])
        assert (row["corpus"], row["report_language"], row["report_source"]) == (CONFIG, "en", "machine")
    assert not_measured > 50


def by_id(output: Path) -> dict[str, dict]:
    return {row["id"]: row for split in load_dataset(str(output), CONFIG).values() for row in split.to_list()}


def test_the_order_of_the_tables_does_not_matter(small_mimic, open_mimic, tmp_path):
    folder = small_mimic(20)
    build_config(open_mimic(folder), tmp_path / "one")
    for seed, name in enumerate(("record_list.csv", "machine_measurements.csv")):
        lines = read_table(folder / name)
        random.Random(seed).shuffle(lines)
        write_table(folder / name, list(lines[0]), [list(line.values()) for line in lines])
    build_config(open_mimic(folder), tmp_path / "two")
    assert by_id(tmp_path / "one") == by_id(tmp_path / "two")
    assert len(by_id(tmp_path / "one")) == 20


def test_signals_and_values_of_synthetic_recordings(small_mimic, open_mimic, tmp_path):
    """The test tool's own numbers: 29999 in turn for each measurement, and the leads that it swaps as the corpus."""
    build_config(open_mimic(small_mimic(9)), tmp_path / "meit-ecg")
    rows = by_id(tmp_path / "meit-ecg")
    for number in range(9):
        row = rows[str(40_000_000 + number * 11)]
        expected = make_signal(number).T[[0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]]
        np.testing.assert_array_equal(np.array(row["ecg"]), expected)
        missing = [name for name, value in row["machine_measurements"].items() if value is None]
        assert missing == [MEASURED[number]]
        assert row["patient_id"] == str(10_000_000 + number // 2 * 7)
        assert row["study_time"] == datetime(2100 + number, 3, 15, 12, number)


def test_invalid_samples_stay_and_are_noted(small_mimic, open_mimic, tmp_path):
    folder, signal = small_mimic(1), make_signal(0)
    signal[10:17, 4] = signal[4999, 0] = -32768  # aVF is the fifth in the file
    (header,) = folder.glob("files/*/*/*/*.hea")
    write_recording(folder, str(header.relative_to(folder).with_suffix("")), signal, 10_000_000)
    build_config(open_mimic(folder), tmp_path / "meit-ecg")
    (row,) = by_id(tmp_path / "meit-ecg").values()
    np.testing.assert_array_equal(np.array(row["ecg"])[[0, 5]], signal.T[[0, 4]])
    assert row["signal_quality"][-2:] == ["I: 1 invalid samples", "aVF: 7 invalid samples"]


def test_leads_are_placed_by_name(small_mimic, open_mimic, tmp_path):
    folder = small_mimic(1)
    (header,) = folder.glob("files/*/*/*/*.hea")
    lines = header.read_text().splitlines()
    names = ["v6", "V5", "V4", "V3", "V2", "V1", "AVL", "avf", "aVR", "III", "II", "I"]
    for place, name in enumerate(names, start=1):
        lines[place] = " ".join([*lines[place].split()[:-1], name])
    header.write_text("\n".join(lines))
    build_config(open_mimic(folder), tmp_path / "meit-ecg")
    (row,) = by_id(tmp_path / "meit-ecg").values()
    np.testing.assert_array_equal(np.array(row["ecg"]), make_signal(0).T[[11, 10, 9, 8, 6, 7, 5, 4, 3, 2, 1, 0]])


def test_tables_that_went_through_other_programs(small_mimic, open_mimic, tmp_path):
    """A byte order mark, quotes, Windows line ends and separators, "1.0" for 1, other columns and another order."""
    folder = small_mimic(20)
    build_config(open_mimic(folder), tmp_path / "one")
    for name in ("record_list.csv", "machine_measurements.csv"):
        lines = [dict(reversed(line.items())) | {"Unnamed: 0": 'x,\n"y"'} for line in read_table(folder / name)]
        for line in lines:
            line |= {key: f"{line[key]}.0" for key in ("study_id", "subject_id", "rr_interval") if key in line}
            if "path" in line:
                line["path"] = line["path"].replace("/", "\\")
        with open(folder / name, "w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]), quoting=csv.QUOTE_ALL, lineterminator="\r\n")
            writer.writeheader()
            writer.writerows(lines)
    build_config(open_mimic(folder), tmp_path / "two")
    assert by_id(tmp_path / "one") == by_id(tmp_path / "two")


def test_a_zip_gives_the_same_bytes_as_its_folder(mimic_of_60, open_mimic, files_of, tmp_path):
    build_config(open_mimic(mimic_of_60), tmp_path / "one")
    inside = tmp_path / "above/mimic-iv-ecg-1.0"
    inside.mkdir(parents=True)
    shutil.copytree(mimic_of_60, inside, dirs_exist_ok=True)
    shutil.make_archive(str(tmp_path / "mimic"), "zip", tmp_path / "above")
    build_config(open_mimic(tmp_path / "mimic.zip"), tmp_path / "two", num_proc=2)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_table_with_fewer_statements_and_settings(small_mimic, open_mimic, tmp_path):
    folder = small_mimic(4)
    lines = read_table(folder / "machine_measurements.csv")
    kept = [name for name in lines[0] if name not in ("bandwidth", "filtering", "report_17", "report_3")]
    write_table(folder / "machine_measurements.csv", kept, [[line[name] for name in kept] for line in lines])
    build_config(open_mimic(folder), tmp_path / "meit-ecg")
    rows = by_id(tmp_path / "meit-ecg")
    assert rows["40000000"]["report"] == "Sinus rhythm. Normal ECG."
    assert rows["40000000"]["signal_quality"] == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("qrs_axis", "-57", -57.0),
        ("qrs_axis", "29999.0", None),
        ("p_axis", "32767", None),
        ("qrs_axis", "999", None),
        ("rr_interval", "29999", None),
        ("rr_interval", "-5", None),
        ("qrs_axis", "", None),
        ("qrs_axis", "nan", None),
        ("qrs_axis", "1e999", None),
        ("qrs_axis", "12.5", 12.5),
        ("qrs_axis", "9" * 400, None),
    ],
)
def test_cells_of_measurements(small_mimic, open_mimic, tmp_path, name, value, expected):
    folder = small_mimic(1)
    (line,) = read_table(folder / "machine_measurements.csv")
    write_table(folder / "machine_measurements.csv", list(line), [list((line | {name: value}).values())])
    build_config(open_mimic(folder), tmp_path / "meit-ecg")
    (row,) = by_id(tmp_path / "meit-ecg").values()
    assert row["machine_measurements"][name] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2154-04-01 14:53:00.123456", datetime(2154, 4, 1, 14, 53, 0, 123000)),
        ("0001-01-01 00:00:00", datetime(1, 1, 1)),
        ("9999-12-31", datetime(9999, 12, 31)),
        ("2154-13-01 14:53:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_cells_of_times(small_mimic, open_mimic, tmp_path, text, expected):
    folder = small_mimic(1)
    (line,) = read_table(folder / "record_list.csv")
    write_table(folder / "record_list.csv", list(line), [list((line | {"ecg_time": text}).values())])
    build_config(open_mimic(folder), tmp_path / "meit-ecg")
    (row,) = by_id(tmp_path / "meit-ecg").values()
    assert row["study_time"] == expected
