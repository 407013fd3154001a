"""The test Hub (tests/hub) against the installed huggingface_hub, and against requests that no client would send."""

import hashlib
import http.client
import json
import re
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, HfFileSystem, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.hub import READ_TOKEN, WRITE_TOKEN
from tests.hub.repository import HubError
from tests.hub.server import serve_hub
from tests.hub.visit import visit

REPO = "lab/model"
WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def hub(monkeypatch):
    """A running Hub that this process may reach, without a token."""
    with serve_hub() as hub:
        visit(hub, monkeypatch, token=None)
        yield hub


@pytest.fixture
def api(hub):
    """A client that may write."""
    return HfApi(endpoint=hub.endpoint, token=WRITE_TOKEN)


def push(api, files, repo_id=REPO, **options):
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    return api.create_commit(repo_id, operations, commit_message="push", **options)


def request(address, method, path, body=None, headers=None):
    """Status, headers and body of one request as it stands, without a client's care."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_what_was_pushed_is_listed_and_comes_back(hub, api, tmp_path, kind):
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}
    url = api.create_repo(REPO, repo_type=kind, **sdk)
    assert (url.repo_id, url.repo_type) == (REPO, kind)
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(REPO, repo_type=kind, **sdk)
    assert api.create_repo(REPO, repo_type=kind, exist_ok=True, **sdk).repo_id == REPO

    files = {"config.json": b"{}", "deep/er/ä b.txt": b"text", "empty.txt": b"", "model.safetensors": WEIGHTS}
    commit = push(api, files, repo_type=kind)
    assert api.repo_info(REPO, repo_type=kind).sha == commit.oid
    assert sorted(api.list_repo_files(REPO, repo_type=kind)) == sorted(files)
    for name, content in files.items():
        path = api.hf_hub_download(REPO, name, repo_type=kind, cache_dir=tmp_path)
        assert Path(path).read_bytes() == content
    whole = api.snapshot_download(REPO, repo_type=kind, cache_dir=tmp_path / "whole")
    assert Path(whole, "model.safetensors").read_bytes() == WEIGHTS

    [entry] = api.get_paths_info(REPO, ["model.safetensors", "absent"], repo_type=kind)
    assert (entry.size, entry.lfs.sha256) == (len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())
    top = [entry.path for entry in api.list_repo_tree(REPO, repo_type=kind)]
    assert top == ["config.json", "deep", "empty.txt", "model.safetensors"]
    api.delete_repo(REPO, repo_type=kind)
    assert not api.repo_exists(REPO, repo_type=kind)


def test_listings_come_in_pages(hub, api):
    hub.create(REPO)
    hub.page_size = 3
    hub.commit(REPO, {f"{number}.txt": b"x" for number in range(10)})
    for expand in (False, True):
        assert len(list(api.list_repo_tree(REPO, recursive=True, expand=expand))) == 10
    assert sum("cursor" in line for line in hub.requests) == 6


def test_a_large_file_goes_up_in_parts_and_only_once(hub, api):
    hub.create(REPO)
    hub.part_size = 1000
    push(api, {"a.bin": WEIGHTS})
    assert sum(line.startswith("PUT") for line in hub.requests) == 11
    assert hub.contents(REPO)["a.bin"] == WEIGHTS
    hub.requests.clear()
    push(api, {"b.bin": WEIGHTS})
    assert not any(line.startswith("PUT") for line in hub.requests)
    assert hub.contents(REPO)["b.bin"] == WEIGHTS


def test_commits_branches_tags_and_deletions(hub, api, tmp_path):
    api.create_repo(REPO)
    first = push(api, {"a.txt": b"1", "folder/b.txt": b"1", "folder/c.txt": b"1"})
    api.create_tag(REPO, tag="v1")
    api.create_branch(REPO, branch="side/branch")
    second = push(api, {"a.txt": b"2"}, parent_commit=first.oid)
    push(api, {"a.txt": b"3"}, revision="side/branch")
    for revision, text in {"v1": b"1", first.oid: b"1", second.oid: b"2", "main": b"2", "side/branch": b"3"}.items():
        path = api.hf_hub_download(REPO, "a.txt", revision=revision, cache_dir=tmp_path)
        assert Path(path).read_bytes() == text
    assert [commit.title for commit in api.list_repo_commits(REPO)] == ["push", "push", "initial commit"]
    refs = api.list_repo_refs(REPO)
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first.oid}
    assert {ref.name for ref in refs.branches} == {"main", "side/branch"}

    with pytest.raises(HfHubHTTPError, match="412"):
        push(api, {"a.txt": b"4"}, parent_commit=first.oid)
    deletions = [CommitOperationDelete("a.txt"), CommitOperationDelete("folder/")]
    api.create_commit(REPO, deletions, commit_message="away")
    assert api.list_repo_files(REPO) == []
    with pytest.raises(EntryNotFoundError):
        api.delete_file("a.txt", REPO)
    api.delete_tag(REPO, tag="v1")
    api.delete_branch(REPO, branch="side/branch")
    with pytest.raises(RevisionNotFoundError):
        api.repo_info(REPO, revision="v1")


def test_a_push_of_the_same_files_makes_no_commit(hub, api):
    api.create_repo(REPO)
    first = push(api, {"a.txt": b"1", "a.bin": WEIGHTS})
    assert push(api, {"a.txt": b"1", "a.bin": WEIGHTS}).oid == first.oid


def test_what_is_absent_is_named(hub, api, tmp_path):
    hub.create(REPO)
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("lab/other")
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info(REPO, repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.list_repo_files(REPO, revision="v9")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(REPO, "absent.txt", cache_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download(REPO, "absent.txt", revision="v9", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        push(api, {"a.txt": b"1"}, repo_id="lab/other")


def test_who_may_read_and_write(hub, api, tmp_path):
    api.create_repo(REPO, private=True)
    push(api, {"a.bin": WEIGHTS})
    assert api.repo_info(REPO).private
    assert api.whoami()["name"] == "tester"
    for token, may_read in {READ_TOKEN: True, False: False, "stolen": False}.items():
        stranger = HfApi(endpoint=hub.endpoint, token=token)
        if may_read:
            path = stranger.hf_hub_download(REPO, "a.bin", cache_dir=tmp_path / "reader")
            assert Path(path).read_bytes() == WEIGHTS
        else:
            with pytest.raises(HfHubHTTPError, match="401"):
                stranger.hf_hub_download(REPO, "a.bin", cache_dir=tmp_path / str(token))
        with pytest.raises(HfHubHTTPError, match="403" if may_read else "401"):
            push(stranger, {"a.txt": b"1"})
        with pytest.raises(HfHubHTTPError, match="403" if may_read else "401"):
            stranger.create_repo("lab/new")
    assert list(hub.contents(REPO)) == ["a.bin"]


def test_ranges(hub, api):
    hub.create(REPO, "datasets")
    hub.commit(REPO, {"a.parquet": WEIGHTS, "a.txt": WEIGHTS[32:128]}, kind="datasets")
    files = HfFileSystem(endpoint=hub.endpoint, token=WRITE_TOKEN)
    with files.open(f"datasets/{REPO}/a.parquet", block_size=64) as file:
        file.seek(1000)
        assert file.read(24) == WEIGHTS[1000:1024]
        file.seek(-10, 2)
        assert file.read() == WEIGHTS[-10:]
    path = f"/datasets/{REPO}/resolve/main/a.txt"
    assert request(hub.endpoint, "GET", path, headers={"Range": "bytes=90-200"})[2] == WEIGHTS[122:128]
    status, headers, _ = request(hub.endpoint, "GET", path, headers={"Range": "bytes=96-"})
    assert (status, headers["Content-Range"]) == (416, "bytes */96")


def test_content_that_is_not_what_was_announced_is_refused(hub, api):
    hub.create(REPO)
    announced = hashlib.sha256(b"good").hexdigest()
    assert request(hub.storage, "PUT", f"/{announced}", b"evil")[0] == 400
    line = {"key": "lfsFile", "value": {"path": "a.bin", "algo": "sha256", "oid": announced, "size": 4}}
    body = "\n".join(json.dumps(part) for part in ({"key": "header", "value": {"summary": "x"}}, line))
    headers = {"Authorization": f"Bearer {WRITE_TOKEN}"}
    status, _, answer = request(hub.endpoint, "POST", f"/api/models/{REPO}/commit/main", body, headers)
    assert status == 400
    assert b"was not uploaded" in answer
    assert hub.contents(REPO) == {}
    assert request(hub.storage, "PUT", f"/{announced}", b"good")[0] == 200
    assert request(hub.endpoint, "POST", f"/api/models/{REPO}/commit/main", body, headers)[0] == 200
    assert hub.contents(REPO) == {"a.bin": b"good"}


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a//b", "", "a\\b", "./a"])
def test_a_path_out_of_the_repository_is_refused(hub, name):
    hub.create(REPO)
    lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "file", "value": {"path": name, "content": ""}}]
    body = "\n".join(json.dumps(line) for line in lines)
    headers = {"Authorization": f"Bearer {WRITE_TOKEN}"}
    assert request(hub.endpoint, "POST", f"/api/models/{REPO}/commit/main", body, headers)[0] == 400
    assert request(hub.endpoint, "GET", f"/{REPO}/resolve/main/%2e%2e/%2e%2e/etc/passwd")[0] == 404
    assert request(hub.storage, "GET", "/../../etc/passwd")[0] == 403
    with pytest.raises(HubError, match="not a path"):
        hub.commit(REPO, {name: b""})


def test_a_token_that_reaches_the_storage_is_noticed(hub):
    sha256 = hub.store(b"x")
    assert request(hub.storage, "GET", f"/{sha256}")[2] == b"x"
    assert request(hub.storage, "GET", f"/{sha256}", headers={"Authorization": f"Bearer {WRITE_TOKEN}"})[0] == 400


def test_faults(hub, api, tmp_path):
    hub.create(REPO)
    hub.commit(REPO, {"a.bin": WEIGHTS})
    failing = hub.fail(r"GET /api/models", status=503, times=1)
    with pytest.raises(HfHubHTTPError, match="503"):
        api.repo_info(REPO)
    assert failing.reached.is_set()
    assert api.repo_info(REPO).id == REPO

    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    cut = hub.cut(f"GET /{sha256}", times=1)
    path = api.hf_hub_download(REPO, "a.bin", cache_dir=tmp_path / "cut")  # the client goes on where it was cut
    assert cut.reached.is_set()
    assert Path(path).read_bytes() == WEIGHTS

    hub.cut("POST .*/commit/")
    with pytest.raises(Exception, match=re.compile("disconnect|closed|reset", re.IGNORECASE)):
        push(api, {"b.txt": b"1"})
    assert list(hub.contents(REPO)) == ["a.bin"]
    hub.mend()
    push(api, {"b.txt": b"1"})
    hub.corrupt(REPO, "a.bin", WEIGHTS[::-1])
    path = hf_hub_download(REPO, "a.bin", endpoint=hub.endpoint, cache_dir=tmp_path / "corrupt")
    assert Path(path).read_bytes() == WEIGHTS[::-1]


def test_a_request_without_an_answer_is_an_error_of_the_test():
    with pytest.raises(AssertionError, match="POST /api/models/lab/model/merge"), serve_hub() as hub:
        assert request(hub.endpoint, "POST", "/api/models/lab/model/merge")[0] == 404
