"""The ratings that raters gave: read back from their sheets, and summed up per system and criterion."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .agreement import IntraclassCorrelation, intraclass_correlation, krippendorff_alpha
from .bootstrap import Interval, resample
from .rating_criteria import CRITERIA, HIGHEST, LOWEST

_SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class RatedItem:
    """Which report was rated."""

    record: str
    system: str
    patient_id: str


@dataclass(frozen=True)
class Ratings:
    """Scores of items by raters.

    Attributes:
        raters: those who rated anything.
        items: the rated reports.
        scores: by criterion, float64 (items, raters), each 1 to 5, or nan where there is none.
        missing: by rater, how many scores are not there; also of those whose sheet is empty or was not read.
        comments: (rater, item, text), where a rater wrote one.
    """

    raters: tuple[str, ...]
    items: tuple[RatedItem, ...]
    scores: Mapping[str, np.ndarray]
    missing: Mapping[str, int]
    comments: tuple[tuple[str, RatedItem, str], ...] = ()


def read_ratings(sources: str | Path | Iterable[str | Path], key: str | Path) -> Ratings:
    """Read filled sheets.

    Args:
        sources: a folder, of which each `.csv` file is read, or the files. Their cells may be separated by commas,
            semicolons or tabs, as spreadsheets differ by country.
        key: `key.json`, as `write_rating_sheets` wrote it.

    Raises:
        ValueError: no sheet; one that is no UTF-8 text or lacks a column; a rater or code that the key does not know;
            a code that comes twice; two files of one rater; a score that is no whole number from 1 to 5; or no score at
            all. The message names file and row (as a spreadsheet counts, the header being row 1). An empty cell and a
            row that is not there are no errors but counted in `missing`.
    """
    paths = _paths(sources)
    raters, item_of = _read_key(Path(key))
    row_of = {code: row for row, code in enumerate(item_of)}
    problems: list[str] = []
    file_of: dict[str, Path] = {}
    scores: dict[str, np.ndarray] = {}
    comments = []
    for path in paths:
        rater, rows = _read_sheet(path)
        if rater not in raters:
            problems.append(f"{path}: rater {rater!r} is not in the key, which has {', '.join(raters)}")
            continue
        if rater in file_of:
            problems.append(f"{path}: rater {rater} has another file, {file_of[rater]}")
            continue
        file_of[rater] = path
        scores[rater] = np.full((len(CRITERIA), len(item_of)), np.nan)
        first_row: dict[str, int] = {}
        for number, row in rows:
            code = row["code"].strip()
            if code not in item_of:
                problems.append(f"{path}, row {number}: code {code!r} is not in the key")
                continue
            if code in first_row:
                problems.append(f"{path}, row {number}: code {code} stands in row {first_row[code]} already")
                continue
            first_row[code] = number
            for index, criterion in enumerate(CRITERIA):
                try:
                    scores[rater][index, row_of[code]] = _score(row[criterion])
                except ValueError as error:
                    problems.append(f"{path}, row {number}: {criterion} is {error}")
            if comment := row.get("comment", "").strip():
                comments.append((rater, item_of[code], comment))
    if problems:
        rest = f" (and {len(problems) - _SHOWN_PROBLEMS} more)" if len(problems) > _SHOWN_PROBLEMS else ""
        raise ValueError("; ".join(problems[:_SHOWN_PROBLEMS]) + rest)
    unread = np.full((len(CRITERIA), len(item_of)), np.nan)
    missing = {rater: int(np.count_nonzero(np.isnan(scores.get(rater, unread)))) for rater in raters}
    rated = tuple(rater for rater in raters if rater in scores and not np.isnan(scores[rater]).all())
    if not rated:
        raise ValueError(f"no sheet has a score: {', '.join(map(str, paths))}")
    by_criterion = {
        criterion: np.stack([scores[rater][index] for rater in rated], axis=1)
        for index, criterion in enumerate(CRITERIA)
    }
    return Ratings(rated, tuple(item_of.values()), by_criterion, missing, tuple(comments))


@dataclass(frozen=True)
class SystemScore:
    """A system's mean score on one criterion with its 95 % interval, and on how many reports it rests."""

    mean: Interval
    reports: int


@dataclass(frozen=True)
class Agreement:
    """How far raters agree on one criterion.

    Attributes:
        icc: of the reports that all raters rated; None for one rater, or fewer than two such reports.
        complete_reports: how many those are.
        alpha_ordinal, alpha_interval: Krippendorff's, of all scores; None where no report has two.
    """

    icc: IntraclassCorrelation | None
    complete_reports: int
    alpha_ordinal: float | None
    alpha_interval: float | None


