"""What must not stand in any published file: pickles, places on this machine, and of models what names a patient."""

import json
import os
import pickletools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from safetensors import SafetensorError, safe_open

from .upload import UploadFile

PICKLE_SUFFIXES = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
# First bytes -> what they begin. What is inside an archive cannot be checked; torch.save writes a zip of pickles.
ARCHIVES = {
    b"PK\x03\x04": "a zip archive, as torch.save writes it around pickles",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"(\xb5/\xfd": "a zstd archive",
}
_LAST_PICKLE_PROTOCOL = b"\x05"
_SHORTEST_PICKLE = 4  # instructions; "N." are two, and a text too
_LARGEST_TEXT = 64 * 2**20  # bytes
# A tokenizer's vocabulary holds any string, paths included; where it was made stands in tokenizer_config.json.
VOCABULARIES = {
    "tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json", "tokenizer.model", "spiece.model",
}  # fmt: skip

# A JSON value that is a path, whatever it begins with.
_PATH_VALUE = re.compile(r"/\w|~/|[A-Za-z]:[\\/]|\\\\|file:")
# A path inside a text. Two parts at least behind something that may stand before a path, so that neither "and/or" nor
# an address nor a division is one; not what every Unix has, nor what tutorials write.
_PATH_IN_TEXT = re.compile(
    r"""(?:(?<=[\s"'`=(\[{,:;<>|])|^)(?:
        /(?!/|usr/|dev/|proc/|sys/|bin/|etc/|path/to)[\w.@+-]*[A-Za-z0-9_][\w.@+-]*/[\w.@+-]+
        | /(?:home|Users|root|tmp|mnt)/\w[\w.@+-]*
        | ~[\w-]*/\w[\w.@+-]*
        | [A-Za-z]:(?:\\{1,2}|/)\w[\w .@+-]*[\\/]
        | \\\\\w[\w.-]*\\\w
        )|file:/{1,3}\w""",
    re.VERBOSE | re.MULTILINE,
)

# Files that hold recordings, or rows of patients, by the end of the name or by their first bytes.
RECORDING_SUFFIXES = {
    ".hea", ".dat", ".atr", ".dcm", ".xml", ".edf", ".bdf", ".scp", ".ecg", ".mwf", ".mat", ".npy", ".npz", ".h5",
    ".hdf5", ".parquet", ".arrow", ".feather", ".csv", ".tsv", ".xls", ".xlsx", ".jsonl", ".ndjson", ".db", ".sqlite",
}  # fmt: skip
RECORDING_MAGIC = (b"PAR1", b"ARROW1", b"\x93NUMPY", b"\x89HDF\r\n\x1a\n", b"SQLite format 3", b"ISHNE1.0", b"MATLAB")
NOT_OF_PATIENTS = {"loss_curve.csv"}
# Names of JSON fields that tell one patient or recording from another; compared in lower case without "_" and "-".
_ID_FIELDS = {
    f"{what}{ending}"
    for what in ("patient", "subject", "study", "ecg", "record", "recording", "waveform")
    for ending in ("id", "ids")
} | {"patientname", "patientbirthdate", "birthdate", "dateofbirth", "dob", "mrn", "medicalrecordnumber", "hadmid"}
# Subject and study ids as MIMIC's paths write them: p10000032, s40689238 (Gow et al. 2023).
_MIMIC_ID = re.compile(r"(?<![A-Za-z0-9])(?:p1\d{7}|s4\d{7})(?!\d)")


def content_problems(files: Iterable[UploadFile], folder: Path, of_patients: bool) -> list[str]:
    """What keeps files from being published, as sentences that begin with a file's name.

    Nothing is unpickled: a pickle is told by its first bytes and its instructions. Identifiers are told by the names of
    JSON fields, by MIMIC's spelling, and by kinds of files that have no place beside a model; a bare number or a name
    in prose is not told from any other.

    Args:
        files: what would go up.
        folder: where they come from; its own path may stand in none of them.
        of_patients: the files are a dataset, whose rows have the corpus' own pseudonyms.
    """
    places = {os.path.abspath(folder), str(folder.resolve())}
    problems = []
    for file in files:
        found = pickle_problem(file)
        if found is None and not of_patients:
            found = _recording_problem(file)
        found = [found] if found is not None else [*_text_problems(file, of_patients)]
        problems += found or _own_path_problems(file, places)
    return problems


def link_problems(folder: Path, names: Iterable[str]) -> list[str]:
    """What of `names` in a folder is no file in it: a link that leads out, to a folder, or nowhere.

    Who pushes a folder does not mean other places.
    """
    root, problems = folder.resolve(), []
    for name in names:
        place = (folder / name).resolve()
        if not place.is_relative_to(root):
            problems.append(f"{name}: a link out of the folder, to {place}")
        elif not place.is_file():
            problems.append(f"{name}: no file")
    return problems


def _head(file: UploadFile, size: int) -> bytes:
    if isinstance(file.content, bytes):
        return file.content[:size]
    with file.content.open("rb") as opened:
        return opened.read(size)


