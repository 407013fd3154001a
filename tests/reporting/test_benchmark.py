"""The task `quality` on a trained adapter, from the command line."""

import json

import pytest

import run_benchmark
from reporting.benchmark import DRAFTS, FIGURES
from reporting.draft import ReportDrafter
from tests.training.tiny_run import record, run, write_backbone, write_dataset


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    rows = [record(number) for number in range(10)]
    dataset = write_dataset(folder / "dataset", train=rows, validation=rows[:2], test=rows)
    run(write_backbone(folder / "backbone"), dataset, folder / "model", save_strategy="no")
    return folder


def arguments(trained, output, *more):
    model, dataset = str(trained / "model"), str(trained / "dataset")
    options = ["--output", str(output), "--batch-size", "4", "--max-new-tokens", "6", *more]
    return ["--model", model, "--dataset", dataset, "--task", "quality", *options]


def test_quality_scores_both_choices_of_ecgs_and_goes_on_where_it_stopped(trained, tmp_path, capsys, monkeypatch):
    assert run_benchmark.main(arguments(trained, tmp_path)) == 0
    table = capsys.readouterr().out
    assert "10 records of 10 patients" in table
    assert "| BLEU-4 |" in table
    lines = (tmp_path / DRAFTS).read_text().splitlines()
    pairs = [(entry["id"], entry["ecg_of"]) for entry in map(json.loads, lines[1:])]
    assert len(pairs) == 20
    assert sum(own == shown for own, shown in pairs) == 10
    figures = json.loads((tmp_path / FIGURES).read_text())
    assert figures["records"] == 10
    right, other = (figures["figures"]["loss (nats per report)"][kind]["estimate"] for kind in ("right", "other"))
    assert right > 0
    assert right != other  # the losses were computed with other ECGs

    # Cut within the last line: that draft alone is made again.
    (tmp_path / DRAFTS).write_text("\n".join(lines)[:-3])
    drafted = []
    draft = ReportDrafter.draft

    def count(self, sources, **options):
        sources = list(sources)
        drafted.extend(sources)
        return draft(self, sources, **options)

    monkeypatch.setattr(ReportDrafter, "draft", count)
    assert run_benchmark.main(arguments(trained, tmp_path)) == 0
    assert len(drafted) == 1
    assert json.loads((tmp_path / FIGURES).read_text()) == figures

    assert run_benchmark.main(arguments(trained, tmp_path, "--max-new-tokens", "7")) == 1
    assert "made with other settings (max_new_tokens)" in capsys.readouterr().err

    # The same ids with other signals.
    rows = [record(number) | {"ecg": record(number + 2)["ecg"]} for number in range(10)]
    write_dataset(tmp_path / "dataset", test=rows)
    options = arguments(trained, tmp_path)
    options[options.index("--dataset") + 1] = str(tmp_path / "dataset")
    assert run_benchmark.main(options) == 1
    assert "made with other settings (ecgs)" in capsys.readouterr().err


def test_what_is_not_there_is_named(trained, tmp_path, capsys):
    options = arguments(trained, tmp_path)
    options[options.index("--model") + 1] = str(tmp_path / "absent")
    assert run_benchmark.main(options) == 1
    assert "absent" in capsys.readouterr().err
    assert run_benchmark.main(arguments(trained, tmp_path, "--split", "fold-10")) == 1
    assert "fold-10) cannot be loaded" in capsys.readouterr().err
