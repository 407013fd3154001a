"""The benchmark from the command line, on a tiny adapter: every task, going on after a kill, bad input."""

import csv
import json

import datasets
import pytest

import run_benchmark
from dataset_builder.columns import features
from evaluation.noise import PERTURBATIONS, Perturbation
from reporting.draft import ReportDrafter
from tasks import noise
from tasks.results import RESULTS, TABLES
from tests.training.tiny_run import record, write_dataset


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def results_in(folder):
    return json.loads((folder / RESULTS).read_text())


def test_quality_scores_every_choice_of_ecgs_and_goes_on_where_it_stopped(trained, arguments, tmp_path, monkeypatch):
    assert run_benchmark.main(arguments(tmp_path)) == 0
    results = results_in(tmp_path)
    task = results["tasks"]["quality/ptb-xl"]
    model, frequent, nearest, alone = task["systems"].values()
    assert (task["data"]["records"], task["data"]["patients"]) == (10, 10)

    # The model saw other ECGs where it should: its losses differ.
    loss = model["figures"]["loss (nats per report)"]
    assert len({loss[shown]["estimate"] for shown in ("right", "other", "flat")}) == 3
    drafts = lines_of(tmp_path / "drafts" / "ptb-xl" / "model" / "draft.jsonl")[1:]
    assert len(drafts) == 30
    assert sum(draft["id"] == draft["ecg_of"] for draft in drafts) == 10
    assert sum(draft["ecg_of"] == "flat" for draft in drafts) == 10

    # Each record is its own nearest neighbour here, and a patient's right ECG gives the right report.
    assert nearest["figures"]["ROUGE-L"]["right"]["estimate"] == 1
    assert nearest["figures"]["hallucination rate"]["right"]["estimate"] == 0
    # What says the same whatever it is shown has no gap, and is marked.
    for blind in (frequent, alone):
        for figure in blind["figures"].values():
            if figure["right"]["low"] is not None:
                assert figure["gap_other"] == figure["gap_flat"] == {"estimate": 0, "low": 0, "high": 0}
        assert blind["reads_the_ecg"] is False
    assert frequent["distinct_drafts"] == 1
    lines = lines_of(tmp_path / "quality-ptb-xl" / "records.jsonl")
    assert len(lines) == 4 * 3 * 10
    assert (tmp_path / "quality-ptb-xl" / "errors.html").stat().st_size > 1000
    assert "ROUGE-L" in (tmp_path / TABLES).read_text()

    # Cut within the last line: that draft alone is made again.
    path = tmp_path / "drafts" / "ptb-xl" / "model" / "draft.jsonl"
    path.write_text(path.read_text()[:-3])
    made = []
    draft_values = ReportDrafter.draft_values

    def count(self, ecg_values, *rest, **options):
        made.append(len(ecg_values))
        return draft_values(self, ecg_values, *rest, **options)

    monkeypatch.setattr(ReportDrafter, "draft_values", count)
    assert run_benchmark.main(arguments(tmp_path)) == 0
    assert made == [1]
    assert results_in(tmp_path)["tasks"]["quality/ptb-xl"]["systems"] == task["systems"]


def test_results_do_not_depend_on_the_batch_size(arguments, tmp_path):
    systems = []
    for size in ("1", "7"):
        folder = tmp_path / size
        assert run_benchmark.main(arguments(folder, "--batch-size", size, "--no-baselines")) == 0
        (system,) = results_in(folder)["tasks"]["quality/ptb-xl"]["systems"].values()
        drafts = {
            (line["id"], line["ecg_of"]): line["draft"]
            for line in lines_of(folder / "drafts" / "ptb-xl" / "model" / "draft.jsonl")[1:]
        }
        systems.append((system, drafts))
    (one, one_drafts), (seven, seven_drafts) = systems
    assert one_drafts == seven_drafts
    for name, figure in one["figures"].items():
        assert seven["figures"][name]["right"]["estimate"] == pytest.approx(figure["right"]["estimate"], abs=1e-5)


