"""The page's data is read back, and where there is a browser, so is what it makes of it."""

import dataclasses
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from evaluation.measurements import Measurements
from reporting.notice import DRAFT_NOTICE
from tasks.error_browser import QUANTITIES, write_error_browser

HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\"> & <!--"


def record(number=0, system="model", harm=0, **changes):
    findings = {
        "draft": [],
        "reference": [],
        "scp": [],
        "hallucinated": [],
        "omitted": [],
        "critical_missed": [],
        "contradicted": [],
    }
    line = {
        "id": f"ptb-xl/{number}",
        "patient_id": "1",
        "system": system,
        "shown": "right",
        "ecg_of": f"ptb-xl/{number}",
        "draft": "Sinus rhythm.",
        "reference": "Atrial fibrillation.",
        "findings": findings | changes.pop("findings", {}),
        "signal": [],
        "scores": {"ROUGE-L": 0.25, "METEOR": None},
        "harm": harm,
    }
    return line | changes


def page(tmp_path, records, facts=None, **options):
    path = write_error_browser(
        records, tmp_path / "deep" / "errors.html", "Errors", facts or {}, DRAFT_NOTICE, **options
    )
    return path.read_text(encoding="utf-8")


def data(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def chips(tmp_path, **findings):
    """Each chip of the draft and of the reference as (mark, text)."""
    (shown,) = data(page(tmp_path, [record(findings=findings)]))["records"]
    return tuple([(chip["mark"], chip["text"]) for chip in shown["findings"][part]] for part in ("draft", "reference"))


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def test_the_most_harmful_come_first_and_equals_in_their_order(tmp_path):
    records = [record(number, harm=harm) for number, harm in enumerate([1, 5, 0, 5])]
    assert [shown["id"] for shown in data(page(tmp_path, records))["records"]] == [
        "ptb-xl/1",
        "ptb-xl/3",
        "ptb-xl/0",
        "ptb-xl/2",
    ]


def test_of_many_drafts_each_system_keeps_its_most_harmful_and_the_page_says_so(tmp_path):
    records = (record(number, system, harm=number) for number in range(50) for system in ("a", "b"))
    html = page(tmp_path, records, per_system=3)
    found = data(html)
    assert [(shown["id"], found["systems"][shown["system"]]) for shown in found["records"]] == [
        (f"ptb-xl/{number}", system) for number in (49, 48, 47) for system in ("a", "b")
    ]
    assert "6 of 100 drafts, the most harmful of each system" in html


def test_drafts_for_other_ecgs_are_not_shown(tmp_path):
    records = [record(0), record(1, shown="other"), record(2, shown="muscle 6 dB")]
    assert [shown["id"] for shown in data(page(tmp_path, records))["records"]] == ["ptb-xl/0"]


def test_findings_are_marked_by_the_error_that_they_are(tmp_path):
    draft, reference = chips(
        tmp_path,
        draft=["SR", "LVH[possible]", "NORM", "PACE"],
        reference=["SR", "AFIB", "TC"],
        hallucinated=["LVH", "PACE"],
        contradicted=["NORM"],
        omitted=["AFIB", "TC"],
        critical_missed=["AFIB"],
    )
    assert draft == [
        ("", "SR sinus rhythm"),
        ("invented", "LVH left ventricular hypertrophy or its voltage criteria (possible)"),
        ("contradicts", "NORM normal ECG, also otherwise normal or normal but for the rate"),
        ("invented, critical", "PACE paced rhythm or artificial pacemaker"),
    ]
    assert reference == [
        ("", "SR sinus rhythm"),
        ("missed, critical", "AFIB atrial fibrillation"),
        ("missed", "TC T wave change, not further specified"),
    ]


def test_a_site_alone_may_be_wrong(tmp_path):
    draft, reference = chips(
        tmp_path,
        draft=["MI[septal,inferior;old]"],
        reference=["MI[anterior,septal;old]"],
        hallucinated=["MI:inferior"],
        omitted=["MI:anterior"],
    )
    assert draft == [("invented: inferior", "MI myocardial infarction (septal, inferior, old)")]
    assert reference == [("missed: anterior", "MI myocardial infarction (anterior, septal, old)")]


def test_of_two_infarctions_the_acute_one_is_critical(tmp_path):
    _, reference = chips(
        tmp_path, reference=["MI[inferior;acute]", "MI[anterior;old]"], omitted=["MI"], critical_missed=["MI"]
    )
    assert [mark for mark, _ in reference] == ["missed, critical", "missed"]


def test_what_a_draft_denies_contradicts_but_is_not_invented(tmp_path):
    draft, reference = chips(
        tmp_path, draft=["no STE"], reference=["STE"], hallucinated=["STE"], contradicted=["STE"], omitted=["STE"]
    )
    assert draft == [("contradicts", "no STE ST elevation"), ("invented", "STE ST elevation")]
    assert reference == [("missed", "STE ST elevation")]


def test_an_error_that_no_finding_carries_has_a_chip_of_its_own(tmp_path):
    draft, reference = chips(tmp_path, draft=["LAFB"], scp=["AFIB"], hallucinated=["LAX"], critical_missed=["AFIB"])
    assert draft == [
        ("", "LAFB left anterior fascicular block"),
        ("invented", "LAX leftward axis or left axis deviation"),
    ]
    assert reference == [("missed, critical", "AFIB atrial fibrillation")]


def test_filters_offer_the_kinds_of_error_with_their_numbers_and_the_findings_that_occur(tmp_path):
    records = [
        record(0, findings={"draft": ["SR"], "hallucinated": ["SR"]}),
        record(1, findings={"reference": ["MI[anterior]"], "omitted": ["MI", "MI:anterior"]}),
        record(2, signal=[check("SBRAD")]),
        record(3),
    ]
    html = page(tmp_path, records)
    found = data(html)["records"]
    assert [shown["errors"] for shown in found] == [
        {"hallucinated": ["SR"]},
        {"omitted": ["MI"]},
        {"signal": ["SBRAD"]},
        {},
    ]
    for option in ("finding invented (1)", "finding missed (1)", "contradicted by the signal (1)", "no error (1)"):
        assert f">{option}</option>" in html
    assert re.findall(r'<option value="([A-Z]+)">', html) == ["SR", "MI"]
    assert found[0]["scores"] == ["ROUGE-L 0.250"]


def check(statement, quantity="heart_rate_bpm", measured=81.6, expected=(0, 65)):
    return {"statement": statement, "quantity": quantity, "measured": measured, "expected": list(expected)}


@pytest.mark.parametrize(
    ("contradicted", "words"),
    [
        (check("SBRAD"), "SBRAD sinus bradycardia, but the heart rate is 82 bpm; expected 0 to 65 bpm."),
        (check("rate 45/min", expected=(40, 50)), "rate 45/min, but the heart rate is 82 bpm; expected 40 to 50 bpm."),
        (
            check("AFIB", "rr_irregularity", 0.0123, (0.03, None)),
            "AFIB atrial fibrillation, but the coefficient of variation of RR is 0.012; expected at least 0.030.",
        ),
        (
            check("SQT", "qtc_ms", 480.2, (None, 400)),
            "SQT short QT interval, but QTc is 480 ms; expected at most 400 ms.",
        ),
    ],
)
def test_what_the_signal_contradicts_is_said_in_words(tmp_path, contradicted, words):
    (shown,) = data(page(tmp_path, [record(signal=[contradicted])]))["records"]
    assert shown["signal"] == [f"The draft says {words}"]


def test_every_measured_quantity_has_a_name():
    assert set(QUANTITIES) == {field.name for field in dataclasses.fields(Measurements)}


def test_the_first_recordings_are_drawn_once_for_all_systems(tmp_path):
    asked = []

    def plot(name):
        asked.append(name)
        return None if name == "ptb-xl/1" else b"png"

    records = [record(number, system, harm=-number) for number in range(9) for system in ("a", "b")]
    assert data(page(tmp_path, records, plot=plot, plots=3))["plots"] == {"ptb-xl/0": "cG5n", "ptb-xl/2": "cG5n"}
    assert asked == ["ptb-xl/0", "ptb-xl/1", "ptb-xl/2"]


def test_whatever_a_draft_says_stays_data_and_nothing_is_loaded_from_elsewhere(tmp_path):
    html = page(tmp_path, [record(draft=HOSTILE, reference=HOSTILE, system=HOSTILE)], facts={HOSTILE: HOSTILE})
    (shown,) = data(html)["records"]
    assert shown["draft"] == HOSTILE
    tags = Tags(html).tags
    assert [attributes.get("type") for tag, attributes in tags if tag == "script"] == ["application/json", None]
    assert not [tag for tag, _ in tags if tag in ("img", "link", "iframe")]
    assert not [attributes for _, attributes in tags if {"src", "href", "onerror"} & set(attributes)]
    (policy,) = (attributes["content"] for _, attributes in tags if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'; img-src data:; script-src 'sha256-")
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "no drafts with the right ECG"),
        ([record(shown="flat")], "no drafts with the right ECG"),
        ([record(7, draft=None)], "record 'ptb-xl/7': no draft"),
        ([{"id": "x", "system": "m"}], "record 'x': no draft, reference, findings, signal, harm"),
        ([record(7, findings={"draft": ["heart attack"]})], "record 'ptb-xl/7' of 'model'.*heart attack"),
        ([record(7, findings={"omitted": ["XYZ"]})], "record 'ptb-xl/7' of 'model'.*XYZ"),
    ],
)
def test_unusable_records_are_named(tmp_path, records, words):
    with pytest.raises(ValueError, match=words):
        page(tmp_path, records)


