"""All nine lexical metrics of real report pairs, beside the packages that define them.

    python -m benchmarks.text_metrics [--data-dir FOLDER] [--pairs 16000] [--many 80000] [--rounds 3]

References are drawn from PTB-XL's English reports. Half of the drafts are the report of another recording, half have a
third of their words exchanged. Each measurement is a fresh process, ours and the packages' by turns, one thread each;
reading WordNet and cutting into tokens count, imports do not. The figures must agree to 1e-6. Prints a Markdown table.
"""

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nltk
import numpy as np
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.translate.meteor_score import meteor_score
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from rouge_score.rouge_scorer import RougeScorer

from dataset_builder.csv_table import iterate_csv
from evaluation import text_metrics, tokenize
from evaluation.wordnet import find_wordnet

ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Measurement:
    """Of one process: seconds, MiB of memory before and at the peak, and the figures."""

    seconds: float
    before: float
    peak: float
    figures: dict[str, float]


class Words:
    """Our tokens for `rouge_score`."""

    def tokenize(self, text: str) -> list[str]:
        return tokenize(text, "words")


class Reader(WordNetCorpusReader):
    """NLTK's WordNet without what it needs for other languages, which Debian leaves out."""

    def map_wn(self, version: str = "wordnet") -> None:
        return None


def draw_pairs(table: Path, number: int) -> tuple[list[str], list[str]]:
    """Drafts and references; drawn anew where there are fewer reports than pairs."""
    reports = [line["report_en"] for line in iterate_csv(table, ("ecg_id", "report_en")) if line["report_en"].strip()]
    rng = random.Random(0)
    references = rng.sample(reports, number) if number <= len(reports) else rng.choices(reports, k=number)
    drafts = []
    for reference, other in zip(references, rng.choices(reports, k=number), strict=True):
        words = other.split()
        changed = [rng.choice(words) if rng.random() < 1 / 3 else word for word in reference.split()]
        drafts.append(other if rng.random() < 0.5 else " ".join(changed))
    return drafts, references


def by_packages(drafts: list[str], references: list[str]) -> dict[str, float]:
    """The same figures by pycocoevalcap, NLTK and rouge_score, from the same tokens."""
    gts, res = (
        {str(index): [" ".join(tokenize(report))] for index, report in enumerate(reports)}
        for reports in (references, drafts)
    )
    bleus, _ = Bleu(4).compute_score(gts, res, verbose=0)
    figures = {f"bleu_{order}": score for order, score in enumerate(bleus, start=1)}
    figures["cider_d"] = Cider().compute_score(gts, res)[0]
    with tempfile.TemporaryDirectory() as folder:
        wordnet = read_wordnet(Path(folder, "wordnet"))
        scores = [meteor_score([gts[key][0].split()], res[key][0].split(), wordnet=wordnet) for key in gts]
    figures["meteor"] = np.mean(scores)
    scorer = RougeScorer(list(ROUGE.values()), tokenizer=Words())
    rouges = [scorer.score(*pair) for pair in zip(references, drafts, strict=True)]
    return figures | {name: np.mean([scores[theirs].fmeasure for scores in rouges]) for name, theirs in ROUGE.items()}


def read_wordnet(folder: Path) -> Reader:
    """NLTK's reader of a copy that has the list of 45 names that NLTK asks for."""
    shutil.copytree(find_wordnet(), folder)
    (folder / "lexnames").write_text("".join(f"{number:02d}\tname.{number}\t1\n" for number in range(45)))
    nltk.data.path.append(str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Reader(str(folder), None)


WAYS: dict[str, Callable[[list[str], list[str]], dict[str, float]]] = {"ours": text_metrics, "packages": by_packages}


def memory() -> float:
    """The most MiB that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str, table: Path, number: int) -> Measurement:
    drafts, references = draw_pairs(table, number)
    before, start = memory(), time.perf_counter()
    figures = WAYS[way](drafts, references)
    return Measurement(time.perf_counter() - start, before, memory(), figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    data = Path(os.environ.get("MEIT_DATA", "../shared/data"), "ptb-xl")
    parser.add_argument("--data-dir", type=Path, default=data, metavar="FOLDER", help=f"default: {data}")
    parser.add_argument("--pairs", type=int, default=16_000, metavar="N", help="default: 16000")
    parser.add_argument("--many", type=int, default=80_000, metavar="N", help="for memory; default: 80000")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: 3")
    arguments = parser.parse_args()
    table = arguments.data_dir / "ptbxl_reports_en.csv"
    found: dict[str, list[Measurement]] = {way: [] for way in WAYS}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for _ in range(arguments.rounds):
            for way, measurements in found.items():
                measurements.append(pool.apply(measure, (way, table, arguments.pairs)))
        many = pool.apply(measure, ("ours", table, arguments.many))
    ours, theirs = (measurements[0].figures for measurements in found.values())
    apart = {name: abs(ours[name] - theirs[name]) for name in theirs}
    if set(ours) != set(theirs) or max(apart.values()) > TOLERANCE:
        raise SystemExit(f"the figures differ: {apart}")
    ratios = [theirs.seconds / ours.seconds for ours, theirs in zip(*found.values(), strict=True)]
    print(
        f"{arguments.pairs} pairs, median of {arguments.rounds} rounds (lowest to highest). The largest difference of "
        f"a figure is {max(apart.values()):.1e}. The packages take {statistics.median(ratios):.1f} times as long "
        f"({min(ratios):.1f} to {max(ratios):.1f})\n"
    )
    print("| | pairs | seconds | memory before | at the peak |\n|---|---|---|---|---|")
    rows = [*((way, arguments.pairs, measured) for way, measured in found.items()), ("ours", arguments.many, [many])]
    for way, number, measured in rows:
        seconds = [measurement.seconds for measurement in measured]
        print(
            f"| {way} | {number} | {statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f}) | "
            f"{max(m.before for m in measured):.0f} MiB | {max(m.peak for m in measured):.0f} MiB |"
        )


if __name__ == "__main__":
    main()
