"""The engine of builds on synthetic recordings: shards, processes, jobs, and what bad recordings do."""

import csv
import hashlib
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from datasets import load_dataset

from dataset_builder import build, plan
from dataset_builder.build import build_config, build_job, merge_jobs
from dataset_builder.errors import DatasetBuildError, NoUsableRecord
from dataset_builder.mimic_iv_ecg import MIMICIVECG
from tests.conftest import REPOSITORY
from tests.dataset_builder.synthetic_mimic import write_table

CONFIG = "mimic-iv-ecg"
# Of the synthetic 60; in shards of seven these are eight, one and one.
SPLITS_OF_60 = {"train": 54, "validation": 2, "test": 4}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(plan, "RECORDS_PER_SHARD", 7)


@pytest.fixture
def built(mimic_of_60, open_mimic, files_of, tmp_path):
    """All files of an unbroken build of the 60 recordings."""
    build_config(open_mimic(mimic_of_60), tmp_path / "unbroken")
    return files_of(tmp_path / "unbroken")


def work_folder(output: Path) -> Path:
    (folder,) = (path for path in (output / ".building" / CONFIG).iterdir() if path.is_dir())
    return folder


def break_off(corpus: MIMICIVECG, output: Path, shards: int, **options) -> Path:
    """Build as far as so many shards, as if by Ctrl+C in the middle of the next; returns the work folder."""
    calls = 0
    row = corpus.row

    def row_until(entry):
        nonlocal calls
        calls += 1
        if calls > shards * plan.RECORDS_PER_SHARD + 3:
            raise KeyboardInterrupt
        return row(entry)

    corpus.row = row_until
    with pytest.raises(KeyboardInterrupt):
        build_config(corpus, output, **options)
    del corpus.row
    return work_folder(output)


def count_rows(corpus: MIMICIVECG) -> list[str]:
    """A list that the ids of all recordings which are read from now on come into."""
    ids: list[str] = []
    row = corpus.row
    corpus.row = lambda entry: ids.append(entry.id) or row(entry)
    return ids


def records(report: dict) -> dict[str, int]:
    return {split: counts["records"] for split, counts in report["splits"].items()}


