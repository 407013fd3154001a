import io
import multiprocessing
import os
import pickle
import random
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from dataset_builder.corpus_files import FolderFiles, ZipFiles, open_corpus_files, relative_path
from dataset_builder.errors import DatasetBuildError, RecordError

REPOSITORY = Path(__file__).parents[2]
TABLE = "record_list.csv"
TOP = "mimic-iv-ecg-diagnostic-electrocardiogram-matched-subset-1.0/"
CONTENT = {
    TABLE: b"\xef\xbb\xbfstudy_id,path\r\n1,files/p1/s1/1\r\n",
    "files/p1/s1/1.hea": b"1 12 500 5000\n" * 30,
    "files/p1/s1/1.dat": random.Random(0).randbytes(120_000),
    "files/p2/Größe.hea": b"",
}
NAME = "files/p1/s1/1.dat"


def write_folder(folder: Path) -> Path:
    for name, content in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(path: Path, top: str = TOP, method: int = zipfile.ZIP_DEFLATED, zip64: bool = False) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        file.mkdir(f"{top}files")
        for name, content in CONTENT.items():
            info = zipfile.ZipInfo(f"{top}{name}")
            info.compress_type = method
            with file.open(info, "w", force_zip64=zip64) as member:
                member.write(content)
    return path


class OneWay(io.RawIOBase):
    """What a pipe is to zipfile: it cannot go back to fill in sizes, and writes them behind the data."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:
        return self._file.write(content)


@pytest.fixture
def zipped(tmp_path):
    return write_zip(tmp_path / "corpus.zip")


@pytest.fixture(params=["folder", "deflated", "stored", "no top folder", "zip64", "comment", "data descriptors"])
def files(request, tmp_path):
    """The corpus in each shape in which it may come."""
    path = tmp_path / "corpus"
    if request.param == "folder":
        return open_corpus_files(write_folder(path), TABLE)
    if request.param == "deflated":
        write_zip(path)
    elif request.param == "stored":
        write_zip(path, method=zipfile.ZIP_STORED)
    elif request.param == "no top folder":
        write_zip(path, top="")
    elif request.param == "zip64":
        write_zip(path, zip64=True)
    elif request.param == "comment":
        write_zip(path)
        with zipfile.ZipFile(path, "a") as file:
            file.comment = b"PK\x05\x06" + bytes(18) + b" is not the end " * 200
    else:
        with zipfile.ZipFile(OneWay(path), "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in CONTENT.items():
                file.writestr(TOP + name, content)
        with zipfile.ZipFile(path) as file:
            assert all(info.flag_bits & 8 for info in file.infolist())
    return open_corpus_files(path, TABLE, str(tmp_path / "index"))


def refusal(files: FolderFiles | ZipFiles, name: str, max_bytes: int = 1 << 20) -> str:
    """The reason why a file is not read. No message names the folder in which the corpus lies."""
    with pytest.raises(RecordError) as raised:
        files.read(name, max_bytes)
    assert "test_" not in str(raised.value)
    assert len(str(raised.value)) < 1000
    return raised.value.reason


def test_files_are_read_by_name(files):
    for name, content in CONTENT.items():
        assert files.read(name, len(content)) == content
        assert files.exists(name)
    assert not files.exists("files/p1")
    assert not files.exists("files/p1/s1/2.dat")
    assert refusal(files, "files/p1/s1/2.dat") == "missing file"
    assert refusal(files, f"{NAME}/1.dat") == "missing file"
    assert refusal(files, NAME, len(CONTENT[NAME]) - 1) == "file too large"


def test_tables_are_read_as_text(files):
    with files.open_text(TABLE) as text:
        assert list(text) == ["study_id,path\r\n", "1,files/p1/s1/1\r\n"]
    with pytest.raises(DatasetBuildError, match="missing file: machine.csv"):
        files.open_text("machine.csv")
    with pytest.raises(DatasetBuildError, match="path leaves the folder"):
        files.open_text("../record_list.csv")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/etc/hostname", "../x", "files/../../x", "files/..", "files/./p1", "files//p1", "files/", "a\\b"]
    + ["C:/x", "x:stream", "a\nb", "a\0b", "a\x7f", "\udc80", "a/" * 40 + "b", "x/" * 5000 + "y", "../" * 3000],
)  # fmt: skip
def test_names_that_lead_elsewhere(files, name):
    assert refusal(files, name) == "path leaves the folder"
    assert not files.exists(name)


def test_a_name_beyond_what_a_file_system_takes(files):
    assert refusal(files, "n" * 5000) in ("missing file", "unreadable file")


@pytest.mark.parametrize("text", ["", " ", ".", "/", "..", "a/../b", "\\\\host\\x", "C:\\x", "a\tb/c"])
def test_paths_of_a_table_that_are_refused(text):
    with pytest.raises(RecordError):
        relative_path(text)


def test_paths_of_a_table():
    assert relative_path(" records500\\00000\\00001_hr ") == "records500/00000/00001_hr"
    assert relative_path("./a//b/") == "a/b"


def in_another_process(files, queue):
    inherited = getattr(files, "_opened", None)
    content = [files.read(name, 1 << 20) for name in CONTENT]
    # SQLite forbids to take a connection along into a forked process.
    assert inherited is None or inherited[2] is not files._opened[2]
    queue.put(content)


def test_other_processes_read_the_same(files):
    assert len(pickle.dumps(files)) < 1000
    assert files.read(NAME, 1 << 20) == CONTENT[NAME]
    assert pickle.loads(pickle.dumps(files)).read(NAME, 1 << 20) == CONTENT[NAME]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=in_another_process, args=(files, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    for _ in processes:
        assert queue.get(timeout=60) == list(CONTENT.values())
    for process in processes:
        process.join()


# Folders


def test_the_shallowest_folder_that_holds_the_table(tmp_path):
    write_folder(tmp_path / "download/physionet.org/files/mimic/1.0")
    assert open_corpus_files(tmp_path / "download", TABLE).read(NAME, 1 << 20) == CONTENT[NAME]
    (tmp_path / "download" / TABLE).write_text("another")
    assert open_corpus_files(tmp_path / "download", TABLE).read(TABLE, 99) == b"another"


def test_folders_that_are_no_corpus(tmp_path):
    with pytest.raises(DatasetBuildError, match="no such file or folder"):
        open_corpus_files(tmp_path / "nothing", TABLE)
    with pytest.raises(DatasetBuildError, match="holds no record_list.csv.*found nothing in it"):
        open_corpus_files(tmp_path, TABLE)
    write_folder(tmp_path / "a")
    with pytest.raises(DatasetBuildError, match="holds no ptbxl_database.csv.*found 'a'"):
        open_corpus_files(tmp_path, "ptbxl_database.csv")
    write_folder(tmp_path / "b")
    with pytest.raises(DatasetBuildError, match="is in 2 folders.*expected one corpus"):
        open_corpus_files(tmp_path, TABLE)


def test_symbolic_links_stay_within_the_folder(tmp_path):
    folder = write_folder(tmp_path / "corpus")
    (tmp_path / "corpus-secret").mkdir()
    secret = tmp_path / "corpus-secret" / "1.dat"
    secret.write_bytes(b"secret")
    (folder / "out.dat").symlink_to(secret)
    (folder / "relative.dat").symlink_to("../corpus-secret/1.dat")
    (folder / "files/out").symlink_to(secret.parent)
    (folder / "files/deep").symlink_to("p1")
    (secret.parent / "below").mkdir()
    (secret.parent / "below/1.dat").write_bytes(b"secret")
    (folder / "files/p1/up").symlink_to("../../../corpus-secret")
    (folder / "in.dat").symlink_to(NAME)
    (folder / "loop").symlink_to("loop")
    files = FolderFiles(folder)
    for name in (
        "out.dat", "relative.dat", "files/out/1.dat", "files/out/below/1.dat", "files/p1/up/1.dat",
        "files/deep/up/1.dat",
    ):  # fmt: skip
        assert refusal(files, name) == "path leaves the folder"
        assert not files.exists(name)
    assert refusal(files, "loop") in ("unreadable file", "missing file")
    for name in ("in.dat", "files/deep/s1/1.dat"):
        assert files.read(name, 1 << 20) == CONTENT[NAME]
    (tmp_path / "link").symlink_to(folder)
    assert FolderFiles(tmp_path / "link").read(NAME, 1 << 20) == CONTENT[NAME]


def test_what_is_no_regular_file_does_not_block(tmp_path):
    folder = write_folder(tmp_path / "corpus")
    os.mkfifo(folder / "pipe")
    (folder / "zero").symlink_to("/dev/zero")
    files = FolderFiles(folder)
    assert refusal(files, "pipe") == "not a regular file"
    assert refusal(files, "files") == "not a regular file"
    assert refusal(files, "zero") == "path leaves the folder"
    with pytest.raises(DatasetBuildError, match="not a regular file"):
        open_corpus_files(folder / "pipe", TABLE)


def test_a_file_that_may_not_be_read(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read any file")
    folder = write_folder(tmp_path)
    (folder / NAME).chmod(0)
    assert refusal(FolderFiles(folder), NAME) == "unreadable file"


# Zips


def test_a_zip_is_told_by_its_content(tmp_path):
    for content in (b"", b"\x1f\x8b\x08gzip", b"<!DOCTYPE html>", b"PK"):
        (tmp_path / "corpus.zip").write_bytes(content)
        with pytest.raises(DatasetBuildError, match="not a zip"):
            open_corpus_files(tmp_path / "corpus.zip", TABLE)


def test_a_zip_without_an_index_file_leaves_none(zipped, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    files = open_corpus_files(zipped, TABLE)
    assert files.read(NAME, 1 << 20) == CONTENT[NAME]
    del files
    assert set(tmp_path.iterdir()) == before
    with pytest.raises(DatasetBuildError):
        open_corpus_files(zipped, "other.csv")
    assert set(tmp_path.iterdir()) == before


def test_the_index_is_used_again_while_the_zip_stays_as_it_is(zipped, tmp_path):
    index = tmp_path / "index"
    files = open_corpus_files(zipped, TABLE, str(index))
    written = index.stat().st_ino
    open_corpus_files(zipped, TABLE, str(index))
    assert index.stat().st_ino == written
    with pytest.raises(DatasetBuildError, match="holds no other.csv"):
        open_corpus_files(zipped, "other.csv", str(index))
    index.write_bytes(index.read_bytes()[:5000])
    assert open_corpus_files(zipped, TABLE, str(index)).read(NAME, 1 << 20) == CONTENT[NAME]

    write_zip(zipped, top="another/")
    with pytest.raises(DatasetBuildError, match="was changed since"):
        files.read(NAME, 1 << 20)
    assert open_corpus_files(zipped, TABLE, str(index)).read(NAME, 1 << 20) == CONTENT[NAME]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.zip", "index"]


def test_a_zip_cut_short_says_so(zipped):
    content = zipped.read_bytes()
    for kept in (len(content) - 1, len(content) - 22, len(content) - 100, 1000, 4):
        zipped.write_bytes(content[:kept])
        with pytest.raises(DatasetBuildError, match="cut short.*unfinished download"):
            open_corpus_files(zipped, TABLE)


def test_a_zip_of_two_corpora(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as file:
        file.writestr(f"b/{TABLE}", "")
        file.writestr(f"a/{TABLE}", "")
        file.writestr(f"a/a/{TABLE}", "")
    with pytest.raises(DatasetBuildError, match="twice: 'b/record_list.csv' and 'a/record_list.csv'"):
        open_corpus_files(tmp_path / "two.zip", TABLE)
    with zipfile.ZipFile(tmp_path / "two.zip", "a") as file:
        file.writestr(TABLE, "the shallowest")
    assert open_corpus_files(tmp_path / "two.zip", TABLE).read(TABLE, 99) == b"the shallowest"


def patched(path: Path, name: str, field: int, value: bytes, local: bool = False) -> None:
    """Write `value` at a field of the member's entry in the list of files (or of its own header)."""
    content = bytearray(path.read_bytes())
    encoded = name.encode()
    start = content.find(encoded) - 30 if local else content.rfind(encoded) - 46
    assert content[start : start + 4] == (b"PK\x03\x04" if local else b"PK\x01\x02")
    content[start + field : start + field + len(value)] = value
    path.write_bytes(content)


