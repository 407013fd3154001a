"""The folder `meit-ecg`: Parquet shards per config, a build report beside them, and the card that names them.

    meit-ecg/README.md                              the card; `load_dataset` reads its `configs:`
    meit-ecg/ptb-xl/train-00000-of-00001.parquet
    meit-ecg/ptb-xl/build_report.json

A config is written in a work folder and moved into its place when it is whole, so a build that breaks off
leaves what was there before.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from datasets.exceptions import DatasetGenerationError
from filelock import FileLock, Timeout

from dataset_builder.corpus_builder import SPLITS, CorpusBuilder
from dataset_builder.dropped_records import DropLog
from dataset_builder.errors import DatasetBuildError

BUILD_REPORT = "build_report.json"
BUILD_REPORT_VERSION = 1
CARD = "README.md"
_CARD_MARK = "<!-- Written by meit-ecg's dataset builder; every build writes it anew. -->"
_WORK = ".building"
_PACKAGES = ("datasets", "neurokit2", "numpy", "pyarrow", "wfdb")


def build_config(
    builder_class: type[CorpusBuilder],
    config_name: str,
    output: str | os.PathLike,
    num_proc: int | None = None,
    **options: object,
) -> dict:
    """Build one config into the dataset folder, beside those already there, and write the card anew.

    Args:
        builder_class: the corpus' builder.
        config_name: the config's name, which is its folder's too.
        output: the dataset folder; made if it is missing.
        num_proc: processes that read recordings.
        options: what the builder's config takes, such as `data_dir` or `limit`.

    Returns:
        The build report, as `build_report.json` holds it.

    Raises:
        DatasetBuildError: the input is not what the builder reads, no record is usable, another build of this
            config is running, the report of another config is damaged, or something that no build wrote lies in
            the way.
    """
    output = Path(output)
    _refuse_foreign_files(output, config_name)
    _read_reports(output, without=config_name)  # the card needs them once the new config is in its place
    with _work_folder(output, config_name) as work:
        drops = DropLog(work / "dropped")
        # The cache is a part of the work folder: nothing stays behind in the user's cache.
        builder = builder_class(
            cache_dir=str(work / "cache"), config_name=config_name, drop_folder=str(drops.folder), **options
        )
        try:
            builder.download_and_prepare(str(work / "parquet"), file_format="parquet", num_proc=num_proc)
        except DatasetGenerationError as error:
            cause = error.__cause__ or error
            raise DatasetBuildError(f"{config_name}: the build broke off: {cause}") from error
        finished = work / config_name
        finished.mkdir()
        splits = _collect_shards(work / "parquet", builder, finished)
        report = _build_report(builder, splits, drops)
        if not splits:
            raise DatasetBuildError(f"{config_name}: no record is usable; left out: {report['dropped']['reasons']}")
        (finished / BUILD_REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
        _put_in_place(finished, output / config_name, work / "replaced")
        _write_card(output)
    return report


def _refuse_foreign_files(output: Path, config_name: str) -> None:
    """A build replaces its config's folder and the card, so both must come from a build."""
    if output.exists() and not output.is_dir():
        raise DatasetBuildError(f"{output}: a file; expected a folder to write the dataset to")
    target, card = output / config_name, output / CARD
    if target.exists() and not (target / BUILD_REPORT).is_file():
        raise DatasetBuildError(
            f"{target}: there already, and not written by a build (it holds no {BUILD_REPORT}); "
            "choose another output folder"
        )
    if card.exists() and _CARD_MARK not in card.read_text("utf-8", errors="replace"):
        raise DatasetBuildError(f"{card}: not a card that a build wrote; choose another output folder")


