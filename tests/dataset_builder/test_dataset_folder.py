"""The dataset folder: what builds put there, and how `load_dataset` reads it here, streaming and from the Hub."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import wfdb
import yaml
from datasets import load_dataset
from datasets.distributed import split_dataset_by_node
from datasets.exceptions import NonMatchingSplitsSizesError
from filelock import FileLock
from torch.utils.data import DataLoader

from dataset_builder import plan
from dataset_builder.build import build_config
from dataset_builder.errors import DatasetBuildError
from dataset_builder.simulated import Simulated
from tests.hub.server import serve_hub

REPOSITORY = Path(__file__).parents[2]
READ_FROM_HUB = """
import sys
from datasets import load_dataset
from dataset_builder.records import load_records
local, config = sys.argv[1:]
expected = load_dataset(local, config, split="test")
assert load_dataset("some-lab/meit-ecg", config, split="test")[:] == expected[:]
assert list(load_dataset("some-lab/meit-ecg", config, split="test", streaming=True)) == list(expected)
records, _ = load_records("some-lab/meit-ecg", config, "test")
assert records["id"][:] == expected["id"][:]
"""


def build_simulated(output: Path, num_records: int = 30, seed: int = 0) -> dict:
    return build_config(Simulated(num_records, seed), output)


@pytest.fixture
def three_configs(small_ptb_xl, entry, random_adc, write_recording, open_ptb_xl, mimic_of_60, open_mimic, tmp_path):
    """A folder of MIMIC-IV-ECG in shards of twenty, and of PTB-XL at both rates."""
    published = small_ptb_xl(
        *(entry(number, strat_fold=fold) for number, fold in enumerate([1, 8, 9, 10], start=1)),
    )
    output = tmp_path / "meit-ecg"
    build_config(open_ptb_xl(published), output)
    table = published / "ptbxl_database.csv"
    table.write_text(table.read_text().replace("filename_hr", "filename_lr").replace("records500", "records100"))
    for number in range(1, 5):
        name = f"records100/00000/{number:05d}_hr"
        write_recording(published, name, random_adc(number, 1000), sampling_rate=100)
    build_config(open_ptb_xl(published, 100.0), output)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "RECORDS_PER_SHARD", 20)
        build_config(open_mimic(mimic_of_60), output)
    return output


def test_configs_built_one_by_one_add_up(three_configs, tmp_path, monkeypatch):
    build_simulated(three_configs)
    monkeypatch.chdir(tmp_path)
    assert load_dataset("meit-ecg", "ptb-xl", split="test")["id"][:] == ["4"]
    found = {name: load_dataset("meit-ecg", name).num_rows for name in datasets.get_dataset_config_names("meit-ecg")}
    assert found == {
        "mimic-iv-ecg": {"train": 54, "validation": 2, "test": 4},
        "ptb-xl": {"train": 2, "validation": 1, "test": 1},
        "ptb-xl-100hz": {"train": 2, "validation": 1, "test": 1},
        "simulated": {"train": 24, "validation": 3, "test": 3},
    }
    expected = ["README.md", "mimic-iv-ecg", "ptb-xl", "ptb-xl-100hz", "simulated"]
    assert sorted(path.name for path in three_configs.iterdir()) == expected


def test_a_split_without_records_is_left_out(small_ptb_xl, open_ptb_xl, tmp_path, entry):
    build_config(open_ptb_xl(small_ptb_xl(entry(1), entry(2, strat_fold=10))), tmp_path / "meit-ecg")
    assert set(load_dataset(str(tmp_path / "meit-ecg"), "ptb-xl")) == {"train", "test"}


def test_the_card_keeps_licences_apart_and_explains_every_column(three_configs):
    card = (three_configs / "README.md").read_text("utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    assert [config["config_name"] for config in head["configs"]] == ["mimic-iv-ecg", "ptb-xl", "ptb-xl-100hz"]
    assert head["license"] == ["cc-by-4.0", "odbl"]
    assert "**Each config has its own licence**" in card
    odbl = "[odbl](https://spdx.org/licenses/ODbL-1.0.html)"
    cc_by = "[cc-by-4.0](https://spdx.org/licenses/CC-BY-4.0.html)"
    assert f"| `mimic-iv-ecg` | 60 | 12 x 5000 | {odbl} |\n" in card
    assert f"| `ptb-xl` | 4 | 12 x 5000 | {cc_by} |\n" in card
    assert f"| `ptb-xl-100hz` | 4 | 12 x 1000 | {cc_by} |\n" in card
    of_mimic, of_ptb_xl = card.split("\n## ptb-xl\n")
    assert [text in of_mimic for text in ("Licence: odbl, ", "share-alike", "Licence: cc-by")] == [True, True, False]
    assert [text in of_ptb_xl for text in ("Licence: odbl, ", "share-alike", "Licence: cc-by")] == [False, False, True]
    for column in load_dataset(str(three_configs), "ptb-xl", split="test").column_names:
        assert f"\n| `{column}` (" in card
    for config, licence in (("mimic-iv-ecg", "ODbL-1.0"), ("ptb-xl", "CC-BY-4.0"), ("ptb-xl-100hz", "CC-BY-4.0")):
        metadata = json.loads((three_configs / config / "croissant.json").read_text("utf-8"))
        assert metadata["license"] == f"https://spdx.org/licenses/{licence}.html"


def test_columns_are_of_their_types_in_memory_and_streaming(three_configs):
    value, array = datasets.Value, datasets.Array2D
    for config, samples in (("mimic-iv-ecg", 5000), ("ptb-xl", 5000), ("ptb-xl-100hz", 1000)):
        for split in ("train", "validation", "test"):
            read = load_dataset(str(three_configs), config, split=split, num_proc=2)
            streamed = load_dataset(str(three_configs), config, split=split, streaming=True)
            for features in (read.features, streamed.features):
                assert features["ecg"] == array((12, samples), "int16")
                assert features["study_time"] == value("timestamp[ms]")
                assert features["machine_measurements"]["qrs_axis"] == value("float32")
                assert features["scp_codes"] == datasets.List({"code": value("string"), "likelihood": value("float32")})
            assert list(streamed) == list(read)


def test_the_usual_operations_keep_a_record_together(three_configs):
    rows = load_dataset(str(three_configs), "mimic-iv-ecg", split="train")
    first_samples = dict(zip(rows["id"], (signal[0][0] for signal in rows["ecg"]), strict=True))
    changed = (
        rows.shuffle(seed=0)
        .select(range(40))
        .filter(lambda row: row["report"].startswith("Sinus"))
        .map(lambda row: {"first": row["ecg"][0][0]}, num_proc=2)
    )
    assert 0 < len(changed) < 40
    assert all(first_samples[row["id"]] == row["first"] for row in changed)
    assert changed.features["ecg"] == rows.features["ecg"]


def test_nodes_and_workers_share_a_stream_of_shards(three_configs):
    streamed = load_dataset(str(three_configs), "mimic-iv-ecg", split="train", streaming=True).select_columns(["id"])
    assert streamed.num_shards == 3
    of_nodes = [[row["id"] for row in split_dataset_by_node(streamed, rank, world_size=3)] for rank in range(3)]
    assert [len(ids) for ids in of_nodes] == [20, 20, 14]
    of_workers = [name for batch in DataLoader(streamed, batch_size=5, num_workers=2) for name in batch["id"]]
    ids = [row["id"] for row in streamed]
    assert sorted(sum(of_nodes, [])) == sorted(of_workers) == sorted(ids)
    assert len(set(ids)) == 54


def test_the_hub_serves_the_same(three_configs, tmp_path):
    paths = [path for path in three_configs.rglob("*") if path.is_file()]
    with serve_hub() as hub:
        hub.create("some-lab/meit-ecg", "datasets")
        files = {path.relative_to(three_configs).as_posix(): path.read_bytes() for path in paths}
        hub.commit("some-lab/meit-ecg", files, kind="datasets")
        done = subprocess.run(
            [sys.executable, "-c", READ_FROM_HUB, str(three_configs), "mimic-iv-ecg"],
            cwd=REPOSITORY,
            env=hub.environment(tmp_path / "hub-cache"),
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("corpus", ["mimic-iv-ecg", "ptb-xl"])
def test_every_real_value_is_what_wfdb_reads(corpus, real_ptb_xl, open_ptb_xl, open_mimic, tmp_path):
    published = real_ptb_xl.parent / corpus
    if not published.is_dir():
        pytest.skip(f"no {corpus} in {published.parent} (set MEIT_DATA)")
    build_config((open_ptb_xl if corpus == "ptb-xl" else open_mimic)(published), tmp_path / "meit-ecg")
    paths = {path.stem.removesuffix("_hr").lstrip("0"): path for path in published.rglob("*.hea")}
    checked = 0
    for rows in load_dataset(str(tmp_path / "meit-ecg"), corpus).values():
        columns = rows.select_columns(["ecg", "ecg_gain", "ecg_baseline"]).with_format("numpy")
        for record_id, row in zip(rows["id"], columns, strict=True):
            recording = wfdb.rdrecord(str(paths[record_id].with_suffix("")), physical=True)
            by_name = dict(zip(map(str.upper, recording.sig_name), recording.p_signal.T, strict=True))
            leads = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
            ecg, gain, baseline = row["ecg"], row["ecg_gain"].astype(np.float64), row["ecg_baseline"]
            millivolts = np.where(ecg == -32768, np.nan, (ecg - baseline[:, None]) / gain[:, None])
            np.testing.assert_array_equal(millivolts, np.stack([by_name[lead] for lead in leads]))
            checked += 1
    assert checked == {"mimic-iv-ecg": 226, "ptb-xl": 616}[corpus]


def test_the_same_build_is_the_same_bit_for_bit(tmp_path, files_of):
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


def test_a_missing_shard_is_noticed(three_configs):
    (three_configs / "mimic-iv-ecg/train-00001-of-00003.parquet").unlink()
    with pytest.raises(NonMatchingSplitsSizesError):
        load_dataset(str(three_configs), "mimic-iv-ecg", split="train")


def test_the_report_names_each_shard(tmp_path):
    report = build_simulated(tmp_path)
    for counts in report["splits"].values():
        for shard in counts["shards"]:
            content = (tmp_path / "simulated" / shard["file"]).read_bytes()
            assert (shard["bytes"], shard["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_one_build_of_a_config_at_a_time(tmp_path):
    output = tmp_path / "meit-ecg"
    (output / ".building").mkdir(parents=True)
    with (
        FileLock(output / ".building" / "simulated.lock"),
        pytest.raises(DatasetBuildError, match="another build of simulated"),
    ):
        build_simulated(output)


def test_what_no_build_wrote_is_not_replaced(small_ptb_xl, open_ptb_xl, tmp_path, entry, files_of):
    """The corpus' own folder may be called ptb-xl too, and a README may be somebody's work."""
    corpus = small_ptb_xl(entry(1)).rename(tmp_path / "ptb-xl")
    with pytest.raises(DatasetBuildError, match="not written by a build"):
        build_config(open_ptb_xl(corpus), tmp_path)
    assert (corpus / "ptbxl_database.csv").is_file()

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/README.md").write_text("my own words")
    with pytest.raises(DatasetBuildError, match="not a card that a build wrote"):
        build_simulated(tmp_path / "mine")
    assert files_of(tmp_path / "mine") == {"README.md": b"my own words"}

    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetBuildError, match="a file; expected a folder"):
        build_simulated(tmp_path / "file")


def test_no_usable_record_is_an_error(small_ptb_xl, open_ptb_xl, tmp_path, entry):
    folder = small_ptb_xl(entry(1, report=""), entry(2))
    (folder / "records500/00000/00002_hr.dat").unlink()
    with pytest.raises(DatasetBuildError, match="no record is usable.*empty report.*missing file"):
        build_config(open_ptb_xl(folder), tmp_path / "meit-ecg")
    assert not (tmp_path / "meit-ecg").exists()


@pytest.mark.parametrize("damaged", ["{", "[]", '{"config": "ptb-xl"}', '{"format_version": 2}'])
def test_a_damaged_report_of_another_config_stops_a_build_before_it_changes_anything(tmp_path, damaged, files_of):
    output = tmp_path / "meit-ecg"
    build_simulated(output)
    other = output / "ptb-xl/build_report.json"
    other.parent.mkdir()
    other.write_text(damaged)
    before = files_of(output)
    with pytest.raises(DatasetBuildError, match=f"{other}: not a build report.*build that config anew"):
        build_simulated(output, seed=1)
    assert {name: content for name, content in files_of(output).items() if not name.startswith(".building")} == before


def test_a_report_of_an_older_version_says_what_to_do(tmp_path):
    build_simulated(tmp_path)
    (tmp_path / "simulated").rename(tmp_path / "ptb-xl")
    path = tmp_path / "ptb-xl/build_report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 1}))
    expected = r"another version of the builder \(format 1, expected 2\); build that config anew"
    with pytest.raises(DatasetBuildError, match=expected):
        build_simulated(tmp_path)


def test_a_damaged_report_of_the_config_itself_is_replaced(tmp_path):
    report = build_simulated(tmp_path)
    (tmp_path / "simulated/build_report.json").write_text("{")
    assert build_simulated(tmp_path) == report
