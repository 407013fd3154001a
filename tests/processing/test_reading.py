"""Telling formats apart; what belongs to each format is in the tests of its reader."""

import os
import shutil

import numpy as np
import pytest

from processing import LEADS, read_ecg
from processing.file_format import MAX_FILE_BYTES, detect_format
from tests.processing.refusals import refused
from tests.processing.test_clinical_files import WRITERS, make_counts


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("suffix", [".dat", ".hea.bak", ".csv", ".xml", ""])
def test_the_name_of_a_file_says_nothing(tmp_path, name, suffix):
    WRITERS[name](tmp_path / f"recording{suffix}", make_counts())
    assert detect_format(tmp_path / f"recording{suffix}") == name


@pytest.mark.parametrize("suffix", ["", ".hea", ".dat"])
@pytest.mark.parametrize("start", [b"<D", b"PK\x03\x04", b"0       ", b"\x01\x01\x01\x02\x03abc\x0a\x01\x00"])
def test_a_signal_file_that_begins_like_another_format(write_record, suffix, start):
    adc = np.zeros((12, 500), dtype=np.int16)
    values = np.frombuffer(start.ljust(12 * 2, b"\0"), dtype="<i2")
    adc[:, 0] = values
    record = write_record(adc=adc)
    assert record.with_suffix(".dat").read_bytes().startswith(start)
    np.testing.assert_allclose(read_ecg(f"{record}{suffix}").signal[:, 0], values / 1000, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "it is empty"),
        (b"Dear colleague,\n", "it begins with b'Dear colleague,"),
        (b"\x89PNG\r\n\x1a\n\0\0", r"it begins with b'\x89PNG\r\n\x1a\n\x00\x00'"),
        (b"%PDF-1.7\n", "it begins with b'%PDF-1.7"),
        (bytes(5000), r"it begins with b'\x00\x00"),
        (b"name,age\nDoe,50\n", "it begins with b'name,age"),
        ("I,II\n1,2\n".encode("utf-16"), r"it begins with b'\xff\xfeI\x00,"),
    ],
)
def test_files_that_are_no_ecg(tmp_path, content, found):
    (tmp_path / "scan").write_bytes(content)
    message = refused(tmp_path / "scan")
    assert message.startswith(f"{tmp_path / 'scan'}: not an ECG recording: {found}")
    for name in ("WFDB record", "SCP-ECG", "DICOM", "aECG", "MUSE", "Philips", "EDF", "ISHNE", "MFER", "CSV", "NumPy"):
        assert name in message.partition("expected")[2]
    assert "CSV in UTF-8 or Latin-1 with a header row" in message


def test_paths_that_are_no_file(tmp_path):
    assert "no such file, and the header" in refused(tmp_path / "nothing.xml")
    assert "it is a folder" in refused(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "not an ECG recording" in refused(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["SCP-ECG", "HL7 aECG", "ISHNE", "CSV"])
def test_a_file_larger_than_is_read_of_its_format(tmp_path, name):
    path = tmp_path / "recording"
    if name == "CSV":
        path.write_text("I,II\n1,2\n")
    else:
        WRITERS[name](path, make_counts())
    os.truncate(path, MAX_FILE_BYTES[name] + 1)  # a hole takes no space on the disk
    assert f"expected at most {MAX_FILE_BYTES[name]}" in refused(path)


def test_a_file_that_says_its_own_rate_and_leads_is_held_to_them(tmp_path, write_record):
    record = write_record()
    assert read_ecg(record, sampling_rate=500, lead_names=LEADS).sampling_rate == 500.0
    assert "recorded at 500 Hz; sampling_rate=250" in refused(record, sampling_rate=250)
    assert "its leads are" in refused(record, lead_names=LEADS[:3])
    WRITERS["EDF"](tmp_path / "a.edf", make_counts())
    assert "recorded at 500 Hz; sampling_rate=250" in refused(tmp_path / "a.edf", sampling_rate=250)


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_left_open_or_written(tmp_path, name):
    WRITERS[name](tmp_path / "recording", make_counts())
    read_ecg(tmp_path / "recording")
    assert [file.name for file in tmp_path.iterdir()] == ["recording"]
    shutil.move(tmp_path / "recording", tmp_path / "moved")
