"""What of a metric's folder goes to the Hub: a Space that `evaluate.load("org/name")` reads."""

import re
from pathlib import Path

import evaluation

from .refusals import content_problems, link_problems
from .upload import Upload, UploadFile, check_repo_id, refuse

_OUR_IMPORT = re.compile(r"^from evaluation\.(\w+) import ", re.MULTILINE)
_SIBLING_IMPORT = re.compile(r"^from \.(\w+) import ", re.MULTILINE)
FILES = ("app.py", "README.md", "requirements.txt")


def prepare_metric(folder: str | Path, repo_id: str) -> Upload:
    """Check a metric's folder `name/name.py` and lay out its upload.

    In the checkout the module imports our package `evaluation`. On the Hub what it imports lies beside it, with what
    that imports in turn. `evaluate` fetches a file only where a line of the module itself imports from it, so the
    published module has such a line for each.

    Raises:
        UploadError: a file is missing, the repository's name is not the module's, or a file holds a local path.
    """
    folder = Path(folder).resolve()
    check_repo_id(repo_id)
    module, name = f"{folder.name}.py", repo_id.partition("/")[2]
    problems = [f"{file} is missing" for file in (module, *FILES) if not (folder / file).is_file()]
    if name != folder.name:
        problems.append(f"evaluate looks for {name}.py in {repo_id}: name the repository {folder.name}")
    refuse(folder, problems or link_problems(folder, (module, *FILES)))
    source = (folder / module).read_text("utf-8")
    parts = _parts(source)
    files = [UploadFile(file, folder / file) for file in FILES]
    files.append(UploadFile(module, _published(source, parts).encode("utf-8")))
    files += [UploadFile(f"{part}.py", _file_of(part)) for part in parts]
    refuse(folder, content_problems(files, folder, of_patients=False))
    taken = {file.name for file in files}
    left_out = [(path.name, "not of the metric") for path in sorted(folder.iterdir()) if path.name not in taken]
    return Upload("space", files, left_out, ("*.py",))


def _file_of(part: str) -> Path:
    return Path(evaluation.__file__).with_name(f"{part}.py")


def _parts(source: str) -> list[str]:
    """The modules of our package that the source imports, and those that these import, in the order they are met."""
    parts = list(dict.fromkeys(_OUR_IMPORT.findall(source)))
    for part in parts:
        imported = dict.fromkeys(_SIBLING_IMPORT.findall(_file_of(part).read_text("utf-8")))
        parts += [name for name in imported if name not in parts]
    return parts


def _published(source: str, parts: list[str]) -> str:
    named = _OUR_IMPORT.findall(source)
    lines = "".join(f"from .{part} import __name__ as _{part}\n" for part in parts if part not in named)
    return _OUR_IMPORT.sub(r"from .\1 import ", _OUR_IMPORT.sub(lambda line: lines + line[0], source, count=1))
