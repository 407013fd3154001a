"""A repository as the Hub keeps it: commits that each hold a whole tree, and the branches and tags that name them."""

import hashlib
from dataclasses import dataclass, field
from http import HTTPStatus

DATE = "2026-01-01T00:00:00.000Z"
LFS_SUFFIXES = (".arrow", ".bin", ".dat", ".gguf", ".parquet", ".png", ".safetensors")
LARGEST_REGULAR_FILE = 10_000_000


class HubError(Exception):
    """A request that the Hub refuses: HTTP status, its `X-Error-Code` (may be empty), and the reason."""

    def __init__(self, status: int, code: str, message: str, **headers: str):
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers


@dataclass(frozen=True)
class File:
    """What a tree says of a file: size in bytes, hash of its content, git's id, and whether it is stored as LFS."""

    size: int
    sha256: str
    oid: str
    is_lfs: bool

    @classmethod
    def of(cls, content: bytes, is_lfs: bool) -> "File":
        sha256 = hashlib.sha256(content).hexdigest()
        tracked = content
        if is_lfs:  # git then tracks a pointer
            tracked = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
        return cls(len(content), sha256, hashlib.sha1(b"blob %d\0" % len(tracked) + tracked).hexdigest(), is_lfs)

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.oid


def goes_to_lfs(name: str, size: int, sample: bytes) -> bool:
    """Whether a new file is stored as LFS; `sample` is its beginning."""
    return size > LARGEST_REGULAR_FILE or name.endswith(LFS_SUFFIXES) or b"\0" in sample


def check_name(name: str) -> str:
    """The name of a file in a repository, as it is.

    Raises:
        HubError: it is empty, absolute or leads out of the repository.
    """
    if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise HubError(HTTPStatus.BAD_REQUEST, "", f"{name!r} is not a path in a repository")
    return name


@dataclass(frozen=True)
class Commit:
    """One state of the repository."""

    sha: str
    title: str
    parent: "Commit | None"
    files: dict[str, File]


@dataclass
class Repository:
    """Commits by hash, and what names them. `kind` is "models", "datasets" or "spaces"."""

    repo_id: str
    kind: str
    is_private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add_commit("main", {}, "initial commit")

    @property
    def head(self) -> Commit:
        """The last commit of the main branch."""
        return self.commits[self.branches["main"]]

    def commit_of(self, revision: str) -> Commit:
        """The commit that a branch, a tag or a commit's hash names.

        Raises:
            HubError: there is none.
        """
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        if sha not in self.commits:
            raise HubError(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[sha]

    def file(self, revision: str, name: str) -> File:
        """A file at a revision.

        Raises:
            HubError: the revision or the file is absent.
        """
        commit = self.commit_of(revision)
        if name not in commit.files:
            headers = {"X-Repo-Commit": commit.sha}
            raise HubError(HTTPStatus.NOT_FOUND, "EntryNotFound", f"{name} does not exist", **headers)
        return commit.files[name]

    def add_commit(self, branch: str, files: dict[str, File], title: str) -> Commit:
        """Put a new tree on a branch."""
        parent = self.commits.get(self.branches.get(branch, ""))
        content = [
            self.repo_id,
            title,
            parent and parent.sha,
            *sorted((name, file.oid) for name, file in files.items()),
        ]
        commit = Commit(hashlib.sha1(repr(content).encode()).hexdigest(), title, parent, files)
        self.commits[commit.sha] = commit
        self.branches[branch] = commit.sha
        return commit

    def history(self, revision: str) -> list[Commit]:
        """The commits up to a revision, the last first."""
        commit, found = self.commit_of(revision), []
        while commit is not None:
            found.append(commit)
            commit = commit.parent
        return found

    def entry(self, commit: Commit, name: str, expand: bool) -> dict | None:
        """A file or a folder as listings show it; None where there is neither."""
        last = {"lastCommit": {"id": commit.sha, "title": commit.title, "date": DATE}} if expand else {}
        if file := commit.files.get(name):
            lfs = {"lfs": {"oid": file.sha256, "size": file.size, "pointerSize": 127}} if file.is_lfs else {}
            return {"type": "file", "path": name, "size": file.size, "oid": file.oid} | lfs | last
        below = sorted((path, file.oid) for path, file in commit.files.items() if path.startswith(f"{name}/"))
        if not below:
            return None
        return {
            "type": "directory",
            "path": name,
            "oid": hashlib.sha1(repr(below).encode()).hexdigest(),
            "size": 0,
        } | last

    def tree(self, revision: str, folder: str, recursive: bool, expand: bool) -> list[dict]:
        """The entries of a folder ("" is the root), of those below it too where `recursive`.

        Raises:
            HubError: the revision or the folder is absent.
        """
        commit, prefix = self.commit_of(revision), f"{folder}/" if folder else ""
        names = set()
        for path in commit.files:
            if path.startswith(prefix):
                parts = path.removeprefix(prefix).split("/")
                depths = range(1, len(parts) + 1) if recursive else (1,)
                names |= {prefix + "/".join(parts[:depth]) for depth in depths}
        if folder and not names:
            headers = {"X-Repo-Commit": commit.sha}
            raise HubError(HTTPStatus.NOT_FOUND, "EntryNotFound", f"{folder} does not exist", **headers)
        return [self.entry(commit, name, expand) for name in sorted(names)]

    def info(self, revision: str, blobs: bool) -> dict:
        """What `model_info` and its siblings return; with each file's size and hashes where `blobs`."""
        commit = self.commit_of(revision)
        siblings = []
        for name, file in sorted(commit.files.items()):
            sizes = {"size": file.size, "blobId": file.oid} if blobs else {}
            if blobs and file.is_lfs:
                sizes["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 127}
            siblings.append({"rfilename": name} | sizes)
        return {
            "_id": commit.sha[:24],
            "id": self.repo_id,
            "author": self.repo_id.partition("/")[0],
            "sha": commit.sha,
            "lastModified": DATE,
            "createdAt": DATE,
            "private": self.is_private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
        }

    def refs(self) -> dict:
        """Branches and tags."""
        return {
            "branches": [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": s} for n, s in self.branches.items()],
            "tags": [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": s} for n, s in self.tags.items()],
            "converts": [],
            "pullRequests": [],
        }
