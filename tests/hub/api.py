"""The Hub's HTTP API, as much of it as huggingface_hub, transformers, datasets and evaluate call."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from .handler import HubHandler
from .hub import READ_TOKEN, USER, WRITE_TOKEN
from .repository import DATE, File, HubError, Repository, check_name, goes_to_lfs

REPO = r"(?P<repo_id>[\w.-]+/[\w.-]+)"
API = rf"/api/(?P<kind>models|datasets|spaces)/{REPO}"
SITE = rf"/(?:(?P<kind>datasets|spaces)/)?{REPO}"
ROUTES: list[tuple[str, str, Callable]] = []


def route(methods: str, pattern: str) -> Callable:
    """Let a method of the handler answer requests; its arguments are the named groups, unquoted."""

    def register(answer: Callable) -> Callable:
        ROUTES.append((methods, pattern, answer))
        return answer

    return register


class StorageHandler(HubHandler):
    """Where large files lie. Addresses here are secret by themselves: a token that is sent along has leaked."""

    def answer(self) -> None:
        if "Authorization" in self.headers:
            raise HubError(HTTPStatus.BAD_REQUEST, "", "a token of the Hub was sent to another host")
        found = re.fullmatch(r"/([0-9a-f]{64})(?:/(\d+))?", urlsplit(self.path).path)
        if found is None:
            raise HubError(HTTPStatus.FORBIDDEN, "", "no such address")
        sha256, part = found.groups()
        if self.command == "PUT" and part is None:
            self.hub.store(self.body, sha256)
            self.send(b"", HTTPStatus.OK, {})
        elif self.command == "PUT":
            self.hub.parts[sha256, int(part)] = self.body
            self.send(b"", HTTPStatus.OK, {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'})
        elif sha256 in self.hub.objects:
            self.send_content(self.hub.objects[sha256], {"ETag": f'"{sha256}"'})
        else:
            raise HubError(HTTPStatus.NOT_FOUND, "", "no such object")


class APIHandler(HubHandler):
    """The API and the files."""

    def answer(self) -> None:
        path = urlsplit(self.path).path
        for methods, pattern, answer in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in methods.split():
                return answer(self, **{name: unquote(value or "") for name, value in found.groupdict().items()})
        if re.match(r"/api/(models|datasets|spaces|repos)\b", path):
            self.hub.unknown.append(f"{self.command} {path}")
        raise HubError(HTTPStatus.NOT_FOUND, "", "no such page")

    def _token(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        if token not in (None, WRITE_TOKEN, READ_TOKEN):
            raise HubError(HTTPStatus.UNAUTHORIZED, "", "Invalid credentials in Authorization header")
        return token

    def _check_may_write(self) -> None:
        token = self._token()
        if token is None:
            raise HubError(HTTPStatus.UNAUTHORIZED, "", "Invalid username or password.")
        if token != WRITE_TOKEN:
            raise HubError(HTTPStatus.FORBIDDEN, "", "You don't have the rights to write to this repository")

    def _readable(self, repo_id: str, kind: str) -> Repository:
        """A repository, which to a stranger is absent where it is private."""
        token = self._token()
        try:
            repository = self.hub.repository(repo_id, kind or "models")
        except HubError:
            repository = None
        if token is None and (repository is None or repository.is_private):
            raise HubError(HTTPStatus.UNAUTHORIZED, "RepoNotFound", "Invalid username or password.")
        if repository is None:
            raise HubError(HTTPStatus.NOT_FOUND, "RepoNotFound", "Repository not found")
        return repository

    def _writable(self, repo_id: str, kind: str) -> Repository:
        repository = self._readable(repo_id, kind)
        self._check_may_write()
        return repository

    def _address(self, repo_id: str, kind: str) -> str:
        return f"{self.hub.endpoint}/{'' if kind in ('', 'models') else f'{kind}/'}{repo_id}"

    def _send_page(self, entries: list[dict]) -> None:
        """A page of a listing, with the address of the next."""
        first, size = int(self.query.get("cursor", 0)), self.hub.page_size
        headers = {}
        if first + size < len(entries):
            parameters = urlencode(self.query | {"cursor": first + size})
            headers["Link"] = f'<{self.hub.endpoint}{urlsplit(self.path).path}?{parameters}>; rel="next"'
        self.send_json(entries[first : first + size], headers=headers)

    @route("GET", "/api/whoami-v2")
    def _whoami(self) -> None:
        token = self._token()
        if token is None:
            raise HubError(HTTPStatus.UNAUTHORIZED, "", "Invalid username or password.")
        role = "write" if token == WRITE_TOKEN else "read"
        access = {"type": "access_token", "accessToken": {"displayName": token, "role": role}}
        self.send_json({"type": "user", "name": USER, "orgs": [], "auth": access})

    @route("POST", "/api/validate-yaml")
    def _validate_yaml(self) -> None:
        self.send_json({"errors": [], "warnings": []})

    @route("POST DELETE", "/api/repos/(create|delete)")
    def _create_or_delete(self) -> None:
        self._check_may_write()
        asked = json.loads(self.body)
        repo_id = check_name(f"{asked.get('organization') or USER}/{asked['name']}")
        kind = f"{asked.get('type') or 'model'}s"
        if self.command == "DELETE":
            self.hub.repository(repo_id, kind)
            del self.hub.repositories[kind, repo_id]
            return self.send(b"OK", HTTPStatus.OK, {})
        address = {"name": repo_id, "url": self._address(repo_id, kind)}
        try:
            self.hub.create(repo_id, kind, asked.get("visibility") == "private" or bool(asked.get("private")))
        except HubError as error:
            return self.send_json(address | {"error": str(error)}, error.status)
        return self.send_json(address)

    @route("GET", rf"{API}(?:/revision/(?P<revision>[^/]+))?")
    def _info(self, repo_id: str, kind: str, revision: str) -> None:
        self.send_json(self._readable(repo_id, kind).info(revision or "main", self.asks_for("blobs")))

    @route("GET", rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.*))?")
    def _tree(self, repo_id: str, kind: str, revision: str, folder: str) -> None:
        repository = self._readable(repo_id, kind)
        self._send_page(
            repository.tree(revision, folder.strip("/"), self.asks_for("recursive"), self.asks_for("expand"))
        )

    @route("POST", rf"{API}/paths-info/(?P<revision>[^/]+)")
    def _paths_info(self, repo_id: str, kind: str, revision: str) -> None:
        repository = self._readable(repo_id, kind)
        if self.headers.get("Content-Type", "").startswith("application/json"):
            asked = json.loads(self.body)
            paths, expand = asked["paths"], bool(asked.get("expand"))
        else:
            asked = parse_qs(self.body.decode())
            paths, expand = asked.get("paths", []), asked.get("expand", [""])[0].lower() == "true"
        commit = repository.commit_of(revision)
        entries = [repository.entry(commit, path, expand) for path in paths]
        self.send_json([entry for entry in entries if entry is not None])

    @route("GET", rf"{API}/refs")
    def _refs(self, repo_id: str, kind: str) -> None:
        self.send_json(self._readable(repo_id, kind).refs())

    @route("GET", rf"{API}/commits/(?P<revision>[^/]+)")
    def _commits(self, repo_id: str, kind: str, revision: str) -> None:
        commits = self._readable(repo_id, kind).history(revision)
        shown = {"message": "", "date": DATE, "authors": [{"user": USER}]}
        self._send_page([{"id": commit.sha, "title": commit.title} | shown for commit in commits])

    @route("POST DELETE", rf"{API}/branch/(?P<name>[^/]+)")
    def _branch(self, repo_id: str, kind: str, name: str) -> None:
        repository = self._writable(repo_id, kind)
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        self._name(repository.branches, name, lambda: repository.commit_of(start).sha)

    @route("POST DELETE", rf"{API}/tag/(?P<name>[^/]+)")
    def _tag(self, repo_id: str, kind: str, name: str) -> None:
        # The address names the new tag's revision, or the tag to delete.
        repository = self._writable(repo_id, kind)
        tag = name if self.command == "DELETE" else json.loads(self.body)["tag"]
        self._name(repository.tags, tag, lambda: repository.commit_of(name).sha)

    def _name(self, names: dict[str, str], name: str, commit: Callable[[], str]) -> None:
        """Add or delete a branch or a tag."""
        with self.hub.lock:
            if self.command == "POST" and name in names:
                raise HubError(HTTPStatus.CONFLICT, "", f"{name} exists already")
            if self.command == "POST":
                names[check_name(name)] = commit()
            elif names.pop(name, None) is None:
                raise HubError(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {name}")
        self.send_json({})

    @route("POST", rf"{API}/preupload/(?P<revision>[^/]+)")
    def _preupload(self, repo_id: str, kind: str, revision: str) -> None:
        files = self._writable(repo_id, kind).commit_of(revision).files
        modes = []
        for asked in json.loads(self.body)["files"]:
            name = check_name(asked["path"])
            is_lfs = goes_to_lfs(name, asked["size"], base64.b64decode(asked["sample"]))
            there = {"oid": files[name].etag} if name in files else {}
            modes.append({"path": name, "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False} | there)
        self.send_json({"files": modes, "commitOid": self.hub.repository(repo_id, kind).commit_of(revision).sha})

    @route("POST", rf"{SITE}\.git/info/lfs/objects/batch")
    def _lfs_batch(self, repo_id: str, kind: str) -> None:
        self._writable(repo_id, kind)
        site = f"{self._address(repo_id, kind)}.git/info/lfs/objects"
        answers = []
        for asked in json.loads(self.body)["objects"]:
            sha256, size = asked["oid"], asked["size"]
            answer = {"oid": sha256, "size": size}
            if not re.fullmatch("[0-9a-f]{64}", sha256):
                answer["error"] = {"code": HTTPStatus.UNPROCESSABLE_ENTITY, "message": f"{sha256} is no SHA-256"}
            elif sha256 not in self.hub.objects:
                upload = {"href": f"{self.hub.storage}/{sha256}"}
                if size > self.hub.part_size:
                    numbers = range(1, -(-size // self.hub.part_size) + 1)
                    parts = {f"{number:05}": f"{self.hub.storage}/{sha256}/{number}" for number in numbers}
                    upload = {"href": f"{site}/complete", "header": {"chunk_size": str(self.hub.part_size)} | parts}
                answer["actions"] = {"upload": upload, "verify": {"href": f"{site}/verify"}}
            answers.append(answer)
        self.send_json({"transfer": "basic", "objects": answers})

    @route("POST", rf"{SITE}\.git/info/lfs/objects/complete")
    def _lfs_complete(self, repo_id: str, kind: str) -> None:
        # The address came with the upload's instructions and needs no token.
        self.hub.repository(repo_id, kind or "models")
        asked = json.loads(self.body)
        content = b""
        for part in asked["parts"]:
            piece = self.hub.parts.pop((asked["oid"], part["partNumber"]), b"")
            if part["etag"].strip('"') != hashlib.md5(piece).hexdigest():
                raise HubError(HTTPStatus.BAD_REQUEST, "", f"part {part['partNumber']} is not the one that arrived")
            content += piece
        self.hub.store(content, asked["oid"])
        self.send_json({})

    @route("POST", rf"{SITE}\.git/info/lfs/objects/verify")
    def _lfs_verify(self, repo_id: str, kind: str) -> None:
        self._writable(repo_id, kind)
        asked = json.loads(self.body)
        if len(self.hub.objects.get(asked["oid"], b"")) != asked["size"]:
            raise HubError(HTTPStatus.NOT_FOUND, "", "the object did not arrive whole")
        self.send_json({})

    @route("POST", rf"{API}/commit/(?P<revision>[^/]+)")
    def _commit(self, repo_id: str, kind: str, revision: str) -> None:
        self._writable(repo_id, kind)
        header, added, deleted = {}, {}, []
        for line in filter(None, self.body.splitlines()):
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if key == "header":
                header = value
            elif key == "file":
                content = base64.b64decode(value["content"])
                self.hub.store(content)
                added[value["path"]] = File.of(content, is_lfs=False)
            elif key == "lfsFile":
                content = self.hub.objects.get(value["oid"])
                if content is None:
                    raise HubError(HTTPStatus.BAD_REQUEST, "", f"the content of {value['path']} was not uploaded")
                added[value["path"]] = File.of(content, is_lfs=True)
            elif key in ("deletedFile", "deletedFolder"):
                name = check_name(value["path"].rstrip("/"))
                deleted.append(f"{name}/" if key == "deletedFolder" else name)
            else:
                raise HubError(HTTPStatus.BAD_REQUEST, "", f"an operation {key!r} is not known")
        title, parent = header["summary"], header.get("parentCommit")
        commit = self.hub.commit(repo_id, added, tuple(deleted), kind, revision, title, parent)
        address = f"{self._address(repo_id, kind)}/commit/{commit.sha}"
        self.send_json({"success": True, "commitOid": commit.sha, "commitUrl": address})

    @route("GET HEAD", rf"{SITE}/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
    def _resolve(self, repo_id: str, kind: str, revision: str, name: str) -> None:
        repository = self._readable(repo_id, kind)
        file = repository.file(revision, name)
        headers = {"X-Repo-Commit": repository.commit_of(revision).sha, "ETag": f'"{file.etag}"'}
        if not file.is_lfs:
            return self.send_content(self.hub.objects[file.sha256], headers)
        headers |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.sha256}"'}
        return self.send(b"", HTTPStatus.FOUND, headers | {"Location": f"{self.hub.storage}/{file.sha256}"})
