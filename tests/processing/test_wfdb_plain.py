"""The fast way to read plain WFDB records gives what `wfdb` gives, and leaves everything else to it."""

import datetime
import re

import numpy as np
import pytest
import wfdb

from processing import ECGReadError, read_wfdb, wfdb_reading
from processing.recording import DigitalRecording
from processing.wfdb_plain import decode_plain, parse_plain_header


def assert_as_wfdb(recording: DigitalRecording, record) -> None:
    """Samples, invalid ones included, in mV as in ADC units; names, rate and time."""
    wanted = wfdb.rdrecord(str(record), physical=True)
    adc = recording.adc.astype(np.float64)
    adc[recording.adc == -32768] = np.nan
    np.testing.assert_array_equal((adc - recording.baseline[:, None]) / recording.gain[:, None], wanted.p_signal.T)
    digital = wfdb.rdrecord(str(record), physical=False, return_res=16)
    np.testing.assert_array_equal(recording.adc, digital.d_signal.T)
    assert recording.gain.tolist() == digital.adc_gain
    assert recording.baseline.tolist() == digital.baseline
    assert (list(recording.lead_names), recording.sampling_rate) == (digital.sig_name, digital.fs)
    assert recording.start_time == digital.base_datetime


@pytest.mark.parametrize("corpus", ["ptb_xl", "mimic_iv_ecg"])
def test_every_real_recording(corpus, request):
    """At 500 and at 100 Hz; the header of each is plain."""
    folder = request.getfixturevalue(corpus)
    headers = sorted(folder.rglob("*.hea"))
    for header in headers:
        plain = parse_plain_header(header.read_bytes())
        assert plain is not None, header
        content = header.with_name(plain.signal_file).read_bytes()
        recording = decode_plain(plain, content, "", "", "")
        assert_as_wfdb(recording, header.with_suffix(""))
    assert len(headers) >= 226


@pytest.mark.parametrize("seed", range(60))
def test_headers_as_wfdb_writes_them(tmp_path, seed):
    """Any gain, baseline, rate, number and names of leads, and start; -32768 among the samples."""
    random = np.random.default_rng(seed)
    leads, samples = int(random.integers(1, 16)), int(random.integers(1, 400))
    adc = random.integers(-32768, 32768, (samples, leads)).astype(np.int64)
    adc[random.integers(samples), :] = -32768
    start = {}
    if seed % 3:
        start["base_time"] = datetime.time(*map(int, random.integers(0, (24, 60, 60, 1_000_000)))).replace(
            microsecond=0 if seed % 2 else int(random.integers(1_000_000))
        )
    if seed % 3 == 2:
        start["base_date"] = datetime.date(*map(int, random.integers((1900, 1, 1), (2200, 13, 29))))
    units = random.choice(["mV", "uV", "V"], leads).tolist()
    per_millivolt = {"mV": 1.0, "uV": 1e3, "V": 1e-3}
    wfdb.wrsamp(
        "a-record_1",
        fs=float(random.choice([1, 100, 128.5, 250, 360, 500, 999.999, 1000])),
        units=units,
        sig_name=[f"lead {number} of {random.integers(100)}, (x)" for number in range(leads)],
        d_signal=adc,
        fmt=["16"] * leads,
        adc_gain=[float(random.choice([1, 200, 204.7, 1000, 0.5, 2000.125])) for _ in range(leads)],
        baseline=random.integers(-40_000, 40_000, leads).tolist(),
        comments=["<age>: 60", ""] if seed % 2 else [],
        write_dir=str(tmp_path),
        **start,
    )
    record = tmp_path / "a-record_1"
    plain = parse_plain_header((tmp_path / "a-record_1.hea").read_bytes())
    assert plain is not None
    recording = read_wfdb(record)
    wanted = wfdb.rdrecord(str(record), physical=False, return_res=16)
    np.testing.assert_array_equal(recording.adc, wanted.d_signal.T)
    assert recording.gain.tolist() == [
        gain * per_millivolt[unit] for gain, unit in zip(wanted.adc_gain, units, strict=True)
    ]
    assert recording.baseline.tolist() == wanted.baseline
    assert (list(recording.lead_names), recording.sampling_rate) == (wanted.sig_name, wanted.fs)
    assert recording.start_time == wanted.base_datetime


