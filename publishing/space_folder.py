"""What of a demo's folder goes to the Hub: a Gradio Space for one model."""

import re
from pathlib import Path

from reporting.notice import DRAFT_NOTICE

from .refusals import content_problems, link_problems
from .upload import Upload, UploadFile, check_repo_id, refuse

FILES = ("app.py", "requirements.txt", "README.md")


def prepare_space(folder: str | Path, repo_id: str, model_id: str | None) -> Upload:
    """Check a demo's folder and lay out its upload, with `{{ model_id }}` and `{{ notice }}` filled in.

    Args:
        folder: such as `publishing/space`.
        repo_id: "organisation/name" of the Space.
        model_id: "organisation/name" of the model that it shows.

    Raises:
        UploadError: no model is named, a file is missing, or one holds a local path.
    """
    folder = Path(folder)
    check_repo_id(repo_id)
    if model_id is None:
        refuse(folder, ["a Space shows one model: name it with --model org/name"])
    check_repo_id(model_id)
    refuse(folder, [f"{file} is missing" for file in FILES if not (folder / file).is_file()])
    refuse(folder, link_problems(folder, FILES))
    values = {"model_id": model_id, "notice": DRAFT_NOTICE, "title": repo_id.partition("/")[2]}
    files = [UploadFile(name, _filled((folder / name).read_text("utf-8"), values)) for name in FILES]
    refuse(folder, content_problems(files, folder, of_patients=False))
    left_out = [(path.name, "not of the Space") for path in sorted(folder.iterdir()) if path.name not in FILES]
    return Upload("space", files, left_out, ("*.py",))


def _filled(text: str, values: dict[str, str]) -> bytes:
    return re.sub(r"\{\{ (\w+) \}\}", lambda found: values[found[1]], text).encode("utf-8")
