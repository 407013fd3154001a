"""The README's table of what each family supports: every cell from the tests that are marked for it and ran.

A test says by `@pytest.mark.support("beams", ...)` which columns its outcome counts for; a name that is one of its
parameters stands for that parameter's value. Its parameter `family` is the row. A skip says why: "lacks: ..." where
the family has no such thing, "not run: ..." where this machine could not run it.

    make support-table        # runs these tests and writes the table into README.md
"""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from .families import TEXT_CONFIGS

COLUMNS = {
    "concat": "concat",
    "llava": "llava",
    "flamingo": "flamingo",
    "eager": "eager",
    "sdpa": "sdpa",
    "flex_attention": "flex",
    "flash_attention_2": "flash",
    "checkpointing": "checkpointing",
    "beams": "beams",
    "static": "static cache",
    "compile": "compile",
    "quantised": "quantised",
    "seq2seq": "seq2seq",
}
BEGIN, END = "<!-- table:support -->", "<!-- /table:support -->"


def _cells(table: str) -> dict[tuple[str, str], str]:
    """The cells of a Markdown table by row and column."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {(row[0], column): cell for row in rows[2:] for column, cell in zip(rows[0][1:], row[1:], strict=True)}


class SupportTable:
    """Pytest plugin that gathers the outcomes, and at the end writes the table or compares it with the README's.

    Args:
        readme: the file with the table between `BEGIN` and `END`.
        writes: whether to write the table; otherwise a run of all its tests fails where it says something else.
    """

    def __init__(self, readme: Path, writes: bool):
        self.readme, self.writes = readme, writes
        self.outcomes: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.differences: list[str] = []

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo):
        """In a worker process: write the cells beside the outcome, with which they reach the process that gathers."""
        report = (yield).get_result()
        marker = item.get_closest_marker("support")
        if marker is not None:
            parameters = item.callspec.params
            cells = [(parameters["family"], parameters.get(name, name)) for name in marker.args]
            report.user_properties.append(("support", cells))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        outcome = report.longrepr[2].removeprefix("Skipped: ") if report.skipped else report.outcome
        for name, cells in report.user_properties:
            if name == "support":
                for cell in cells:
                    self.outcomes[tuple(cell)].add(outcome)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):
            return
        cells = {(family, column) for family in TEXT_CONFIGS for column in COLUMNS}
        if set(self.outcomes) < cells:
            if self.writes:
                raise pytest.UsageError(
                    f"no test ran for {sorted(cells - set(self.outcomes))}: the table is not written"
                )
            return
        text = self.readme.read_text(encoding="utf-8")
        found = re.search(f"{BEGIN}\n(.*?){END}", text, re.DOTALL)
        if found is None:
            raise pytest.UsageError(f"{self.readme} has no lines {BEGIN} and {END}")
        if self.writes:
            table = f"{BEGIN}\n{self.rendered()}{END}"
            self.readme.write_text(text[: found.start()] + table + text[found.end() :], encoding="utf-8")
            return
        stated = _cells(found[1])
        for family, column in sorted(cells):
            ran, said = self.cell(family, column), stated.get((family, COLUMNS[column]))
            # What this machine could not run, another may have.
            if ran not in ("not run", said):
                self.differences.append(f"{family}, {COLUMNS[column]}: the README says {said!r}, the tests {ran!r}")
        if self.differences:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.differences:
            terminalreporter.section("the README's table of families is not what ran")
            for line in [*self.differences, "write it anew: make support-table"]:
                terminalreporter.write_line(line)

    def cell(self, family: str, column: str) -> str:
        """What the tests of one cell came to."""
        outcomes = self.outcomes[family, column]
        if "failed" in outcomes:
            return "fails"
        if any(outcome.startswith("not run: ") for outcome in outcomes):
            return "not run"
        if outcomes == {"passed"}:
            return "✓"
        if all(outcome.startswith("lacks: ") for outcome in outcomes):
            return "none"
        raise ValueError(f"{family}, {column}: {sorted(outcomes)} are no one outcome")

    def rendered(self) -> str:
        """The table in Markdown."""
        lines = [f"| | {' | '.join(COLUMNS.values())} |", f"|---|{'---|' * len(COLUMNS)}"]
        for family in sorted(TEXT_CONFIGS):
            lines.append(f"| {family} | {' | '.join(self.cell(family, column) for column in COLUMNS)} |")
        reasons = {outcome for outcomes in self.outcomes.values() for outcome in outcomes if ": " in outcome}
        return "\n".join(lines) + "\n\n" + "".join(f"- {reason}\n" for reason in sorted(reasons))
