"""Sheets are blinded, safe and equal in both forms."""

import base64
import csv
import dataclasses
import io
import json
import random
import re
import shutil
import subprocess
from html import unescape

import pytest

from evaluation.rating_criteria import CRITERIA
from evaluation.rating_sheet import RatingItem, spreadsheet_cell, write_rating_sheets

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
NOTICE = "A draft; not a <diagnosis>."
HOSTILE = '</script><img src=x onerror="alert(1)"> & "quoted"\n=HYPERLINK("http://x")'


def items(systems=("model-a", "retrieval-b"), records=4):
    return [
        RatingItem(
            f"ptb-xl/{record}", system, f"patient-{record}", f"Draft {number} of {record}.", "Sinus rhythm.", PNG
        )
        for record in range(records)
        for number, system in enumerate(systems)
    ]


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))


def form_data(path):
    page = path.read_text("utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_each_rater_gets_all_reports_in_an_order_of_their_own(tmp_path):
    sheets = write_rating_sheets(items(), tmp_path, ["Ann", "Ben"], NOTICE)
    ann, ben = rows(sheets / "Ann.csv"), rows(sheets / "Ben.csv")
    assert sorted(path.name for path in sheets.iterdir()) == [
        "Ann.csv",
        "Ann.html",
        "Ben.csv",
        "Ben.html",
        "criteria.txt",
    ]
    assert {row["code"]: row["draft"] for row in ann} == {row["code"]: row["draft"] for row in ben}
    assert len(ann) == 8
    assert [row["code"] for row in ann] != [row["code"] for row in ben]
    assert [entry["code"] for entry in form_data(sheets / "Ann.html")["items"]] == [row["code"] for row in ann]
    assert {row["notice"] for row in ann} == {NOTICE}


def test_sheets_tell_neither_system_nor_record_nor_patient_but_the_key_does(tmp_path):
    sheets = write_rating_sheets(items(), tmp_path, ["Ann"], NOTICE)
    for path in sheets.iterdir():
        text = path.read_text("utf-8")
        assert not re.search("model-a|retrieval-b|ptb-xl|patient-", text), path
    key = json.loads((tmp_path / "key.json").read_text())["items"]
    for row in rows(sheets / "Ann.csv"):
        entry = key[row["code"]]
        number = {"model-a": 0, "retrieval-b": 1}[entry["system"]]
        assert row["draft"] == f"Draft {number} of {entry['record'].removeprefix('ptb-xl/')}."
        assert entry["patient_id"] == "patient-" + entry["record"].removeprefix("ptb-xl/")


def test_the_order_of_the_items_given_leaves_no_trace(tmp_path):
    write_rating_sheets(items(), tmp_path / "a", ["Ann"], NOTICE)
    write_rating_sheets(items()[::-1], tmp_path / "b", ["Ann"], NOTICE)
    for name in ("key.json", "sheets/Ann.csv", "sheets/Ann.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    write_rating_sheets(items(), tmp_path / "c", ["Ann"], NOTICE, seed=1)
    codes = [{row["code"] for row in rows(tmp_path / name / "sheets/Ann.csv")} for name in "ac"]
    assert not codes[0] & codes[1]


def test_who_knows_the_seed_and_the_design_cannot_tell_the_systems(tmp_path):
    """What a rater can compute without the key: codes and order of other drafts on the same records and systems."""
    given = items(records=30)
    others = [dataclasses.replace(item, draft="Another draft.") for item in given]
    systems = {}
    for name, drafted in (("own", given), ("guess", others)):
        sheet = rows(write_rating_sheets(drafted, tmp_path / name, ["Ann"], NOTICE) / "Ann.csv")
        key = json.loads((tmp_path / name / "key.json").read_text())["items"]
        systems[name] = [key[row["code"]]["system"] for row in sheet]
        systems[name, "codes"] = set(key)
    assert not systems["own", "codes"] & systems["guess", "codes"]
    agreeing = sum(own == guess for own, guess in zip(systems["own"], systems["guess"], strict=True))
    assert 15 <= agreeing <= 45  # of 60; with the order known it would be 60


def test_codes_do_not_follow_from_what_the_form_shows(tmp_path):
    write_rating_sheets(items(), tmp_path, ["Ann"], NOTICE)
    key = json.loads((tmp_path / "key.json").read_text())
    for known in (key["study"], "0/codes", f"{key['study']}/codes", "0"):
        draw = random.Random(known)
        assert "".join(draw.choices("BCDFGHJKLMNPQRSTVWXZ", k=6)) != next(iter(key["items"]))


def test_every_score_is_described_in_the_form_and_beside_the_csv(tmp_path):
    sheets = write_rating_sheets(items(), tmp_path, ["Ann"], NOTICE)
    criteria = form_data(sheets / "Ann.html")["criteria"]
    text = (sheets / "criteria.txt").read_text("utf-8")
    assert list(criteria) == ["terminology", "logic", "completeness", "diagnosis"]
    assert NOTICE in text
    for name, criterion in CRITERIA.items():
        assert criteria[name]["anchors"] == list(criterion.anchors)
        assert len(set(criterion.anchors)) == 5
        assert all(f"{score}  {anchor}" in text for score, anchor in enumerate(criterion.anchors, 1))


def test_a_reference_that_is_not_to_be_shown_is_not_there(tmp_path):
    sheets = write_rating_sheets(items(), tmp_path, ["Ann"], NOTICE, show_reference=False)
    assert all("Sinus rhythm" not in (sheets / name).read_text("utf-8") for name in ("Ann.csv", "Ann.html"))
    assert "reference" not in rows(sheets / "Ann.csv")[0]


def test_a_picture_stands_once_in_a_form_however_many_systems_drafted(tmp_path):
    sheets = write_rating_sheets(items(), tmp_path, ["Ann"], NOTICE)
    data = form_data(sheets / "Ann.html")
    assert data["pictures"] == ["data:image/png;base64," + base64.b64encode(PNG).decode()]
    (tmp_path / "plot.png").write_bytes(PNG)
    one = [RatingItem("1", "a", "p", "x", None, tmp_path / "plot.png"), RatingItem("2", "a", "p", "x")]
    data = form_data(write_rating_sheets(one, tmp_path / "two", ["Ann"], NOTICE) / "Ann.html")
    assert sorted(entry["picture"] is None for entry in data["items"]) == [False, True]


def test_no_draft_can_end_the_element_that_holds_it(tmp_path):
    sheets = write_rating_sheets([RatingItem("1", "a", "p", HOSTILE)], tmp_path, ["Ann"], NOTICE)
    page = (sheets / "Ann.html").read_text("utf-8")
    assert "<img src=x" not in page
    assert page.count("</script>") == 2
    assert form_data(sheets / "Ann.html")["items"][0]["draft"] == HOSTILE
    assert "<diagnosis>" not in page
    assert NOTICE in unescape(page)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        (" \t@x", " \t'@x"),
        ("- Sinus rhythm\n- AF", "'- Sinus rhythm\n'- AF"),
        ("rate 90; =cmd()", "rate 90; '=cmd()"),
        ("+1\t-2\r@3", "'+1\t'-2\r'@3"),
        ("T wave -0.1 mV, PR = 180", "T wave -0.1 mV, PR = 180"),
        ('x;"=1+1;y', "x;\"'=1+1;y"),
        ('"-2"', '"\'-2"'),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(text, cell):
    assert spreadsheet_cell(text) == cell


def test_a_second_call_leaves_filled_sheets_alone_and_other_items_are_refused(tmp_path):
    sheets = write_rating_sheets(items(), tmp_path, ["Ann"], NOTICE)
    (sheets / "Ann.csv").write_text("filled")
    (sheets / "Ann.html").unlink()
    write_rating_sheets(items(), tmp_path, ["Ann"], NOTICE)
    assert (sheets / "Ann.csv").read_text() == "filled"
    assert (sheets / "Ann.html").exists()
    changed = [*items()[:-1], RatingItem("ptb-xl/3", "retrieval-b", "patient-3", "Another draft.")]
    with pytest.raises(ValueError, match="is the key of other sheets"):
        write_rating_sheets(changed, tmp_path, ["Ann"], NOTICE)


@pytest.mark.parametrize(
    ("reports", "raters", "message"),
    [
        ([], ["Ann"], "no reports to rate"),
        (items(), [], "at least one name"),
        (items(), "Ann", "at least one name"),
        (items(), ["../Ann"], r"rater '\.\./Ann': expected up to 62 letters"),
        (items(), ["=Ann"], "rater '=Ann'"),
        (items(), ["Ann", "ann"], "two have the same name"),
        (items() + items()[:1], ["Ann"], "record ptb-xl/0, system model-a: there are two"),
        ([RatingItem("1", "a", "p", None)], ["Ann"], "record 1, system a: the draft is None"),
        ([RatingItem("1", "a", "p", "x", None, b"GIF89a")], ["Ann"], "record 1: the picture of its ECG is no PNG"),
    ],
)
def test_bad_input_is_refused(tmp_path, reports, raters, message):
    with pytest.raises(ValueError, match=message):
        write_rating_sheets(reports, tmp_path, raters, NOTICE)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium to run the form")
def test_the_form_downloads_what_the_csv_sheet_holds(tmp_path):
    """The form runs in a browser: unrated, then with one report rated, and again after a reload."""
    reports = [RatingItem("1", "a", "p", HOSTILE, "für -x"), RatingItem("2", "a", "p", '- b;\t=c\r\n+d;"=e', None)]
    sheets = write_rating_sheets(reports, tmp_path, ["Ann"], NOTICE)
    page = (sheets / "Ann.html").read_text("utf-8")
    probe = """<script>
    const found = [csv()];
    document.getElementsByName("logic")[3].click();
    element("comment").value = "=weak"; element("comment").dispatchEvent(new Event("input"));
    element("next").click();
    for (const name of names) document.getElementsByName(name)[0].click();
    found.push(csv(), element("count").textContent, element("draft").textContent);
    answers = {}; load(); show(0);
    found.push(csv(), document.getElementsByName("logic")[3].checked, document.images.length);
    document.body.dataset.found = btoa(unescape(encodeURIComponent(JSON.stringify(found))));
    </script></body>"""
    (tmp_path / "probe.html").write_text(page.replace("</body>", probe), "utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    dom = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "probe.html").as_uri()], capture_output=True, text=True, timeout=60
    ).stdout
    found = json.loads(base64.b64decode(re.search('data-found="([^"]*)"', dom)[1]))
    empty, filled, count, shown, reloaded, is_checked, images = found
    assert empty.encode() == (sheets / "Ann.csv").read_bytes()
    first, second = csv.DictReader(io.StringIO(filled.removeprefix("\ufeff"), newline=""))
    assert [first[name] for name in (*CRITERIA, "comment")] == ["", "4", "", "", "'=weak"]
    assert [second[name] for name in CRITERIA] == ["1", "1", "1", "1"]
    assert count == "1 of 2 rated"
    assert shown.strip() == form_data(sheets / "Ann.html")["items"][1]["draft"].strip()
    assert reloaded == filled
    assert is_checked
    assert images == 1  # the ECG's; none that a draft brought
