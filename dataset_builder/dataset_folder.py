"""The folder `meit-ecg`: Parquet shards per config, a build report beside them, and the card that names them.

    meit-ecg/README.md                              the card; `load_dataset` reads its `configs:`
    meit-ecg/ptb-xl/train-00000-of-00001.parquet
    meit-ecg/ptb-xl/build_report.json
    meit-ecg/ptb-xl/croissant.json                  the same for machines, with its own licence and no other

A config is put together in the work folder and moved into its place when it is whole, so a build that breaks off
leaves what was there before.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from dataset_builder.column_texts import COLUMN_TEXTS
from dataset_builder.columns import SPLITS, features
from dataset_builder.corpus import Corpus
from dataset_builder.croissant import CROISSANT, LICENCES, croissant
from dataset_builder.dropped_records import DroppedRecord
from dataset_builder.errors import DatasetBuildError, NoUsableRecord
from dataset_builder.plan import Plan
from dataset_builder.shards import FinishedShard

BUILD_REPORT = "build_report.json"
BUILD_REPORT_VERSION = 2
CARD = "README.md"
_CARD_MARK = "<!-- Written by meit-ecg's dataset builder; every build writes it anew. -->"


def refuse_foreign_files(output: Path, config_name: str) -> None:
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


def publish(
    corpus: Corpus,
    output: Path,
    plan: Plan,
    finished: Mapping[str, FinishedShard],
    folder: Path,
    packages: Mapping[str, str],
) -> dict:
    """Make a config of finished shards and write the card anew; no shard is read or copied.

    Args:
        corpus: the builder.
        output: the dataset folder.
        plan: the plan that the shards were built by.
        finished: all shards of the plan, by name.
        folder: where the shards lie, on the disk of `output`.
        packages: names and versions, for the build report.

    Returns:
        The build report.

    Raises:
        NoUsableRecord: all records were left out.
        DatasetBuildError: the report of another config is damaged, or a patient is in two splits.
    """
    _read_reports(output, without=corpus.config)  # the card needs them once the new config is in its place
    ready = folder.parent / corpus.config
    shutil.rmtree(ready, ignore_errors=True)
    ready.mkdir()
    splits = _link_shards(plan, finished, folder, ready)
    report = _build_report(corpus, plan, finished, splits, packages)
    if not splits:
        raise NoUsableRecord(f"{corpus.config}: no record is usable; left out: {report['dropped']['reasons']}")
    for name, document in ((BUILD_REPORT, report), (CROISSANT, croissant(report))):
        (ready / name).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    _put_in_place(ready, output / corpus.config, folder.parent / "replaced")
    _write_card(output, folder.parent / CARD)
    return report


def _link_shards(
    plan: Plan, finished: Mapping[str, FinishedShard], folder: Path, ready: Path
) -> dict[str, dict[str, FinishedShard]]:
    """Give the shards that hold records the names that the Hub expects: split-00000-of-00002.parquet.

    Links, so that a build killed here finds its shards again; copies where the disk knows no links.
    """
    splits: dict[str, dict[str, FinishedShard]] = {}
    for split in SPLITS:
        held = [shard.name for shard in plan.shards() if shard.split == split and finished[shard.name].records]
        for number, name in enumerate(held):
            target = f"{split}-{number:05d}-of-{len(held):05d}.parquet"
            try:
                os.link(folder / f"{name}.parquet", ready / target)
            except OSError:
                shutil.copyfile(folder / f"{name}.parquet", ready / target)
            splits.setdefault(split, {})[target] = finished[name]
    return splits


def _build_report(
    corpus: Corpus,
    plan: Plan,
    finished: Mapping[str, FinishedShard],
    splits: Mapping[str, Mapping[str, FinishedShard]],
    packages: Mapping[str, str],
) -> dict:
    dropped = plan.dropped() + [record for shard in finished.values() for record in shard.dropped]
    patients, straddling = plan.patients(without={record.id for shard in finished.values() for record in shard.dropped})
    if straddling:
        raise DatasetBuildError(f"{corpus.config}: {straddling} patients are in more than one split")
    source = corpus.source
    return {
        "format_version": BUILD_REPORT_VERSION,
        "config": corpus.config,
        "builder_version": corpus.version,
        "samples": corpus.samples,
        "source": {
            "name": source.name,
            "url": source.url,
            "licence": source.licence,
            "citation": source.citation,
            "creators": list(source.creators),
            "published": source.published,
            "notes": list(source.notes),
        },
        "limit_per_split": plan.fact("limit_per_split"),
        **plan.fact("corpus"),
        "patients_in_several_splits_of_the_table": plan.fact("patients_in_several_splits_of_the_table"),
        "records_beyond_limit": plan.fact("records_beyond_limit"),
        "splits": {split: _split_facts(shards, patients[split]) for split, shards in splits.items()},
        "patients_in_several_splits": straddling,
        "dropped": {
            "records": len(dropped),
            "reasons": dict(sorted(Counter(record.reason for record in dropped).items())),
            "list": [vars(record) for record in sorted(dropped, key=DroppedRecord.sorting_key)],
        },
        "packages": dict(packages),
    }


def _split_facts(shards: Mapping[str, FinishedShard], patients: int) -> dict[str, object]:
    held = shards.values()
    return {
        "records": sum(shard.records for shard in held),
        "patients": patients,
        "bytes": sum(shard.memory_bytes for shard in held),
        "shards": [
            {"file": name, "records": shard.records, "bytes": shard.bytes, "sha256": shard.sha256}
            for name, shard in shards.items()
        ],
        "report_languages": _summed(shard.report_languages for shard in held),
        "report_sources": _summed(shard.report_sources for shard in held),
        "reports_with_foreign_words": sum(shard.reports_with_foreign_words for shard in held),
    }


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return dict(sorted(total.items()))


def _put_in_place(finished: Path, target: Path, replaced: Path) -> None:
    """Two renames: between them the config is missing, which loads as an error and never as half a dataset."""
    if target.exists():
        shutil.rmtree(replaced, ignore_errors=True)  # of a build that was killed below
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
            written_by_this_version = report["format_version"] == BUILD_REPORT_VERSION
            if written_by_this_version:
                _dataset_info(report)
                _card_text([report])
                _card_section(report)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DatasetBuildError(
                f"{path}: not a build report ({type(error).__name__}: {error}); build that config anew or remove its "
                "folder"
            ) from error
        if not written_by_this_version:
            raise DatasetBuildError(
                f"{path}: written by another version of the builder (format {report['format_version']!r}, expected "
                f"{BUILD_REPORT_VERSION}); build that config anew or remove its folder"
            )
        reports.append(report)
    return reports


def _write_card(output: Path, unfinished: Path) -> None:
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
    parts = [f"---\n{front_matter}---\n\n{_CARD_MARK}\n\n{_card_text(reports)}", *map(_card_section, reports)]
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

{configs}

**Each config has its own licence**, which holds for its records and no others. What was left out of a config, and why,
is in its `build_report.json`; its `croissant.json` describes it to machines.

{columns}

The instruction is not stored: it is drawn by a hash of `id` when a sample is put together.
"""


def _card_text(reports: list[dict]) -> str:
    configs = ["| config | records | signal | licence |", "|---|---|---|---|"]
    for report in reports:
        records = sum(counts["records"] for counts in report["splits"].values())
        licence = f"[{report['source']['licence']}]({LICENCES[report['source']['licence']]})"
        configs.append(f"| `{report['config']}` | {records} | 12 x {report['samples']} | {licence} |")
    columns = ["| column | what |", "|---|---|"]
    for name, feature in features(samples=5000).items():
        kind = feature.get("dtype", "list" if feature.get("_type") == "List" else "struct")
        columns.append(f"| `{name}` ({kind}) | {COLUMN_TEXTS[name]} |")
    return _CARD_TEXT.format(configs="\n".join(configs), columns="\n".join(columns))


def _card_section(report: dict) -> str:
    source = report["source"]
    licence = f"{source['licence']}, {LICENCES[source['licence']]}"
    lines = [f"## {report['config']}", "", f"{source['name']}. {source['url']}  ", f"Licence: {licence}", ""]
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
