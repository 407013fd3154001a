"""The page is read back with a parser: what it shows, that it is safe, and that it needs nothing from outside."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from reporting.notice import DRAFT_NOTICE
from reporting.page import DraftedReport, write_page

SIGNAL = np.sin(np.linspace(0, 60, 5000)) * np.ones((12, 1))


class Page(HTMLParser):
    """Tags with attributes, and the text of each element that has any."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self._open = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if data.strip() and self._open and self._open[-1] != "style":
            self.text.append(data.strip())

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def drafted(**changes):
    fields = {
        "id": "ptb-xl/17",
        "draft": "Sinus rhythm.",
        "reference": "Normal ECG.",
        "signal_mv": SIGNAL,
        "sampling_rate": 500.0,
    }
    return DraftedReport(**{**fields, **changes})


def page(tmp_path, drafts, title="Drafts", facts=None):
    return Page(write_page(drafts, tmp_path / "deep" / "index.html", title, facts or {}).read_text("utf-8"))


def test_each_draft_has_plot_reports_scores_and_notice(tmp_path):
    drafts = [drafted(), drafted(id="b", draft="AF", reference="SR", scores={"ROUGE-L": 0.25})]
    shown = page(tmp_path, drafts, facts={"Data": "PTB-XL, fold 10", "Records": 145})
    assert len(shown.named("article")) == len(shown.named("img")) == 2
    for words in ("ptb-xl/17", "Sinus rhythm.", "Normal ECG.", "AF", "SR", "Data", "PTB-XL, fold 10", "145"):
        assert words in shown.text
    assert shown.text.count(DRAFT_NOTICE) == 3  # on top and beside every draft
    assert any("ROUGE-L 0.250" in text for text in shown.text)


def test_the_plot_is_inside_the_page_and_is_an_ecg(tmp_path):
    source = page(tmp_path, [drafted()]).named("img")[0]["src"]
    kind, data = source.split(",")
    assert kind == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    colours = {colour for _, colour in image.getcolors(1 << 24)}
    assert image.size[0] == pytest.approx(280 / 25.4 * 150, abs=1)
    assert len(colours) > 10


def test_nothing_comes_from_elsewhere(tmp_path):
    shown = page(tmp_path, [drafted()])
    addresses = [a[key] for _, a in shown.tags for key in ("src", "href", "srcset", "action") if key in a]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert not shown.named("script") + shown.named("link") + shown.named("iframe")
    html = (tmp_path / "deep" / "index.html").read_text("utf-8")
    assert "url(" not in html
    assert "@import" not in html


def test_text_is_never_markup(tmp_path):
    evil = "<script>alert('x')</script> & \"quoted\" <b>"
    shown = page(
        tmp_path,
        [drafted(id=evil, draft=evil, reference=evil, scores={evil: 1.0})],
        title=evil,
        facts={evil: evil},
    )
    assert not shown.named("script")
    assert not shown.named("b")
    assert shown.text.count(evil) == 7  # the title twice, the fact's name and value, id, draft, reference
    assert any(text.endswith(f"{evil} 1.000") for text in shown.text)
    assert shown.named("img")[0]["alt"].count(evil) == 1


def test_absent_reports_are_said_to_be_absent(tmp_path):
    shown = page(tmp_path, [drafted(draft=" \n", reference=None)])
    assert "the model wrote nothing" in shown.text
    assert "none for this recording" in shown.text


def test_it_fits_a_phone(tmp_path):
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page(tmp_path, [drafted()]).named(
        "meta"
    )


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_page([], tmp_path / "index.html", "Drafts", {})
    with pytest.raises(ValueError, match=r"recording ptb-xl/17: signal has shape \(3, 10\)"):
        write_page([drafted(signal_mv=np.zeros((3, 10)))], tmp_path / "index.html", "Drafts", {})
    assert not (tmp_path / "index.html").exists()
