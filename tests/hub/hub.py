"""A Hub on the loopback: what it holds, and what a test may do to it."""

import hashlib
import os
import threading
from http import HTTPStatus
from pathlib import Path

from .faults import Fault
from .repository import Commit, File, HubError, Repository, check_name, goes_to_lfs

USER = "tester"
WRITE_TOKEN, READ_TOKEN = "test-write", "test-read"
HIDDEN_VARIABLES = ("HF_", "HUGGING", "TRANSFORMERS_", "PYTHON", "no_proxy")


class Hub:
    """Repositories, the objects they consist of, uploads under way, and the faults of the day.

    Attributes:
        endpoint: the address for HF_ENDPOINT.
        storage: the address that large files come from and go to, another host as on the real Hub.
        page_size: entries per page of a listing.
        part_size: a larger file is uploaded in parts of so many bytes.
        objects: content by its SHA-256.
        requests: every request as "METHOD /path", in order.
        unknown: those about repositories that this Hub has no answer to; a test that leaves any here found a gap in it.
    """

    def __init__(self, endpoint: str, storage: str):
        self.endpoint, self.storage = endpoint, storage
        self.page_size, self.part_size = 1000, 1 << 20
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self.lock = threading.RLock()

    def repository(self, repo_id: str, kind: str = "models") -> Repository:
        """A repository.

        Raises:
            HubError: there is none of this name and kind.
        """
        if (kind, repo_id) not in self.repositories:
            raise HubError(HTTPStatus.NOT_FOUND, "RepoNotFound", "Repository not found")
        return self.repositories[kind, repo_id]

    def create(self, repo_id: str, kind: str = "models", is_private: bool = False) -> Repository:
        """A new, empty repository.

        Raises:
            HubError: it exists.
        """
        with self.lock:
            if (kind, repo_id) in self.repositories:
                raise HubError(HTTPStatus.CONFLICT, "", f"You already created this {kind.removesuffix('s')} repo")
            self.repositories[kind, repo_id] = Repository(repo_id, kind, is_private)
            return self.repositories[kind, repo_id]

    def store(self, content: bytes, sha256: str | None = None) -> str:
        """Keep content under its SHA-256, which is returned.

        Raises:
            HubError: it is not the `sha256` that was announced.
        """
        found = hashlib.sha256(content).hexdigest()
        if sha256 not in (None, found):
            raise HubError(HTTPStatus.BAD_REQUEST, "", f"content has the SHA-256 {found}, expected {sha256}")
        self.objects[found] = content
        return found

    def commit(
        self,
        repo_id: str,
        added: dict[str, bytes | File],
        deleted: tuple[str, ...] = (),
        kind: str = "models",
        branch: str = "main",
        title: str = "commit",
        parent: str | None = None,
    ) -> Commit:
        """Put files, as content or as objects that are stored already, and deletions on a branch, all or nothing.

        Args:
            deleted: files, and folders with a slash at their end.
            parent: the commit that the branch must be at.

        Raises:
            HubError: a name, branch, object or deleted file is not there, or the branch has moved on.
        """
        with self.lock:
            repository = self.repository(repo_id, kind)
            if branch not in repository.branches:
                raise HubError(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {branch}")
            if parent not in (None, repository.branches[branch]):
                raise HubError(HTTPStatus.PRECONDITION_FAILED, "", "A commit has happened since. Please refresh.")
            files = dict(repository.commit_of(branch).files)
            for name in deleted:
                gone = [path for path in files if path == name or (name.endswith("/") and path.startswith(name))]
                if not gone:
                    raise HubError(
                        HTTPStatus.NOT_FOUND, "EntryNotFound", f"A file with this name doesn't exist: {name}"
                    )
                for path in gone:
                    del files[path]
            for name, content in added.items():
                file = content
                if isinstance(content, bytes):
                    file = File.of(content, goes_to_lfs(name, len(content), content[:512]))
                    self.store(content)
                elif file.sha256 not in self.objects:
                    raise HubError(HTTPStatus.BAD_REQUEST, "", f"the content of {name} was not uploaded")
                files[check_name(name)] = file
            return repository.add_commit(branch, files, title)

    def contents(self, repo_id: str, kind: str = "models", revision: str = "main") -> dict[str, bytes]:
        """Every file of a repository by its name."""
        commit = self.repository(repo_id, kind).commit_of(revision)
        return {name: self.objects[file.sha256] for name, file in commit.files.items()}

    def corrupt(self, repo_id: str, name: str, content: bytes, kind: str = "models") -> None:
        """Serve other content than was committed, under the old hash, as a broken disk would."""
        self.objects[self.repository(repo_id, kind).file("main", name).sha256] = content

    def fail(self, pattern: str, status: int = 500, times: int | None = None) -> Fault:
        """Answer requests "METHOD /path" that match with an error."""
        return self._fault(Fault(pattern, "fail", status, times))

    def cut(self, pattern: str, times: int | None = None) -> Fault:
        """End the connection half-way through the body of requests that match, or of the answers to them."""
        return self._fault(Fault(pattern, "cut", times=times))

    def hold(self, pattern: str) -> Fault:
        """Answer requests that match only once the fault is released, or the Hub is at its end."""
        return self._fault(Fault(pattern, "hold"))

    def _fault(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault

    def mend(self) -> None:
        """End every fault."""
        for fault in self.faults:
            fault.released.set()
        self.faults.clear()

    def fault_of(self, request: str) -> Fault | None:
        """The first fault that happens to a request "METHOD /path"."""
        with self.lock:
            return next((fault for fault in self.faults if fault.happens_to(request)), None)

    def variables(self, home: Path, token: str | None = WRITE_TOKEN) -> dict[str, str]:
        """What a process needs in its environment to take this Hub for the real one; its caches lie in `home`."""
        settings = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",  # where hf_xet is installed, clients would upload by no other protocol
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        return settings if token is None else settings | {"HF_TOKEN": token}

    def environment(self, home: Path, token: str | None = WRITE_TOKEN) -> dict[str, str]:
        """The whole environment of such a process: of this machine's accounts and caches it sees none."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN_VARIABLES)}
        return kept | self.variables(home, token)