def test_all_four_tasks_run_from_one_command(arguments, tmp_path, capsys, monkeypatch):
    some = {"white_window 0.05", "muscle 0 dB", "limb-lead swap"}
    monkeypatch.setattr(noise, "PERTURBATIONS", [one for one in PERTURBATIONS if one.name in some])
    options = ["--task", "all", "--raters", "ann", "ben", "--rated-records", "2"]
    assert run_benchmark.main(arguments(tmp_path, *options)) == 0
    tasks = results_in(tmp_path)["tasks"]
    assert list(tasks) == ["quality/ptb-xl", "zero_shot/mimic-iv-ecg", "noise/ptb-xl", "expert/ptb-xl"]
    assert tasks["zero_shot/mimic-iv-ecg"]["trained_on"] == "ptb-xl"
    assert "most frequent report, ptb-xl" in tasks["zero_shot/mimic-iv-ecg"]["systems"]
    conditions = tasks["noise/ptb-xl"]["conditions"]
    assert len(conditions) == 2  # the model, and the neighbour that reads ECGs too
    for of in conditions.values():
        assert set(of) == {"right"} | some
    assert len(list((tmp_path / "noise-ptb-xl").glob("*.png"))) == 2
    assert tasks["expert/ptb-xl"]["expert"]["validated_statements"]["records"] == 10
    sheets = tmp_path / "expert-ptb-xl" / "sheets"
    assert {path.name for path in sheets.iterdir()} >= {"ann.csv", "ann.html", "ben.csv", "ben.html"}
    printed = capsys.readouterr().out
    assert "zero\\_shot/mimic-iv-ecg" in printed
    assert "### expert/ptb-xl" in printed

    # Later, one rater has filled a sheet.
    with (sheets / "ann.csv").open(encoding="utf-8-sig", newline="") as sheet:
        rows = list(csv.DictReader(sheet))
    filled = tmp_path / "filled"
    filled.mkdir()
    with (filled / "ann.csv").open("w", encoding="utf-8", newline="") as sheet:
        writer = csv.DictWriter(sheet, rows[0])
        writer.writeheader()
        writer.writerows(row | {"terminology": 3, "logic": 4, "completeness": 2, "diagnosis": 5} for row in rows)
    assert run_benchmark.main(arguments(tmp_path, "--task", "expert", *options[2:], "--ratings", str(filled))) == 0
    tasks = results_in(tmp_path)["tasks"]
    assert len(tasks) == 4  # the others are kept
    scores = tasks["expert/ptb-xl"]["expert"]["ratings"]["scores"]
    assert all(
        of["logic"]["mean"]["estimate"] == 4 and of["diagnosis"]["mean"]["estimate"] == 5 for of in scores.values()
    )


def test_other_settings_in_the_same_folder_are_refused(trained, arguments, tmp_path, capsys):
    alone = ["--no-baselines"]
    assert run_benchmark.main(arguments(tmp_path, *alone)) == 0
    assert run_benchmark.main(arguments(tmp_path, *alone, "--max-new-tokens", "7")) == 1
    assert "made with other settings (max_new_tokens)" in capsys.readouterr().err

    # The same ids with other signals.
    rows = [record(number) | {"ecg": record(number + 2)["ecg"]} for number in range(10)]
    write_dataset(tmp_path / "dataset", test=rows)
    options = arguments(tmp_path, *alone, "--dataset-config", "default")
    options[options.index("--dataset") + 1] = str(tmp_path / "dataset")
    (tmp_path / "drafts" / "default").symlink_to(tmp_path / "drafts" / "ptb-xl")
    assert run_benchmark.main(options) == 1
    assert "made with other settings (data)" in capsys.readouterr().err


def test_records_that_cannot_be_scored_are_left_out_and_counted(trained, arguments, tmp_path):
    rows = [record(number) for number in range(10)]
    rows[3]["ecg"] = rows[3]["ecg"] * 0
    rows[4]["report"] = "  "
    rows[5]["report"] = "Le rythme est sinusal et il n'y a pas d'anomalie du tracé"
    write_dataset(tmp_path / "dataset", test=rows)
    options = arguments(tmp_path / "out", "--no-baselines")
    options[options.index("--dataset") + 1] = str(tmp_path / "dataset")
    assert run_benchmark.main(options) == 0
    task = results_in(tmp_path / "out")["tasks"]["quality/default"]
    assert task["data"]["records"] == 8
    assert task["data"]["left_out"] == {"no report": 1, "ECG: every lead is constant": 1}
    (system,) = task["systems"].values()
    assert system["not_read"]["references"] == 1


def test_a_dataset_without_a_training_split_is_measured_without_baselines(arguments, tmp_path, capsys):
    write_dataset(tmp_path / "dataset", test=[record(1), record(2)])
    options = arguments(tmp_path / "out")
    options[options.index("--dataset") + 1] = str(tmp_path / "dataset")
    assert run_benchmark.main(options) == 1
    assert "two baselines need training reports, --no-baselines does not" in capsys.readouterr().err
    assert run_benchmark.main([*options, "--no-baselines"]) == 0


def test_one_patient_alone_is_measured_and_it_is_said_that_no_ecgs_were_exchanged(arguments, tmp_path, capsys):
    assert run_benchmark.main(arguments(tmp_path, "--limit", "1", "--no-baselines")) == 0
    assert "note: ptb-xl: ECGs were not exchanged between patients: one patient has 1 of 1" in capsys.readouterr().out
    (system,) = results_in(tmp_path)["tasks"]["quality/ptb-xl"]["systems"].values()
    assert system["reads_the_ecg"] is None
    assert system["figures"]["ROUGE-L"]["gap_other"] is None
    assert system["figures"]["ROUGE-L"]["gap_flat"] is not None


