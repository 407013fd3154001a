"""Scripts of tests in a Python that can import only torch, transformers, peft, numpy and what they require."""

from collections.abc import Mapping
from pathlib import Path

from publishing.clean_environment import make_clean_environment, run_clean


def run_in_clean_environment(
    script: str, folder: Path, *arguments: str, timeout: int = 300, variables: Mapping[str, str] | None = None
) -> str:
    """Run `script` with `folder` as the working directory; return what it printed.

    `variables` are further ones of the environment, such as HF_ENDPOINT.
    """
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8")
    python = make_clean_environment(folder / "environment")
    variables = {"OMP_NUM_THREADS": "1", **(variables or {})}
    done = run_clean(python, path, *arguments, folder=folder, timeout=timeout, variables=variables)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
