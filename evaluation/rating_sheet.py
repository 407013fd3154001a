"""Blinded sheets on which people rate drafted reports: a CSV file and an HTML form for each rater, and the key."""

import base64
import csv
import dataclasses
import hashlib
import io
import json
import random
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from .rating_criteria import CRITERIA, HIGHEST, LOWEST

KEY_FILE = "key.json"
SHEETS = "sheets"
CRITERIA_FILE = "criteria.txt"
# Without vowels a code is no word; without digits no spreadsheet takes it for a number.
_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_CODE_LENGTH = 6
_RATER = re.compile(r"\w(?:[\w .-]{0,60}\w)?")
# Behind a semicolon, tab or line end too: where the list separator is a semicolon, a spreadsheet begins a new cell
# there, whatever the quotes say, and takes a quote of the text for that of the cell.
_FORMULA = re.compile(r"(^|[;\t\r\n])([ \t\"]*)(?=[=+\-@])")
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class RatingItem:
    """One report to rate.

    Attributes:
        record: id of the record.
        system: who drafted it; raters do not see it.
        patient_id: for intervals over patients; raters do not see it.
        draft: the report; may be empty.
        reference: the corpus' own report, where there is one.
        ecg_png: the record's plot, as the bytes of a PNG file or as its path. It must not name record or system.
    """

    record: str
    system: str
    patient_id: str
    draft: str
    reference: str | None = None
    ecg_png: bytes | str | Path | None = None


