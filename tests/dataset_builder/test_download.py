"""Downloads from a server of this machine, which serves a small database as PhysioNet does, and fails on demand."""

import errno
import random
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
import wfdb

from dataset_builder import download
from dataset_builder.corpus_files import open_corpus_files
from dataset_builder.download import download_corpus
from dataset_builder.errors import DatasetBuildError

REPOSITORY = Path(__file__).parents[2]
DATABASE = "mimic-iv-ecg/1.0"
TABLE = "record_list.csv"
SAMPLES = 50


def header(name: str) -> bytes:
    lines = [f"{name} 12 500 {SAMPLES} 12:52:00 24/11/2122"]
    lines += [f"{name}.dat 16 200.0(0)/mV 16 0 -2 40993 0 V{lead}" for lead in range(12)]
    return "\n".join([*lines, "# <subject_id>: 1", ""]).encode()


def make_database(count: int) -> dict[str, bytes]:
    rng = random.Random(0)
    names = [f"files/p1/p{number}/s{number}/{number}" for number in range(count)]
    files = {TABLE: "".join(f"{name}\n" for name in names).encode()}
    for name in names:
        files[f"{name}.hea"] = header(name.rpartition("/")[2])
        files[f"{name}.dat"] = rng.randbytes(SAMPLES * 12 * 2)
    return files


class Server:
    """Serves `files`; `faults` holds, per name, what goes wrong with its next requests. It notes what was asked."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.faults: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.delay = 0.0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or each small answer takes 40 ms

            def log_message(self, *_):
                pass

            def do_GET(self):
                server.answer(self)

            do_HEAD = do_GET

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/files/"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.removeprefix(f"/files/{DATABASE}/")
        self.asked.append(f"{handler.command} {name}")
        time.sleep(self.delay)
        faults = self.faults.get(name) or self.faults.get("*") or [""]
        fault = faults.pop(0) if len(faults) > 1 else faults[0]
        content = self.files.get(name)
        status = int(fault) if fault.isdigit() else 404 if content is None else 200
        if fault == "hang up":
            handler.close_connection = True
            return
        body = content if status == 200 else b"an error page\n"
        handler.send_response(status)
        if fault != "no length":
            length = {"one byte more": len(body) + 1, "10 GB": 10**10}.get(fault, len(body))
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if handler.command == "HEAD":
            return
        handler.wfile.write(body[: len(body) // 2] if fault in ("cut", "silence") else body)
        if fault == "silence":
            handler.wfile.flush()
            time.sleep(5)
        if fault in ("cut", "one byte more", "no length", "10 GB", "silence"):
            handler.close_connection = True

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server(make_database(12))
    wfdb.set_db_index_url(server.url)
    yield server
    wfdb.set_db_index_url()
    server.close()


@pytest.fixture
def fetch(server, tmp_path):
    """Downloads the server's database into `corpus`, without waiting long between attempts."""

    def run(**options):
        names = options.pop("names", None)
        folder = options.pop("folder", tmp_path / "corpus")

        def records():
            return iter((folder / TABLE).read_text().split() if names is None else names)

        options = {"first_delay": 0.001} | options
        return download_corpus(DATABASE, folder, [TABLE], records, **options)

    return run


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def counts(result):
    return result.downloaded, result.already_there, [name for name, _ in result.failed]


def test_a_database_arrives_in_its_own_layout(server, fetch, tmp_path):
    assert counts(fetch()) == (12, 0, [])
    assert files_in(tmp_path / "corpus") == server.files
    assert server.asked[0] == f"GET {TABLE}"
    assert sorted(server.asked) == sorted(f"GET {name}" for name in server.files)
    corpus = open_corpus_files(tmp_path / "corpus", TABLE)
    assert corpus.read("files/p1/p3/s3/3.dat", 10_000) == server.files["files/p1/p3/s3/3.dat"]


def test_what_is_there_is_not_asked_for_again(server, fetch):
    fetch()
    server.asked.clear()
    assert counts(fetch()) == (0, 12, [])
    assert server.asked == [f"HEAD {TABLE}"]