PLAIN = """\
record 2 500 40 12:34:56 01/02/2003
record.dat 16 200.0(0)/mV 16 0 {first} {sums[0]} 0 I
record.dat 16 200.0(0)/mV 16 0 {first} {sums[1]} 0 II
# a comment
"""


@pytest.fixture
def write_plain(tmp_path):
    """Write a record of two leads whose header is plain but for some replacements; returns it and its samples."""

    def write(*replacements: tuple[str, str]):
        adc = np.random.default_rng(0).integers(-1000, 1000, (40, 2)).astype("<i2")
        header = PLAIN.format(first=adc[0, 0], sums=(adc.sum(axis=0) % 65536).tolist())
        for old, new in replacements:
            assert old in header
            header = header.replace(old, new)
        (tmp_path / "record.hea").write_bytes(header.encode("latin-1"))
        (tmp_path / "record.dat").write_bytes(adc.tobytes())
        return tmp_path / "record", adc.T

    return write


def test_the_plain_form_itself(write_plain):
    record, adc = write_plain()
    plain = parse_plain_header(record.with_suffix(".hea").read_bytes())
    assert (plain.signal_file, plain.lead_names, plain.samples, plain.sampling_rate) == (
        "record.dat", ("I", "II"), 40, 500.0,
    )  # fmt: skip
    assert (plain.gain.tolist(), plain.baseline.tolist()) == ([200.0, 200.0], [0, 0])
    assert plain.start_time == datetime.datetime(2003, 2, 1, 12, 34, 56)
    np.testing.assert_array_equal(read_wfdb(record).adc, adc)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n", "\r\n"),
        (" 12:34:56 01/02/2003", ""),
        (" 12:34:56 01/02/2003", " 12:34:56"),
        ("12:34:56", "12:34:56.25"),
        ("# a comment\n", ""),
        ("# a comment\n", "\n\n# another\n   \n"),
        ("record 2", "# first\nrecord 2"),
        (" 500 40", " 500.0 40"),
        (" 500 40", " 499.9971 40"),
        ("200.0(0)", "200(0)"),
        ("200.0(0)", "204.7(-17)"),
        ("0 I\n", "0 lead I, chest\n"),
        ("0 II", "0 I"),
        ("/mV", "/uV"),
    ],
)
def test_what_is_plain_too(write_plain, old, new):
    record, adc = write_plain((old, new))
    assert parse_plain_header(record.with_suffix(".hea").read_bytes()) is not None
    recording = read_wfdb(record)
    np.testing.assert_array_equal(recording.adc, adc)
    wanted = wfdb.rdheader(str(record))
    assert (recording.sampling_rate, recording.start_time) == (wanted.fs, wanted.base_datetime)
    assert list(recording.lead_names) == wanted.sig_name
    per_unit = 1000.0 if new == "/uV" else 1.0
    assert recording.gain.tolist() == [gain * per_unit for gain in wanted.adc_gain]
    assert recording.baseline.tolist() == wanted.baseline


