"""PTB-XL: a small folder with good and bad records, and the real recordings as `csv` and `wfdb` read them."""

import csv
import html
import json
import shutil
import zipfile
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

import datasets
import numpy as np
import pytest
import wfdb
from datasets import load_dataset

from dataset_builder.build import build_config
from dataset_builder.errors import RecordError
from dataset_builder.plan import write_plan
from processing.leads import LEADS

GERMAN = "sinusrhythmus normales ekg"


def dropped(report: dict) -> dict[str, tuple[str | None, str]]:
    return {record["id"]: (record["split"], record["reason"]) for record in report["dropped"]["list"]}


def records(report: dict) -> dict[str, int]:
    return {split: counts["records"] for split, counts in report["splits"].items()}


def rows_of(output: Path, config: str = "ptb-xl") -> list[dict]:
    return [row for split in load_dataset(str(output), config).values() for row in split.to_list()]


def test_good_and_bad_records(small_ptb_xl, open_ptb_xl, tmp_path, cache, entry, random_adc, write_recording):
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
        entry(16, scp_codes=r"{'\ud800': 100.0}"),
    )
    files = folder / "records500/00000"
    (files / "00007_hr.dat").unlink()
    (files / "00008_hr.dat").write_bytes((files / "00008_hr.dat").read_bytes()[:1000])
    write_recording(folder, "records500/00000/00009_hr", random_adc(9, samples=1000), sampling_rate=100)
    write_recording(folder, "records500/00000/00010_hr", random_adc(10)[:3], leads=["I", "II", "III"])
    write_recording(folder, "records500/00000/00011_hr", np.zeros((12, 5000), dtype=np.int16))
    (files / "00012_hr.hea").write_bytes(b"\x89PNG\r\n\x00\xff" * 20)
    write_recording(tmp_path, "secret", random_adc(99))
    header = (files / "00015_hr.hea").read_text().replace("00015_hr.dat", "../../../secret.dat")
    (files / "00015_hr.hea").write_text(header)
    assert (tmp_path / "secret.dat").is_file()

    report = build_config(open_ptb_xl(folder), tmp_path / "meit-ecg")

    assert records(report) == {"train": 1, "validation": 1, "test": 1}
    assert dropped(report) == {
        "1": ("train", "id used before"),
        "4": ("train", "trace only requested"),
        "5": ("train", "empty report"),
        "6": ("train", "path leaves the folder"),
        "7": ("test", "missing file"),
        "8": ("train", "unreadable recording"),
        "9": ("train", "not 10 s at 500 Hz"),
        "10": ("train", "not the twelve leads"),
        "11": ("train", "flat recording"),
        "12": ("train", "unreadable recording"),
        "13": ("train", "unreadable scp_codes"),
        "14": (None, "no fold"),
        "15": ("train", "unreadable recording"),
        "16": ("train", "unreadable scp_codes"),
    }
    assert sum(report["dropped"]["reasons"].values()) == report["dropped"]["records"] == 14
    assert report["records_in_table"] == 17
    assert json.loads((tmp_path / "meit-ecg/ptb-xl/build_report.json").read_text("utf-8")) == report
    assert str(tmp_path) not in json.dumps(report), "a published report must not name folders of this machine"
    assert not cache.exists(), "the build must not leave a copy in the user's cache"


def test_samples_are_exact_and_leads_are_placed_by_name(
    small_ptb_xl, open_ptb_xl, tmp_path, entry, random_adc, write_recording
):
    folder = small_ptb_xl(entry(1), entry(2))
    adc = random_adc(1)
    adc[3, 100:110] = -32768  # the WFDB code for invalid samples
    order = [0, 1, 2, 3, 5, 4, 11, 10, 9, 8, 7, 6]  # aVF before aVL, chest leads backwards
    leads = [LEADS[lead].lower() for lead in order]
    write_recording(folder, "records500/00000/00001_hr", adc[order], leads=leads, gain=204.7, baseline=-12)
    build_config(open_ptb_xl(folder), tmp_path / "meit-ecg")

    first, second = rows_of(tmp_path / "meit-ecg")
    np.testing.assert_array_equal(np.array(first["ecg"]), adc)
    assert first["ecg_gain"] == [204.7] * 12
    assert first["ecg_baseline"] == [-12] * 12
    assert first["sampling_rate"] == 500.0
    assert first["signal_quality"] == ["aVR: 10 invalid samples"]
    np.testing.assert_array_equal(np.array(second["ecg"]), random_adc(2))


