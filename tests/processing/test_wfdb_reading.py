import struct
import sys
from datetime import datetime

import numpy as np
import pytest
import wfdb

from processing import INVALID_SAMPLE, LEADS, ECGReadError, read_ecg, read_wfdb


def rewrite_header(record, *replacements, encoding="utf-8"):
    header = record.with_suffix(".hea")
    text = header.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    header.write_text(text, encoding=encoding)


@pytest.mark.parametrize("suffix", ["", ".hea", ".dat"])
def test_a_record_is_read_without_loss(write_record, suffix):
    adc = np.random.default_rng(0).integers(-32767, 32768, size=(12, 700))
    adc[3, 5] = INVALID_SAMPLE
    record = write_record(adc=adc, rate=257, gain=200.0, baseline=7)
    digital = read_wfdb(f"{record}{suffix}")
    assert digital.adc.dtype == np.int16
    np.testing.assert_array_equal(digital.adc, adc)
    assert digital.gain.tolist() == [200.0] * 12
    assert digital.baseline.tolist() == [7] * 12
    assert digital.sampling_rate == 257.0
    assert digital.lead_names == LEADS

    recording = read_ecg(f"{record}{suffix}")
    expected = wfdb.rdrecord(str(record)).p_signal.T
    assert np.isnan(expected).sum() == 1
    np.testing.assert_allclose(recording.signal, expected, rtol=1e-6)
    assert recording.signal.dtype == np.float32
    assert recording.source == f"{record}{suffix}"


@pytest.mark.parametrize(("fmt", "limit", "invalid"), [("212", 2047, -2048), ("80", 127, -128)])
@pytest.mark.parametrize("samples", [500, 501])
def test_narrow_formats_keep_their_invalid_samples(write_record, fmt, limit, invalid, samples):
    adc = np.random.default_rng(0).integers(-limit, limit + 1, size=(3, samples))
    adc[1, 4] = invalid
    read = read_wfdb(write_record(adc=adc, fmt=fmt, lead_names=["I", "II", "V1"])).adc
    assert read[1, 4] == INVALID_SAMPLE
    adc[1, 4] = INVALID_SAMPLE
    np.testing.assert_array_equal(read, adc)


@pytest.mark.parametrize(("unit", "per_mv"), [("mV", 1), ("uV", 1000), ("µV", 1000), ("μV", 1000), ("V", 0.001)])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_units_become_millivolts(write_record, unit, per_mv, encoding):
    if encoding == "latin-1" and unit == "μV":
        pytest.skip("the Greek letter is not in Latin-1")
    record = write_record(gain=2.0)
    rewrite_header(record, ("/mV", f"/{unit}"), encoding=encoding)
    assert read_wfdb(record).gain.tolist() == [2.0 * per_mv] * 12


def test_the_start_time_is_read(write_record):
    record = write_record()
    rewrite_header(record, ("12 500 5000", "12 500 5000 12:52:00 24/11/2122"))
    assert read_ecg(record).start_time == datetime(2122, 11, 24, 12, 52)


def test_samples_after_a_byte_offset(write_record):
    record = write_record()
    expected = read_wfdb(record).adc
    signal_file = record.with_suffix(".dat")
    signal_file.rename(record.with_suffix(".mat"))
    record.with_suffix(".mat").write_bytes(b"m" * 24 + record.with_suffix(".mat").read_bytes())
    rewrite_header(record, ("record.dat 16 ", "record.mat 16+24 "))
    np.testing.assert_array_equal(read_wfdb(f"{record}.mat").adc, expected)


def test_a_length_that_the_header_leaves_open_is_that_of_the_file(write_record):
    record = write_record()
    expected = read_wfdb(record).adc
    rewrite_header(record, ("12 500 5000", "12 500"))
    np.testing.assert_array_equal(read_wfdb(record).adc, expected)


def assert_refused(path, *words):
    with pytest.raises(ECGReadError) as raised:
        read_ecg(path)
    message = str(raised.value)
    for word in (str(path), *words):
        assert word in message, message


def test_missing_files(write_record, tmp_path):
    assert_refused(tmp_path / "nothing", "the header", "is missing", "expected a WFDB record")
    record = write_record()
    record.with_suffix(".dat").unlink()
    assert_refused(record, "record.dat is missing")
    record.with_suffix(".hea").unlink()
    assert_refused(f"{record}.dat", "record.hea is missing")


def test_truncated_signal_file(write_record):
    record = write_record()
    signal_file = record.with_suffix(".dat")
    for kept in (signal_file.stat().st_size - 1, 24_000, 23):
        signal_file.write_bytes(signal_file.read_bytes()[:kept])
        assert_refused(record, "record.dat", "truncated", f"holds {kept // 24} samples", "states 5000")
    signal_file.write_bytes(b"")
    assert_refused(record, "record.dat", "0 samples")