@contextmanager
def _work_folder(output: Path, config_name: str) -> Iterator[Path]:
    """A folder inside the output, on the same disk, for one build of a config at a time.

    What a killed build left in it is removed first.
    """
    output_is_new = not output.exists()
    work = output / _WORK / config_name
    work.parent.mkdir(parents=True, exist_ok=True)
    lock_file = work.with_suffix(".lock")
    try:
        with FileLock(lock_file, timeout=0):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)
                lock_file.unlink(missing_ok=True)
                _remove_if_empty(work.parent)
                if output_is_new:
                    _remove_if_empty(output)
    except Timeout as error:
        raise DatasetBuildError(f"{output}: another build of {config_name} is writing there") from error


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


def _collect_shards(parquet: Path, builder: CorpusBuilder, finished: Path) -> dict[str, list[Path]]:
    """Move the shards of each split that holds records, named as the Hub expects: split-00000-of-00002.parquet."""
    splits: dict[str, list[Path]] = {}
    for split in SPLITS:
        # One shard is named without a number; a shard can be empty if all its records were dropped.
        found = sorted(parquet.glob(f"{builder.dataset_name}-{split}*.parquet"))
        shards = [path for path in found if pq.read_metadata(path).num_rows > 0]
        for number, path in enumerate(shards):
            target = finished / f"{split}-{number:05d}-of-{len(shards):05d}.parquet"
            os.replace(path, target)
            splits.setdefault(split, []).append(target)
    return splits


def _build_report(builder: CorpusBuilder, splits: dict[str, list[Path]], drops: DropLog) -> dict:
    counted, patients = {}, {}
    for split, shards in splits.items():
        tables = [pq.read_table(path, columns=["patient_id", "report_language", "report_source"]) for path in shards]
        column = {
            name: [value for table in tables for value in table[name].to_pylist()]
            for name in ("patient_id", "report_language", "report_source")
        }
        patients[split] = set(column["patient_id"])
        counted[split] = {
            "records": len(column["patient_id"]),
            "patients": len(patients[split]),
            "bytes": builder.info.splits[split].num_bytes,
            "shards": [_shard_facts(path) for path in shards],
            "report_languages": dict(sorted(Counter(column["report_language"]).items())),
            "report_sources": dict(sorted(Counter(column["report_source"]).items())),
        }
    times_seen = Counter(patient for members in patients.values() for patient in members)
    straddling = sorted(patient for patient, count in times_seen.items() if count > 1)
    if straddling:
        raise DatasetBuildError(f"patients in more than one split: {', '.join(straddling[:10])}")

    dropped = list(drops)
    return {
        "format_version": BUILD_REPORT_VERSION,
        "config": builder.config.name,
        "builder_version": str(builder.VERSION),
        "source": {
            "name": builder.SOURCE.name,
            "url": builder.SOURCE.url,
            "licence": builder.SOURCE.licence,
            "citation": builder.SOURCE.citation,
            "notes": list(builder.SOURCE.notes),
        },
        "limit_per_split": builder.config.limit,
        **builder.facts(),
        "splits": counted,
        "patients_in_several_splits": len(straddling),
        "dropped": {
            "records": len(dropped),
            "reasons": dict(sorted(Counter(record.reason for record in dropped).items())),
            "list": [vars(record) for record in dropped],
        },
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _shard_facts(path: Path) -> dict[str, object]:
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256}


def _put_in_place(finished: Path, target: Path, replaced: Path) -> None:
    """Two renames: between them the config is missing, which loads as an error and never as half a dataset."""
    if target.exists():
        os.replace(target, replaced)
    os.replace(finished, target)


def _read_reports(output: Path, without: str | None = None) -> list[dict]:
    """The build reports that lie in the folder, but for that of one config; each has all that the card needs."""
    reports = []
    for path in sorted(output.glob(f"*/{BUILD_REPORT}")):
        if path.parent.name == without:
            continue
        try:
            report = json.loads(path.read_text("utf-8"))
            _dataset_info(report)
            _card_section(report)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DatasetBuildError(
                f"{path}: not a build report ({type(error).__name__}: {error}); build that config anew or remove its "
                "folder"
            ) from error
        reports.append(report)
    return reports