def test_a_record_of_a_format_that_only_wfdb_knows(small_ptb_xl, open_ptb_xl, tmp_path, entry):
    """Format 212, which is read from a copy: the same samples, and the same kind of message for a damaged one."""
    folder = small_ptb_xl(entry(1), entry(2))
    adc = np.random.default_rng(0).integers(-2047, 2048, (5000, 12))
    for name in ("00001_hr", "00002_hr"):
        wfdb.wrsamp(
            name, 500, ["mV"] * 12, list(LEADS), d_signal=adc, fmt=["212"] * 12, adc_gain=[1000.0] * 12,
            baseline=[0] * 12, write_dir=str(folder / "records500/00000"),
        )  # fmt: skip
    damaged = folder / "records500/00000/00002_hr.dat"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    report = build_config(open_ptb_xl(folder), tmp_path / "meit-ecg")
    (row,) = rows_of(tmp_path / "meit-ecg")
    np.testing.assert_array_equal(np.array(row["ecg"]), adc.T)
    (record,) = report["dropped"]["list"]
    assert record["reason"] == "unreadable recording"
    assert record["detail"].startswith("00002_hr.dat: the file is truncated")


def test_a_patient_is_kept_in_the_last_of_his_splits(small_ptb_xl, open_ptb_xl, tmp_path, entry):
    folder = small_ptb_xl(
        entry(1, patient_id=5, strat_fold=1),
        entry(2, patient_id=5, strat_fold=9),
        entry(3, patient_id="5.0", strat_fold=10),
        entry(4, patient_id=6, strat_fold=1),
        entry(5, patient_id=6, strat_fold=2),
    )
    report = build_config(open_ptb_xl(folder), tmp_path / "meit-ecg")
    assert records(report) == {"train": 2, "test": 1}
    assert dropped(report) == {
        "1": ("train", "patient is in a later split too"),
        "2": ("validation", "patient is in a later split too"),
    }
    assert report["patients_in_several_splits_of_the_table"] == 1


def test_columns_of_a_row(small_ptb_xl, open_ptb_xl, tmp_path, entry, write_table, random_adc):
    folder = small_ptb_xl(entry(1), entry(2))
    optional = {
        "recording_date": "1984-11-09 09:17:34",
        "baseline_drift": " , I-V1,  ",
        "static_noise": "",
        "electrodes_problems": "V6",
    }
    lines = [entry(1, age="300.0", sex=0, scp_codes="{'NORM': 80.0, 'SR': 0}") | optional]
    lines.append(entry(2, age="", sex="", validated_by_human="") | dict.fromkeys(optional, ""))
    write_table(folder, lines, columns=[*lines[0]])
    build_config(open_ptb_xl(folder, english=False), tmp_path / "meit-ecg")
    first, second = rows_of(tmp_path / "meit-ecg")
    assert np.array_equal(first.pop("ecg"), random_adc(1))
    assert first.pop("machine_measurements") in (None, dict.fromkeys(second["machine_measurements"] or ()))
    assert first == {
        "id": "1",
        "corpus": "ptb-xl",
        "patient_id": "1001",
        "study_time": datetime(1984, 11, 9, 9, 17, 34),
        "age": 300.0,
        "sex": "male",
        "ecg_gain": [1000.0] * 12,
        "ecg_baseline": [0] * 12,
        "sampling_rate": 500.0,
        "report": GERMAN,
        "report_language": "de",
        "report_source": "corpus",
        "scp_codes": [{"code": "NORM", "likelihood": 80.0}, {"code": "SR", "likelihood": 0.0}],
        "validated_by_human": True,
        "signal_quality": ["baseline drift: I-V1", "electrodes problems: V6"],
        "split": "train",
    }
    missing = {name for name, value in second.items() if value is None}
    assert missing >= {"study_time", "age", "sex", "validated_by_human"}
    assert second["signal_quality"] == []


