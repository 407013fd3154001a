"""Processes that take the test Hub for the real one."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.hub.hub import Hub


def start(script: str, hub: Hub, home: Path, *arguments: object) -> subprocess.Popen:
    """Start a script in the checkout; its caches lie in `home`, and what it writes can be read from the process."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=REPOSITORY, env=hub.environment(home), **pipes)


def succeed(script: str, hub: Hub, home: Path, *arguments: object) -> str:
    """Run a script that must succeed; returns what it wrote to stdout."""
    with start(script, hub, home, *arguments) as process:
        output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, f"{output}\n{errors}"
    return output