FLAGS, METHOD, CRC, STORED_SIZE, SIZE, OFFSET, FIRST_OF_NAME = 8, 10, 16, 20, 24, 42, 46


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        (FLAGS, b"\x01", "encrypted zip member"),
        (METHOD, b"\x09", "zip method not known"),
        (METHOD, b"\x00", "damaged zip member"),
        (CRC, b"\x12\x34\x56\x78", "damaged zip member"),
        (STORED_SIZE, struct.pack("<L", 10), "damaged zip member"),
        (STORED_SIZE, struct.pack("<L", 0), "damaged zip member"),
        (STORED_SIZE, struct.pack("<L", 0xFFFFFFFE), "damaged zip member"),
        (STORED_SIZE, struct.pack("<L", 0xFFFFFFFF), "damaged zip member"),
        (SIZE, struct.pack("<L", 119_999), "damaged zip member"),
        (SIZE, struct.pack("<L", 120_001), "damaged zip member"),
        (SIZE, struct.pack("<L", 0), "damaged zip member"),
        (SIZE, struct.pack("<L", 0xFFFFFFFE), "file too large"),
        (OFFSET, struct.pack("<L", 1), "damaged zip member"),
        (OFFSET, struct.pack("<L", 0), "damaged zip member"),
        (OFFSET, struct.pack("<L", 0xFFFFFFF0), "damaged zip member"),
        (FIRST_OF_NAME, b"M", "missing file"),
    ],
)
def test_a_list_of_files_that_cannot_be_true(zipped, field, value, reason):
    patched(zipped, TOP + NAME, field, value)
    files = open_corpus_files(zipped, TABLE)
    assert refusal(files, NAME) == reason
    assert files.read("files/p1/s1/1.hea", 999) == CONTENT["files/p1/s1/1.hea"]


