"""A new virtual environment that can import torch, transformers, peft, numpy and what they require, and nothing else.

It is a colleague's machine: no package of ours, no other package of this environment, no cache of this user.
"""

import os
import re
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "transformers", "peft", "numpy")
# Variables by which places of this machine would be found after all.
_PREFIXES = ("PYTHON", "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "XDG_CACHE", "VIRTUAL_ENV")


def make_clean_environment(folder: Path, packages: Sequence[str] = PACKAGES) -> Path:
    """Make a virtual environment in `folder`; nothing is downloaded or installed.

    The packages are links to those of this environment, or copies where links are not allowed.

    Args:
        folder: where it goes; one that is there already is taken as it is.
        packages: distributions to be importable, with all that they require.

    Returns:
        Its Python.
    """
    places = sysconfig.get_paths("venv", vars={"base": str(folder), "platbase": str(folder)})
    name = "python.exe" if os.name == "nt" else "python"
    python = Path(places["scripts"]) / name
    if python.exists():
        return python
    venv.EnvBuilder(symlinks=os.name != "nt", with_pip=False).create(folder)
    site = Path(places["purelib"])
    for distribution in _closure(packages).values():
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            target = Path(distribution.locate_file(top))
            if target.exists() and not (site / top).exists():
                _link(target, site / top)
    return python


def run_clean(
    python: Path,
    script: Path,
    *arguments: str,
    folder: Path,
    timeout: float | None = None,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess:
    """Run a script, offline and with an empty cache of its own.

    Args:
        python: of `make_clean_environment`.
        script: the file.
        *arguments: of the script.
        folder: the working directory; the cache `hf-home` is made in it.
        timeout: seconds; none by default.
        variables: of the environment, beside those of this process that name no place.

    Returns:
        The finished process, with what it wrote as text.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)}
    environment = inherited | {"HF_HOME": str(folder / "hf-home"), "HF_HUB_OFFLINE": "1"} | dict(variables or {})
    return subprocess.run(
        [python, "-I", "-X", "utf8", script, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        check=False,
    )


def _closure(names: Sequence[str]) -> dict[str, metadata.Distribution]:
    """Distributions by name: `names`, what they require, what that requires, and so on."""
    found: dict[str, metadata.Distribution] = {}
    pending = list(names)
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # required on another platform or Python alone
            continue
        for requirement in found[name].requires or ():
            if "extra ==" not in requirement:
                pending.append(re.match(r"[\w.-]+", requirement)[0])
    return found


def _link(target: Path, link: Path) -> None:
    try:
        link.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        if target.is_dir():
            shutil.copytree(target, link)
        else:
            shutil.copy2(target, link)