STATEMENTS = [
    {"": "NORM", "description": "normal ECG", "diagnostic_class": "NORM"},
    {"": "SR", "description": "sinus rhythm", "rhythm": "1.0"},
]


class FakeTranslator:
    """Stands for a model; notes what it is asked."""

    name = "somebody/a-model"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def translate(self, texts):
        self.asked += texts
        return [
            RecordError("translation cut short") if "ohne" in text else f"the {text} ecg is normal" for text in texts
        ]


@pytest.fixture
def folder_of_reports(small_ptb_xl, entry, write_table):
    """Six records whose reports come from six places, as far as these are at hand."""
    folder = small_ptb_xl(
        entry(1),
        entry(2, report="sinus rhythm. normal ecg."),
        entry(3, report="sinusrhythmus linkstyp"),
        entry(4, report="sinusrhythmus ohne befund"),
        entry(5, report="sinusrhythmus ohne befund", scp_codes="{}"),
        entry(6, report="sinusrhythmus"),
    )
    columns = ["", "description", "form", "rhythm", "diagnostic_class", "Statement Category"]
    write_table(folder, STATEMENTS, "scp_statements.csv", columns)
    english = [
        {"ecg_id": "1.0", "report_en": "sinus rhythm with normal findings"},
        {"ecg_id": 6, "report_en": "sinusrhythmus nicht übersetzt"},
        {"ecg_id": 99, "report_en": "of no record"},
    ]
    write_table(folder, english, "english.csv", ["ecg_id", "report_en"])
    return folder


RENDERED = "Sinus rhythm. Probably normal ECG."


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"english": False},
            [
                ("sinusrhythmus normales ekg", "corpus", "de"),
                ("sinus rhythm. normal ecg.", "corpus", "en"),
                ("sinusrhythmus linkstyp", "corpus", "de"),
                ("sinusrhythmus ohne befund", "corpus", "de"),
                ("sinusrhythmus ohne befund", "corpus", "de"),
                ("sinusrhythmus", "corpus", "de"),
            ],
        ),
        (
            {},
            [
                (RENDERED, "scp_statements", "en"),
                ("sinus rhythm. normal ecg.", "corpus", "en"),
                (RENDERED, "scp_statements", "en"),
                (RENDERED, "scp_statements", "en"),
                ("sinusrhythmus ohne befund", "corpus", "de"),
                (RENDERED, "scp_statements", "en"),
            ],
        ),
        (
            {"reports_csv": "english.csv", "translator": FakeTranslator()},
            [
                ("sinus rhythm with normal findings", "translation_csv", "en"),
                ("sinus rhythm. normal ecg.", "corpus", "en"),
                ("the sinusrhythmus linkstyp ecg is normal", "translation_model", "en"),
                (RENDERED, "scp_statements", "en"),
                ("sinusrhythmus ohne befund", "corpus", "de"),
                ("the sinusrhythmus ecg is normal", "translation_model", "en"),
            ],
        ),
    ],
)
def test_the_first_english_text_is_taken(folder_of_reports, open_ptb_xl, tmp_path, options, expected):
    if "reports_csv" in options:
        options = options | {"reports_csv": str(folder_of_reports / options["reports_csv"])}
    report = build_config(open_ptb_xl(folder_of_reports, **options), tmp_path / "meit-ecg")
    rows = rows_of(tmp_path / "meit-ecg")
    assert [(row["report"], row["report_source"], row["report_language"]) for row in rows] == expected
    counts = report["splits"]["train"]
    assert counts["report_sources"] == dict(sorted(Counter(source for _, source, _ in expected).items()))
    assert counts["report_languages"] == dict(sorted(Counter(language for *_, language in expected).items()))
    if "translator" in options:
        # Each different text once, and none that is English already, be it by the CSV.
        assert options["translator"].asked == [
            "sinusrhythmus linkstyp",
            "sinusrhythmus ohne befund",
            "sinusrhythmus",
        ]
        assert (report["reports_csv"], report["translation_model"]) == ("english.csv", "somebody/a-model")