@pytest.mark.parametrize("field", [0, 26, 28, 30, 30 + len(TOP), 30 + len(TOP + NAME) + 50_000])
def test_a_member_that_is_not_what_the_list_says(zipped, field):
    patched(zipped, TOP + NAME, field, b"\xee", local=True)
    assert refusal(open_corpus_files(zipped, TABLE), NAME) == "damaged zip member"


def test_names_in_a_zip_that_lead_elsewhere_or_come_twice(zipped):
    with zipfile.ZipFile(zipped, "a") as file:
        for name in ("../../outside.dat", "/absolute.dat", f"{TOP}../inside.dat", f"{TOP}a\\b.dat"):
            file.writestr(name, "evil")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr(TOP + NAME, "another")
    files = open_corpus_files(zipped, TABLE)
    for name in ("../../outside.dat", "../outside.dat", "/absolute.dat", "../inside.dat", "a\\b.dat"):
        assert refusal(files, name) == "path leaves the folder"
    assert refusal(files, NAME) == "damaged zip member"
    assert files.exists(NAME)


def test_a_bomb_stops_at_the_size_that_it_states(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(TABLE, b"a,b\n" + b"\0" * 4_000_000)
        with file.open("bomb.dat", "w") as member:
            for _ in range(512):
                member.write(bytes(1 << 20))
    for claimed in (0, 100, 500_000):
        patched(path, "bomb.dat", SIZE, struct.pack("<L", claimed))
        patched(path, "bomb.dat", STORED_SIZE, struct.pack("<L", claimed))
        files = open_corpus_files(path, TABLE)
        tracemalloc.start()
        assert refusal(files, "bomb.dat") == "damaged zip member"
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < claimed + 2_000_000
    patched(path, TABLE, SIZE, struct.pack("<L", 100))
    patched(path, TABLE, STORED_SIZE, struct.pack("<L", 100))
    with open_corpus_files(path, TABLE).open_text(TABLE) as text, pytest.raises(DatasetBuildError, match="damaged"):
        text.read()


def test_a_member_that_keeps_a_reader_busy(tmp_path):
    path = tmp_path / "corpus.zip"
    nothing = b"\0\0\0\xff\xff" * 100_000 + b"\x03\0"  # blocks that hold nothing, and the last of them
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(TABLE, "")
        file.writestr("busy.dat", nothing)
    for local in (False, True):
        shift = -2 if local else 0
        patched(path, "busy.dat", METHOD + shift, b"\x08", local)
        patched(path, "busy.dat", CRC + shift, bytes(4), local)
        patched(path, "busy.dat", SIZE + shift, bytes(4), local)
    with zipfile.ZipFile(path) as file:
        assert file.read("busy.dat") == b""
    assert refusal(open_corpus_files(path, TABLE), "busy.dat") == "damaged zip member"


def test_a_table_damaged_in_the_middle(tmp_path):
    path = tmp_path / "corpus.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(TABLE, "study_id,path\n" * 100_000)
    patched(path, TABLE, 30 + 1_200_000, b"S", local=True)
    with open_corpus_files(path, TABLE).open_text(TABLE) as text:
        assert text.readline() == "study_id,path\n"
        with pytest.raises(DatasetBuildError, match="checksum"):
            text.read()


def test_an_encrypted_zip(zipped):
    patched(zipped, TOP + TABLE, FLAGS, b"\x01")
    with pytest.raises(DatasetBuildError, match="encrypted"):
        open_corpus_files(zipped, TABLE)


def end_record(disk=0, list_disk=0, here=4, members=4, size=0, offset=0, comment=0) -> bytes:
    return struct.pack("<4s4H2LH", b"PK\x05\x06", disk, list_disk, here, members, size, offset, comment)


def end_record_64(members: int, size: int, offset: int, place: int) -> bytes:
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, members, members, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, place, 1)
    return record + locator + end_record(0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (end_record(disk=1), "several parts"),
        (end_record(size=0xFFFFFFF0), "damaged"),
        (end_record(offset=0xFFFFFFF0), "damaged"),
        (end_record(size=46, offset=10), "breaks off after 0 files"),
        (end_record(size=3), "breaks off"),
        (end_record(), "lists 0 files; expected 4"),
        (end_record(members=0), "holds no record_list.csv.*found no file"),
        (end_record_64(1 << 63, 1 << 63, 1 << 63, 200), "damaged"),
        (end_record_64(4, 1 << 40, 0, 200), "damaged"),
        (end_record_64(4, 46, 0, 199), "zip64 end record"),
        (end_record_64(4, 46, 0, (1 << 64) - 1), "zip64 end record"),
        (end_record_64(4, 46, 0, 1 << 61), "zip64 end record"),
        (end_record_64((1 << 64) - 1, 0, 0, 200), "lists 0 files"),
    ],
)
def test_an_end_record_that_cannot_be_true(tmp_path, end, words):
    (tmp_path / "corpus.zip").write_bytes(b"PK\x03\x04" + bytes(196) + end)
    with pytest.raises(DatasetBuildError, match=words):
        open_corpus_files(tmp_path / "corpus.zip", TABLE)


