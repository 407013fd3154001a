"""The metric as it would be published: it loads from its own files alone."""

import json
import re
import shutil
from pathlib import Path

import pytest
from evaluate.loading import get_imports

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
scores = metric.compute(predictions=["sinus rhythm."], references=["Sinus rhythm. Normal ECG."], meteor=False)
print(json.dumps(scores))
"""


def test_the_published_metric_needs_nothing_of_ours(tmp_path):
    upload = prepare_metric(METRIC, REPO)
    assert upload.repo_type == "space"
    files = contents(upload)
    assert {"app.py", "README.md", "requirements.txt", "report_metrics.py", "text_metrics.py"} <= set(files)
    stage(upload.files, tmp_path / "report_metrics")
    python = make_clean_environment(tmp_path / "environment", ("evaluate", "nltk", "sacrebleu", "numpy"))
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    module = str(tmp_path / "report_metrics" / "report_metrics.py")
    variables = {"HF_EVALUATE_OFFLINE": "1"}
    done = run_clean(python, tmp_path / "script.py", module, folder=tmp_path, timeout=120, variables=variables)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["bleu_1"] == pytest.approx(2.718281828 ** (1 - 6 / 3))


def test_the_published_module_names_every_file_that_it_needs(tmp_path):
    """`evaluate` fetches the files that a line of the module itself imports from, and no others."""
    files = contents(prepare_metric(METRIC, REPO))
    (tmp_path / "module.py").write_bytes(files["report_metrics.py"])
    fetched = {f"{name}.py" for kind, name, _, _ in get_imports(str(tmp_path / "module.py")) if kind == "internal"}
    assert fetched == {name for name in files if name.endswith(".py")} - {"app.py", "report_metrics.py"}
    imported = {name for source in files.values() for name in re.findall(rb"^from \.(\w+) import", source, re.M)}
    assert fetched == {f"{name.decode()}.py" for name in imported}


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