def run_build(*arguments: object, per_shard: int = 7, slow: float = 0.0, **options) -> subprocess.Popen:
    """The command in a process, and a process group, of its own."""
    command = [sys.executable, "-m", "tests.dataset_builder.small_build", str(per_shard), str(slow), CONFIG]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Its exit status and what it wrote to stderr."""
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def test_shards_of_a_build(mimic_of_60, open_mimic, files_of, tmp_path):
    report = build_config(open_mimic(mimic_of_60), tmp_path / "meit-ecg")
    files = files_of(tmp_path / "meit-ecg")
    shards = [f"{CONFIG}/{shard['file']}" for counts in report["splits"].values() for shard in counts["shards"]]
    assert len(shards) == 10
    assert set(files) == {*shards, "README.md", f"{CONFIG}/build_report.json", f"{CONFIG}/croissant.json"}
    assert f"{CONFIG}/train-00007-of-00008.parquet" in files
    assert records(report) == SPLITS_OF_60
    assert [shard["records"] for shard in report["splits"]["train"]["shards"]] == [7] * 7 + [5]
    assert not (tmp_path / "meit-ecg/.building").exists()


@pytest.mark.parametrize("processes", [2, 3, 20])
def test_any_number_of_processes_gives_the_same_bytes(built, mimic_of_60, open_mimic, files_of, tmp_path, processes):
    build_config(open_mimic(mimic_of_60), tmp_path / "meit-ecg", num_proc=processes)
    assert files_of(tmp_path / "meit-ecg") == built


def test_processes_that_are_not_forked(built, mimic_of_60, open_mimic, files_of, tmp_path, monkeypatch):
    """As on other systems than Linux; the zip of the corpus and its index travel to them."""
    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: spawn)
    shutil.make_archive(str(tmp_path / "mimic"), "zip", mimic_of_60)
    build_config(open_mimic(tmp_path / "mimic.zip"), tmp_path / "meit-ecg", num_proc=2)
    assert files_of(tmp_path / "meit-ecg") == built


def test_jobs_in_any_order_and_from_other_processes_add_up(built, mimic_of_60, open_mimic, files_of, tmp_path):
    output = tmp_path / "meit-ecg"
    arguments = ("--data-dir", mimic_of_60, "--output", output)
    jobs = [run_build(*arguments, "--shard", f"{job}/3") for job in (3, 1)]
    assert [finish(job)[0] for job in jobs] == [0, 0]
    with pytest.raises(DatasetBuildError, match=r"3 of 10 shards are missing, the first of them train-00001; run the"):
        merge_jobs(open_mimic(mimic_of_60), output)
    assert not (output / CONFIG).exists()
    assert build_job(open_mimic(mimic_of_60), output, (2, 3), num_proc=2) == 7 + 7 + 5

    shards = work_folder(output) / "shards"
    assert not list(shards.parent.glob("plan-*")), "the plan of a job goes with it"
    inodes = {path.stat().st_ino for path in shards.glob("*.parquet")}
    merge_jobs(open_mimic(mimic_of_60), output)
    assert files_of(output) == built
    assert {path.stat().st_ino for path in (output / CONFIG).glob("*.parquet")} == inodes
    assert not (output / ".building").exists()


def test_a_merge_reads_no_shard(mimic_of_60, open_mimic, tmp_path):
    """Shards that hold something else, which only a reader would see, are published as they are."""
    output = tmp_path / "meit-ecg"
    build_job(open_mimic(mimic_of_60), output, (1, 1))
    for path in (work_folder(output) / "shards").glob("*.parquet"):
        path.write_bytes(b"x" * path.stat().st_size)
    corpus = open_mimic(mimic_of_60)
    rows = count_rows(corpus)
    report = merge_jobs(corpus, output)
    for path in (output / CONFIG).glob("*.parquet"):
        assert set(path.read_bytes()) == {ord("x")}
    assert rows == []
    assert records(report) == SPLITS_OF_60


def test_jobs_with_other_options_are_not_merged(mimic_of_60, open_mimic, tmp_path):
    output = tmp_path / "meit-ecg"
    for job in (1, 2):
        build_job(open_mimic(mimic_of_60), output, (job, 2))
    with pytest.raises(DatasetBuildError, match="no shard of mimic-iv-ecg is there with these tables and options"):
        merge_jobs(open_mimic(mimic_of_60), output, limit=40)
    build_config(open_mimic(mimic_of_60), output)


def test_finished_shards_are_not_built_again(built, mimic_of_60, open_mimic, files_of, tmp_path):
    output, messages = tmp_path / "meit-ecg", []
    corpus = open_mimic(mimic_of_60)
    shards = break_off(corpus, output, shards=3) / "shards"
    finished = {path.name: path.stat() for path in shards.iterdir()}
    assert sorted(finished) == sorted(f"train-0000{n}.{kind}" for n in range(3) for kind in ("json", "parquet"))
    rows = count_rows(corpus)
    build_config(corpus, output, say=messages.append)
    assert files_of(output) == built
    assert len(rows) == 60 - 3 * 7
    assert messages == [f"Going on: 3 of 10 shards are there already, in {shards}"]
    for number in range(3):
        published = (output / CONFIG / f"train-0000{number}-of-00008.parquet").stat()
        before = finished[f"train-0000{number}.parquet"]
        assert (published.st_ino, published.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("train-00001.parquet", lambda content: content[:-100]),
        ("train-00001.parquet", lambda content: b""),
        ("train-00001.parquet", lambda content: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]),
        ("train-00001.parquet", None),
        ("train-00001.json", lambda content: content[:-100]),
        ("train-00001.json", lambda content: b""),
        ("train-00001.json", lambda content: b"[]"),
        ("train-00001.json", lambda content: b"null"),
        ("train-00001.json", lambda content: b"\xff" + content),
        ("train-00001.json", lambda content: content.replace(b"train-00001", b"train-00002")),
        ("train-00001.json", lambda content: content.replace(b'"sha256": "', b'"sha256": "0')),
        ("train-00001.json", lambda content: content.replace(b'"records"', b'"recordings"')),
        ("train-00001.json", None),
    ],
)
def test_a_torn_shard_is_built_again(built, mimic_of_60, open_mimic, files_of, tmp_path, name, damage):
    output = tmp_path / "meit-ecg"
    corpus = open_mimic(mimic_of_60)
    shards = break_off(corpus, output, shards=3) / "shards"
    if damage is None:
        (shards / name).unlink()
    else:
        (shards / name).write_bytes(damage((shards / name).read_bytes()))
    (shards / "train-00003.parquet.4711.part").write_bytes(b"half a shard")
    rows = count_rows(corpus)
    build_config(corpus, output)
    assert files_of(output) == built
    assert len(rows) == 60 - 2 * 7


def test_unfinished_work_with_other_options_is_named_and_left(built, mimic_of_60, open_mimic, files_of, tmp_path):
    output, messages = tmp_path / "meit-ecg", []
    corpus = open_mimic(mimic_of_60)
    other = break_off(corpus, output, shards=1, limit=30)
    (other.parent / "plan.4711.part").write_bytes(b"of a process that was killed while it planned")
    build_config(corpus, output, say=messages.append)
    assert messages == [
        f"{other}: unfinished work of a build with other tables or options; remove it if nobody needs it"
    ]
    assert list(other.parent.iterdir()) == [other]
    found = files_of(output)
    assert {name: found[name] for name in found if not name.startswith(".building")} == built
    rows = count_rows(corpus)
    build_config(corpus, output, limit=30)
    assert len(rows) == 30 + 6 - 7
    assert not (output / ".building").exists()


def test_tables_that_were_changed_are_another_build(small_mimic, open_mimic, tmp_path):
    folder, output = small_mimic(20), tmp_path / "meit-ecg"
    corpus = open_mimic(folder)
    break_off(corpus, output, shards=1)
    table = folder / "machine_measurements.csv"
    table.write_text(table.read_text("utf-8").replace("Sinus rhythm", "Atrial flutter", 1), "utf-8")
    rows = count_rows(corpus)
    build_config(corpus, output)
    assert len(rows) == 20


def test_a_recording_that_is_there_again_is_no_longer_left_out(built, small_mimic, open_mimic, files_of, tmp_path):
    """Left out in a finished shard, as on a disk that failed or by a download that was not through."""
    folder, output, whole = small_mimic(20), tmp_path / "meit-ecg", tmp_path / "whole"
    corpus = open_mimic(folder)
    build_config(corpus, whole)
    (signal_file, lost) = sorted(folder.glob("files/**/*.dat"))[:2]
    for path in (signal_file, lost):
        path.rename(path.with_suffix(".away"))
    build_job(corpus, output, (1, 1))
    signal_file.with_suffix(".away").rename(signal_file)
    report = build_config(corpus, output)
    assert [record["id"] for record in report["dropped"]["list"]] == [lost.stem]
    lost.with_suffix(".away").rename(lost)
    shutil.rmtree(output)
    build_config(corpus, output)
    assert files_of(output) == files_of(whole)


def test_shards_of_other_code_are_not_taken_up(mimic_of_60, open_mimic, tmp_path, monkeypatch):
    output = tmp_path / "meit-ecg"
    corpus = open_mimic(mimic_of_60)
    with monkeypatch.context() as patched:
        patched.setattr("dataset_builder.build._code_digest", lambda: "of last week")
        build_job(corpus, output, (1, 1))
    with pytest.raises(DatasetBuildError, match="no shard of mimic-iv-ecg is there"):
        merge_jobs(corpus, output)


def test_a_merge_that_was_done_is_said_to_be(mimic_of_60, open_mimic, tmp_path):
    output = tmp_path / "meit-ecg"
    corpus = open_mimic(mimic_of_60)
    build_job(corpus, output, (1, 1))
    merge_jobs(corpus, output)
    with pytest.raises(DatasetBuildError, match="were they merged already"):
        merge_jobs(corpus, output)
    assert not (output / ".building").exists()


def test_a_build_that_breaks_off_on_a_disk_without_links_loses_no_shard(
    built, mimic_of_60, open_mimic, files_of, tmp_path, monkeypatch
):
    output = tmp_path / "meit-ecg"
    corpus = open_mimic(mimic_of_60)
    build_job(corpus, output, (1, 1))

    def no_links(*_: object) -> None:
        raise OSError("no links")

    def break_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.link", no_links)
    with monkeypatch.context() as patched:
        patched.setattr("dataset_builder.dataset_folder._put_in_place", break_off)
        with pytest.raises(KeyboardInterrupt):
            merge_jobs(corpus, output)
    merge_jobs(corpus, output)
    assert files_of(output) == built


def test_a_killed_process_is_a_clear_error_and_the_same_command_goes_on(
    built, mimic_of_60, open_mimic, files_of, tmp_path
):
    output = tmp_path / "meit-ecg"
    corpus = open_mimic(mimic_of_60)
    row = corpus.row

    def kill_the_process(entry):
        if int(entry.id) == 40_000_000 + 40 * 11:
            os.kill(os.getpid(), signal.SIGKILL)
        return row(entry)

    corpus.row = kill_the_process
    with pytest.raises(DatasetBuildError, match=r"ended with status -9 \(killed, .*the same command goes on"):
        build_config(corpus, output, num_proc=2)
    del corpus.row
    rows = count_rows(corpus)
    build_config(corpus, output)
    assert files_of(output) == built
    assert 7 <= len(rows) <= 30


def test_an_error_of_the_corpus_in_a_process_is_that_of_the_build(mimic_of_60, open_mimic, tmp_path):
    corpus = open_mimic(mimic_of_60)

    def row(entry):
        raise DatasetBuildError("the zip is gone")

    corpus.row = row
    for processes in (1, 2):
        with pytest.raises(DatasetBuildError, match="^the zip is gone$"):
            build_config(corpus, tmp_path / "meit-ecg", num_proc=processes)


def test_a_lack_of_memory_leaves_no_record_out(mimic_of_60, open_mimic, tmp_path):
    corpus = open_mimic(mimic_of_60)

    def row(entry):
        raise MemoryError

    corpus.row = row
    for processes in (1, 2):
        with pytest.raises(DatasetBuildError, match=r"record \d+: out of memory; the same command goes on"):
            build_config(corpus, tmp_path / "meit-ecg", num_proc=processes)


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_running(process: int) -> bool:
    """True unless it has ended; one that nobody has waited for counts as ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="/proc tells which processes there are")


