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


class SupportTable:
    """Pytest plugin that gathers the outcomes, and at the end writes the table or compares it with the README's.

    Args:
        readme: the file with the table between `BEGIN` and `END`.
        writes: whether to write the table; otherwise a table of all cells that differs fails the run.
    """

    def __init__(self, readme: Path, writes: bool):
        self.readme, self.writes = readme, writes
        self.outcomes: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.difference: str | None = None

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo):
        report = (yield).get_result()
        marker = item.get_closest_marker("support")
        if marker is None or (report.when != "call" and report.passed):
            return
        parameters = item.callspec.params
        outcome = report.longrepr[2].removeprefix("Skipped: ") if report.skipped else report.outcome
        for name in marker.args:
            self.outcomes[parameters["family"], parameters.get(name, name)].add(outcome)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
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
        elif found[1] != self.rendered():
            self.difference = self.rendered()
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.difference is not None:
            terminalreporter.section("the README's support table is not what ran")
            terminalreporter.write_line(f"{self.difference}\nwrite it by: make support-table")

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
