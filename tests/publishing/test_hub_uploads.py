"""Datasets and the metric through the test Hub; pushes that are broken off, and a Hub that refuses."""

import json

import pytest

import push_to_hub
from dataset_builder.cli import main as build
from tests.conftest import REPOSITORY
from tests.hub.hub import READ_TOKEN, WRITE_TOKEN
from tests.hub.server import serve_hub
from tests.hub.visit import visit
from tests.training.tiny_run import write_backbone

from .hub_process import start, succeed

DATASET, METRIC = "lab/meit-ecg", "lab/report_metrics"
METRIC_FOLDER = str(REPOSITORY / "evaluation" / "report_metrics")


PUSH = "import sys, push_to_hub; sys.exit(push_to_hub.main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What `meit-ecg build simulated` wrote."""
    folder = tmp_path_factory.mktemp("build") / "meit-ecg"
    assert build(["simulated", "--output", str(folder), "--num-records", "20", "--seed", "1"]) == 0
    return folder


@pytest.fixture(scope="module")
def pushed(folder):
    """A Hub with that dataset."""
    with serve_hub() as hub:
        with pytest.MonkeyPatch.context() as monkeypatch:
            visit(hub, monkeypatch)
            assert push_to_hub.main([str(folder), DATASET]) == 0
        yield hub


@pytest.fixture
def hub(monkeypatch):
    """An empty Hub, which this process may write to."""
    with serve_hub() as hub:
        visit(hub, monkeypatch)
        yield hub


COMPARE = """
import sys
from datasets import load_dataset

repo_id, folder = sys.argv[1:]
for split in ("train", "validation", "test"):
    local = list(load_dataset(folder, "simulated", split=split))
    assert list(load_dataset(repo_id, "simulated", split=split)) == local, split
    assert list(load_dataset(repo_id, "simulated", split=split, streaming=True)) == local, split
    print(len(local))
"""


def test_the_dataset_loads_by_its_name(pushed, folder, tmp_path):
    sizes = [int(line) for line in succeed(COMPARE, pushed, tmp_path, DATASET, folder).split()]
    assert sum(sizes) == 20
    assert min(sizes) > 0
    assert any("GET /datasets/lab/meit-ecg/resolve/" in request for request in pushed.requests)


def test_a_push_that_would_hide_a_config_of_the_repository_is_refused(hub, folder, capsys):
    hub.create(DATASET, "datasets")
    before = hub.commit(DATASET, {"mimic-iv-ecg/build_report.json": b"{}"}, kind="datasets").sha
    assert push_to_hub.main([str(folder), DATASET]) == 1
    assert "holds mimic-iv-ecg/build_report.json, of which the new card would no longer" in capsys.readouterr().err
    assert hub.repository(DATASET, "datasets").head.sha == before


def test_a_private_upload_makes_a_private_repository_or_none(hub, folder, capsys):
    hub.create(DATASET, "datasets")
    before = hub.repository(DATASET, "datasets").head.sha
    assert push_to_hub.main([str(folder), DATASET, "--private"]) == 1
    assert "is public already" in capsys.readouterr().err
    assert hub.repository(DATASET, "datasets").head.sha == before
    assert push_to_hub.main([str(folder), "lab/another", "--private"]) == 0
    assert hub.repository("lab/another", "datasets").is_private


@pytest.mark.slow  # half a minute where other tests run beside it
def test_training_reads_it_by_its_name(pushed, tmp_path):
    backbone = write_backbone(tmp_path / "tiny-llama")
    settings = {
        "text_model": backbone, "text_model_id": "lab/tiny-llama", "dataset": DATASET, "dataset_config": "simulated",
        "eval_split": "validation", "output_dir": tmp_path / "run", "max_steps": 1, "per_device_train_batch_size": 2,
        "bf16": "false", "use_cpu": "true", "lora_r": 4,
    }  # fmt: skip
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    train = "import sys, train_sft; sys.exit(train_sft.main(sys.argv[1:]))"
    succeed(train, pushed, tmp_path / "home", *options, "--encoder_widths", "8", "8", "16", "16")
    assert (tmp_path / "run" / "adapter_model.safetensors").is_file()
    run_record = json.loads((tmp_path / "run" / "training_run.json").read_text())
    assert DATASET in json.dumps(run_record["data"])


def test_the_metric_loads_by_its_name(hub, tmp_path):
    assert push_to_hub.main([METRIC_FOLDER, METRIC]) == 0
    script = """
import sys
import evaluate
metric = evaluate.load("lab/report_metrics", module_type="metric")
print(metric.compute(predictions=["sinus rhythm normal ecg"], references=["sinus rhythm normal ecg"])["bleu_4"])
assert "evaluation" not in sys.modules, "what the metric needs is to come from the Hub"
"""
    assert float(succeed(script, hub, tmp_path).split()[-1]) == pytest.approx(1)


@pytest.mark.parametrize("moment", [r"PUT /[0-9a-f]{64}", r"POST /api/datasets/lab/meit-ecg/commit/"])
def test_a_push_that_is_killed_changes_nothing_and_can_be_repeated(hub, folder, tmp_path, moment):
    hub.create(DATASET, "datasets")
    before = hub.commit(DATASET, {"README.md": b"of an earlier push"}, kind="datasets").sha
    held = hub.hold(moment)
    with start(PUSH, hub, tmp_path, folder, DATASET) as process:
        was_reached = held.reached.wait(120)
        process.kill()
        assert was_reached, process.communicate()
    hub.mend()
    assert hub.repository(DATASET, "datasets").head.sha == before
    assert push_to_hub.main([str(folder), DATASET]) == 0
    files = hub.contents(DATASET, "datasets")
    assert files["README.md"] == (folder / "README.md").read_bytes()
    for path in (folder / "simulated").glob("*.parquet"):
        assert files[f"simulated/{path.name}"] == path.read_bytes()


def test_a_connection_that_breaks_during_an_upload_is_taken_up_again(hub, folder):
    broken = hub.cut(r"PUT /[0-9a-f]{64}", times=1)
    assert push_to_hub.main([str(folder), DATASET]) == 0
    assert broken.reached.is_set()
    shards = sorted((folder / "simulated").glob("*.parquet"))
    files = hub.contents(DATASET, "datasets")
    assert [files[f"simulated/{shard.name}"] for shard in shards] == [shard.read_bytes() for shard in shards]


@pytest.mark.parametrize(
    ("token", "fault", "words"),
    [
        (READ_TOKEN, None, "403"),
        (None, None, "401"),
        (WRITE_TOKEN, "cut", "cannot be reached"),
        (WRITE_TOKEN, "fail", "500"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub, monkeypatch, capsys, token, fault, words):
    visit(hub, monkeypatch, token)
    if fault is not None:
        getattr(hub, fault)("POST .*/commit/")
    assert push_to_hub.main([METRIC_FOLDER, METRIC]) == 1
    [told] = capsys.readouterr().err.splitlines()
    assert told.startswith(f"error: {METRIC}: ")
    assert words in told
    assert hub.repositories == {} or hub.contents(METRIC, "spaces") == {}