def _write_card(output: Path) -> None:
    """Write the card from the build reports that lie in the folder."""
    reports = _read_reports(output)
    head = {
        "pretty_name": "meit-ecg",
        "license": sorted({report["source"]["licence"] for report in reports}),
        "tags": ["ecg", "electrocardiogram", "12-lead", "report-generation"],
        "configs": [
            {
                "config_name": report["config"],
                "data_files": [
                    {"split": split, "path": f"{report['config']}/{split}-*.parquet"} for split in report["splits"]
                ],
            }
            for report in reports
        ],
        "dataset_info": [_dataset_info(report) for report in reports],
    }
    front_matter = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    parts = [f"---\n{front_matter}---\n\n{_CARD_MARK}\n\n{_CARD_TEXT}", *map(_card_section, reports)]
    unfinished = output / _WORK / CARD
    unfinished.write_text("\n".join(parts), "utf-8")
    os.replace(unfinished, output / CARD)


def _dataset_info(report: dict) -> dict[str, object]:
    """The counts that `load_dataset` checks what it read against, and a digest of the shards.

    For a local folder `datasets` 5 derives the name of its cache from the card alone. Without a digest in it, a
    rebuilt config, or another folder of the same name, would load as the rows of the first one.
    """
    shards = [shard for counts in report["splits"].values() for shard in counts["shards"]]
    digest = hashlib.sha256("".join(shard["sha256"] for shard in shards).encode("ascii")).hexdigest()
    return {
        "config_name": report["config"],
        "description": f"{report['source']['name']}. Shards: sha256 {digest}",
        "splits": [
            {"name": split, "num_bytes": counts["bytes"], "num_examples": counts["records"]}
            for split, counts in report["splits"].items()
        ],
        "download_size": sum(shard["bytes"] for shard in shards),
        "dataset_size": sum(counts["bytes"] for counts in report["splits"].values()),
    }


_CARD_TEXT = """\
# meit-ecg: 12-lead ECGs with their reports

```python
load_dataset("meit-ecg", "<config>", split="test")  # splits: train, validation, test
```

| column | what |
|---|---|
| `id`, `corpus`, `patient_id` | the record, where it comes from, and whose it is; no patient is in two splits |
| `age`, `sex` | years; `male`, `female`; null where unknown |
| `ecg` | int16 (12, 5000), ADC units, leads I, II, III, aVR, aVL, aVF, V1-V6; -32768 marks an invalid sample |
| `ecg_gain`, `ecg_baseline` | per lead: mV = (`ecg` - `ecg_baseline`) / `ecg_gain`, exactly as in the source |
| `sampling_rate` | 500 Hz |
| `report`, `report_language`, `report_source` | the text, its language (`und`: unknown), and where it comes from |
| `scp_codes` | SCP-ECG statements with likelihoods in percent; 0 means unknown |
| `validated_by_human` | as the source states; null where it does not |

The instruction is not stored: it is drawn by a hash of `id` when a sample is put together. Each config has its
own licence. What was left out, and why, is in `<config>/build_report.json`.
"""


def _card_section(report: dict) -> str:
    source = report["source"]
    lines = [f"## {report['config']}", "", f"{source['name']}. {source['url']}  ", f"Licence: {source['licence']}", ""]
    lines += [f"- {note}" for note in source["notes"]]
    lines += ["", "| split | records | patients |", "|---|---|---|"]
    lines += [f"| {split} | {count['records']} | {count['patients']} |" for split, count in report["splits"].items()]
    dropped = report["dropped"]
    reasons = "; ".join(f"{reason}: {count}" for reason, count in dropped["reasons"].items())
    lines += ["", f"Left out: {dropped['records']}" + (f" ({reasons})" if reasons else "")]
    if report["limit_per_split"] is not None:
        lines += ["", f"Built with at most {report['limit_per_split']} records per split."]
    if source["citation"]:
        lines += ["", f"Cite: {source['citation']}"]
    return "\n".join(lines) + "\n"