def test_a_changed_table_of_statements_is_another_build(folder_of_reports, open_ptb_xl, tmp_path, write_table):
    before = write_plan(tmp_path / "one", open_ptb_xl(folder_of_reports), None, {}).fact("fingerprint")
    table = folder_of_reports / "scp_statements.csv"
    table.write_text(table.read_text().replace("sinus rhythm", "rhythm of the sinus node"))
    assert write_plan(tmp_path / "one", open_ptb_xl(folder_of_reports), None, {}).fact("fingerprint") != before


def test_an_unknown_statement_leaves_out_its_record_where_it_would_be_rendered(
    folder_of_reports, open_ptb_xl, tmp_path, entry, write_table
):
    lines = [entry(1, scp_codes="{'XYZ': 100.0}"), entry(2, report="sinus rhythm. normal ecg.", scp_codes="{'XYZ': 0}")]
    write_table(folder_of_reports, lines)
    report = build_config(open_ptb_xl(folder_of_reports), tmp_path / "meit-ecg")
    assert dropped(report) == {"1": ("train", "unknown SCP statement")}


@pytest.fixture
def folder_of_two_rates(small_ptb_xl, entry, write_table, write_recording, random_adc):
    """Three records at 500 Hz, of which the first two are there at 100 Hz too."""
    folder = small_ptb_xl(entry(1), entry(2, strat_fold=9), entry(3))
    lines = [
        entry(number, strat_fold=fold, filename_lr=f"records100/00000/{number:05d}_lr")
        for number, fold in ((1, 1), (2, 9), (3, 1))
    ]
    write_table(folder, lines, columns=[*lines[0]])
    for number in (1, 2):
        adc = random_adc(100 + number, samples=1000)
        write_recording(folder, f"records100/00000/{number:05d}_lr", adc, sampling_rate=100)
    return folder


def test_100_hz_is_a_config_of_its_own(folder_of_two_rates, open_ptb_xl, tmp_path, random_adc):
    output = tmp_path / "meit-ecg"
    for rate in (500.0, 100.0):
        report = build_config(open_ptb_xl(folder_of_two_rates, rate), output)
    assert (report["config"], report["sampling_rate"], report["samples"]) == ("ptb-xl-100hz", 100.0, 1000)
    assert records(report) == {"train": 1, "validation": 1}
    assert dropped(report) == {"3": ("train", "missing file")}
    for number, row in enumerate(rows_of(output, "ptb-xl-100hz"), start=1):
        assert (row["id"], row["sampling_rate"]) == (str(number), 100.0)
        np.testing.assert_array_equal(np.array(row["ecg"]), random_adc(100 + number, samples=1000))
    assert len(rows_of(output)) == 3


@pytest.mark.parametrize("compressed", [True, False])
def test_a_zip_gives_the_same_bytes_as_its_folder(folder_of_two_rates, open_ptb_xl, files_of, tmp_path, compressed):
    method = "zip" if compressed else "stored"
    above = tmp_path / "above"
    shutil.copytree(folder_of_two_rates, above / "ptb-xl-1.0.3")
    packed = tmp_path / "ptb-xl.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as file:
        for path in sorted(above.rglob("*")):
            file.write(path, path.relative_to(above))
    for rate in (500.0, 100.0):
        build_config(open_ptb_xl(folder_of_two_rates, rate), tmp_path / "folder")
        build_config(open_ptb_xl(packed, rate), tmp_path / method)
    assert files_of(tmp_path / "folder") == files_of(tmp_path / method)


