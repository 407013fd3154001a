"""What of a metric's folder goes to the Hub: a Space that `evaluate.load("org/name")` reads."""

import re
from pathlib import Path

import evaluation

from .refusals import content_problems, link_problems
from .upload import Upload, UploadFile, check_repo_id, refuse

# `evaluate` fetches files beside the module where a line of its own imports from them, and no others.
_OUR_IMPORT = re.compile(r"^from evaluation\.(\w+) import ", re.MULTILINE)
FILES = ("app.py", "README.md", "requirements.txt")


def prepare_metric(folder: str | Path, repo_id: str) -> Upload:
    """Check a metric's folder `name/name.py` and lay out its upload.

    In the checkout the module imports our package `evaluation`. On the Hub what it imports lies beside it, and the
    lines that import it say so.

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
    imported = list(dict.fromkeys(_OUR_IMPORT.findall(source)))
    files = [UploadFile(file, folder / file) for file in FILES]
    files.append(UploadFile(module, _OUR_IMPORT.sub(r"from .\1 import ", source).encode("utf-8")))
    files += [UploadFile(f"{part}.py", Path(evaluation.__file__).with_name(f"{part}.py")) for part in imported]
    refuse(folder, content_problems(files, folder, of_patients=False))
    taken = {file.name for file in files}
    left_out = [(path.name, "not of the metric") for path in sorted(folder.iterdir()) if path.name not in taken]
    return Upload("space", files, left_out, ("*.py",))