@pytest.fixture
def rendered(tmp_path):
    """What a browser makes of a page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here to open the page with")

    def render(records):
        page(tmp_path, records)
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
        ]
        address = (tmp_path / "deep" / "errors.html").as_uri()
        shown = subprocess.run([browser, *options, address], capture_output=True, text=True, timeout=60, check=True)
        return shown.stdout

    return render


def test_a_browser_shows_drafts_as_text_beside_their_references_and_the_notice(rendered):
    findings = {"reference": ["AFIB"], "omitted": ["AFIB"], "critical_missed": ["AFIB"]}
    records = [
        record(0, draft=HOSTILE, harm=9, findings=findings),
        record(1, draft=" "),
        *(record(number) for number in range(2, 60)),
    ]
    html = rendered(records)
    assert "<title>Errors</title>" in html
    assert ">60 of 60 drafts<" in html
    shown = html.partition('<div id="records">')[2].partition('<button id="more"')[0]
    # The rest comes when it is scrolled to.
    assert 20 <= shown.count("<article>") < 60
    assert shown.count(DRAFT_NOTICE) == shown.count("<article>")
    assert "&lt;/script&gt;&lt;script&gt;" in shown
    assert "<img" not in shown
    assert "Atrial fibrillation." in shown
    assert '<li class="chip critical_missed"><b>missed, critical</b> AFIB atrial fibrillation</li>' in shown
    assert "the system wrote nothing" in shown
