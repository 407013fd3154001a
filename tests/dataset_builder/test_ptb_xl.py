import csv
import json

import numpy as np
import wfdb
from datasets import load_dataset

from dataset_builder.dataset_folder import build_config
from dataset_builder.ptb_xl import PTBXL
from processing.leads import LEADS


def dropped(report: dict) -> dict[str, tuple[str | None, str]]:
    return {record["id"]: (record["split"], record["reason"]) for record in report["dropped"]["list"]}


def test_good_and_bad_records(small_ptb_xl, tmp_path, cache, entry, random_adc, write_recording):
    folder = small_ptb_xl(
        entry(1),
        entry(2, strat_fold=9, filename_hr="records500\\00000\\00002_hr"),
        entry(3, strat_fold=10),
        entry(4, report="trace only requested."),
        entry(5, report=" "),
        entry(6, filename_hr="../ptb-xl-as-published/records500/00000/00006_hr"),
        entry(7, strat_fold=10),
        entry(8),
        entry(9),
        entry(10),
        entry(11),
        entry(12),
        entry(13, scp_codes="import os"),
        entry(1, report="a second line of the same id"),
        entry(14, strat_fold=12),
        entry(15),
    )
    records = folder / "records500/00000"
    (records / "00007_hr.dat").unlink()
    (records / "00008_hr.dat").write_bytes((records / "00008_hr.dat").read_bytes()[:1000])
    write_recording(folder, "records500/00000/00009_hr", random_adc(9, samples=1000), sampling_rate=100)
    write_recording(folder, "records500/00000/00010_hr", random_adc(10)[:3], leads=["I", "II", "III"])
    write_recording(folder, "records500/00000/00011_hr", np.zeros((12, 5000), dtype=np.int16))
    (records / "00012_hr.hea").write_bytes(b"\x89PNG\r\n\x00\xff" * 20)
    secret = tmp_path / "secret"
    write_recording(tmp_path, "secret", random_adc(99))
    header = (records / "00015_hr.hea").read_text().replace("00015_hr.dat", "../../../secret.dat")
    (records / "00015_hr.hea").write_text(header)
    assert secret.with_suffix(".dat").is_file()

    report = build_config(PTBXL, "ptb-xl", tmp_path / "meit-ecg", data_dir=str(folder))

    assert {split: counts["records"] for split, counts in report["splits"].items()} == {
        "train": 1,
        "validation": 1,
        "test": 1,
    }
    assert dropped(report) == {
        "1": ("train", "ecg_id used before"),
        "4": ("train", "trace only requested"),
        "5": ("train", "empty report"),
        "6": ("train", "path leaves the folder"),
        "7": ("test", "unreadable recording"),
        "8": ("train", "unreadable recording"),
        "9": ("train", "not 10 s at 500 Hz"),
        "10": ("train", "not the twelve leads"),
        "11": ("train", "flat recording"),
        "12": ("train", "unreadable recording"),
        "13": ("train", "unreadable scp_codes"),
        "14": (None, "no fold"),
        "15": ("train", "unreadable recording"),
    }
    assert sum(report["dropped"]["reasons"].values()) == report["dropped"]["records"] == 13
    assert report["records_in_table"] == 16
    assert json.loads((tmp_path / "meit-ecg/ptb-xl/build_report.json").read_text("utf-8")) == report
    assert str(tmp_path) not in json.dumps(report), "a published report must not name folders of this machine"
    assert not cache.exists(), "the build must not leave a copy in the user's cache"


def test_samples_are_exact_and_leads_are_placed_by_name(small_ptb_xl, tmp_path, entry, random_adc, write_recording):
    folder = small_ptb_xl(entry(1), entry(2))
    adc = random_adc(1)
    adc[3, 100:110] = -32768  # the WFDB code for invalid samples
    order = [0, 1, 2, 3, 5, 4, 11, 10, 9, 8, 7, 6]  # aVF before aVL, chest leads backwards
    leads = [LEADS[lead].lower() for lead in order]
    write_recording(folder, "records500/00000/00001_hr", adc[order], leads=leads, gain=204.7, baseline=-12)
    build_config(PTBXL, "ptb-xl", tmp_path / "meit-ecg", data_dir=str(folder))

    rows = load_dataset(str(tmp_path / "meit-ecg"), "ptb-xl", split="train")
    first = rows[0]
    np.testing.assert_array_equal(np.array(first["ecg"], dtype=np.int16), adc)
    assert first["ecg_gain"] == [204.7] * 12
    assert first["ecg_baseline"] == [-12] * 12
    assert first["sampling_rate"] == 500.0
    np.testing.assert_array_equal(np.array(rows[1]["ecg"], dtype=np.int16), random_adc(2))


def test_a_patient_is_kept_in_the_last_of_his_splits(small_ptb_xl, tmp_path, entry):
    folder = small_ptb_xl(
        entry(1, patient_id=5, strat_fold=1),
        entry(2, patient_id=5, strat_fold=9),
        entry(3, patient_id="5.0", strat_fold=10),
        entry(4, patient_id=6, strat_fold=1),
        entry(5, patient_id=6, strat_fold=2),
    )
    report = build_config(PTBXL, "ptb-xl", tmp_path / "meit-ecg", data_dir=str(folder))
    assert {split: counts["records"] for split, counts in report["splits"].items()} == {"train": 2, "test": 1}
    assert dropped(report) == {
        "1": ("train", "patient is in a later split too"),
        "2": ("validation", "patient is in a later split too"),
    }
    assert report["patients_in_several_splits_of_the_table"] == 1