@pytest.fixture
def running_build(mimic_of_60, tmp_path):
    """A build in two processes, once it has finished a shard: some 7 s before its end. It ends with the test."""
    output = tmp_path / "meit-ecg"
    process = run_build("--data-dir", mimic_of_60, "--output", output, "--num-proc", 2, slow=0.3)
    try:
        wait_until(lambda: list(output.glob(f".building/{CONFIG}/*/shards/*.json")) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@needs_proc
def test_processes_of_a_build_that_was_killed_end_themselves(
    built, running_build, mimic_of_60, open_mimic, files_of, tmp_path
):
    workers = children(running_build.pid)
    assert len(workers) == 2
    running_build.kill()
    running_build.wait()
    wait_until(lambda: not any(map(is_running, workers)), seconds=10)
    finished = list((work_folder(tmp_path / "meit-ecg") / "shards").glob("*.json"))
    assert len(finished) < 8, "they ended because they had built everything"
    build_config(open_mimic(mimic_of_60), tmp_path / "meit-ecg")
    assert files_of(tmp_path / "meit-ecg") == built


@needs_proc
def test_ctrl_c_ends_all_processes_with_status_130(built, running_build, mimic_of_60, open_mimic, files_of, tmp_path):
    workers = children(running_build.pid)
    os.killpg(running_build.pid, signal.SIGINT)
    status, errors = finish(running_build)
    assert status == 130
    assert errors.strip() == "Interrupted. The same command goes on from the finished shards."
    assert not any(map(is_running, workers))
    corpus = open_mimic(mimic_of_60)
    rows = count_rows(corpus)
    build_config(corpus, tmp_path / "meit-ecg")
    assert files_of(tmp_path / "meit-ecg") == built
    assert len(rows) <= 60 - 7


def test_another_build_of_the_config_is_refused_meanwhile(
    running_build, mimic_of_60, open_mimic, tmp_path, monkeypatch
):
    monkeypatch.setattr(build, "_LOCK_SECONDS", 0.2)
    with pytest.raises(DatasetBuildError, match="another build of mimic-iv-ecg is writing there"):
        build_config(open_mimic(mimic_of_60), tmp_path / "meit-ecg")
    with pytest.raises(DatasetBuildError, match="another build of mimic-iv-ecg is writing there"):
        merge_jobs(open_mimic(mimic_of_60), tmp_path / "meit-ecg")


def test_the_lock_of_a_build_that_was_killed_does_not_stay(built, mimic_of_60, open_mimic, files_of, tmp_path):
    output = tmp_path / "meit-ecg"
    break_off(open_mimic(mimic_of_60), output, shards=1)
    (output / f".building/{CONFIG}.lock").touch()
    build_config(open_mimic(mimic_of_60), output)
    assert files_of(output) == built


def limit_file_size(size: int):
    """What a full disk does, at so many bytes of any file."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_is_a_clear_error_and_the_same_command_goes_on(
    built, mimic_of_60, open_mimic, files_of, tmp_path, processes
):
    output = tmp_path / "meit-ecg"
    arguments = ("--data-dir", mimic_of_60, "--output", output, "--num-proc", processes)
    status, errors = finish(run_build(*arguments, preexec_fn=limit_file_size(200_000)))
    assert status == 2
    assert re.fullmatch(
        r"error: .*/train-0000\d\.parquet: cannot be written \(File too large\); the same command goes on from the "
        r"finished shards\n",
        errors,
    ), errors
    if processes == 1:  # another process is ended where it is
        assert not list(output.glob("**/*.part"))
    status, errors = finish(run_build(*arguments, preexec_fn=limit_file_size(4096)))
    assert status == 2
    assert re.match(r"error: .*: the plan of the build could not be written \(.*\)\n$", errors), errors
    build_config(open_mimic(mimic_of_60), output)
    assert files_of(output) == built


def test_no_shard_that_holds_nothing_is_published(small_mimic, open_mimic, tmp_path):
    """All recordings of one shard are missing, and all of one split."""
    folder, output = small_mimic(60), tmp_path / "meit-ecg"
    lines = table_of(folder, "record_list.csv")
    train = [line for line in lines if split_of(line["subject_id"]) == "train"]
    gone = train[7:14] + [line for line in lines if split_of(line["subject_id"]) == "test"]
    for line in gone:
        (folder / f"{line['path']}.dat").unlink()
    report = build_config(open_mimic(folder), output)
    assert records(report) == {"train": 54 - 7, "validation": 2}
    assert report["dropped"]["reasons"] == {"missing file": 7 + 4}
    names = [shard["file"] for shard in report["splits"]["train"]["shards"]]
    assert names == [f"train-0000{number}-of-00007.parquet" for number in range(7)]
    assert set(load_dataset(str(output), CONFIG)) == {"train", "validation"}


def test_a_build_without_any_usable_record_leaves_nothing(small_mimic, open_mimic, tmp_path):
    folder = small_mimic(3)
    shutil.rmtree(folder / "files")
    with pytest.raises(NoUsableRecord, match="no record is usable; left out: {'missing file': 3}"):
        build_config(open_mimic(folder), tmp_path / "meit-ecg")
    assert not (tmp_path / "meit-ecg").exists()


def table_of(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_back(folder: Path, name: str, lines: list[dict[str, str]]) -> None:
    write_table(folder / name, list(lines[0]), [list(line.values()) for line in lines])


def split_of(subject: str) -> str:
    """As the card describes it: a hash of the patient's id."""
    tenth = int.from_bytes(hashlib.sha256(f"mimic-iv-ecg/{subject}".encode()).digest()[:8], "big") % 10
    return {8: "validation", 9: "test"}.get(tenth, "train")