def test_the_corpus_own_csv_of_translations_is_found_wherever_the_corpus_lies(
    small_ptb_xl, entry, write_table, open_ptb_xl, files_of, tmp_path
):
    folder = small_ptb_xl(entry(1), entry(2, strat_fold=10))
    english = [{"ecg_id": 1, "report_en": "sinus rhythm"}, {"ecg_id": 2, "report_en": "atrial flutter"}]
    write_table(folder, english, "ptbxl_reports_en.csv", ["ecg_id", "report_en"])
    nested = tmp_path / "mirror"
    shutil.copytree(folder, nested / "files" / "ptb-xl" / "1.0.3")
    packed = shutil.make_archive(str(tmp_path / "ptb-xl"), "zip", folder)
    report = build_config(open_ptb_xl(folder), tmp_path / "folder")
    assert report["reports_csv"] == "ptbxl_reports_en.csv"
    assert report["splits"]["test"]["report_sources"] == {"translation_csv": 1}
    for number, place in enumerate((nested, packed)):
        build_config(open_ptb_xl(Path(place)), tmp_path / str(number))
        assert files_of(tmp_path / str(number)) == files_of(tmp_path / "folder")


def test_label_notes_are_cut_off_and_counted(small_ptb_xl, entry, open_ptb_xl, tmp_path):
    noted = entry(1, report="sinus rhythm. normal ecg. Edit: NORM 100, (NORM 100)")
    folder = small_ptb_xl(noted, entry(2, report="st &amp; t abnormal with sinus rhythm"))
    report = build_config(open_ptb_xl(folder), tmp_path / "meit-ecg")
    assert report["reports_with_label_notes"] == 1
    texts = load_dataset(str(tmp_path / "meit-ecg"), "ptb-xl", split="train")["report"][:]
    assert texts == ["sinus rhythm. normal ecg.", "st & t abnormal with sinus rhythm"]


@pytest.fixture(scope="module", params=[500.0, 100.0])
def real(request, ptb_xl, open_ptb_xl, tmp_path_factory) -> tuple[float, dict, datasets.DatasetDict]:
    """The rate, the build report and the splits of the real recordings, with the translations beside them."""
    output, cache = tmp_path_factory.mktemp("real") / "meit-ecg", tmp_path_factory.mktemp("cache")
    corpus = open_ptb_xl(ptb_xl, request.param, reports_csv=str(ptb_xl / "ptbxl_reports_en.csv"))
    report = build_config(corpus, output)
    return request.param, report, load_dataset(str(output), corpus.config, cache_dir=str(cache)).with_format("numpy")


def read_table(path: Path, key: str = "ecg_id") -> dict[str, dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return {line[key]: line for line in csv.DictReader(file)}


def rows(splits: datasets.DatasetDict) -> list[dict]:
    return [row for split in splits.values() for row in split]


def test_counts_and_splits_of_the_real_recordings(ptb_xl, real):
    """As a reader of the table counts them: what has files and says more than that a trace was requested."""
    rate, report, splits = real
    table = read_table(ptb_xl / "ptbxl_database.csv")
    expected: dict[str, list[str]] = defaultdict(list)
    reasons: Counter[str] = Counter()
    for ecg_id, line in table.items():
        path = ptb_xl / line["filename_hr" if rate == 500 else "filename_lr"]
        if "trace only requested" in line["report"]:
            reasons["trace only requested"] += 1
        elif not any(map(str.isalpha, line["report"])):
            reasons["empty report"] += 1
        elif not path.with_suffix(".dat").is_file():
            reasons["missing file"] += 1
        else:
            expected[{"9": "validation", "10": "test"}.get(line["strat_fold"], "train")].append(ecg_id)
    assert report["records_in_table"] == len(table) == 633
    assert {split: rows["id"][:].tolist() for split, rows in splits.items()} == expected
    assert report["dropped"]["reasons"] == dict(sorted(reasons.items()))
    assert reasons["missing file"] == (0 if rate == 500 else 633 - 99 - reasons["trace only requested"] - 1)
    patients = {split: set(split_rows["patient_id"][:].tolist()) for split, split_rows in splits.items()}
    assert {
        split: {f"{float(table[number]['patient_id']):.0f}" for number in ids} for split, ids in expected.items()
    } == (patients)
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())), "a patient is in two splits"


