"""Real reports as references, with drafts that go wrong in every way that a system does, and WordNet for METEOR."""

import csv
import random
from functools import lru_cache
from pathlib import Path

import pytest

from evaluation.wordnet import WordNet, WordNetNotFoundError, open_wordnet

Pairs = tuple[list[str], list[str]]
# draft, reference
ODD = [
    ("", "sinus rhythm normal ecg"),
    (" \n", "sinus rhythm."),
    ("normal", "normal"),
    ("normal", "sinus rhythm. normal ecg."),
    ("sinus rhythm. normal ecg.", "normal"),
    ("normal normal normal normal normal", "normal ecg"),
    ("normal ecg", "normal normal normal normal"),
    ("...", "sinus rhythm."),
    ("hearts beat quickly", "heart beats rapidly"),
    ("für den rest normal, 5.5 mv", "für den Rest normal; 5.5 mV"),
]


@lru_cache
def real_pairs(ptb_xl: Path, mimic_iv_ecg: Path, number: int = 1000) -> Pairs:
    """`number` drafts and references from the reports of both corpora, English and original, and the odd ones."""
    english = [line["report_en"] for line in _lines(ptb_xl / "ptbxl_reports_en.csv")]
    original = [line["report"] for line in _lines(ptb_xl / "ptbxl_database.csv")]
    machine = [
        ". ".join(text for name, text in line.items() if name.startswith("report_") and text)
        for line in _lines(mimic_iv_ecg / "machine_measurements.csv")
    ]
    rng = random.Random(0)
    reports = [report for report in [*rng.sample(english, number), *original, *machine] if report.strip()]
    references = rng.sample(reports, number)
    others = rng.sample(reports, number)
    drafts = [_spoilt(*pair, rng) for pair in zip(references, others, strict=True)]
    odd_drafts, odd_references = zip(*ODD, strict=True)
    return [*drafts, *odd_drafts], [*references, *odd_references]


def _spoilt(report: str, other: str, rng: random.Random) -> str:
    words = report.split()
    shuffled = rng.sample(words, len(words))
    replaced = [word if rng.random() < 0.7 else rng.choice(other.split()) for word in words]
    cut = words[: rng.randrange(len(words) + 1)]
    ways = [
        other,
        report.upper(),
        " ".join(cut),
        " ".join(shuffled),
        " ".join(replaced),
        f"{report}. {report}",
        words[0],
    ]
    return rng.choice(ways)


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def wordnet_or_skip() -> WordNet:
    """WordNet 3.0; skips where there is none."""
    try:
        return open_wordnet()
    except WordNetNotFoundError:
        pytest.skip("no WordNet 3.0; `make test` fetches it where apt is, or MEIT_WORDNET names its folder")
