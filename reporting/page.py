"""One self-contained HTML page: each recording's 12-lead plot beside its drafted and its reference report."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from .ecg_paper import plot_ecg, save_png
from .notice import DRAFT_NOTICE

DOTS_PER_INCH = 150

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f5f4; color: #1c1917; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.05rem; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h3 { font-size: .8rem; letter-spacing: .04em; text-transform: uppercase; color: #57534e; margin: 0 0 .3rem; }
.notice { background: #fef3c7; border-left: 4px solid #b45309; padding: .6rem .9rem; margin: 0 0 1.25rem; }
article { background: #fff; border: 1px solid #e7e5e4; border-radius: 8px; padding: 1rem;
  margin: 0 0 1.25rem; }
.paper { overflow-x: auto; margin: 0 0 1rem; }
.paper img { display: block; width: 100%; min-width: 720px; height: auto; }
.reports { display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: 1rem 2rem; }
.report { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.draft .notice { font-size: .85rem; padding: .3rem .6rem; margin: .6rem 0 0; }
.absent { color: #78716c; font-style: italic; }
table { border-collapse: collapse; width: 100%; background: #fff; margin: 0 0 1.5rem; }
th, td { border: 1px solid #e7e5e4; padding: .35rem .6rem; text-align: left; vertical-align: top; }
th { width: 12rem; font-weight: 600; }
td { white-space: pre-line; overflow-wrap: anywhere; }
.scores { color: #57534e; font-size: .85rem; margin: .9rem 0 0; }
.hint { display: none; color: #57534e; font-size: .85rem; margin: 0 0 1rem; }
@media screen and (max-width: 780px) {
  .hint { display: block; }
  tr, th, td { display: block; width: auto; }
  td { border-top: 0; margin-bottom: .4rem; }
}
@media print { body { background: #fff; } article { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class DraftedReport:
    """A recording with the report drafted for it.

    `signal_mv` is (12, samples) in mV with the leads I, II, III, aVR, aVL, aVF, V1 to V6; `sampling_rate`
    is in Hz; `reference` is the corpus' own report where there is one; `scores` are figures of this draft
    against it, by name.
    """

    id: str
    draft: str
    reference: str | None
    signal_mv: np.ndarray
    sampling_rate: float
    scores: Mapping[str, float] | None = None


def write_page(drafts: Sequence[DraftedReport], path: str | Path, title: str, facts: Mapping[str, object]) -> Path:
    """Write one HTML file that needs nothing else: no script, no font and no picture from elsewhere.

    Args:
        drafts: shown in the given order; at least one.
        path: of the HTML file; its folder is made where absent.
        title: the page's heading.
        facts: what the reader must know to judge the drafts (data, number of records, backbone, commands,
            metrics), printed as a table of name and value.
    Returns:
        The path written.
    Raises:
        ValueError: no drafts, or a signal that `plot_ecg` refuses (the message names the recording).
    """
    if not drafts:
        raise ValueError("no drafted reports: a page needs at least one")
    rows = "".join(
        f"<tr><th scope='row'>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p class="notice" role="note">{escape(DRAFT_NOTICE)}</p>
{f"<table><tbody>{rows}</tbody></table>" if rows else ""}
{"".join(_article(draft) for draft in drafts)}</main>
</body>
</html>
"""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _article(drafted: DraftedReport) -> str:
    name = escape(drafted.id)
    scores = ""
    if drafted.scores:
        figures = " · ".join(f"{escape(metric)} {value:.3f}" for metric, value in drafted.scores.items())
        scores = f"<p class='scores'>Wording against the reference: {figures}</p>\n"
    return f"""<article>
<h2>{name}</h2>
<div class="paper" tabindex="0">
<img alt="12-lead ECG of {name}, 25 mm/s, 10 mm/mV" src="{_picture(drafted)}">
</div>
<p class="hint">Scroll the ECG sideways to see all leads.</p>
<div class="reports">
<section class="draft"><h3>Drafted report</h3>{_report(drafted.draft, "the model wrote nothing")}
<p class="notice" role="note">{escape(DRAFT_NOTICE)}</p></section>
<section><h3>Reference report</h3>{_report(drafted.reference, "none for this recording")}</section>
</div>
{scores}</article>
"""


def _report(text: str | None, otherwise: str) -> str:
    if text and text.strip():
        return f"<p class='report'>{escape(text.strip())}</p>"
    return f"<p class='absent'>{otherwise}</p>"


def _picture(drafted: DraftedReport) -> str:
    """The plot as a PNG inside a data: address."""
    try:
        figure = plot_ecg(drafted.signal_mv, drafted.sampling_rate)
    except ValueError as error:
        raise ValueError(f"recording {drafted.id}: {error}") from error
    buffer = io.BytesIO()
    save_png(figure, buffer, DOTS_PER_INCH)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
