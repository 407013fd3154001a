"""One self-contained HTML page to read a system's errors in, the most harmful first."""

import base64
import heapq
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

from evaluation.finding import Finding
from evaluation.finding_classes import FINDING_CLASSES
from reporting.page import STYLE

SCRIPT = Path(__file__).with_name("error_browser.js")
# kind of error -> what its chip says
KINDS = {
    "critical_missed": "missed, critical",
    "contradicted": "contradicts",
    "hallucinated": "invented",
    "omitted": "missed",
}
RIGHT = "right"
# The graver first.
OF_DRAFT = ("contradicted", "hallucinated")
OF_REFERENCE = ("critical_missed", "omitted")
SIGNAL = "signal"
# field of `Measurements` -> name, unit, format
QUANTITIES = {
    "heart_rate_bpm": ("the heart rate", " bpm", ".0f"),
    "rr_irregularity": ("the coefficient of variation of RR", "", ".3f"),
    "pr_ms": ("PR", " ms", ".0f"),
    "qrs_ms": ("QRS", " ms", ".0f"),
    "qt_ms": ("QT", " ms", ".0f"),
    "qtc_ms": ("QTc", " ms", ".0f"),
    "axis_degrees": ("the axis", " degrees", ".0f"),
}
FIELDS = ("id", "system", "draft", "reference", "findings", "signal", "harm")

OWN_STYLE = """
form { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: end;
  background: #f5f5f4; border-bottom: 1px solid #d6d3d1; padding: .6rem 0; margin: 0 0 1rem; }
label { font-size: .8rem; color: #57534e; }
label input, label select { display: block; font: 1rem system-ui, sans-serif; padding: .25rem .4rem; max-width: 17rem;
  border: 1px solid #78716c; border-radius: 4px; background: #fff; color: inherit; }
button { font: inherit; padding: .25rem .8rem; border: 1px solid #78716c; border-radius: 4px; background: #fff; }
:focus-visible { outline: 3px solid #1d4ed8; outline-offset: 2px; }
article:focus { outline: none; }
#count { margin: 0; padding: .25rem 0; }
h4 { font-size: .8rem; font-weight: 600; color: #57534e; margin: .7rem 0 .2rem; }
.chips ul { list-style: none; display: flex; flex-wrap: wrap; gap: .35rem; margin: 0; padding: 0; }
.chip { border: 1px solid #d6d3d1; border-radius: 4px; padding: 0 .45rem; font-size: .85rem; overflow-wrap: anywhere; }
.chip b { text-transform: uppercase; font-size: .7rem; letter-spacing: .03em; }
.chip.omitted { background: #fef3c7; border: 1px dashed #92400e; color: #78350f; }
.chip.hallucinated { background: #fee2e2; border: 1px solid #b91c1c; color: #7f1d1d; }
.chip.contradicted { background: #f3e8ff; border: 2px solid #7e22ce; color: #581c87; }
.chip.critical_missed { background: #991b1b; border: 1px solid #991b1b; color: #fff; }
.signal { border-left: 4px solid #7e22ce; padding-left: .6rem; margin: .9rem 0 0; }
@media screen and (max-width: 780px) { form { position: static; } }
@media print { form { position: static; } button, label, .hint { display: none; } .chip { print-color-adjust: exact; } }
"""


def write_error_browser(
    records: Iterable[Mapping[str, Any]],
    path: str | Path,
    title: str,
    facts: Mapping[str, object],
    notice: str,
    plot: Callable[[str], bytes | None] | None = None,
    plots: int = 20,
    per_system: int = 1000,
) -> Path:
    """Write one HTML file with the drafts sorted by harm, to filter and to search.

    It needs nothing else, works offline, and runs no script but its own: drafts are shown as text. Memory and file
    grow with what is shown, not with `records`.

    Args:
        records: of a `records.jsonl`; read once. Only those drafted with the right ECG are shown, sorted by their
            "harm".
        path: of the HTML file; its folder is made where absent.
        title: the page's heading.
        facts: what the reader must know to judge the drafts, printed as a table of name and value.
        notice: the sentence that stands beside every draft.
        plot: the id of a record -> its ECG as a PNG, or None where there is none.
        plots: so many recordings at most, from the first on, are drawn.
        per_system: so many drafts of each system, the most harmful ones.

    Returns:
        The path written.

    Raises:
        ValueError: no records to show, or one that lacks a field or states what is no finding (the message names it).
    """
    kept, read = _most_harmful(records, per_system)
    if not kept:
        raise ValueError("no drafts with the right ECG: an error browser needs at least one")
    systems = list(read)
    if len(kept) < read.total():
        facts = dict(facts) | {"Shown": f"{len(kept):,} of {read.total():,} drafts, the most harmful of each system"}
    shown = [_checked(record, systems) for record in kept]
    drawn: dict[str, str] = {}
    for name in list(dict.fromkeys(record["id"] for record in shown))[:plots] if plot else ():
        if png := plot(name):
            drawn[name] = base64.b64encode(png).decode("ascii")
    data = {
        "records": shown,
        "plots": drawn,
        "systems": systems,
        "notice": notice,
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_page(title, facts, notice, data), encoding="utf-8")
    return path