def pickle_problem(file: UploadFile) -> str | None:
    """What makes a file a pickle, or an archive that may hold one, if anything does."""
    if Path(file.name).suffix.lower() in PICKLE_SUFFIXES:
        return f"{file.name}: a pickle runs code when it is read; save weights as safetensors"
    head = _head(file, 16)
    for magic, what in ARCHIVES.items():
        if head.startswith(magic):
            return f"{file.name}: {what}; what is inside cannot be checked"
    if (head[:1] == b"\x80" and b"\x02" <= head[1:2] <= _LAST_PICKLE_PROTOCOL) or _is_old_pickle(file):
        return f"{file.name}: a pickle under another name; it runs code when it is read"
    return None


def _is_old_pickle(file: UploadFile) -> bool:
    """Whether a file is a pickle of protocol 0 or 1, which has no first bytes of its own.

    Its instructions are read, not run; those of anything else soon make no sense.
    """
    if file.size > _LARGEST_TEXT or not (content := file.read()).rstrip().endswith(b"."):
        return False
    try:
        return sum(1 for _ in pickletools.genops(content)) >= _SHORTEST_PICKLE
    except (ValueError, IndexError, UnicodeError, OverflowError):
        return False


def _recording_problem(file: UploadFile) -> str | None:
    name = Path(file.name)
    if name.name in NOT_OF_PATIENTS:
        return None
    if name.suffix.lower() in RECORDING_SUFFIXES or _head(file, 16).startswith(RECORDING_MAGIC):
        return f"{file.name}: a recording or a table, which may hold patients; it has no place beside a model"
    if _head(file, 132)[128:] == b"DICM":
        return f"{file.name}: a DICOM file, which may name a patient; it has no place beside a model"
    return None


def _own_path_problems(file: UploadFile, places: set[str]) -> list[str]:
    text = _text(file) or ""
    return [f"{file.name}: the path of this folder stands in it: {place}" for place in places if place in text]


def _text_problems(file: UploadFile, of_patients: bool) -> Iterator[str]:
    """Local paths and patients in whatever of a file is text: all of it, or the notes of a binary format."""
    suffix = Path(file.name).suffix
    if suffix == ".safetensors":
        yield from _json_problems(file.name, _safetensors_notes(file), of_patients)
        return
    if suffix == ".parquet":
        yield from _parquet_problems(file)
        return
    text = _text(file)
    if text is None or Path(file.name).name in VOCABULARIES:
        return
    if suffix == ".json":
        try:
            yield from _json_problems(file.name, json.loads(text), of_patients)
        except (ValueError, RecursionError) as error:
            yield f"{file.name}: not valid JSON ({error})"
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _PATH_IN_TEXT.search(line):
            yield f"{file.name}: line {number} holds a path of this machine: {match[0]}"
        if not of_patients and (match := _MIMIC_ID.search(line)):
            yield f"{file.name}: line {number} holds the id of a patient or study of MIMIC-IV: {match[0]}"


def _text(file: UploadFile) -> str | None:
    """What is no text has zeros in it; a text that is not UTF-8 has its paths in ASCII all the same."""
    if file.size > _LARGEST_TEXT or b"\0" in _head(file, 8192):
        return None
    return file.read().decode("utf-8", errors="replace")


def _json_problems(name: str, document: Any, of_patients: bool) -> Iterator[str]:
    for key, value in _fields(document):
        field = re.sub(r"\[\d+\]$", "", key).rpartition(".")[2]
        if not of_patients and re.sub(r"[_-]", "", field).lower() in _ID_FIELDS and value not in (None, "", [], {}):
            yield f"{name}: {key} names a patient or a recording of one"
        if not isinstance(value, str):
            continue
        if _PATH_VALUE.match(value):
            yield f"{name}: {key} is a path of this machine: {value}"
        elif match := _PATH_IN_TEXT.search(value):
            yield f"{name}: {key} holds a path of this machine: {match[0]}"
        if not of_patients and (match := _MIMIC_ID.search(value)):
            yield f"{name}: {key} holds the id of a patient or study of MIMIC-IV: {match[0]}"


def _fields(document: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a JSON document that is no object or list, and each name, with the dotted key it stands at."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield key or "the document", name
            yield from _fields(value, f"{key}.{name}" if key else name)
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from _fields(value, f"{key}[{index}]")
    else:
        yield key or "the document", document


def _safetensors_notes(file: UploadFile) -> dict[str, str]:
    try:
        with safe_open(file.content, framework="numpy") as weights:
            return weights.metadata() or {}
    except (SafetensorError, OSError):
        return {}  # whoever reads its weights says so


def _parquet_problems(file: UploadFile) -> Iterator[str]:
    try:
        notes = pyarrow.parquet.read_schema(file.content).metadata or {}
    except (pyarrow.ArrowException, OSError) as error:
        yield f"{file.name}: not a readable Parquet file ({error})"
        return
    for key, value in notes.items():
        if match := _PATH_IN_TEXT.search(value.decode("utf-8", errors="replace")):
            yield f"{file.name}: the schema's {key.decode()} holds a path of this machine: {match[0]}"