@dataclass(frozen=True)
class RatingSummary:
    """Scores by system and criterion, agreement by criterion over the reports of all systems, and counts."""

    scores: Mapping[str, Mapping[str, SystemScore]]
    agreement: Mapping[str, Agreement]
    raters: tuple[str, ...]
    missing: Mapping[str, int]


def rating_summary(ratings: Ratings, resamples: int = 1000, seed: int = 0) -> RatingSummary:
    """Mean scores with bootstrap intervals over patients, and the agreement of the raters.

    A report's score is the mean over the raters who gave one; a report without any is left out of that criterion.
    The intervals hold for these raters: patients are resampled, raters are not; for one patient alone the bounds are
    NaN. A system without a score on a criterion has no entry for it.
    """
    systems = dict.fromkeys(item.system for item in ratings.items)
    scores: dict[str, dict[str, SystemScore]] = {system: {} for system in systems}
    for criterion, given in ratings.scores.items():
        for system in systems:
            rows = [
                row
                for row, item in enumerate(ratings.items)
                if item.system == system and not np.isnan(given[row]).all()
            ]
            if not rows:
                continue
            means = np.nanmean(given[rows], axis=1)
            patients = [ratings.items[row].patient_id for row in rows]
            drawn = resample(patients, {system: lambda indices, means=means: means[indices].mean()}, resamples, seed)
            scores[system][criterion] = SystemScore(drawn[system].interval(), len(rows))
    agreement = {criterion: _agreement(given) for criterion, given in ratings.scores.items()}
    return RatingSummary(scores, agreement, ratings.raters, ratings.missing)


def _agreement(scores: np.ndarray) -> Agreement:
    counts = np.count_nonzero(~np.isnan(scores), axis=1)
    complete = scores[counts == scores.shape[1]]
    has_pairs = bool((counts > 1).any())
    return Agreement(
        icc=intraclass_correlation(complete) if scores.shape[1] > 1 and len(complete) > 1 else None,
        complete_reports=len(complete),
        alpha_ordinal=krippendorff_alpha(scores, "ordinal") if has_pairs else None,
        alpha_interval=krippendorff_alpha(scores, "interval") if has_pairs else None,
    )


def _paths(sources: str | Path | Iterable[str | Path]) -> list[Path]:
    if not isinstance(sources, (str, Path)):
        paths = [Path(source) for source in sources]
    elif Path(sources).is_dir():
        paths = sorted(Path(sources).glob("*.csv"))
    else:
        paths = [Path(sources)]
    if not paths:
        raise ValueError(f"{sources}: no sheet; expected .csv files")
    return paths


def _read_key(path: Path) -> tuple[Sequence[str], dict[str, RatedItem]]:
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        items = {
            code: RatedItem(entry["record"], entry["system"], entry["patient_id"])
            for code, entry in key["items"].items()
        }
        return key["raters"], items
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a key of rating sheets ({error!r})") from error


def _read_sheet(path: Path) -> tuple[str, list[tuple[int, dict[str, str]]]]:
    """The rater of a sheet, and its rows with their numbers."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason}); save it as 'CSV UTF-8'") from error
    header = re.split(r"[\r\n]", text, maxsplit=1)[0]
    delimiter = max(",;\t", key=header.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV file ({error})") from error
    columns = [name.strip() for name in rows[0]] if rows else []
    absent = [name for name in ("rater", "code", *CRITERIA) if name not in columns]
    if absent:
        raise ValueError(f"{path}: no column {', '.join(absent)}; found {', '.join(columns) or 'nothing'}")
    entries = [
        (number, dict(zip(columns, row + [""] * (len(columns) - len(row)), strict=False)))
        for number, row in enumerate(rows[1:], start=2)
        if any(cell.strip() for cell in row)
    ]
    raters = {entry["rater"].strip() for _, entry in entries}
    if len(raters) != 1:
        found = ", ".join(sorted(map(repr, raters))) or "none"
        raise ValueError(f"{path}: one rater expected in the column rater, found {found}")
    return raters.pop(), entries


def _score(cell: str) -> float:
    """nan for an empty cell; otherwise the score."""
    cell = cell.strip()
    if not cell:
        return np.nan
    if not re.fullmatch(r"[0-9]+", cell) or not LOWEST <= int(cell) <= HIGHEST:
        raise ValueError(f"{cell!r}, expected a whole number from {LOWEST} to {HIGHEST}")
    return float(cell)
