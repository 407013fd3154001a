import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import load_dataset
from datasets.exceptions import NonMatchingSplitsSizesError
from filelock import FileLock

from dataset_builder import simulated
from dataset_builder.dataset_folder import build_config
from dataset_builder.errors import DatasetBuildError
from dataset_builder.ptb_xl import PTBXL
from dataset_builder.simulated import Simulated

REPOSITORY = Path(__file__).parents[2]


def build_simulated(output: Path, **options: object) -> dict:
    return build_config(Simulated, "simulated", output, **{"num_records": 30, "seed": 0} | options)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_configs_built_one_by_one_add_up(small_ptb_xl, tmp_path, monkeypatch, entry):
    output = tmp_path / "meit-ecg"
    build_simulated(output)
    build_config(PTBXL, "ptb-xl", output, data_dir=str(small_ptb_xl(entry(1), entry(2, strat_fold=10))))
    monkeypatch.chdir(tmp_path)
    assert load_dataset("meit-ecg", "ptb-xl", split="test")["id"][:] == ["2"]
    assert set(load_dataset("meit-ecg", "simulated")) == {"train", "validation", "test"}
    # A split without records is left out.
    assert set(load_dataset("meit-ecg", "ptb-xl")) == {"train", "test"}

    card = (output / "README.md").read_text("utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    assert [config["config_name"] for config in head["configs"]] == ["ptb-xl", "simulated"]
    assert head["license"] == ["apache-2.0", "cc-by-4.0"]
    assert "Licence: cc-by-4.0" in card
    assert sorted(path.name for path in output.iterdir()) == ["README.md", "ptb-xl", "simulated"]


def test_the_same_build_is_the_same_bit_for_bit(tmp_path):
    build_simulated(tmp_path / "one")
    build_simulated(tmp_path / "two")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_rebuild_replaces_the_config_and_is_not_read_from_an_old_cache(tmp_path):
    """As many records as before, in the same place and under the same name: all that differs is their content."""
    output = tmp_path / "meit-ecg"
    build_simulated(output, seed=0)
    before = load_dataset(str(output), "simulated", split="train")["id"][:]
    report = build_simulated(output, seed=1)
    after = load_dataset(str(output), "simulated", split="train")["id"][:]
    assert json.loads((output / "simulated/build_report.json").read_text()) == report
    assert len(before) == len(after) == report["splits"]["train"]["records"]
    assert [record_id[:2] for record_id in (before[0], after[0])] == ["s0", "s1"]


def test_a_missing_shard_is_noticed(small_ptb_xl, tmp_path, entry):
    output = tmp_path / "meit-ecg"
    build_config(PTBXL, "ptb-xl", output, num_proc=2, data_dir=str(small_ptb_xl(entry(1), entry(2))))
    (output / "ptb-xl/train-00001-of-00002.parquet").unlink()
    with pytest.raises(NonMatchingSplitsSizesError):
        load_dataset(str(output), "ptb-xl", split="train")


def test_the_report_names_each_shard(tmp_path):
    report = build_simulated(tmp_path)
    for counts in report["splits"].values():
        for shard in counts["shards"]:
            content = (tmp_path / "simulated" / shard["file"]).read_bytes()
            assert (shard["bytes"], shard["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_a_build_that_breaks_off_leaves_what_was_there(tmp_path, monkeypatch):
    output = tmp_path / "meit-ecg"
    build_simulated(output)
    before = files_of(output)
    good = simulated.simulated_record

    def breaks_off(seed: int, index: int, plain: bool) -> dict:
        if index == 20:
            raise RuntimeError("the disk is gone")
        return good(seed, index, plain)

    monkeypatch.setattr(simulated, "simulated_record", breaks_off)
    with pytest.raises(DatasetBuildError, match="the disk is gone"):
        build_simulated(output, seed=1)
    assert files_of(output) == before
    with pytest.raises(DatasetBuildError, match="the disk is gone"):
        build_simulated(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_killed_build_leaves_nothing_that_loads_and_the_next_one_cleans_up(tmp_path):
    output = tmp_path / "meit-ecg"
    build_simulated(output)
    before = files_of(output)
    script = (
        "import os, sys; from dataset_builder import simulated; from dataset_builder.cli import main\n"
        "good = simulated.simulated_record\n"
        "simulated.simulated_record = lambda *args: os._exit(9) if args[1] == 250 else good(*args)\n"
        f"main(['simulated', '--output', {str(output)!r}, '--num-records', '300'])"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    killed = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, env=environment, capture_output=True)
    assert killed.returncode == 9, killed.stderr.decode()
    after = files_of(output)
    assert {name: content for name, content in after.items() if not name.startswith(".building")} == before
    assert any(name.startswith(".building") for name in after)
    assert len(load_dataset(str(output), "simulated", split="train")) > 0
    build_simulated(output)
    assert files_of(output) == before


def test_one_build_of_a_config_at_a_time(tmp_path):
    output = tmp_path / "meit-ecg"
    (output / ".building").mkdir(parents=True)
    with (
        FileLock(output / ".building" / "simulated.lock"),
        pytest.raises(DatasetBuildError, match="another build of simulated"),
    ):
        build_simulated(output)


def test_what_no_build_wrote_is_not_replaced(small_ptb_xl, tmp_path, entry):
    """The corpus' own folder may be called ptb-xl too, and a README may be somebody's work."""
    corpus = small_ptb_xl(entry(1)).rename(tmp_path / "ptb-xl")
    with pytest.raises(DatasetBuildError, match="not written by a build"):
        build_config(PTBXL, "ptb-xl", tmp_path, data_dir=str(corpus))
    assert (corpus / "ptbxl_database.csv").is_file()

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/README.md").write_text("my own words")
    with pytest.raises(DatasetBuildError, match="not a card that a build wrote"):
        build_simulated(tmp_path / "mine")
    assert files_of(tmp_path / "mine") == {"README.md": b"my own words"}

    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetBuildError, match="a file; expected a folder"):
        build_simulated(tmp_path / "file")


def test_no_usable_record_is_an_error(small_ptb_xl, tmp_path, entry):
    folder = small_ptb_xl(entry(1, report=""), entry(2))
    (folder / "records500/00000/00002_hr.dat").unlink()
    with pytest.raises(DatasetBuildError, match="no record is usable.*empty report.*unreadable recording"):
        build_config(PTBXL, "ptb-xl", tmp_path / "meit-ecg", data_dir=str(folder))
    assert not (tmp_path / "meit-ecg").exists()


@pytest.mark.parametrize("damaged", ["{", "[]", '{"config": "ptb-xl"}'])
def test_a_damaged_report_of_another_config_stops_a_build_before_it_changes_anything(tmp_path, damaged):
    output = tmp_path / "meit-ecg"
    build_simulated(output)
    other = output / "ptb-xl/build_report.json"
    other.parent.mkdir()
    other.write_text(damaged)
    before = files_of(output)
    with pytest.raises(DatasetBuildError, match=f"{other}: not a build report"):
        build_simulated(output, seed=1)
    assert files_of(output) == before


def test_a_damaged_report_of_the_config_itself_is_replaced(tmp_path):
    report = build_simulated(tmp_path)
    (tmp_path / "simulated/build_report.json").write_text("{")
    assert build_simulated(tmp_path) == report
