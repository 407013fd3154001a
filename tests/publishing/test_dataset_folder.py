"""What of a dataset folder would be published, and what is refused."""

import hashlib
import shutil

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard

from dataset_builder.cli import main as build
from publishing.dataset_folder import prepare_dataset
from publishing.loading_check import stage

from .folders import REPO, contents, read_json, refusal, write_json


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    output = tmp_path_factory.mktemp("built") / "meit-ecg"
    assert build(["simulated", "--output", str(output), "--num-records", "20", "--limit", "3"]) == 0
    return output


@pytest.fixture
def dataset(built, tmp_path):
    return shutil.copytree(built, tmp_path / "meit-ecg")


def shard_of(dataset):
    return next((dataset / "simulated").glob("train-*.parquet"))


def test_what_the_build_wrote_goes_up_and_nothing_else(dataset):
    (dataset / "notes.txt").write_text("mine", encoding="utf-8")
    (dataset / "simulated" / "00001_hr.dat").write_bytes(b"\0")
    upload = prepare_dataset(dataset, REPO)
    expected = {path.relative_to(dataset).as_posix() for path in (dataset / "simulated").glob("*.parquet")}
    expected |= {"README.md", "simulated/build_report.json", "simulated/croissant.json"}
    assert set(contents(upload)) == expected
    assert {("notes.txt", "not of the build"), ("simulated/00001_hr.dat", "not of the build")} <= set(upload.left_out)
    assert (upload.repo_type, upload.replaces) == ("dataset", ("simulated/*",))


def test_the_published_files_load_as_the_folder_does(dataset, tmp_path):
    upload = prepare_dataset(dataset, REPO)
    stage(upload.files, tmp_path / "staged" / "meit-ecg")
    rows = load_dataset(str(tmp_path / "staged" / "meit-ecg"), "simulated", split="train")
    assert rows["id"][:] == load_dataset(str(dataset), "simulated", split="train")["id"][:]
    assert DatasetCard(contents(upload)["README.md"].decode()).data.license == ["apache-2.0"]


def test_another_shard_than_the_built_one_is_refused(dataset):
    path = shard_of(dataset)
    pq.write_table(pq.read_table(path).slice(0, 1), path)
    assert f"simulated/{path.name}: not the shard that the build wrote" in refusal(dataset, prepare_dataset)
    path.unlink()
    assert f"simulated/{path.name} is missing" in refusal(dataset, prepare_dataset)


def test_a_folder_that_no_build_wrote_is_refused(tmp_path):
    assert "not a folder that `meit-ecg build` wrote" in refusal(tmp_path, prepare_dataset)


def test_a_card_that_does_not_speak_of_a_config_is_refused(dataset):
    shutil.copytree(dataset / "simulated", dataset / "another")
    assert "README.md describes the configs ['simulated'], and the folder holds ['another', 'simulated']" in refusal(
        dataset, prepare_dataset
    )
    (dataset / "README.md").write_text("# no metadata\n", encoding="utf-8")
    assert "README.md: not a card that a build wrote" in refusal(dataset, prepare_dataset)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": {"licence": "unknown"}}, "licence 'unknown'; expected one of"),
        ({"source": {"licence": "odbl"}}, "the licence of simulated, odbl, is not among ['apache-2.0']"),
        ({"format_version": 1}, "format 1, expected"),
        ({"splits": {"train": {"shards": [{"file": "../x"}]}}}, "a shard named '../x'"),
        ({"splits": None}, "not a build report"),
        ({"packages": {"from": "/home/me/wheels"}}, "packages.from is a path of this machine"),
    ],
)
def test_a_build_report_that_cannot_be_true_is_refused(dataset, change, words):
    path = dataset / "simulated" / "build_report.json"
    report = read_json(path)
    write_json(path, report | {k: report[k] | v if k == "source" else v for k, v in change.items()})
    assert words in refusal(dataset, prepare_dataset)


def test_a_local_path_in_a_schema_is_refused(dataset):
    path = shard_of(dataset)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"from": "taken from /home/me/ecg"}), path)
    report = read_json(dataset / "simulated" / "build_report.json")
    for shard in report["splits"]["train"]["shards"]:
        shard["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(dataset / "simulated" / "build_report.json", report)
    assert "the schema's from holds a path of this machine" in refusal(dataset, prepare_dataset)