def _most_harmful(
    records: Iterable[Mapping[str, Any]], per_system: int
) -> tuple[list[Mapping[str, Any]], Counter[str]]:
    """The records to show, the most harmful first and else in their order, and how many each system has."""
    read: Counter[str] = Counter()
    heaps: dict[str, list[tuple[int, int, Mapping[str, Any]]]] = {}
    drafted = (record for record in records if record.get("shown", RIGHT) == RIGHT)
    for number, record in enumerate(drafted):
        if missing := [field for field in FIELDS if record.get(field) is None]:
            raise ValueError(f"record {record.get('id', number)!r}: no {', '.join(missing)}")
        system = record["system"]
        read[system] += 1
        keep = heapq.heappush if read[system] <= per_system else heapq.heappushpop
        keep(heaps.setdefault(system, []), (record["harm"], -number, record))
    entries = sorted((entry for heap in heaps.values() for entry in heap), key=lambda entry: entry[:2], reverse=True)
    return [record for _, _, record in entries], read


def _checked(record: Mapping[str, Any], systems: list[str]) -> dict[str, Any]:
    try:
        return _shown(record, systems)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"record {record['id']!r} of {record['system']!r}: {error!r}") from error


def _shown(record: Mapping[str, Any], systems: list[str]) -> dict[str, Any]:
    """What the page holds of a record."""
    found = record["findings"]
    stated = {part: [Finding.parse(text) for text in found[part]] for part in ("draft", "reference", "scp")}
    errors = {kind: list(found[kind]) for kind in KINDS}
    codes = {finding.code for findings in stated.values() for finding in findings}
    wrong = {kind: sorted({label.partition(":")[0] for label in labels}) for kind, labels in errors.items() if labels}
    codes = sorted(codes.union(*wrong.values()))
    if record["signal"]:
        wrong[SIGNAL] = [check["statement"] for check in record["signal"] if check["statement"] in FINDING_CLASSES]
    return {
        "id": str(record["id"]),
        "system": systems.index(record["system"]),
        "draft": record["draft"],
        "reference": record["reference"],
        "findings": {
            "draft": _chips(stated["draft"], {kind: errors[kind] for kind in OF_DRAFT}),
            "reference": _chips(stated["reference"], {kind: errors[kind] for kind in OF_REFERENCE}),
            "scp": _chips(stated["scp"], {}),
        },
        "errors": wrong,
        "codes": codes,
        "signal": [_check_in_words(check) for check in record["signal"]],
        "scores": [f"{name} {value:.3f}" for name, value in (record.get("scores") or {}).items() if _is_number(value)],
    }


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _chips(findings: Iterable[Finding], errors: Mapping[str, Collection[str]]) -> list[dict[str, str]]:
    """A chip for each finding with the gravest error that it is, and one for each error that no finding carries."""
    chips, placed = [], set()
    for finding in findings:
        hits = {kind: _hit(finding, kind, labels) for kind, labels in errors.items()}
        placed |= {(kind, label) for kind, labels in hits.items() for label in labels}
        kind = next((kind for kind, labels in hits.items() if labels), "")
        # Only a site may be wrong.
        sites = [] if finding.code in hits.get(kind, ()) else [label.partition(":")[2] for label in hits.get(kind, ())]
        mark = ": ".join(filter(None, [KINDS.get(kind), ", ".join(sites)]))
        mark += ", critical" if kind == "hallucinated" and finding.is_critical else ""
        chips.append({"text": _in_words(finding), "kind": kind, "mark": mark})
    chips += [
        {"text": _label_in_words(label), "kind": kind, "mark": KINDS[kind]}
        for kind, labels in errors.items()
        for label in labels
        if (kind, label) not in placed
    ]
    return chips


