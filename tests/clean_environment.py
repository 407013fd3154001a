"""A Python that can import only torch, transformers, peft, numpy and what they require: a colleague's machine."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

NAMES = ("torch", "transformers", "peft", "numpy")


def _closure(names: tuple[str, ...]) -> dict[str, metadata.Distribution]:
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


def run_in_clean_environment(script: str, folder: Path, *arguments: str, timeout: int = 300) -> str:
    """Run `script` with `folder` as the working directory; return what it printed.

    The packages are links in `folder/site`; PYTHONPATH, user and system site-packages are out of reach, and so is any
    cache of remote code that an earlier process wrote.
    """
    site = folder / "site"
    if not site.exists():
        site.mkdir(parents=True)
        for distribution in _closure(NAMES).values():
            tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
            for top in tops:
                link, target = site / top, Path(distribution.locate_file(top))
                if target.exists() and not link.exists():
                    link.symlink_to(target)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"HF_HOME": str(folder / "hf-home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    bootstrap = f"import sys; sys.path.append({str(site)!r}); exec(open(sys.argv.pop(1)).read())"
    path = folder / "script.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", bootstrap, str(path), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
