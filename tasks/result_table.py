"""The tables of a benchmark's `results.json`, as Markdown that stays readable on GitHub.

Each stands below the data, the number of records and the model that its figures hold for.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from evaluation.finding_classes import FINDING_CLASSES
from evaluation.grounding import LOSS, LOSS_PER_REPORT, LOWER_IS_BETTER, RIGHT

from .results import FORMAT_VERSION

WORDS = (
    *(f"BLEU-{order}" for order in range(1, 5)),
    "METEOR",
    "ROUGE-1",
    "ROUGE-2",
    "ROUGE-L",
    "CIDEr-D",
    "BERTScore F1",
)
TRUTH = (
    "findings precision",
    "findings recall",
    "findings F1",
    "hallucination rate",
    "omission rate",
    "critical-miss rate",
    "contradicted by the signal",
)
LOSSES = (LOSS, LOSS_PER_REPORT)
DAGGER = "†"
ABSENT = "n/a"
SIGNED = "+z.3f"  # no "-0.000"
UNDER_EACH = (
    "Below each figure, small, its gap: the figure minus that with another patient's ECG, and the gap's 95 % interval "
    f"over patients. {DAGGER}: no sign that the system reads the ECG."
)
LOWER_IS_BETTER_FOR = "Lower is better, and so is a gap below 0, for"
COMPAT = "The arithmetic of this benchmark (`standard`); below, small, the same drafts by the paper's (`paper_compat`)"

System = Mapping[str, Any]


def result_tables(results: Mapping[str, Any]) -> str:
    """Every task's tables: wording in the paper's shape, truth, loss, `paper_compat`, noise, expert, and all intervals.

    Args:
        results: the content of a `results.json`.

    Raises:
        ValueError: it is of another format.
    """
    if results.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"results of format {results.get('format_version')!r}; expected {FORMAT_VERSION}")
    parts = [_task(name, task, results.get("settings", {})) for name, task in results["tasks"].items()]
    return "\n\n".join([*parts, _measured_on(results)]) + "\n"


def finding_table(task: Mapping[str, Any]) -> str:
    """Precision, recall and F1 of each finding that a reference or a draft of the task states, system by system.

    Args:
        task: one of `results["tasks"]`.
    """
    systems = {name: system["findings"] for name, system in task["systems"].items() if system.get("findings")}
    rows = []
    for code, known in FINDING_CLASSES.items():
        found = [figures.get(code) for figures in systems.values()]
        references = max((figures["reference"] for figures in found if figures), default=0)
        if any(found):
            rows.append([f"{code} {known.name}", f"{references:,}", *map(_finding_cell, found)])
    head = ["finding", "references", *(f"{_name(name)}<br>{_small('P / R / F1 (drafts)')}" for name in systems)]
    return _table(head, rows)


def _finding_cell(figures: Mapping[str, float | None] | None) -> str:
    if figures is None:
        return ABSENT
    scores = " / ".join(_number(figures[name], ".2f") for name in ("precision", "recall", "f1"))
    return f"{scores} ({figures['drafts']:,})"


def _task(name: str, task: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    systems = task.get("systems", {})
    parts = [f"### {_text(name)}", _caption(task, settings)]
    if any(system.get("figures") for system in systems.values()):
        parts += [UNDER_EACH, *_headline(systems), _verdicts(systems), *_compat(systems)]
    if paired := task.get("paired"):
        parts.append(_paired(paired))
    for system, conditions in task.get("conditions", {}).items():
        parts += _noise(system, systems.get(system, {}), conditions)
    if expert := task.get("expert"):
        for section, found in expert.items():
            parts += _expert(section, found)
    parts += [_details(system, figures) for system, figures in systems.items() if figures.get("figures")]
    if any(system.get("findings") for system in systems.values()):
        parts.append(_folded("Every finding: precision, recall and F1", finding_table(task)))
    return "\n\n".join(parts)


def _caption(task: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    data = task["data"]
    where = [str(data.get("dataset") or "dataset not recorded")]
    where += [f"{part} {data[part]}" for part in ("config", "split") if data.get(part)]
    facts = [f"**{_text(', '.join(where))}**: {data['records']:,} records of {data['patients']:,} patients"]
    if left_out := {reason: count for reason, count in (data.get("left_out") or {}).items() if count}:
        facts[0] += "; left out " + ", ".join(f"{count:,} ({_text(reason)})" for reason, count in left_out.items())
    facts += [_model(name, system) for name, system in task.get("systems", {}).items() if system.get("model")]
    if task.get("trained_on"):
        facts.append(f"Trained on {_text(task['trained_on'])}")
    if settings.get("max_new_tokens") is not None:
        facts.append(f"At most {settings['max_new_tokens']} new tokens")
    if settings.get("instruction"):
        facts.append(f"Instruction: {_text(settings['instruction']).rstrip('.')}")
    return ". ".join(facts) + "."


def _model(name: str, system: System) -> str:
    model = system["model"]["name"]
    text = f"`{model}`" if name == model else f"{_text(name)}: `{model}`"
    text += f" on `{system['text_model']}`" if system.get("text_model") else ""
    return f"{text} ({system['dtype']})" if system.get("dtype") else text


def _headline(systems: Mapping[str, System]) -> Iterable[str]:
    """Wording, truth and loss: a row per system."""
    for title, names in (("Wording", WORDS), ("Truth", TRUTH), ("Loss of the reference reports", LOSSES)):
        present = _present(names, (system.get("figures", {}) for system in systems.values()))
        if not present:
            continue
        rows = [
            [_marked(name, system), *(_figure(system, figure) for figure in present)]
            for name, system in systems.items()
            if _present(names, [system.get("figures", {})])
        ]
        lower = [name for name in present if name in LOWER_IS_BETTER]
        note = f" {LOWER_IS_BETTER_FOR} {', '.join(lower)}." if lower else ""
        yield f"**{title}.**{note}\n\n" + _table(["system", *map(_small, present)], rows)


def _present(names: Iterable[str], figures: Iterable[Mapping[str, Any]]) -> list[str]:
    known = {name for of_one in figures for name in of_one}
    return [name for name in names if name in known]


def _marked(name: str, system: System) -> str:
    return f"{_name(name)}&nbsp;{DAGGER}" if system.get("reads_the_ecg") is False else _name(name)


def _name(name: str) -> str:
    # A folder may break at its slashes, or it alone would fill the row.
    return _text(name).replace("/", "/<wbr>")


def _figure(system: System, name: str) -> str:
    figure = system.get("figures", {}).get(name) or {}
    gap = figure.get("gap_other") or {}
    # Without brackets, of which ten columns would be too wide for a README.
    lines = [_number(gap.get("estimate"), SIGNED), _bounds(gap, SIGNED).strip("()")]
    return "<br>".join([_estimate(figure.get(RIGHT)), *map(_small, filter(None, lines))])


def _verdicts(systems: Mapping[str, System]) -> str:
    return "\n".join(f"- {_marked(name, system)}: {_verdict(system)}" for name, system in systems.items())


def _verdict(system: System) -> str:
    words = [_text(system["verdict"])]
    if (distinct := system.get("distinct_drafts")) is not None:
        words.append(f"Distinct drafts: {distinct:,}.")
    if signal := system.get("signal"):
        words.append(f"Contradicted by the signal: {signal['contradicted']:,} of {signal['checked']:,} statements.")
    if unread := {what: count for what, count in (system.get("not_read") or {}).items() if count}:
        listed = ", ".join(f"{count:,} {what}" for what, count in unread.items())
        words.append(f"In no language that findings are read in: {listed}.")
    return " ".join(words)


def _compat(systems: Mapping[str, System]) -> Iterable[str]:
    """Ours beside the paper's arithmetic, for whoever compares with figures that were computed by it."""
    present = _present(WORDS, (system.get("paper_compat") or {} for system in systems.values()))
    if not present:
        return
    rows = [
        [_marked(name, system), *(_both(system, figure) for figure in present)]
        for name, system in systems.items()
        if system.get("paper_compat")
    ]
    yield f"**{COMPAT}**\n\n" + _table(["system", *map(_small, present)], rows)