def test_a_header_of_other_leads_than_the_file_holds(write_record):
    record = write_record()
    lines = record.with_suffix(".hea").read_text().splitlines()
    record.with_suffix(".hea").write_text("\n".join(["record 3 500 5000", *lines[1:4]]))
    assert_refused(record, "the header does not describe this file", "20000 samples for each of 3 leads")
    record.with_suffix(".hea").write_text("\n".join(["record 12 500 5000", *lines[1:4]]))
    assert_refused(record, "states 12 leads and describes 3")


def test_a_line_break_that_only_unicode_knows(write_record):
    record = write_record()
    rewrite_header(record, ("0 V6", "0\x85V6"), encoding="latin-1")
    assert_refused(record, "states 12 leads")


def test_samples_changed_after_the_header_was_written(write_record):
    record = write_record()
    content = bytearray(record.with_suffix(".dat").read_bytes())
    content[0] ^= 1
    record.with_suffix(".dat").write_bytes(content)
    assert_refused(record, "lead I has the checksum", "damaged")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("12 500 5000", "12 500 0", ["0 samples"]),
        ("12 500 5000", "12 0 5000", ["sampling rate 0 Hz"]),
        ("12 500 5000", "12 -500 5000", ["sampling rate -500 Hz"]),
        ("12 500 5000", "12 1e999 5000", ["sampling rate 1e999 Hz"]),
        ("record 12 500 5000", "record 12", ["sampling rate (none) Hz"]),
        ("12 500 5000", "12 500 900000000000000", ["truncated", "states 900000000000000"]),
        ("12 500 5000", "999999999 500 5000", ["states 999999999 leads and describes 12"]),
        ("record 12", "record/3 12", ["segments"]),
        ("/mV", "/mmHg", ["'mmHg'", "expected mV, uV or V"]),
        ("1000.0(0)/mV", "0(0)/mV", ["gain 0 (uncalibrated)"]),
        ("1000.0(0)/mV", "inf(0)/mV", ["gain inf"]),
        ("1000.0(0)/mV", "x1000.0(0)/mV", ["gain x1000.0"]),
        ("record.dat 16 ", "record.dat 99 ", ["99"]),
        ("record.dat 16 ", "record.dat 16x2 ", ["samps_per_frame", "[2]"]),
        ("record.dat 16 ", "record.dat 16:3 ", ["skew", "[3]"]),
        ("record.dat", "../record.dat", ["'../record.dat'", "the header's own folder"]),
        ("record.dat", "/etc/hostname", ["'/etc/hostname'", "the header's own folder"]),
        ("record.dat", "~record.dat", ["'~record.dat'", "the header's own folder"]),
    ],
)
def test_headers_that_cannot_be_true(write_record, old, new, words):
    record = write_record()
    rewrite_header(record, (old, new))
    assert_refused(record, *words)


@pytest.mark.parametrize("line", ["{}/2 2 500", "r 1 500\n../{} 16 200", "r 1 500 5\nr.dat 16 200/{}"])
def test_a_message_quotes_the_beginning_of_a_long_field(tmp_path, line):
    path = tmp_path / "long.hea"
    path.write_text(line.format("9" * 5000) + "\n")
    with pytest.raises(ECGReadError) as raised:
        read_ecg(path)
    assert len(str(raised.value)) < len(str(path)) + 200


def test_paths_that_are_no_ecg(tmp_path):
    png = tmp_path / "scan.png"
    png.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + bytes(300))
    assert_refused(png, "not an ECG recording", "expected a WFDB record")
    png.rename(tmp_path / "scan.hea")
    assert_refused(tmp_path / "scan.hea", "not a WFDB header", "is not text")
    for content in (b"", b"\n \n", b"# Age: 50\n"):
        (tmp_path / "empty.hea").write_bytes(content)
        assert_refused(tmp_path / "empty.hea", "not a WFDB header", "holds no record line")
    (tmp_path / "huge.hea").write_bytes(b"# comment\n" * 200_000)
    assert_refused(tmp_path / "huge.hea", "2000000 bytes")
    (tmp_path / "letter.txt").write_text("Dear colleague,")
    assert_refused(tmp_path / "letter.txt", "not an ECG recording")
    assert_refused(tmp_path, "it is a folder")
    np.save(tmp_path / "array.npy", np.zeros((12, 5000)))
    assert_refused(tmp_path / "array.npy", "sampling_rate=", "lead_names=")
    assert_refused("a\0b", "is missing")


def test_a_missing_package_is_named(write_record, monkeypatch):
    record = write_record()
    monkeypatch.setitem(sys.modules, "wfdb", None)
    assert read_ecg(record).signal.shape == (12, 5000), "a plain header needs no package"
    rewrite_header(record, ("record.dat 16 ", "record.dat 16+0 "))
    with pytest.raises(ImportError, match="needs the package wfdb"):
        read_ecg(record)