def test_part_files_of_other_tools_are_not_taken_for_whole(server, fetch, tmp_path):
    fetch()
    server.asked.clear()
    folder = tmp_path / "corpus"
    cut = {
        TABLE: 20,
        "files/p1/p1/s1/1.dat": 100,
        "files/p1/p2/s2/2.dat": 0,
        "files/p1/p3/s3/3.hea": 0,
        # after ten of twelve leads, and within the last line
        "files/p1/p4/s4/4.hea": server.files["files/p1/p4/s4/4.hea"].index(b"4.dat 16 200.0(0)/mV 16 0 -2 40993 0 V10"),
        "files/p1/p5/s5/5.hea": server.files["files/p1/p5/s5/5.hea"].index(b"1\n#") + 1,
    }
    for name, kept in cut.items():
        (folder / name).write_bytes(server.files[name][:kept])
    (folder / "files/p1/p6/s6/6.dat").write_bytes(bytes(SAMPLES * 24 + 1))
    (folder / "files/p1/p7/s7/7.hea").unlink()
    assert counts(fetch()) == (7, 5, [])
    assert files_in(folder) == server.files
    fetched = {*cut, "files/p1/p6/s6/6.dat", "files/p1/p7/s7/7.hea"}
    assert sorted(server.asked) == sorted([f"HEAD {TABLE}", *(f"GET {name}" for name in fetched)])


def test_failures_that_pass_are_waited_out(server, fetch, tmp_path):
    server.faults = {
        TABLE: ["503", "cut", ""],
        "files/p1/p1/s1/1.hea": ["500", "502", "504", "429", ""],
        "files/p1/p2/s2/2.dat": ["hang up", "cut", "one byte more", ""],
    }
    assert counts(fetch()) == (12, 0, [])
    assert files_in(tmp_path / "corpus") == server.files
    assert server.asked.count("GET files/p1/p2/s2/2.dat") == 4


def test_waits_grow_from_attempt_to_attempt(server, fetch):
    server.faults = {"files/p1/p1/s1/1.hea": ["503"]}
    started = time.monotonic()
    assert counts(fetch(first_delay=0.1, attempts=3)) == (11, 0, ["files/p1/p1/s1/1"])
    assert 0.3 < time.monotonic() - started < 2


def test_a_silent_connection_is_left(server, fetch, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", (1.0, 0.2))
    server.faults = {"files/p1/p1/s1/1.dat": ["silence", ""], "files/p1/p2/s2/2.dat": ["silence"]}
    result = fetch(attempts=2)
    assert counts(result) == (11, 0, ["files/p1/p2/s2/2"])
    assert "no whole answer" in result.failed[0][1]


@pytest.mark.parametrize(
    ("fault", "words", "asked"),
    [
        ("404", "the server answers 404 Not Found", 1),
        ("403", "the server answers 403 Forbidden", 1),
        ("503", "the server answers 503 Service Unavailable", 3),
        ("cut", "no whole answer", 3),
        ("hang up", "no whole answer", 3),
        ("one byte more", "no whole answer", 3),
        ("no length", "does not state the file's length", 1),
        ("10 GB", "10000000000 bytes", 1),
    ],
)
def test_one_file_that_fails_stops_no_other(server, fetch, tmp_path, fault, words, asked):
    server.faults = {"files/p1/p5/s5/5.dat": [fault]}
    result = fetch(attempts=3)
    assert counts(result) == (11, 0, ["files/p1/p5/s5/5"])
    assert words in result.failed[0][1]
    assert str(tmp_path) not in result.failed[0][1]
    assert server.asked.count("GET files/p1/p5/s5/5.dat") == asked
    assert not (tmp_path / "corpus/files/p1/p5/s5/5.dat").exists()
    server.faults = {}
    assert counts(fetch()) == (1, 11, [])
    assert files_in(tmp_path / "corpus") == server.files


def test_a_body_cut_short_where_the_http_library_takes_it_for_whole(server, fetch, monkeypatch):
    def as_urllib3_1_does(*args, **options):
        response = send(*args, **options)
        response.raw.enforce_content_length = False
        return response

    send = requests.adapters.HTTPAdapter.send
    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", as_urllib3_1_does)
    server.faults = {"files/p1/p5/s5/5.dat": ["cut"]}
    assert counts(fetch(attempts=2)) == (11, 0, ["files/p1/p5/s5/5"])


@pytest.mark.parametrize("fault", ["404", "cut", "no length"])
def test_a_table_that_cannot_be_had(server, fetch, tmp_path, fault):
    server.faults = {TABLE: [fault]}
    with pytest.raises(DatasetBuildError, match=f"{DATABASE}/{TABLE}: cannot be downloaded: "):
        fetch(attempts=2)
    assert not (tmp_path / "corpus" / TABLE).exists()


@pytest.mark.parametrize("database", ["", "mimic-iv-ecg", "../1.0", "a/../1.0", "http://x/1.0", "a/1.0/..", "a/1.0?x"])
def test_names_that_are_no_database(database, tmp_path):
    with pytest.raises(DatasetBuildError, match="not a PhysioNet database"):
        download_corpus(database, tmp_path, [TABLE], lambda: iter(()))


def test_names_of_records_that_lead_elsewhere_or_cannot_be_written(server, fetch, tmp_path):
    good = "files/p1/p1/s1/1"
    bad = ["../outside", "/tmp/outside", "files/../../outside", "", "a:b", "linked/1", f"{TABLE}/1", "n" * 300, "f/1"]
    folder = tmp_path / "corpus"
    (folder / "f/1.hea").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    for name in ("linked/1", "f/1", f"{TABLE}/1", "n" * 300, "../outside"):
        server.files |= {f"{name}.hea": header("1"), f"{name}.dat": bytes(SAMPLES * 24)}
    result = fetch(names=[*bad, good, good, good.replace("/", "\\"), "files/none?x#y%2e/1"])
    assert [name for name, _ in result.failed] == [*bad, "files/none?x#y%2e/1"]
    assert all(str(tmp_path) not in why for _, why in result.failed)
    assert result.downloaded == 1
    assert "GET files/none%3Fx%23y%252e/1.hea" in server.asked
    assert not list((tmp_path / "elsewhere").iterdir())
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"corpus", "elsewhere"}


