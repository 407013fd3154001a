"""Building one config of the dataset: plan, shards, and the folder that `load_dataset` reads.

All that is unfinished lies in the output folder's `.building/<config>/<fingerprint>`. The fingerprint is that of the
plan, so work on the same tables with the same options and code is found again, and nothing else is ever taken for it.
The recordings themselves are no part of it: whoever replaces one while a build is unfinished begins anew.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from dataset_builder.corpus import Corpus
from dataset_builder.dataset_folder import publish, refuse_foreign_files
from dataset_builder.errors import DatasetBuildError, NoUsableRecord
from dataset_builder.plan import Plan, write_plan
from dataset_builder.shards import drops_too_much, find_finished, part_of, remove_unfinished
from dataset_builder.workers import build_all

WORK = ".building"
# Translations of reports, kept until the build that asked for them is published.
TRANSLATIONS = "translations.sqlite"
# The processes of a build that was killed hold its lock until they have ended too.
_LOCK_SECONDS = 2.0
_PACKAGES = ("neurokit2", "numba", "numpy", "pyarrow", "scipy", "wfdb")


def build_config(
    corpus: Corpus,
    output: str | os.PathLike,
    num_proc: int = 1,
    limit: int | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> dict:
    """Build one config into the dataset folder, beside those already there, and write the card anew.

    Killed at any moment, the same call goes on from the shards that were finished, and its result is the same.

    Args:
        corpus: the builder.
        output: the dataset folder; made if it is missing.
        num_proc: processes that read recordings.
        limit: records per split at most.
        say: told what is worth a line to whoever waits.

    Returns:
        The build report, as `build_report.json` holds it.

    Raises:
        DatasetBuildError: the input is not what the builder reads, no record is usable, another build of this
            config is running, the report of another config is damaged, or something that no build wrote lies in
            the way.
    """
    output = Path(output)
    refuse_foreign_files(output, corpus.config)
    with _lock(output, corpus.config):
        work, plan = _plan(output, corpus, limit, "plan")
        _build_missing(corpus, plan, work, num_proc, (1, 1), say)
        return _publish(corpus, output, plan, work, say)


def build_job(
    corpus: Corpus,
    output: str | os.PathLike,
    job: tuple[int, int],
    num_proc: int = 1,
    limit: int | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> int:
    """Build the shards of one job out of several, such as one task of a cluster's job array; `merge_jobs` ends it.

    Jobs need not know of one another: each makes the same plan, and shard `k` belongs to job `k mod n`.

    Args:
        job: (i, n), the i-th of n jobs, counted from 1.

    Returns:
        The number of records in the job's shards.

    Raises:
        DatasetBuildError: as `build_config`.
    """
    output = Path(output)
    refuse_foreign_files(output, corpus.config)
    work, plan = _plan(output, corpus, limit, f"plan-{job[0]}-of-{job[1]}")
    try:
        return _build_missing(corpus, plan, work, num_proc, job, say)
    finally:
        os.unlink(plan.path)  # each job has its own, and that of 800,000 records takes 400 MB


def merge_jobs(
    corpus: Corpus,
    output: str | os.PathLike,
    limit: int | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> dict:
    """Publish the shards that jobs have built: they are moved into place and counted, none is read or copied.

    Returns:
        The build report.

    Raises:
        DatasetBuildError: a shard is missing, or as `build_config`.
    """
    output = Path(output)
    refuse_foreign_files(output, corpus.config)
    with _lock(output, corpus.config):
        work, plan = _plan(output, corpus, limit, "plan")
        return _publish(corpus, output, plan, work, say)


@contextmanager
def _lock(output: Path, config: str) -> Iterator[None]:
    """One build of a config at a time."""
    folder, output_is_new = output / WORK, not output.exists()
    lock = FileLock(folder / f"{config}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except FileNotFoundError:  # a build that ended just now removed the folder
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout as error:
        raise DatasetBuildError(f"{output}: another build of {config} is writing there") from error
    try:
        yield
    finally:
        # Before the release: whoever comes next then makes a lock of his own, and nobody holds one without a name.
        with suppress(OSError):  # Windows removes no open file, but with its release
            os.unlink(lock.lock_file)
        lock.release()
        _remove_if_empty(folder)
        if output_is_new:
            _remove_if_empty(output)


def _plan(output: Path, corpus: Corpus, limit: int | None, name: str) -> tuple[Path, Plan]:
    """Write the plan, and make the work folder that its fingerprint names; returns both."""
    folder = output / WORK / corpus.config
    folder.mkdir(parents=True, exist_ok=True)
    unnamed = part_of(folder / name)
    try:
        write_plan(unnamed, corpus, limit, _packages() | {"meit-ecg": _code_digest()})
        work = folder / str(Plan(unnamed).fact("fingerprint"))[:16]
        (work / "shards").mkdir(parents=True, exist_ok=True)
        plan = work / f"{name}.sqlite"
        os.replace(unnamed, plan)
    finally:
        unnamed.unlink(missing_ok=True)
        _remove_if_empty(folder)
    return work, Plan(plan)


def _build_missing(
    corpus: Corpus, plan: Plan, work: Path, num_proc: int, job: tuple[int, int], say: Callable[[str], None]
) -> int:
    index, jobs = job
    folder = work / "shards"
    shards = plan.shards()[index - 1 :: jobs]
    found = find_finished(folder, shards, compare_content=True)
    missing = [s for s in shards if s.name not in found or drops_too_much(corpus, plan, s, found[s.name])]
    if len(missing) < len(shards):
        say(f"Going on: {len(shards) - len(missing)} of {len(shards)} shards are there already, in {folder}")
    records = sum(shard.records for shard in shards)
    there = records - sum(shard.records for shard in missing)
    with tqdm(total=records, initial=there, unit=" records", desc=corpus.config, disable=None) as bar:
        build_all(corpus, plan, missing, str(folder), num_proc, bar.update)
    return records


def _publish(corpus: Corpus, output: Path, plan: Plan, work: Path, say: Callable[[str], None]) -> dict:
    shards = plan.shards()
    finished = find_finished(work / "shards", shards)
    missing = [shard.name for shard in shards if shard.name not in finished]
    if shards and not finished:
        _remove_work(work)
        raise DatasetBuildError(
            f"{output}: no shard of {corpus.config} is there with these tables and options; were they merged already?"
        )
    if missing:
        raise DatasetBuildError(
            f"{work}: {len(missing)} of {len(shards)} shards are missing, the first of them {missing[0]}; run the jobs "
            "that build them again, with the same options and the same number of jobs"
        )
    try:
        report = publish(corpus, output, plan, finished, work / "shards", _packages())
    except NoUsableRecord:
        _remove_work(work)
        raise
    _remove_work(work)
    (output / WORK / TRANSLATIONS).unlink(missing_ok=True)
    others = work.parent.iterdir() if work.parent.exists() else ()
    for path in sorted(path for path in others if re.fullmatch(r"[0-9a-f]{16}", path.name)):
        say(f"{path}: unfinished work of a build with other tables or options; remove it if nobody needs it")
    return report


def _packages() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def _code_digest() -> str:
    """Of our own code that makes a shard: what another version of it began is not taken up."""
    digest, here = hashlib.sha256(), Path(__file__).parent
    for package in (here, here.parent / "processing"):
        for path in sorted([*package.glob("*.py"), *package.glob("*.txt")]):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _remove_work(work: Path) -> None:
    """Remove a work folder, and the plans that killed processes left before they had one."""
    shutil.rmtree(work)
    remove_unfinished(work.parent)
    _remove_if_empty(work.parent)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it is not empty, or not there
        folder.rmdir()
