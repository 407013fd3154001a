"""The tables are read back as GitHub reads Markdown: rows, columns, and what stands in them."""

import copy
import re

import pytest

from tasks.result_table import finding_table, result_tables

WORDS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-1", "ROUGE-2", "ROUGE-L", "CIDEr-D")
TRUTH = ("findings precision", "findings recall", "findings F1", "hallucination rate", "omission rate")
UNDEFINED = {"estimate": None, "low": None, "high": None}


def interval(estimate, margin=0.01):
    return {"estimate": estimate, "low": estimate - margin, "high": estimate + margin}


def figure(right, gap):
    return {
        "right": interval(right),
        "other": interval(right - gap),
        "flat": interval(right - 2 * gap),
        "gap_other": interval(gap),
        "gap_flat": interval(2 * gap),
    }


def system(right, gap, reads, **more):
    names = [*WORDS, *TRUTH]
    undefined = {"right": UNDEFINED, "other": None, "flat": None, "gap_other": None, "gap_flat": None}
    return {
        "kind": "baseline",
        "model": None,
        "figures": {name: figure(right, gap) for name in names}
        | {"critical-miss rate": undefined, "contradicted by the signal": figure(0.075, gap)},
        "paper_compat": {name: right / 2 for name in WORDS},
        "findings": {},
        "signal": {"checked": 40, "contradicted": 3},
        "reads_the_ecg": reads,
        "verdict": "It reads the ECG." if reads else "No sign that it reads the ECG.",
        **more,
    }


@pytest.fixture
def results():
    model = system(0.5, 0.05, True, kind="model", model={"name": "runs/my_run", "weights": {}}, dtype="torch.bfloat16")
    model["text_model"] = "lab/SmolLM2"
    model["figures"]["loss (nats per token)"] = figure(1.75, -0.125)
    data = {"dataset": "meit-ecg", "config": "ptb-xl", "split": "test", "records": 2207, "patients": 2005}
    quality = {
        "task": "quality",
        "data": data | {"left_out": {"no report": 3, "ECG: a flat line": 0}},
        "seconds": 61.4,
        "systems": {"runs/my_run": model, "most | frequent": system(0.25, 0.0, False)},
        "paired": {"runs/my_run minus most | frequent": {"ROUGE-L": interval(0.25) | {"p": 0.0002}}},
    }
    return {
        "format_version": 1,
        "created": "2026-01-02T03:04:05",
        "command": ["meit-ecg", "benchmark", "--task", "quality"],
        "versions": {"torch": "2.9.0"},
        "hardware": {"cpu": "Xeon", "cores": 2, "memory_gb": 16, "accelerator": None},
        "processes": 1,
        "seed": 0,
        "settings": {"max_new_tokens": 64, "instruction": "Write the report."},
        "tasks": {"quality/ptb-xl": quality},
    }