def test_a_server_that_is_gone_ends_the_download(server, fetch, tmp_path):
    fetch(names=["files/p1/p0/s0/0"])
    server.faults = {"*": ["503"], TABLE: [""]}
    with pytest.raises(DatasetBuildError, match="no answer for 20 records in a row.*503.*goes on from here"):
        fetch(names=[f"files/p1/p{number}/s{number}/{number}" for number in range(1, 1000)], attempts=2)
    # No more than the rest of a batch was asked for meanwhile.
    assert len(server.asked) < 700
    server.faults = {}
    assert counts(fetch()) == (11, 1, [])
    assert files_in(tmp_path / "corpus") == server.files


def test_a_full_disk_ends_the_download(server, fetch, tmp_path, monkeypatch):
    def on_a_full_disk(url, path):
        if not url.endswith("/3.dat"):
            return transfer(url, path)
        Path(path).write_bytes(server.files["files/p1/p3/s3/3.dat"][:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    transfer = download.wfdb_download.dl_full_file
    monkeypatch.setattr(download.wfdb_download, "dl_full_file", on_a_full_disk)
    with pytest.raises(DatasetBuildError, match="3.dat: cannot be written .No space left"):
        fetch()
    assert not (tmp_path / "corpus/files/p1/p3/s3/3.dat").exists()
    monkeypatch.setattr(download.wfdb_download, "dl_full_file", transfer)
    result = fetch()
    assert result.downloaded + result.already_there == 12
    assert files_in(tmp_path / "corpus") == server.files


def test_an_interrupt_leaves_what_the_same_call_goes_on_from(server, fetch, tmp_path):
    def interrupted():
        yield from (f"files/p1/p{number}/s{number}/{number}" for number in range(3))
        raise KeyboardInterrupt

    fetch(names=["files/p1/p0/s0/0"])
    with pytest.raises(KeyboardInterrupt):
        fetch(names=interrupted())
    assert counts(fetch())[2] == []
    assert files_in(tmp_path / "corpus") == server.files


IN_A_PROCESS = """
import pathlib, signal, sys, wfdb
from dataset_builder.download import download_corpus
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background would inherit as ignored
wfdb.set_db_index_url(sys.argv[1])
folder = pathlib.Path(sys.argv[2])
records = lambda: iter((folder / "record_list.csv").read_text().split())
result = download_corpus("mimic-iv-ecg/1.0", folder, ["record_list.csv"], records, first_delay=0.01)
print(result.downloaded, result.already_there, len(result.failed))
"""


def test_a_download_that_is_ended_at_any_moment_goes_on(server, tmp_path):
    server.files = make_database(60)
    server.delay = 0.005
    folder = tmp_path / "corpus"
    command = [sys.executable, "-c", IN_A_PROCESS, server.url, str(folder)]
    for end, answers in ((signal.SIGKILL, 5), (signal.SIGINT, 30), (signal.SIGKILL, 30)):
        before = whole_files(folder)
        server.asked.clear()
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while len(server.asked) < answers and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(end)
        process.communicate(timeout=60)
        assert process.returncode != 0
        assert whole_files(folder).items() <= server.files.items()
        assert not asked_for(server) & before.keys()
    before = whole_files(folder)
    assert len(before) > 40
    server.asked.clear()
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True)
    downloaded, already_there, failed = map(int, run.stdout.split())
    assert (downloaded + already_there, failed) == (60, 0)
    assert already_there > 15
    assert files_in(folder) == server.files
    assert not asked_for(server) & before.keys()


def whole_files(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in files_in(folder).items() if not name.endswith(".part")}


def asked_for(server: Server) -> set[str]:
    """The files that the server was asked for; none is asked for twice by one download."""
    names = [line.removeprefix("GET ") for line in server.asked if line.startswith("GET ")]
    assert len(names) == len(set(names))
    return set(names)