def write_rating_sheets(
    items: Sequence[RatingItem],
    folder: str | Path,
    raters: Sequence[str],
    notice: str,
    seed: int = 0,
    show_reference: bool = True,
) -> Path:
    """Write the sheets, and beside them the key, which must not go to the raters.

    Written are `key.json`, and in the folder `sheets`: `RATER.csv`, `RATER.html` (works offline, saves itself in the
    browser, downloads the filled `RATER.csv`) and `criteria.txt`. A report has the same code for all raters, and each
    rater gets the reports in another order. Codes and orders follow from seed and items together, so that who knows the
    seed alone cannot tell from them which system wrote a report. In the CSV file an apostrophe stands before what a
    spreadsheet would take for a formula. A second call with the same arguments writes what is missing and changes no
    sheet: one may be filled.

    Args:
        items: at most one per record and system.
        folder: where to; made where absent.
        raters: their names: letters, digits, spaces, `_`, `-` and `.`.
        notice: the sentence that stands beside each draft.
        seed: of the codes and the orders.
        show_reference: whether raters see the reference.

    Returns:
        The folder of the sheets.

    Raises:
        ValueError: no item, two of one record and system, no rater, an unusable name or two alike, a picture that is
            no PNG, or a folder that holds the sheets of other items.
    """
    _check(items, raters)
    key = _key(items, raters, seed, show_reference)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key_path = folder / KEY_FILE
    if key_path.exists() and json.loads(key_path.read_text(encoding="utf-8")) != key:
        raise ValueError(f"{key_path} is the key of other sheets: choose another folder, as ratings would be lost")
    key_path.write_text(json.dumps(key, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    sheets = folder / SHEETS
    sheets.mkdir(exist_ok=True)
    (sheets / CRITERIA_FILE).write_text(criteria_text(notice), encoding="utf-8")
    item_of = {(item.record, item.system): item for item in items}
    # By code, as the order in the key is that of records and systems, and each rater can undo a shuffle whose seed they
    # know.
    coded = [(code, item_of[entry["record"], entry["system"]]) for code, entry in sorted(key["items"].items())]
    columns = sheet_columns(show_reference)
    for rater in raters:
        order = list(coded)
        random.Random(f"{seed}/{rater}").shuffle(order)
        if not (path := sheets / f"{rater}.csv").exists():
            path.write_bytes(_csv(order, rater, columns, notice).encode("utf-8-sig"))
        page = _form(order, rater, columns, notice, key["study"])
        (sheets / f"{rater}.html").write_text(page, encoding="utf-8")
    return sheets


def sheet_columns(show_reference: bool) -> list[str]:
    """The columns of a CSV sheet."""
    return ["rater", "code", *["reference"] * show_reference, "draft", *CRITERIA, "comment", "notice"]


def spreadsheet_cell(text: str) -> str:
    """The text with an apostrophe before each place that a spreadsheet could take for the start of a formula."""
    return _FORMULA.sub(r"\1\2'", text)


def criteria_text(notice: str) -> str:
    """The criteria and what each score means, for raters who fill in the CSV file."""
    lines = [notice, "", f"Rate each report on each criterion with a whole number from {LOWEST} to {HIGHEST}."]
    for name, criterion in CRITERIA.items():
        lines += ["", f"{name}: {criterion.question}"]
        lines += [f"  {score}  {anchor}" for score, anchor in enumerate(criterion.anchors, start=LOWEST)]
    return "\n".join(lines) + "\n"


def _check(items: Sequence[RatingItem], raters: Sequence[str]) -> None:
    if not items:
        raise ValueError("no reports to rate: items is empty")
    if isinstance(raters, str) or not raters:
        raise ValueError(f"raters is {raters!r}, expected at least one name in a list")
    for rater in raters:
        if not _RATER.fullmatch(rater):
            raise ValueError(
                f"rater {rater!r}: expected up to 62 letters, digits, spaces, '_', '-' or '.', the first and last a "
                "letter or digit"
            )
    if len({rater.casefold() for rater in raters}) != len(raters):
        raise ValueError(f"raters {', '.join(raters)}: two have the same name, as file systems compare them")
    seen = set()
    for item in items:
        if (item.record, item.system) in seen:
            raise ValueError(f"record {item.record}, system {item.system}: there are two reports to rate")
        seen.add((item.record, item.system))
        if not isinstance(item.draft, str):
            raise ValueError(f"record {item.record}, system {item.system}: the draft is {item.draft!r}, not a text")


def _key(items: Sequence[RatingItem], raters: Sequence[str], seed: int, show_reference: bool) -> dict:
    """The content of `key.json`; the study's id changes with whatever the raters see, pictures left out."""
    ordered = sorted(items, key=lambda item: (item.record, item.system))
    shown = [[item.record, item.system, item.draft, item.reference] for item in ordered]
    criteria = {name: dataclasses.asdict(criterion) for name, criterion in CRITERIA.items()}
    digest = hashlib.sha256(json.dumps([shown, criteria, show_reference, seed]).encode()).hexdigest()
    # The study's id stands in the forms; the rest of the digest does not, and nobody without the key can compute it.
    study, secret = digest[:16], digest[16:]
    draw = random.Random(secret)
    codes: set[str] = set()
    entries = {}
    for item in ordered:
        while (code := "".join(draw.choices(_CODE_LETTERS, k=_CODE_LENGTH))) in codes:
            pass
        codes.add(code)
        entries[code] = {"record": item.record, "system": item.system, "patient_id": item.patient_id}
    return {"study": study, "seed": seed, "raters": list(raters), "items": entries}


def _csv(order: Sequence[tuple[str, RatingItem]], rater: str, columns: Sequence[str], notice: str) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    for code, item in order:
        row = {"rater": rater, "code": code, "reference": item.reference or "", "draft": item.draft, "notice": notice}
        writer.writerow({column: spreadsheet_cell(value) for column, value in row.items()})
    return text.getvalue()


def _form(order: Sequence[tuple[str, RatingItem]], rater: str, columns: Sequence[str], notice: str, study: str) -> str:
    pictures: dict[str, int] = {}
    rows = []
    for code, item in order:
        address = _picture(item)
        picture = None if address is None else pictures.setdefault(address, len(pictures))
        reference = (item.reference or "") if "reference" in columns else None
        rows.append({"code": code, "draft": item.draft, "reference": reference, "picture": picture})
    data = {
        "study": study,
        "rater": rater,
        "notice": notice,
        "columns": columns,
        "criteria": {name: dataclasses.asdict(criterion) for name, criterion in CRITERIA.items()},
        "items": rows,
        "pictures": list(pictures),
    }
    # No text can end the script element that holds it.
    script_data = json.dumps(data).replace("<", "\\u003c")
    template = Template(Path(__file__).with_name("rating_form.html").read_text(encoding="utf-8"))
    return template.substitute(rater=escape(rater), notice=escape(notice), data=script_data)


def _picture(item: RatingItem) -> str | None:
    if item.ecg_png is None:
        return None
    content = item.ecg_png if isinstance(item.ecg_png, bytes) else Path(item.ecg_png).read_bytes()
    if not content.startswith(_PNG):
        raise ValueError(f"record {item.record}: the picture of its ECG is no PNG file")
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")