def tables(markdown):
    """Each table as rows of cells; a bar that is escaped separates nothing."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", markdown, re.MULTILINE)
    split = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()] for block in blocks]
    return [[[cell.strip() for cell in row] for row in [table[0], *table[2:]]] for table in split]


def headed(markdown, *names):
    """The table whose first row names these columns."""
    (found,) = (
        table
        for table in tables(markdown)
        if [re.sub(r"</?small>", "", cell) for cell in table[0]][1 : len(names) + 1] == list(names)
    )
    return found


def test_wording_has_the_papers_shape_with_the_gap_under_each_score(results):
    markdown = result_tables(results)
    wording = next(table for table in tables(markdown) if "+0.050" in table[1][1])
    assert [re.sub(r"</?small>", "", cell) for cell in wording[0]] == ["system", *WORDS]
    assert wording[1][0] == r"runs/<wbr>my\_run"
    assert wording[1][8] == "0.500<br><small>+0.050</small><br><small>+0.040 to +0.060</small>"
    assert len(wording) == 3


def test_the_caption_says_data_records_backbone_and_settings(results):
    markdown = result_tables(results)
    for words in (
        "**meit-ecg, config ptb-xl, split test**: 2,207 records of 2,005 patients; left out 3 (no report).",
        "`runs/my_run` on `lab/SmolLM2` (torch.bfloat16)",
        "At most 64 new tokens. Instruction: Write the report.\n",
        "Xeon, 2 cores, 16 GB",
        "quality/ptb-xl 61 s",
        "meit-ecg benchmark --task quality",
    ):
        assert words in markdown
    assert "flat line (0)" not in markdown


def test_what_does_not_read_the_ecg_is_marked_and_told(results):
    markdown = result_tables(results)
    names = {row[0] for table in tables(markdown) for row in table[1:] if "frequent" in row[0]}
    assert names == {r"most \| frequent&nbsp;†"}
    assert r"- most \| frequent&nbsp;†: No sign that it reads the ECG." in markdown
    assert r"- runs/<wbr>my\_run: It reads the ECG." in markdown


def test_a_system_whose_ecgs_were_not_exchanged_is_not_marked(results):
    results["tasks"]["quality/ptb-xl"]["systems"]["most | frequent"]["reads_the_ecg"] = None
    assert "frequent&nbsp;†" not in result_tables(results)


def test_truth_says_which_way_is_better_and_what_is_undefined(results):
    markdown = result_tables(results)
    truth = headed(markdown, *TRUTH, "critical-miss rate", "contradicted by the signal")
    assert truth[1][6] == "n/a<br><small>n/a</small>"
    assert truth[1][7].startswith("0.075<br><small>+0.050")
    assert "Contradicted by the signal: 3 of 40 statements." in markdown
    assert (
        "Lower is better, and so is a gap below 0, for hallucination rate, omission rate, critical-miss rate"
        in markdown
    )


def test_losses_have_a_row_for_models_alone(results):
    loss = headed(result_tables(results), "loss (nats per token)")
    assert loss[1:] == [[r"runs/<wbr>my\_run", "1.750<br><small>-0.125</small><br><small>-0.135 to -0.115</small>"]]


def test_standard_stands_beside_the_papers_arithmetic(results):
    markdown = result_tables(results)
    compat = next(table for table in tables(markdown) if table[1][1] == "0.500<br><small>0.250</small>")
    assert compat[2][1:] == ["0.250<br><small>0.125</small>"] * len(WORDS)


def test_every_interval_and_both_gaps_stand_in_the_details(results):
    details = [table for table in tables(result_tables(results)) if table[0][1] == "right ECG"]
    assert len(details) == 2
    assert ["METEOR", "0.500 (0.490 to 0.510)", "+0.050 (+0.040 to +0.060)", "+0.100 (+0.090 to +0.110)"] in details[0]
    assert ["critical-miss rate", "n/a", "n/a", "n/a"] in details[0]


def test_paired_differences_have_their_p_values(results):
    paired = headed(result_tables(results), r"runs/<wbr>my\_run minus most \| frequent")
    assert paired[1:] == [["ROUGE-L", "+0.250 (+0.240 to +0.260), p &lt; 0.001"]]


def test_noise_has_a_row_per_perturbation_below_the_ecg_as_recorded(results):
    conditions = {
        name: {"ROUGE-L": interval(value), "findings F1": interval(value)}
        for name, value in (("right", 0.5), ("white_window 0.05", 0.4), ("muscle 6 dB", 0.3))
    }
    data = results["tasks"]["quality/ptb-xl"]["data"]
    results["tasks"]["noise/ptb-xl"] = {
        "task": "noise",
        "data": data,
        "seconds": 1,
        "systems": {"m": {"kind": "model"}},
        "conditions": {"m": conditions},
    }
    wording = headed(result_tables(results), "ROUGE-L")
    assert wording[1:] == [
        ["as recorded", "0.500<br><small>(0.490 to 0.510)</small>"],
        [r"white\_window 0.05", "0.400<br><small>(0.390 to 0.410)</small>"],
        ["muscle 6 dB", "0.300<br><small>(0.290 to 0.310)</small>"],
    ]
    assert headed(result_tables(results), "findings F1")[1][0] == "as recorded"


def test_expert_alignment_has_a_row_per_system_or_criterion(results):
    task = {"task": "expert", "data": results["tasks"]["quality/ptb-xl"]["data"], "seconds": 1}
    task["expert"] = {
        "validated_statements": {"records": 0},
        "ratings": {
            "raters": ["a", "b"],
            "missing": {"a": 0, "b": 2},
            "scores": {"m_1": {"logic": {"mean": interval(3.5, 0.5), "reports": 20}}, "m_2": {}},
            "agreement": {"logic": {"icc": {"single": 0.625, "low": None}, "alpha": None}, "terms": {"icc": None}},
        },
    }
    results["tasks"] = {"expert/ptb-xl": task}
    markdown = result_tables(results)
    assert "**validated statements**: records 0\n" in markdown
    assert "**ratings**: raters a, b; missing, a 0; missing, b 2\n" in markdown
    scores, agreement = (
        [[re.sub("</?small>", "", cell) for cell in row] for row in table] for table in tables(markdown)
    )
    assert scores == [
        ["scores", "logic, mean", "logic, reports"],
        [r"m\_1", "3.500 (3.000 to 4.000)", "20"],
        [r"m\_2", "n/a", "n/a"],
    ]
    assert agreement == [
        ["agreement", "icc, single", "icc, low", "alpha", "icc"],
        ["logic", "0.625", "n/a", "n/a", "n/a"],
        ["terms", "n/a", "n/a", "n/a", "n/a"],
    ]


def test_a_gap_that_rounds_to_nothing_has_no_minus(results):
    figures = results["tasks"]["quality/ptb-xl"]["systems"]["most | frequent"]["figures"]
    figures["METEOR"]["gap_other"] = {"estimate": -0.0001, "low": -0.0002, "high": 0.0}
    markdown = result_tables(results)
    assert "-0.000" not in markdown
    assert "| +0.000 (+0.000 to +0.000) |" in markdown


def test_notes_stand_below_the_tables(results):
    assert "\n- no text-only model was run\n" in result_tables(results | {"notes": ["no text-only model was run"]})


def test_the_table_of_findings_has_those_that_occur_in_the_order_of_their_classes(results):
    task = results["tasks"]["quality/ptb-xl"]
    found = {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "reference": 8, "drafts": 4}
    invented = {"precision": 0.0, "recall": None, "f1": 0.0, "reference": 0, "drafts": 1200}
    silent = {"precision": None, "recall": 0.0, "f1": 0.0, "reference": 8, "drafts": 0}
    task["systems"]["runs/my_run"]["findings"] = {"MI": found, "AFIB": invented}
    task["systems"]["most | frequent"]["findings"] = {"MI": silent}
    ((head, *rows),) = tables(finding_table(task))
    assert [cell.partition("<")[0] for cell in head] == ["finding", "references", r"runs/", r"most \| frequent"]
    assert rows == [
        ["AFIB atrial fibrillation", "0", "0.00 / n/a / 0.00 (1,200)", "n/a"],
        ["MI myocardial infarction", "8", "0.50 / 0.25 / 0.33 (4)", "n/a / 0.00 / 0.00 (0)"],
    ]


def test_every_table_is_rectangular_whatever_the_names_are(results):
    systems = results["tasks"]["quality/ptb-xl"]["systems"]
    systems["a\n<b>|`*_[x](y)\\"] = copy.deepcopy(systems["most | frequent"])
    markdown = result_tables(results)
    assert "<b>" not in markdown
    for table in tables(markdown):
        assert len({len(row) for row in table}) == 1


def test_results_of_another_format_are_refused(results):
    with pytest.raises(ValueError, match="results of format 2; expected 1"):
        result_tables(results | {"format_version": 2})
