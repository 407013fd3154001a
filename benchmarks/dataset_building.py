"""Building the dataset in one process, beside a loop over `wfdb.rdsamp` that reads the same recordings.

    python benchmarks/dataset_building.py [--data-dir FOLDER] [--corpus mimic-iv-ecg|ptb-xl] [--records N] [--rounds N]

The recordings of a sample are repeated under new ids until there are N. Builds, with one process and with two, and the
loop take turns; what is printed are medians over the rounds and their ratios. The loop reads and decodes only; a build
also joins the tables, checks, encodes, hashes and writes.
"""

import argparse
import csv
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import wfdb

from dataset_builder.build import build_config
from dataset_builder.corpus import Corpus
from dataset_builder.corpus_files import open_corpus_files
from dataset_builder.mimic_iv_ecg import MIMICIVECG
from dataset_builder.mimic_iv_ecg_table import MEASUREMENTS, RECORDS
from dataset_builder.ptb_xl import PTBXL
from dataset_builder.ptb_xl_table import DATABASE
from dataset_builder.scp_report import SCP_STATEMENTS

_COPIES = 1000  # a new id is the old one times this, and the number of the copy


def repeat_ptb_xl(sample: Path, folder: Path, records: int) -> tuple[Corpus, list[Path]]:
    """Lines of the table, repeated with new ids, name the same recordings; their folders are linked."""
    lines = _lines(sample / DATABASE)
    repeated = [lines[number % len(lines)] | {"ecg_id": _new_id(number, lines, "ecg_id")} for number in range(records)]
    _write(folder / DATABASE, repeated)
    shutil.copy(sample / SCP_STATEMENTS, folder)
    for line in lines:
        for suffix in (".hea", ".dat"):
            _copy(sample, folder, line["filename_hr"] + suffix, line["filename_hr"] + suffix)
    return PTBXL(open_corpus_files(folder, DATABASE)), [folder / line["filename_hr"] for line in repeated]


def repeat_mimic_iv_ecg(sample: Path, folder: Path, records: int) -> tuple[Corpus, list[Path]]:
    """Each repeated line has a recording of its own, as a study's path ends with its id."""
    lines = _lines(sample / RECORDS)
    machine = {line["study_id"]: line for line in _lines(sample / MEASUREMENTS)}
    listed, measured = [], []
    for number in range(records):
        line = lines[number % len(lines)]
        new = _new_id(number, lines, "study_id")
        path = f"{line['path'].rpartition('/')[0]}-{number}/{new}"
        _copy(sample, folder, f"{line['path']}.dat", f"{path}.dat")
        header = (sample / f"{line['path']}.hea").read_text("ascii").replace(line["study_id"], new)
        (folder / f"{path}.hea").write_text(header, "ascii")
        listed.append(line | {"study_id": new, "file_name": new, "path": path})
        measured.append(machine[line["study_id"]] | {"study_id": new})
    _write(folder / RECORDS, listed)
    _write(folder / MEASUREMENTS, measured)
    return MIMICIVECG(open_corpus_files(folder, RECORDS)), [folder / line["path"] for line in listed]


def _new_id(number: int, lines: list[dict[str, str]], name: str) -> str:
    return str(int(lines[number % len(lines)][name]) * _COPIES + number // len(lines))


def _lines(table: Path) -> list[dict[str, str]]:
    with open(table, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _write(table: Path, lines: list[dict[str, str]]) -> None:
    with open(table, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _copy(sample: Path, folder: Path, name: str, new_name: str) -> None:
    (folder / new_name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(sample / name, folder / new_name)


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", choices=("mimic-iv-ecg", "ptb-xl"), default="mimic-iv-ecg")
    parser.add_argument("--data-dir", type=Path, help="the sample (default: $MEIT_DATA/CORPUS)")
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    sample = arguments.data_dir or Path(os.environ.get("MEIT_DATA", "../shared/data")) / arguments.corpus
    repeat = {"mimic-iv-ecg": repeat_mimic_iv_ecg, "ptb-xl": repeat_ptb_xl}[arguments.corpus]

    with tempfile.TemporaryDirectory(prefix="meit-ecg-") as temporary:
        folder = Path(temporary, "corpus")
        folder.mkdir()
        corpus, recordings = repeat(sample, folder, arguments.records)
        print(f"{arguments.corpus}: {arguments.records} recordings, repeated from {sample.name}")
        outputs = iter(Path(temporary, f"dataset-{number}") for number in range(2 * arguments.rounds + 1))
        warm = next(outputs)
        report = build_config(corpus, warm)  # compiles the encoder, and brings the files into memory
        built = sum(split["records"] for split in report["splits"].values())
        size = sum(shard["bytes"] for split in report["splits"].values() for shard in split["shards"])
        source = sum(os.path.getsize(f"{path}{suffix}") for path in recordings for suffix in (".hea", ".dat"))
        times: dict[str, list[float]] = {"wfdb.rdsamp": [], "build": [], "build, two processes": []}
        for _ in range(arguments.rounds):
            loop = _seconds(lambda: [wfdb.rdsamp(str(path)) for path in recordings])
            times["wfdb.rdsamp"].append(loop / len(recordings))
            for name, processes in (("build", 1), ("build, two processes", 2)):
                output = next(outputs)
                seconds = _seconds(lambda output=output, processes=processes: build_config(corpus, output, processes))
                times[name].append(seconds / len(recordings))
                shutil.rmtree(output)

    print(f"{built} of them built, {size / built * len(recordings) / source:.3f} of the WFDB files' size")
    print(f"{'':<22} {'records/s':>10} {'of rdsamp':>10}")
    for name, per_record in times.items():
        ratio = statistics.median(a / b for a, b in zip(times["wfdb.rdsamp"], per_record, strict=True))
        print(f"{name:<22} {1 / statistics.median(per_record):>10.0f} {ratio:>10.2f}")
    scaling = statistics.median(a / b for a, b in zip(times["build"], times["build, two processes"], strict=True))
    print(f"Two processes are {scaling:.2f} times one.")


if __name__ == "__main__":
    main()