def test_noise_that_a_sampling_rate_cannot_hold_is_left_out_and_noted(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(noise, "PERTURBATIONS", [Perturbation("muscle", 0), Perturbation("mains 50 Hz", 0)])
    rows = [record(number) for number in range(3)]
    rows = [row | {"ecg": row["ecg"][:, ::5], "sampling_rate": 100.0} for row in rows]
    columns = datasets.Features.from_dict(features(1000))
    rows = [dict.fromkeys(columns) | row for row in rows]
    (tmp_path / "dataset").mkdir()
    datasets.Dataset.from_list(rows, features=columns).to_parquet(tmp_path / "dataset" / "test.parquet")
    options = arguments(tmp_path / "out", "--no-baselines", "--task", "noise")
    options[options.index("--dataset") + 1] = str(tmp_path / "dataset")
    assert run_benchmark.main(options) == 0
    results = results_in(tmp_path / "out")
    assert results["notes"] == ["default: mains 50 Hz 0 dB left out at 100 Hz"]
    (conditions,) = results["tasks"]["noise/default"]["conditions"].values()
    assert list(conditions) == ["right", "muscle 0 dB"]


def test_another_seed_in_the_same_folder_draws_other_noise_and_drops_the_earlier_figures(
    arguments, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(noise, "PERTURBATIONS", [Perturbation("muscle", 0)])
    options = ["--no-baselines", "--task", "noise"]
    assert run_benchmark.main(arguments(tmp_path / "twice", "--no-baselines")) == 0
    assert run_benchmark.main(arguments(tmp_path / "twice", *options)) == 0
    assert len(results_in(tmp_path / "twice")["tasks"]) == 2
    for name in ("twice", "once"):
        assert run_benchmark.main(arguments(tmp_path / name, *options, "--seed", "1")) == 0
        warned = "warning: quality/ptb-xl, noise/ptb-xl of other settings" in capsys.readouterr().err
        assert warned == (name == "twice")
    twice, once = (results_in(tmp_path / name)["tasks"]["noise/ptb-xl"] for name in ("twice", "once"))
    assert twice["conditions"] == once["conditions"]
    keys = {line["ecg_of"] for line in lines_of(tmp_path / "twice/drafts/ptb-xl/model/draft.jsonl")[1:]}
    assert {"synthetic-0 muscle 0 dB, seed 0", "synthetic-0 muscle 0 dB, seed 1"} <= keys


def test_nothing_that_is_written_says_where_the_model_lies(arguments, trained, tmp_path):
    assert run_benchmark.main(arguments(tmp_path, "--no-baselines", "--text-model", str(trained / "backbone"))) == 0
    results = results_in(tmp_path)
    del results["command"]  # as it was typed
    system = results["tasks"]["quality/ptb-xl"]["systems"]["model"]
    assert (system["model"]["name"], system["text_model"]) == ("model", "backbone")
    written = [path.read_text() for path in tmp_path.rglob("*") if path.suffix in (".jsonl", ".html")]
    assert not [text for text in (json.dumps(results), *written) if str(trained) in text]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--judge", "x"], "--judge and --ratings are of --task expert"),
        (["--ratings", "x"], "--judge and --ratings are of --task expert"),
        (["--bertscore-layer", "2"], "--bertscore-layer needs --bertscore"),
        (["--task", "expert", "--judge-url", "http://127.0.0.1/v1"], "--judge-url needs --judge"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(arguments, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit, match="2"):
        run_benchmark.main(arguments(tmp_path, *options))
    assert message in capsys.readouterr().err


def test_an_encoder_that_cannot_be_had_is_said_before_anything_is_drafted(arguments, tmp_path, capsys):
    assert run_benchmark.main(arguments(tmp_path / "out", "--bertscore", str(tmp_path / "absent"))) == 1
    assert "BERTScore needs bert-score" in (said := capsys.readouterr().err) or "absent" in said
    assert not (tmp_path / "out").exists()


def test_ratings_that_are_not_there_are_said_before_anything_is_drafted(arguments, tmp_path, capsys):
    absent = str(tmp_path / "absent")
    assert run_benchmark.main(arguments(tmp_path / "out", "--task", "expert", "--ratings", absent)) == 1
    assert f"--ratings {absent}: no such folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ids_that_occur_twice_are_refused(arguments, tmp_path, capsys):
    write_dataset(tmp_path / "dataset", test=[record(1), record(2), record(1)])
    options = arguments(tmp_path / "out", "--no-baselines")
    options[options.index("--dataset") + 1] = str(tmp_path / "dataset")
    assert run_benchmark.main(options) == 1
    assert "1 ids occur more than once, such as ['synthetic-1']" in capsys.readouterr().err


def test_what_is_not_there_is_named(arguments, tmp_path, capsys):
    options = arguments(tmp_path)
    options[options.index("--model") + 1] = str(tmp_path / "absent")
    assert run_benchmark.main(options) == 1
    assert "absent" in capsys.readouterr().err
    assert run_benchmark.main(arguments(tmp_path, "--split", "fold-10")) == 1
    assert "fold-10) cannot be loaded" in capsys.readouterr().err
    assert run_benchmark.main(arguments(tmp_path, "--dataset-config", "absent")) == 1
    assert "no config 'absent'; found ptb-xl, mimic-iv-ecg" in capsys.readouterr().err
    without_meteor = arguments(tmp_path, "--wordnet", str(tmp_path))
    without_meteor.remove("--no-meteor")
    assert run_benchmark.main(without_meteor) == 1
    assert "WordNet" in capsys.readouterr().err