def test_limit_takes_the_first_usable_lines_of_each_split(small_ptb_xl, tmp_path, entry):
    folder = small_ptb_xl(entry(1, report=""), *(entry(number) for number in range(2, 6)), entry(6, strat_fold=10))
    report = build_config(PTBXL, "ptb-xl", tmp_path / "meit-ecg", data_dir=str(folder), limit=2)
    train = load_dataset(str(tmp_path / "meit-ecg"), "ptb-xl", split="train")
    assert train["id"][:] == ["2", "3"]
    assert report["limit_per_split"] == 2
    assert report["records_beyond_limit"] == {"train": 2, "validation": 0, "test": 0}


def test_two_processes_build_the_same_rows(small_ptb_xl, tmp_path, entry):
    folder = small_ptb_xl(*(entry(number) for number in range(1, 8)), entry(8, strat_fold=10))
    (folder / "records500/00000/00006_hr.dat").unlink()
    one = build_config(PTBXL, "ptb-xl", tmp_path / "one", data_dir=str(folder))
    two = build_config(PTBXL, "ptb-xl", tmp_path / "two", num_proc=2, data_dir=str(folder))
    assert [len(report["splits"]["train"].pop("shards")) for report in (one, two)] == [1, 2]
    for report in (one, two):  # the size in memory counts the offsets of each shard
        report["splits"]["train"].pop("bytes")
    assert one == two
    first, second = (load_dataset(str(tmp_path / name), "ptb-xl", split="train") for name in ("one", "two"))
    assert first.to_list() == second.to_list()


def test_english_reports(small_ptb_xl, tmp_path, entry, write_table):
    folder = small_ptb_xl(entry(1), entry(2))
    write_table(folder, [{"ecg_id": 2, "report_en": "sinus rhythm normal ecg"}], "en.csv", ["ecg_id", "report_en"])
    report = build_config(
        PTBXL, "ptb-xl", tmp_path / "meit-ecg", data_dir=str(folder), reports_csv=str(folder / "en.csv")
    )
    train = load_dataset(str(tmp_path / "meit-ecg"), "ptb-xl", split="train")
    assert train["report"][:] == ["sinusrhythmus normales ekg", "sinus rhythm normal ecg"]
    assert train["report_source"][:] == ["corpus", "translation_csv"]
    assert report["splits"]["train"]["report_languages"] == {"de": 1, "en": 1}
    assert report["splits"]["train"]["report_sources"] == {"corpus": 1, "translation_csv": 1}
    assert report["reports_csv"] == "en.csv"


def test_the_real_recordings(real_ptb_xl, tmp_path):
    """Counts as a reader of the tables counts them, reports and samples as wfdb and csv read them."""
    with open(real_ptb_xl / "ptbxl_database.csv", encoding="utf-8", newline="") as file:
        table = {line["ecg_id"]: line for line in csv.DictReader(file)}
    with open(real_ptb_xl / "ptbxl_reports_en.csv", encoding="utf-8", newline="") as file:
        english = {line["ecg_id"]: line["report_en"] for line in csv.DictReader(file)}
    expected: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for ecg_id, line in table.items():
        text = english.get(ecg_id, line["report"])
        if text.strip() and not text.startswith("trace only requested"):
            split = {"9": "validation", "10": "test"}.get(line["strat_fold"], "train")
            expected[split].append(ecg_id)

    report = build_config(
        PTBXL,
        "ptb-xl",
        tmp_path / "meit-ecg",
        data_dir=str(real_ptb_xl),
        reports_csv=str(real_ptb_xl / "ptbxl_reports_en.csv"),
    )

    assert report["records_in_table"] == len(table)
    assert report["dropped"]["records"] == len(table) - sum(map(len, expected.values()))
    assert set(report["dropped"]["reasons"]) <= {"empty report", "trace only requested"}
    patients: dict[str, set[str]] = {}
    for split, ids in expected.items():
        rows = load_dataset(str(tmp_path / "meit-ecg"), "ptb-xl", split=split)
        assert rows["id"][:] == ids
        patients[split] = set(rows["patient_id"][:])
        for row in rows.with_format("numpy", columns=["ecg", "ecg_gain", "ecg_baseline"], output_all_columns=True):
            line = table[row["id"]]
            wanted = wfdb.rdrecord(str(real_ptb_xl / line["filename_hr"]), physical=True)
            assert [name.lower() for name in wanted.sig_name] == [lead.lower() for lead in LEADS]
            millivolts = (row["ecg"] - row["ecg_baseline"][:, None]) / row["ecg_gain"].astype(np.float64)[:, None]
            np.testing.assert_array_equal(millivolts, wanted.p_signal.T)
            assert row["report"] == english.get(row["id"], line["report"])
            assert f"{float(line['patient_id']):.0f}" == row["patient_id"]
            assert {code["code"] for code in row["scp_codes"]} == set(
                line["scp_codes"].replace('"', "'").split("'")[1::2]
            )
    assert not patients["train"] & patients["validation"]
    assert not (patients["train"] | patients["validation"]) & patients["test"]


def test_the_real_augmented_leads_hold_goldbergers_equations(real_ptb_xl, tmp_path):
    """aVF = (II + III) / 2 and aVL = (I - III) / 2: rows in a wrong place would be off by hundreds of ADC units."""
    build_config(PTBXL, "ptb-xl", tmp_path / "meit-ecg", data_dir=str(real_ptb_xl))
    worst = []
    for split in ("train", "validation", "test"):
        rows = load_dataset(str(tmp_path / "meit-ecg"), "ptb-xl", split=split).with_format("numpy", columns=["ecg"])
        for row in rows:
            i, ii, iii, _, avl, avf = row["ecg"][:6]
            worst.append(max(np.abs(avf - (ii + iii) / 2).max(), np.abs(avl - (i - iii) / 2).max()))
    assert sorted(worst)[-2] <= 2, "it holds in all recordings but one"