NOT_PLAIN = [
    ("record 2 ", "record  2 "),
    (" 16 0 ", "  16 0 "),
    (" 16 0 ", "\t16 0 "),
    ("500 40", "500\t40"),
    ("500 40", "5e2 40"),
    ("500 40", "500/360 40"),
    ("500 40", "500/360(5) 40"),
    ("500 40 12:34:56 01/02/2003", "500"),
    ("12:34:56", "2:34:56"),
    ("01/02/2003", "1/2/2003"),
    ("12:34:56 01/02/2003", "25:00:00 01/02/2003"),
    ("01/02/2003", "31/02/2003"),
    ("record 2", "record/1 2"),
    ("record 2", "../record 2"),
    (" 0 I\n", " 0 I # the first\n"),
    (" 0 I\n", " 0\n"),
    (" 0 I\n", "\n"),
    (" 0 I\n", " 0 \xb5\n"),
    (" 0 I\n", " 0 a\x00b\n"),
    (" 0 I\n", " 0 a\x1cb\n"),
    (" 0 I\n", " 0 a\x85b\n"),
    (" 0 I\n", " 0 a\rb\n"),
    (" 0 I\n", " 7 I\n"),
    ("record.dat 16 ", "record.dat 16x2 "),
    ("record.dat 16 ", "record.dat 16:3 "),
    ("record.dat 16 ", "record.dat 16+0 "),
    ("record.dat 16 ", "record.dat 16+8 "),
    ("record.dat 16 ", "record.dat 80 "),
    ("record.dat 16 ", "record.dat 212 "),
    ("record.dat 16 ", "record.dat 24 "),
    ("record.dat 16 ", "record.dat 32 "),
    ("record.dat 16 ", "record.dat 61 "),
    ("record.dat 16 ", "record.dat 160 "),
    ("record.dat 16 ", "record.dat 516 "),
    ("record.dat 16 ", "record.dat 8 "),
    ("record.dat 16 ", "record.dat 0 "),
    ("record.dat 16 ", "record.dat 16 16 "),
    ("record.dat", "../record.dat"),
    ("record.dat", "."),
    ("record.dat", ".."),
    ("record.dat", "-"),
    ("record.dat", "/etc/hostname"),
    ("record.dat", "~record.dat"),
    ("record.dat", "a\\record.dat"),
    ("200.0(0)/mV", "200"),
    ("200.0(0)/mV", "200.0/mV"),
    ("200.0(0)/mV", "200.0(0)"),
    ("200.0(0)/mV", "0(0)/mV"),
    ("200.0(0)/mV", "-200.0(0)/mV"),
    ("200.0(0)/mV", "2e2(0)/mV"),
    ("200.0(0)/mV", "nan(0)/mV"),
    ("200.0(0)/mV", "200.0(99999999999)/mV"),
    ("200.0(0)/mV", "200.0(3000000000)/mV"),
    ("200.0(0)/mV", "200.0(0)/mmHg"),
    ("200.0(0)/mV", "200.0(0)/mv"),
    ("record 2 500", "record 3 500"),
    ("record 2 500", "record 0 500"),
    ("record 2 500", "record 99999 500"),
    ("500 40", "0 40"),
    ("500 40", "-500 40"),
    ("500 40", "500 0"),
    ("500 40", "500 -40"),
    ("500 40", "500 9999999999"),
    ("record 2", "2"),
    ("record", ""),
]


def outcome(record) -> dict | str:
    try:
        recording = read_wfdb(record)
    except ECGReadError as error:
        return str(error)
    return {
        "adc": recording.adc.tolist(),
        "gain": recording.gain.tolist(),
        "baseline": recording.baseline.tolist(),
        "rate": recording.sampling_rate,
        "names": recording.lead_names,
        "start": recording.start_time,
        "source": recording.source,
    }


@pytest.fixture
def slow_outcome(monkeypatch):
    """What comes out where every header goes through `wfdb`."""

    def read(record):
        with monkeypatch.context() as patch:
            patch.setattr(wfdb_reading, "parse_plain_header", lambda content: None)
            return outcome(record)

    return read


@pytest.mark.parametrize(("old", "new"), NOT_PLAIN)
def test_what_is_not_plain_is_left_to_wfdb(write_plain, slow_outcome, old, new):
    record, _ = write_plain((old, new))
    assert parse_plain_header(record.with_suffix(".hea").read_bytes()) is None
    assert outcome(record) == slow_outcome(record)