def _hit(finding: Finding, kind: str, wrong: Collection[str]) -> list[str]:
    """The labels of a finding that are an error of a kind."""
    # What a report denies it can contradict with, but neither invent nor leave out.
    if (finding.is_negated and kind != "contradicted") or (kind == "critical_missed" and not finding.is_critical):
        return []
    return [label for label in replace(finding, is_negated=False).labels if label in wrong]


def _in_words(finding: Finding) -> str:
    certainty = None if finding.certainty == "certain" else finding.certainty
    said = ", ".join(filter(None, [*finding.sites, finding.age, certainty]))
    words = f"{finding.code} {FINDING_CLASSES[finding.code].name}"
    return ("no " if finding.is_negated else "") + words + (f" ({said})" if said else "")


def _label_in_words(label: str) -> str:
    code, _, site = label.partition(":")
    return _in_words(Finding(code, (site,) if site else ()))


def _check_in_words(check: Mapping[str, Any]) -> str:
    """A statement that the signal contradicts, as `evaluation.signal_check.Check` describes it."""
    statement, (low, high) = check["statement"], check["expected"]
    name, unit, form = QUANTITIES[check["quantity"]]
    said = _label_in_words(statement) if statement in FINDING_CLASSES else statement
    if low is None:
        expected = f"at most {high:{form}}"
    else:
        expected = f"at least {low:{form}}" if high is None else f"{low:{form}} to {high:{form}}"
    return f"The draft says {said}, but {name} is {check['measured']:{form}}{unit}; expected {expected}{unit}."


def _page(title: str, facts: Mapping[str, object], notice: str, data: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    script, style = SCRIPT.read_text(encoding="utf-8"), STYLE + OWN_STYLE
    policy = (
        f"default-src 'none'; img-src data:; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "form-action 'none'; base-uri 'none'"
    )
    # Within a script element only "<" can end it.
    embedded = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p class="notice" role="note">{escape(notice)}</p>
{f"<table><tbody>{rows}</tbody></table>" if rows else ""}
<noscript><p>This page shows its drafts with the help of a script of its own, which is switched off.</p></noscript>
<form id="filters" role="search" aria-label="Drafts">
{_select("system", "System", "all systems", dict(enumerate(data["systems"])))}
{_select("kind", "Error", "all drafts", _kinds(data["records"]))}
{_select("finding", "Finding", "any finding", _findings(data["records"]))}
<label>Words in id or reports <input id="search" type="search" autocomplete="off"></label>
<button type="reset">Reset</button>
<p id="count" aria-live="polite"></p>
</form>
<div id="records"></div>
<button id="more" type="button">Show more</button>
<div id="end"></div>
</main>
<script type="application/json" id="data">{embedded}</script>
<script>{script}</script>
</body>
</html>
"""


def _digest(text: str) -> str:
    """As a Content-Security-Policy names what it lets run."""
    return "sha256-" + base64.b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")


def _select(name: str, label: str, everything: str, options: Mapping[Any, str]) -> str:
    listed = "".join(f'<option value="{escape(str(value))}">{escape(text)}</option>' for value, text in options.items())
    return f'<label>{label} <select id="{name}"><option value="">{everything}</option>{listed}</select></label>'


def _kinds(records: list[dict[str, Any]]) -> dict[str, str]:
    """Kinds of error, each with the number of drafts that have it."""
    drafts = Counter(kind for record in records for kind in record["errors"])
    words = {
        "critical_missed": "critical finding missed",
        "hallucinated": "finding invented",
        "contradicted": "reference contradicted",
        "omitted": "finding missed",
        SIGNAL: "contradicted by the signal",
    }
    free = sum(not record["errors"] for record in records)
    return {kind: f"{text} ({drafts[kind]:,})" for kind, text in words.items()} | {"none": f"no error ({free:,})"}


def _findings(records: list[dict[str, Any]]) -> dict[str, str]:
    """The findings that any report states, in the order of their classes."""
    codes = {code for record in records for code in record["codes"]}
    return {code: _label_in_words(code) for code in FINDING_CLASSES if code in codes}
