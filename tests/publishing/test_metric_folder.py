"""The metric as it would be published: it loads from its own files alone."""

import json
import shutil
from pathlib import Path

import pytest

from publishing.clean_environment import make_clean_environment, run_clean
from publishing.loading_check import stage
from publishing.metric_folder import prepare_metric

from .folders import contents, refusal

ROOT = Path(__file__).resolve().parents[2]
METRIC = ROOT / "evaluation" / "report_metrics"
REPO = "some-lab/report_metrics"
SCRIPT = """
import importlib.util, json, sys
import evaluate
assert importlib.util.find_spec("evaluation") is None
metric = evaluate.load(sys.argv[1])
print(json.dumps(metric.compute(predictions=["sinus rhythm."], references=["Sinus rhythm. Normal ECG."])))
"""


def test_the_published_metric_needs_nothing_of_ours(tmp_path):
    upload = prepare_metric(METRIC, REPO)
    assert upload.repo_type == "space"
    assert set(contents(upload)) == {
        "app.py", "README.md", "requirements.txt", "report_metrics.py", "text_metrics.py"
    }  # fmt: skip
    stage(upload.files, tmp_path / "report_metrics")
    python = make_clean_environment(tmp_path / "environment", ("evaluate", "rouge_score", "sacrebleu", "numpy"))
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    module = str(tmp_path / "report_metrics" / "report_metrics.py")
    variables = {"HF_EVALUATE_OFFLINE": "1"}
    done = run_clean(python, tmp_path / "script.py", module, folder=tmp_path, timeout=120, variables=variables)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["bleu_1"] == pytest.approx(2.718281828 ** (1 - 6 / 3))


def test_the_repository_has_the_name_of_the_module():
    message = refusal(METRIC, prepare_metric, repo_id="some-lab/ecg-metrics")
    assert "evaluate looks for ecg-metrics.py in some-lab/ecg-metrics" in message


@pytest.mark.parametrize("name", ["report_metrics.py", "README.md", "requirements.txt", "app.py"])
def test_a_file_that_is_missing_is_named(tmp_path, name):
    folder = shutil.copytree(METRIC, tmp_path / "report_metrics")
    (folder / name).unlink()
    assert f"{name} is missing" in refusal(folder, prepare_metric, repo_id=REPO)


def test_a_local_path_in_the_module_is_refused(tmp_path):
    folder = shutil.copytree(METRIC, tmp_path / "report_metrics")
    with (folder / "report_metrics.py").open("a", encoding="utf-8") as file:
        file.write('\nCACHE = "/home/me/cache"\n')
    assert "report_metrics.py: line" in refusal(folder, prepare_metric, repo_id=REPO)