def test_every_real_recording_is_as_wfdb_reads_it(ptb_xl, real):
    rate, _, splits = real
    table = read_table(ptb_xl / "ptbxl_database.csv")
    for row in rows(splits):
        name = table[row["id"]]["filename_hr" if rate == 500 else "filename_lr"]
        wanted = wfdb.rdrecord(str(ptb_xl / name), physical=True)
        assert [lead.lower() for lead in wanted.sig_name] == [lead.lower() for lead in LEADS]
        adc = row["ecg"].astype(np.float64)
        adc[row["ecg"] == -32768] = np.nan
        millivolts = (adc - row["ecg_baseline"][:, None]) / row["ecg_gain"].astype(np.float64)[:, None]
        np.testing.assert_array_equal(millivolts, wanted.p_signal.T)
        assert row["sampling_rate"] == wanted.fs == rate


def test_avf_and_avl_of_every_real_recording_are_in_their_rows(real):
    """Goldberger's equations hold to 2 ADC units in all recordings but one; swapped, they are off by hundreds."""
    worst, swapped = [], []
    for row in rows(real[2]):
        one, two, three, _, avl, avf = row["ecg"][:6].astype(float)
        worst.append(max(np.abs(avf - (two + three) / 2).max(), np.abs(avl - (one - three) / 2).max()))
        swapped.append(max(np.abs(avl - (two + three) / 2).max(), np.abs(avf - (one - three) / 2).max()))
    assert sorted(worst)[-2] <= 2
    assert min(swapped) > 100


def test_every_real_row_is_joined_by_its_id(ptb_xl, real):
    table = read_table(ptb_xl / "ptbxl_database.csv")
    english = read_table(ptb_xl / "ptbxl_reports_en.csv")
    sources: Counter[str] = Counter()
    for row in rows(real[2]):
        line = table[row["id"]]
        sources[row["report_source"]] += 1
        if row["report_source"] == "translation_csv":
            assert row["report"]
            assert html.unescape(english[row["id"]]["report_en"]).strip().startswith(row["report"])
        elif row["report_source"] == "corpus":
            assert html.unescape(line["report"]).strip().startswith(row["report"])
        else:
            assert row["report_source"] == "scp_statements"
        assert {code["code"] for code in row["scp_codes"]} == set(line["scp_codes"].split("'")[1::2])
        assert row["sex"] == {"0": "male", "1": "female"}[line["sex"]]
        assert row["age"] == float(line["age"]) if line["age"] else np.isnan(row["age"])
        assert row["study_time"].astype("datetime64[s]").item() == datetime.fromisoformat(line["recording_date"])
        assert row["validated_by_human"] == (line["validated_by_human"] == "True")
    assert sources["translation_csv"] > 0.9 * sources.total()


def test_reports_are_joined_by_id_and_not_by_order(small_ptb_xl, open_ptb_xl, tmp_path, entry, write_table):
    folder = small_ptb_xl(*(entry(number, report=f"sinusrhythmus {number}") for number in (3, 1, 2)))
    english = [{"ecg_id": number, "report_en": f"sinus rhythm number {number}"} for number in (2, 3, 1)]
    write_table(folder, english, "en.csv", ["ecg_id", "report_en"])
    build_config(open_ptb_xl(folder, reports_csv=str(folder / "en.csv")), tmp_path / "meit-ecg")
    assert {row["id"]: row["report"] for row in rows_of(tmp_path / "meit-ecg")} == {
        str(number): f"sinus rhythm number {number}" for number in (1, 2, 3)
    }
