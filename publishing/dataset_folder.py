"""What of a folder that `meit-ecg build` wrote goes to the Hub: the card, and each config's shards and documents."""

import json
from fnmatch import fnmatch
from pathlib import Path

import pyarrow
import pyarrow.parquet
from huggingface_hub import DatasetCard

from dataset_builder.croissant import CROISSANT, LICENCES
from dataset_builder.dataset_folder import BUILD_REPORT, BUILD_REPORT_VERSION, CARD
from dataset_builder.digest import sha256_of

from .refusals import content_problems, link_problems
from .upload import Upload, UploadFile, check_repo_id, refuse


def prepare_dataset(folder: str | Path, repo_id: str) -> Upload:
    """Check a dataset folder and lay out its upload: what a build wrote, and nothing else that lies there.

    Several corpora may go up together: each config has its own folder, licence and documents, so that ODbL's share
    alike reaches no other. Patients have the pseudonyms that their corpus published.

    Raises:
        UploadError: a build did not write it, or not to its end; a shard is not the one that the build report
            describes; a config's licence is unknown or not in the card; or a file holds a local path.
    """
    folder = Path(folder)
    check_repo_id(repo_id)
    reports, problems = _read_reports(folder)
    if not reports and not problems:
        problems = [f"no config with a {BUILD_REPORT}: this is not a folder that `meit-ecg build` wrote"]
    refuse(folder, problems)
    names = [CARD]
    for config, report in reports.items():
        shards = [f"{config}/{shard['file']}" for split in report["splits"].values() for shard in split["shards"]]
        names += [*shards, f"{config}/{BUILD_REPORT}", f"{config}/{CROISSANT}"]
    missing = [f"{name} is missing: build its config anew" for name in names if not (folder / name).is_file()]
    refuse(folder, [*missing, *link_problems(folder, names)])
    refuse(folder, _card_problems(folder, reports))
    refuse(
        folder, [problem for config, report in reports.items() for problem in _shard_problems(folder, config, report)]
    )
    files = [UploadFile(name, folder / name) for name in names]
    refuse(folder, content_problems(files, folder, of_patients=True))
    left_out = [
        (str(path.relative_to(folder)), "not of the build")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).as_posix() not in names
    ]
    replaces = tuple(f"{config}/*" for config in reports)
    return Upload("dataset", files, left_out, replaces, described=(f"*/{BUILD_REPORT}",))


def _read_reports(folder: Path) -> tuple[dict[str, dict], list[str]]:
    """Build reports by config, and what is wrong with those that cannot be read."""
    reports, problems = {}, []
    for path in sorted(folder.glob(f"*/{BUILD_REPORT}")):
        name = f"{path.parent.name}/{BUILD_REPORT}"
        try:
            report = json.loads(path.read_text("utf-8"))
            names = {shard["file"] for split in report["splits"].values() for shard in split["shards"]}
            licence, version = report["source"]["licence"], report["format_version"]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            problems.append(f"{name}: not a build report ({type(error).__name__}: {error})")
            continue
        if version != BUILD_REPORT_VERSION:
            problems.append(f"{name}: format {version!r}, expected {BUILD_REPORT_VERSION}: build that config anew")
        if licence not in LICENCES:
            problems.append(f"{name}: licence {licence!r}; expected one of {', '.join(sorted(LICENCES))}")
        problems += [f"{name}: a shard named {shard!r}" for shard in names if Path(shard).name != shard]
        reports[path.parent.name] = report
    return reports, problems


def _card_problems(folder: Path, reports: dict[str, dict]) -> list[str]:
    """Where the card, by which `load_dataset` finds the files, does not speak of the configs that are there."""
    try:
        facts = DatasetCard((folder / CARD).read_text("utf-8")).data.to_dict()
        patterns = {
            config["config_name"]: [part["path"] for part in config["data_files"]] for config in facts["configs"]
        }
        licences = facts["license"]
    except (ValueError, LookupError, TypeError) as error:
        return [f"{CARD}: not a card that a build wrote ({type(error).__name__}: {error})"]
    problems = []
    if set(patterns) != set(reports):
        problems.append(f"{CARD} describes the configs {sorted(patterns)}, and the folder holds {sorted(reports)}")
    for config, report in reports.items():
        licence = report["source"]["licence"]
        if licence not in licences:
            problems.append(f"{CARD}: the licence of {config}, {licence}, is not among {licences}")
        for split in report["splits"].values():
            for shard in split["shards"]:
                if not any(fnmatch(f"{config}/{shard['file']}", pattern) for pattern in patterns.get(config, ())):
                    problems.append(f"{CARD}: no pattern of {config} finds {shard['file']}")
    return problems


def _shard_problems(folder: Path, config: str, report: dict) -> list[str]:
    problems = []
    for split, counts in report["splits"].items():
        for shard in counts["shards"]:
            path = folder / config / shard["file"]
            if sha256_of(path) != shard["sha256"]:
                problems.append(f"{config}/{shard['file']}: not the shard that the build wrote: build {config} anew")
                continue
            try:
                rows = pyarrow.parquet.read_metadata(path).num_rows
            except (pyarrow.ArrowException, OSError) as error:
                problems.append(f"{config}/{shard['file']}: not a readable Parquet file ({error})")
                continue
            if rows != shard["records"]:
                problems.append(f"{config}/{shard['file']}: {rows} records, {split} was built with {shard['records']}")
    return problems