def _both(system: System, name: str) -> str:
    ours = (system.get("figures", {}).get(name) or {}).get(RIGHT)
    return f"{_estimate(ours)}<br>{_small(_number(system['paper_compat'].get(name), '.3f'))}"


def _paired(paired: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> str:
    """Differences between two systems, of the figures that any pair has."""
    present = _present((*WORDS, *TRUTH, *LOSSES), paired.values())
    head = ["figure", *map(_name, paired)]
    rows = [[name, *(_difference(figures.get(name)) for figures in paired.values())] for name in present]
    return "**Paired differences** (95 % interval over patients)\n\n" + _table(head, rows)


def _difference(figure: Mapping[str, float | None] | None) -> str:
    difference, p = _measured(figure, SIGNED), (figure or {}).get("p")
    if p is None:
        return difference
    return f"{difference}, p {'&lt; 0.001' if p < 0.001 else f'{p:.3f}'}"


def _noise(name: str, system: System, conditions: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """A row per perturbation, the ECG as recorded first."""
    clean = {figure: (values or {}).get(RIGHT) for figure, values in system.get("figures", {}).items()}
    for title, names in (("wording", WORDS), ("truth", TRUTH), ("loss", LOSSES)):
        present = _present(names, conditions.values())
        if not present:
            continue
        rows = [
            [
                "as recorded" if condition == RIGHT else _text(condition),
                *(_with_interval(figures.get(figure)) for figure in present),
            ]
            for condition, figures in ({RIGHT: clean} | dict(conditions)).items()
            if any(figures.get(figure) for figure in present)
        ]
        yield f"**{_text(name)} on disturbed ECGs, {title}** (95 % interval)\n\n" + _table(
            ["ECG", *map(_small, present)], rows
        )


def _with_interval(interval: Mapping[str, float | None] | None) -> str:
    bounds = _bounds(interval, ".3f")
    return _estimate(interval) + (f"<br>{_small(bounds)}" if bounds else "")


def _details(name: str, system: System) -> str:
    """Each figure of one system with its interval and both gaps, folded away."""
    rows = [
        [
            figure,
            _measured(values.get(RIGHT)),
            _measured(values.get("gap_other"), SIGNED),
            _measured(values.get("gap_flat"), SIGNED),
        ]
        for figure, values in system["figures"].items()
    ]
    head = ["", "right ECG", "gap to another patient's ECG", "gap to a flat line"]
    return _folded(f"{name}: every figure with its 95 % interval, and both gaps", _table(head, rows))


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>\n\n{content}\n\n</details>"


def _measured_on(results: Mapping[str, Any]) -> str:
    hardware = results.get("hardware") or {}
    facts = [_text(hardware[key]) for key in ("cpu", "accelerator") if hardware.get(key)]
    units = (("cores", "cores"), ("memory_gb", "GB"))
    facts += [f"{hardware[key]:.4g} {unit}" for key, unit in units if hardware.get(key)]
    if results.get("processes", 1) > 1:
        facts.append(f"{results['processes']} processes")
    facts += [f"seed {results.get('seed')}"]
    versions = results.get("versions") or {}
    facts += [f"{_text(name)} {_text(version)}" for name, version in versions.items() if version]
    seconds = "; ".join(f"{_text(name)} {task['seconds']:,.0f} s" for name, task in results["tasks"].items())
    measured = f"Measured {_text(results.get('created'))} on {', '.join(facts)}. Time: {seconds}."
    parts = [f"- {_text(note)}" for note in results.get("notes") or ()] + [measured]
    if results.get("command"):
        parts.append(f"```\n{' '.join(results['command'])}\n```")
    return "\n\n".join(parts)


def _expert(section: str, found: Mapping[str, Any]) -> Iterable[str]:
    """Whatever was measured, in words; what it was measured of several systems or criteria, as a table of them."""
    by_row = {name: rows for name, rows in found.items() if _has_rows(rows)}
    facts = _leaves({name: value for name, value in found.items() if name not in by_row})
    yield f"**{_text(section.replace('_', ' '))}**: {'; '.join(f'{name} {value}' for name, value in facts)}".rstrip(
        ": "
    )
    for name, rows in by_row.items():
        cells = {row: dict(_leaves(values)) for row, values in rows.items()}
        columns = list(dict.fromkeys(column for of_row in cells.values() for column in of_row))
        lines = [[_text(row), *(of_row.get(column, ABSENT) for column in columns)] for row, of_row in cells.items()]
        yield _table([_text(name), *map(_small, columns)], lines)


def _has_rows(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(map(_is_branch, value.values()))


def _is_branch(value: object) -> bool:
    return isinstance(value, Mapping) and "estimate" not in value


def _leaves(document: Mapping[str, Any], path: str = "") -> Iterable[tuple[str, str]]:
    """Every value with the names that lead to it; an interval is one value."""
    for key, value in document.items():
        name = f"{path}, {key}" if path else str(key)
        if _is_branch(value):
            yield from _leaves(value, name)
        else:
            yield _text(name.replace("_", " ")), _leaf(value)


def _leaf(value: object) -> str:
    if isinstance(value, Mapping):
        return _measured(value)
    if isinstance(value, list):
        return _text(", ".join(map(str, value)))
    return _number(value, ".3f") if isinstance(value, float | None) else _text(value)


def _estimate(interval: Mapping[str, float | None] | None) -> str:
    return _number((interval or {}).get("estimate"), ".3f")


def _measured(interval: Mapping[str, float | None] | None, form: str = ".3f") -> str:
    return " ".join(filter(None, [_number((interval or {}).get("estimate"), form), _bounds(interval, form)]))


def _bounds(interval: Mapping[str, float | None] | None, form: str) -> str:
    low, high = ((interval or {}).get(key) for key in ("low", "high"))
    return "" if ABSENT in (_number(low, form), _number(high, form)) else f"({low:{form}} to {high:{form}})"


def _number(value: float | None, form: str) -> str:
    return ABSENT if value is None or not math.isfinite(value) else f"{value:{form}}"


def _small(text: str) -> str:
    # Not <sub>: its lines lie on each other where a cell wraps.
    return f"<small>{text}</small>"


def _text(value: object) -> str:
    """As one cell or line shows it: names and reasons come from the command line and from files."""
    plain = escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([|*_`\[\]\\])", r"\\\1", plain)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
