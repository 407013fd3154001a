import runpy
import sys

import pytest
from datasets import load_dataset

from dataset_builder import cli
from dataset_builder.cli import main
from dataset_builder.download import Download


def test_ptb_xl(small_ptb_xl, tmp_path, capsys, entry, write_table):
    folder = small_ptb_xl(entry(1), entry(2, report="trace only requested."), entry(3, strat_fold=10))
    english = [{"ecg_id": 1, "report_en": "sinus rhythm normal ecg"}, {"ecg_id": 3, "report_en": "atrial flutter"}]
    write_table(folder, english, "ptbxl_reports_en.csv", ["ecg_id", "report_en"])
    output = tmp_path / "meit-ecg"

    assert main(["ptb-xl", "--data-dir", str(folder), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert f"Wrote {output / 'ptb-xl'}" in printed
    assert "train: 1 records of 1 patients" in printed
    assert "validation: no records, so this split is left out" in printed
    assert "Left out: 1 records\n  1: trace only requested" in printed
    assert f"English reports: ptbxl_reports_en.csv of {folder}" in printed
    assert "German" not in printed
    assert load_dataset(str(output), "ptb-xl", split="test")["report"][:] == ["atrial flutter"]

    assert main(["ptb-xl", "--data-dir", str(folder), "--output", str(output), "--corpus-reports"]) == 0
    assert "reports: 1 in German or Swedish, 0 in English with words of these left" in capsys.readouterr().out
    assert load_dataset(str(output), "ptb-xl", split="test")["report"][:] == ["sinusrhythmus normales ekg"]


def test_ptb_xl_at_100_hz(small_ptb_xl, tmp_path, capsys, entry, write_table, write_recording, random_adc):
    lines = [entry(1, filename_lr="records100/00000/00001_lr"), entry(2, filename_lr="records100/00000/00002_lr")]
    folder = small_ptb_xl(entry(1), entry(2))
    write_table(folder, lines, columns=list(lines[0]))
    write_recording(folder, "records100/00000/00001_lr", random_adc(1, samples=1000), sampling_rate=100)
    arguments = ["--data-dir", str(folder), "--output", str(tmp_path / "meit-ecg"), "--sampling-rate", "100"]
    assert main(["ptb-xl", *arguments]) == 0
    assert "Left out: 1 records\n  1: missing file" in capsys.readouterr().out
    assert len(load_dataset(str(tmp_path / "meit-ecg"), "ptb-xl-100hz", split="train")) == 1


def test_a_translation_model_is_loaded_and_used(small_ptb_xl, tmp_path, capsys, entry, monkeypatch):
    class FakeTranslator:
        def __init__(self, name, cache_file):
            self.name = name

        def translate(self, texts):
            return [f"a normal ecg of {len(text)} characters" for text in texts]

    monkeypatch.setattr(cli, "Translator", FakeTranslator)
    arguments = ["--data-dir", str(small_ptb_xl(entry(1))), "--output", str(tmp_path / "meit-ecg")]
    assert main(["ptb-xl", *arguments, "--translate", "somebody/a-model"]) == 0
    (row,) = load_dataset(str(tmp_path / "meit-ecg"), "ptb-xl", split="train").select_columns(
        ["report", "report_source"]
    )
    assert row == {"report": "a normal ecg of 26 characters", "report_source": "translation_model"}


def test_mimic_iv_ecg_in_jobs(mimic_of_60, tmp_path, capsys):
    arguments = ["mimic-iv-ecg", "--data-dir", str(mimic_of_60), "--output", str(tmp_path / "meit-ecg")]
    assert main([*arguments, "--shard", "2/2"]) == 0
    assert "Job 2 of 2: its shards of 2 records are finished; --merge ends the build" in capsys.readouterr().out
    assert main([*arguments, "--merge"]) == 2
    assert "2 of 3 shards are missing, the first of them train-00000; run the jobs" in capsys.readouterr().err
    assert main([*arguments, "--shard", "1/2", "--num-proc", "2"]) == 0
    assert main([*arguments, "--merge"]) == 0
    printed = capsys.readouterr().out
    assert "train: 54 records of 27 patients" in printed
    assert "validation: 2 records of 1 patients" in printed


def test_simulated(tmp_path, capsys):
    output = tmp_path / "meit-ecg"
    assert main(["simulated", "--output", str(output), "--num-records", "30", "--seed", "1", "--limit", "4"]) == 0
    printed = capsys.readouterr().out
    assert "train: 4 records" in printed
    assert "Limited to 4 records per split." in printed


def test_downloads_come_first(mimic_of_60, small_ptb_xl, tmp_path, capsys, entry, monkeypatch):
    """What is asked of PhysioNet: the tables, and the records that they name."""
    asked = []

    def download(database, folder, tables, records):
        asked.append((database, folder, tables, list(records())[:2]))
        return Download(downloaded=3, already_there=2, failed=[("a/b", "HTTP 404")])

    monkeypatch.setattr("dataset_builder.download.download_corpus", download)
    ptb_xl, output = str(small_ptb_xl(entry(1))), str(tmp_path / "meit-ecg")
    assert main(["ptb-xl", "--data-dir", ptb_xl, "--output", output, "--download"]) == 0
    assert main(["mimic-iv-ecg", "--data-dir", str(mimic_of_60), "--output", output, "--download"]) == 0
    study = "files/p1000/p10000000/s400000"
    assert asked == [
        ("ptb-xl/1.0.3", ptb_xl, ("ptbxl_database.csv", "scp_statements.csv"), ["records500/00000/00001_hr"]),
        (
            "mimic-iv-ecg/1.0",
            str(mimic_of_60),
            ("record_list.csv", "machine_measurements.csv"),
            [f"{study}00/40000000", f"{study}11/40000011"],
        ),
    ]
    captured = capsys.readouterr()
    assert f"{ptb_xl}: 3 records downloaded, 2 were there" in captured.out
    assert "warning: 1 records could not be downloaded, such as a/b: HTTP 404" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ptb-xl", "--data-dir", "nowhere"], "nowhere: no such file or folder"),
        (["mimic-iv-ecg", "--data-dir", "nowhere"], "nowhere: no such file or folder"),
        (["ptb-xl", "--data-dir", "empty"], "holds no ptbxl_database.csv"),
        (["mimic-iv-ecg", "--data-dir", "empty"], "holds no record_list.csv"),
        (["ptb-xl", "--data-dir", "empty", "--reports-csv", "none.csv"], "holds no ptbxl_database.csv"),
        (["ptb-xl", "--data-dir", "letter.txt"], "letter.txt: not a zip"),
    ],
)
def test_bad_input_is_a_message_and_exit_code_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "letter.txt").write_text("Dear colleague,")
    assert main([*arguments, "--output", "meit-ecg"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Wrote" not in captured.out
    assert not (tmp_path / "meit-ecg").exists()


@pytest.mark.parametrize("job", [["--shard", "1/2"], ["--merge"]])
@pytest.mark.parametrize("option", [["--translate", "a/model"], ["--download"]])
def test_what_one_job_must_do_is_refused_to_several(job, option, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["ptb-xl", "--data-dir", str(tmp_path), "--output", str(tmp_path / "meit-ecg"), *job, *option])
    assert f"{option[0]}: not allowed with --shard or --merge" in capsys.readouterr().err


def test_a_missing_reports_csv_is_an_error(small_ptb_xl, tmp_path, capsys, entry):
    arguments = ["ptb-xl", "--data-dir", str(small_ptb_xl(entry(1))), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--reports-csv", str(tmp_path / "none.csv")]) == 2
    assert "none.csv" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_an_error(mimic_of_60, tmp_path, capsys):
    (tmp_path / "out").write_text("")
    for more in ([], ["--shard", "1/2"], ["--merge"]):
        assert main(["mimic-iv-ecg", "--data-dir", str(mimic_of_60), "--output", str(tmp_path / "out"), *more]) == 2
        assert "out: a file; expected a folder" in capsys.readouterr().err


def test_ctrl_c_is_status_130(mimic_of_60, tmp_path, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "build_config", interrupt)
    assert main(["mimic-iv-ecg", "--data-dir", str(mimic_of_60), "--output", str(tmp_path / "out")]) == 130
    assert "The same command goes on" in capsys.readouterr().err


SIMULATED = ["simulated", "--output", "x"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["mitbih"],
        ["ptb-xl", "--output", "x"],
        ["mimic-iv-ecg", "--output", "x"],
        ["mimic-iv-ecg", "--output", "x", "--data-dir", "y", "--sampling-rate", "100"],
        ["ptb-xl", "--output", "x", "--data-dir", "y", "--sampling-rate", "250"],
        ["ptb-xl", "--output", "x", "--data-dir", "y", "--corpus-reports", "--reports-csv", "z"],
        ["ptb-xl", "--output", "x", "--data-dir", "y", "--corpus-reports", "--translate", "z"],
        [*SIMULATED, "--num-records", "0"],
        [*SIMULATED, "--seed", "-1"],
        [*SIMULATED, "--limit", "0"],
        [*SIMULATED, "--num-proc", "0"],
        [*SIMULATED, "--shard", "0/2"],
        [*SIMULATED, "--shard", "3/2"],
        [*SIMULATED, "--shard", "1"],
        [*SIMULATED, "--shard", "1/2/3"],
        [*SIMULATED, "--shard", "1/2", "--merge"],
        [*SIMULATED, "--download"],
    ],
)
def test_bad_options_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_it_runs_as_a_module(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dataset_builder", "ptb-xl", "--data-dir", str(tmp_path), "--output", "x"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("dataset_builder", run_name="__main__")
    assert caught.value.code == 2
    assert "holds no ptbxl_database.csv" in capsys.readouterr().err
