"""The files of one commit to the Hub, and the commit."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of the HTTP library that this version of the Hub's client uses
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import validate_repo_id

COMMIT_MESSAGE = "Upload with meit-ecg push"
# HTTP status -> what to do about it
ADVICE = {
    401: "it does not know you: log in with `hf auth login`, or set HF_TOKEN",
    403: "you may not write there: ask for the right, or use a token that can write",
    404: "there is no such repository or branch, or you may not see it",
    409: "the repository changed meanwhile: repeat the command",
    413: "the upload is larger than the Hub takes",
    429: "too many requests: repeat the command later",
}


class UploadError(ValueError):
    """A folder that must not be uploaded as it is, or a Hub that does not take it; the message lists every reason."""


@dataclass(frozen=True)
class UploadFile:
    """One file of the upload: its name in the repository, and its content or where that lies."""

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def read(self) -> bytes:
        """The published bytes."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True)
class Upload:
    """One commit.

    Attributes:
        repo_type: "model", "dataset" or "space".
        files: what goes up.
        left_out: (name, reason) of what stays here.
        replaces: patterns of names; what an earlier upload left under one of them goes with this one. Old shards beside
            new ones would be read as one dataset.
        described: patterns of names; where the repository has a file under one of them that is not of this upload, the
            new card would be silent about it, and the upload is refused.
    """

    repo_type: str
    files: list[UploadFile]
    left_out: list[tuple[str, str]]
    replaces: tuple[str, ...] = ()
    described: tuple[str, ...] = ()


def check_repo_id(repo_id: str) -> None:
    """Raise `UploadError` where `repo_id` is not "organisation/name"."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UploadError(f"{repo_id!r} is not a repository id: {error}") from error
    if "/" not in repo_id:
        raise UploadError(f"{repo_id!r} is not a repository id: expected organisation/name")


def refuse(folder: Path, problems: list[str]) -> None:
    """Raise `UploadError` with every problem, each once, where there is one."""
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in dict.fromkeys(problems))
        raise UploadError(f"{folder} cannot be uploaded:\n{listed}")


def commit(upload: Upload, repo_id: str, private: bool = False, revision: str | None = None) -> str:
    """Make the repository where it is absent, and put all files into it by one commit: all of them or none.

    Large files go up before the commit, each once: an upload that was broken off goes on when it is repeated.

    Args:
        upload: the files.
        repo_id: "organisation/name".
        private: of a repository that is made; one that is there has to be.
        revision: branch, made where it is absent; the main branch by default.

    Returns:
        The commit's address.

    Raises:
        UploadError: the Hub refused or cannot be reached, or what is there already forbids it; one line that says why.
    """
    where: dict[str, Any] = {"repo_type": upload.repo_type}
    try:
        api = HfApi()
        sdk = {"space_sdk": "gradio"} if upload.repo_type == "space" else {}
        api.create_repo(repo_id, private=private or None, exist_ok=True, **where, **sdk)
        if private and not api.repo_info(repo_id, **where).private:
            raise UploadError(f"{repo_id} is public already: make it private on the Hub, or push without --private")
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True, **where)
            where["revision"] = revision
        there = api.list_repo_files(repo_id, **where) if upload.replaces else []
        stale = sorted(set(there) - {file.name for file in upload.files})
        _refuse_undescribed(upload, repo_id, stale)
        operations = [*_additions(upload), *_deletions(upload, stale)]
        return str(api.create_commit(repo_id, operations, commit_message=COMMIT_MESSAGE, **where).commit_url)
    except (HfHubHTTPError, HTTPError, OfflineModeIsEnabled, OSError) as error:
        raise UploadError(_reason(repo_id, error)) from error


def _additions(upload: Upload) -> Iterator[CommitOperationAdd]:
    for file in upload.files:
        yield CommitOperationAdd(file.name, file.content if isinstance(file.content, bytes) else str(file.content))


def _deletions(upload: Upload, stale: list[str]) -> Iterator[CommitOperationDelete]:
    for name in stale:
        if any(fnmatch(name, pattern) for pattern in upload.replaces):
            yield CommitOperationDelete(name)


def _refuse_undescribed(upload: Upload, repo_id: str, stale: list[str]) -> None:
    lost = [name for name in stale if any(fnmatch(name, pattern) for pattern in upload.described)]
    if lost:
        raise UploadError(
            f"{repo_id} holds {', '.join(lost)}, of which the new card would no longer speak: push a folder "
            "that has these configs too, or delete them on the Hub first"
        )


def _reason(repo_id: str, error: Exception) -> str:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    said = " ".join((getattr(error, "server_message", None) or str(error)).split())
    if status is None:
        return f"{repo_id}: the Hub cannot be reached, nothing was committed ({said})"
    if status >= 500:
        advice = "it failed; repeat the command, which goes on with what is there already"
    else:
        advice = ADVICE.get(status, "it does not accept this upload")
    return f"{repo_id}: the Hub answered {status}, nothing was committed: {advice} ({said})"
