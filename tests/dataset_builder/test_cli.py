import runpy
import sys

import pytest
from datasets import load_dataset

from dataset_builder.cli import main


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
    assert f"English reports: {folder / 'ptbxl_reports_en.csv'}" in printed
    assert load_dataset(str(output), "ptb-xl", split="test")["report"][:] == ["atrial flutter"]

    assert main(["ptb-xl", "--data-dir", str(folder), "--output", str(output), "--corpus-reports"]) == 0
    assert load_dataset(str(output), "ptb-xl", split="test")["report"][:] == ["sinusrhythmus normales ekg"]


def test_simulated(tmp_path, capsys):
    output = tmp_path / "meit-ecg"
    assert main(["simulated", "--output", str(output), "--num-records", "30", "--seed", "1", "--limit", "4"]) == 0
    printed = capsys.readouterr().out
    assert "train: 4 records" in printed
    assert "Limited to 4 records per split." in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ptb-xl", "--data-dir", "nowhere"], "nowhere: no such folder"),
        (["ptb-xl", "--data-dir", "empty"], "holds no ptbxl_database.csv"),
        (["ptb-xl", "--data-dir", "empty", "--reports-csv", "none.csv"], "holds no ptbxl_database.csv"),
    ],
)
def test_bad_input_is_a_message_and_exit_code_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main([*arguments, "--output", "meit-ecg"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Wrote" not in captured.out
    assert not (tmp_path / "meit-ecg").exists()


def test_a_missing_reports_csv_is_an_error(small_ptb_xl, tmp_path, capsys, entry):
    arguments = ["ptb-xl", "--data-dir", str(small_ptb_xl(entry(1))), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--reports-csv", str(tmp_path / "none.csv")]) == 2
    assert "none.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["mitbih"], ["ptb-xl", "--output", "x"], ["simulated", "--output", "x", "--num-records", "0"],
     ["simulated", "--output", "x", "--seed", "-1"], ["simulated", "--output", "x", "--limit", "0"]],
)  # fmt: skip
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