def sparse_zip(path: Path, members: int, offsets: dict[int, int] | None = None) -> None:
    """A zip64 of the size of MIMIC-IV-ECG whose data is a hole, with so many members in its list."""
    list_offset = 33 << 30
    entries = []
    for number in range(members):
        name = b"files/p%04d/p%08d/s%08d/%08d.dat" % (number % 1000, number, number, number)
        extra = struct.pack("<2HQ", 1, 8, (offsets or {}).get(number, number * 20_000))
        sizes = (20_000, 120_000, len(name), len(extra))
        entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 45, 45, 0, 8, 0, 0, 0, *sizes, 0, 0, 0, 0, 0xFFFFFFFF)
        entries.append(entry + name + extra)
    entries.append(struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[0] * 9, len(TABLE), *[0] * 6) + TABLE.encode())
    listed = b"".join(entries)
    with open(path, "wb") as file:
        file.write(b"PK\x03\x04")
        file.seek(list_offset)
        file.write(listed + end_record_64(members + 1, len(listed), list_offset, list_offset + len(listed)))


@pytest.mark.parametrize("offset", [40 << 30, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_an_offset_of_64_bits_that_cannot_be_true(tmp_path, offset):
    sparse_zip(tmp_path / "corpus.zip", 5, {3: offset})
    files = open_corpus_files(tmp_path / "corpus.zip", TABLE)
    assert refusal(files, "files/p0003/p00000003/s00000003/00000003.dat") == "damaged zip member"
    assert files.exists("files/p0004/p00000004/s00000004/00000004.dat")


LIST_AND_MEASURE = """
import sys
from dataset_builder.corpus_files import open_corpus_files
files = open_corpus_files(sys.argv[1], "record_list.csv", sys.argv[2])
assert files.exists("files/p0007/p00000007/s00000007/00000007.dat")
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux tells a process its peak of memory there")
def test_memory_does_not_grow_with_the_number_of_members(tmp_path):
    peaks = []
    for members in (2_000, 200_000):
        sparse_zip(tmp_path / "corpus.zip", members)
        command = [sys.executable, "-c", LIST_AND_MEASURE, tmp_path / "corpus.zip", tmp_path / "index"]
        run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        peaks.append(int(run.stdout))  # kB
    # zipfile's own list of 200,000 members takes 120 MB.
    assert peaks[1] - peaks[0] < 8_000, peaks


def test_flipped_bytes_and_truncations(zipped, tmp_path):
    """A short run of what was run for minutes: whatever the bytes, only our own errors come out, and at once."""
    whole = zipped.read_bytes()
    rng = random.Random(1)
    read = 0
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            # Most of the file is data; what is worth changing are the records around it.
            place = rng.choice((rng.randrange(len(whole)), len(whole) - 1 - rng.randrange(700), rng.randrange(200)))
            changed[place] = rng.choice((0, 255, rng.randrange(256), changed[place] ^ 1 << rng.randrange(8)))
        if rng.random() < 0.1:
            del changed[rng.randrange(len(changed)) :]
        zipped.write_bytes(changed)
        started = time.monotonic()
        try:
            files = open_corpus_files(zipped, TABLE, str(tmp_path / f"index{rng.random()}"))
        except DatasetBuildError:
            continue
        for name, content in CONTENT.items():
            try:
                assert files.read(name, 1 << 20) == content
                read += 1
            except RecordError:
                pass
        assert time.monotonic() - started < 5
    assert 100 < read < 1200