def test_two_signal_files_are_left_to_wfdb(write_plain, slow_outcome):
    record, adc = write_plain(("0 II", "0 II"))
    header = record.with_suffix(".hea")
    lines = header.read_text().splitlines()
    lines[2] = lines[2].replace("record.dat", "other.dat")
    header.write_text("\n".join(lines))
    for name, lead in (("record.dat", 0), ("other.dat", 1)):
        header.with_name(name).write_bytes(adc[lead].astype("<i2").tobytes())
    assert parse_plain_header(header.read_bytes()) is None
    assert outcome(record)["adc"] == adc.tolist()
    assert outcome(record) == slow_outcome(record)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"#\n", b"\xef\xbb\xbf" + PLAIN.encode(), b"record 2 500 40\n" * 3, b"r" * 2_000_000]
)
def test_what_is_no_header_of_a_record(content):
    assert parse_plain_header(content) is None


@pytest.mark.parametrize(
    ("kept", "words"), [(0, "0 samples"), (159, "truncated"), (80, "truncated"), (161, None), (164, "not describe")]
)
def test_the_length_of_the_signal_file(write_plain, slow_outcome, kept, words):
    record, adc = write_plain()
    signal_file = record.with_suffix(".dat")
    signal_file.write_bytes((signal_file.read_bytes() + bytes(10))[:kept])
    assert outcome(record) == slow_outcome(record)
    if words is not None:
        assert words in outcome(record)
    else:
        assert outcome(record)["adc"] == adc.tolist(), "an odd byte at the end belongs to no sample"


def test_a_wrong_checksum(write_plain, slow_outcome):
    record, _ = write_plain()
    signal_file = record.with_suffix(".dat")
    content = bytearray(signal_file.read_bytes())
    content[81] ^= 64
    signal_file.write_bytes(content)
    assert re.search(r"lead I has the checksum \d+, the header states \d+", str(outcome(record)))
    assert outcome(record) == slow_outcome(record)


def test_checksums_below_zero_and_of_sums_that_overflow(tmp_path):
    """Some writers store them signed. The sum of 40 times 32,767 does not fit 16 bits, nor 20 of those 31."""
    adc = np.full((40, 2), 32767, dtype="<i2")
    adc[:, 1] = -32767
    sums = adc.sum(axis=0, dtype=np.int64) % 65536
    for checksums in (sums, sums - 65536):
        (tmp_path / "record.hea").write_text(PLAIN.format(first=0, sums=checksums.tolist()))
        (tmp_path / "record.dat").write_bytes(adc.tobytes())
        assert parse_plain_header((tmp_path / "record.hea").read_bytes()) is not None
        np.testing.assert_array_equal(read_wfdb(tmp_path / "record").adc, adc.T)


MARKS = [*"0123456789 -+./:()#\t\r\n\x00\x1c\x85~e", "  ", "16", "212", "mV", "uV", "x", "9" * 11, "9" * 5000, "\r\n"]


@pytest.mark.parametrize("seed", range(8))
def test_changed_headers_are_read_alike_both_ways(write_plain, slow_outcome, seed):
    """Most of the changed headers are refused both ways; none is read in one way and refused in the other."""
    random = np.random.default_rng(seed)
    record, _ = write_plain()
    header = record.with_suffix(".hea")
    whole = header.read_bytes()
    plain = read = 0
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(random.integers(1, 3)):
            place = int(random.integers(len(content)))
            mark = MARKS[random.integers(len(MARKS))].encode("latin-1")
            kind = random.integers(3)
            content[place : place + (0, len(mark), int(random.integers(1, 6)))[kind]] = b"" if kind == 2 else mark
        header.write_bytes(content)
        fast, slow = outcome(record), slow_outcome(record)
        assert isinstance(fast, str) == isinstance(slow, str), f"{bytes(content)!r}: {slow}"
        if isinstance(fast, dict):
            assert fast == slow, bytes(content)
            read += 1
        plain += parse_plain_header(bytes(content)) is not None
    assert read > 0
    assert plain > 0
