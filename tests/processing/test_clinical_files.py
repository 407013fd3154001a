"""Files of carts and information systems: written by hand from their standards, or by another library."""

import re
import struct
import sys

import edfio
import numpy as np
import pydicom
import pytest
import wfdb
from pydicom.data import get_testdata_file

from processing import LEADS, ECGReadError, read_ecg
from processing.leads import place_leads
from tests.processing import ecg_file_writers as writers
from tests.processing.ecg_file_writers import MICROVOLTS, START

EIGHT = [0, 1, *range(6, 12)]


def make_counts(samples=2000):
    """Twelve leads of integers, none like another: each has a range and an offset of its own."""
    steps = np.random.default_rng(0).normal(size=(12, samples))
    counts = np.rint(steps.cumsum(axis=1) * np.arange(2, 14)[:, None] / 2).astype(np.int64)
    counts += 37 * np.arange(12)[:, None]
    counts[2] = counts[1] - counts[0]
    return counts


def make_beats(samples=300):
    return make_counts(samples)[::-1] // 3


@pytest.fixture(params=["made", "real"])
def counts(request):
    if request.param == "made":
        return make_counts()
    record = request.getfixturevalue("ptb_xl") / "records500/00000/00001_hr"
    if not record.with_suffix(".hea").is_file():
        record = next((request.getfixturevalue("ptb_xl") / "records500").rglob("*.hea")).with_suffix("")
    return wfdb.rdrecord(str(record), physical=False).d_signal.T.astype(np.int64)


def _dicom(path, counts):
    beats = writers.dicom_group(make_beats(), label="MEDIAN BEAT")
    writers.write_dicom(path, writers.dicom_group(counts), beats)


WRITERS = {
    "SCP-ECG": writers.write_scp,
    "DICOM waveform": _dicom,
    "HL7 aECG": lambda path, counts: writers.write_aecg(path, counts, beats=make_beats()),
    "GE MUSE XML": lambda path, counts: writers.write_muse(path, counts, beats=make_beats()),
    "Philips XML": writers.write_philips,
    "EDF": writers.write_edf,
    "ISHNE": writers.write_ishne,
    "MFER": writers.write_mfer,
}


def assert_read(path, counts, leads=LEADS, rate=500.0, step=MICROVOLTS):
    recording = read_ecg(path)
    assert recording.lead_names == tuple(leads)
    assert recording.sampling_rate == rate
    assert recording.signal.dtype == np.float32
    np.testing.assert_allclose(recording.signal, np.asarray(counts) * step / 1000, rtol=1e-6, atol=1e-6)
    assert recording.start_time.replace(tzinfo=None) == START
    assert recording.source == str(path)
    return recording


def assert_refused(path, *words):
    with pytest.raises(ECGReadError) as raised:
        read_ecg(path)
    for word in (str(path), *words):
        assert re.search(re.escape(word), str(raised.value)), str(raised.value)


@pytest.mark.parametrize("name", WRITERS)
def test_leads_unit_rate_and_start_of_the_rhythm(tmp_path, counts, name):
    path = tmp_path / "no-suffix"
    WRITERS[name](path, counts)
    assert_read(path, counts)


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_copy_is_refused_by_name(tmp_path, name):
    path = tmp_path / "recording"
    WRITERS[name](path, make_counts())
    content = path.read_bytes()
    for kept in (0, 7, 40, 200, len(content) // 3, len(content) // 2, len(content) - 1000, len(content) - 2):
        path.write_bytes(content[:kept])
        assert_refused(path)
    garbage = np.random.default_rng(1).integers(0, 256, size=500, dtype=np.uint8).tobytes()
    path.write_bytes(content[:600] + garbage)
    assert_refused(path)
    path.write_bytes(garbage)
    assert_refused(path, "not an ECG recording", "expected a WFDB record", "SCP-ECG")


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_package_is_named(tmp_path, monkeypatch, name):
    path = tmp_path / "recording"
    WRITERS[name](path, make_counts())
    monkeypatch.setitem(sys.modules, "ecgdatakit", None)
    for module in [module for module in sys.modules if module.startswith("ecgdatakit.")]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"recording: reading {name} .* pip install 'meit-ecg\[formats\]'"):
        read_ecg(path)


def test_dicom_without_pydicom(tmp_path, monkeypatch):
    _dicom(tmp_path / "recording", make_counts())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImportError, match=r"reading DICOM waveform .* pip install 'meit-ecg\[formats\]'"):
        read_ecg(tmp_path / "recording")


# --- SCP-ECG ---


@pytest.mark.parametrize("huffman", [False, True])
@pytest.mark.parametrize("differences", [0, 1, 2])
def test_scp_encodings(tmp_path, huffman, differences):
    counts = make_counts()
    writers.write_scp(tmp_path / "a.scp", counts, differences=differences, huffman=huffman)
    assert_read(tmp_path / "a.scp", counts)


def test_scp_puts_the_subtracted_beats_back(tmp_path):
    counts = make_counts()
    writers.write_scp(
        tmp_path / "a.scp", counts, differences=2, huffman=True, beat=make_beats(), complexes=(200, 900, 1500)
    )
    assert_read(tmp_path / "a.scp", counts)


def test_scp_of_eight_leads_gives_all_twelve(tmp_path):
    counts = make_counts()[EIGHT]
    leads = [LEADS[lead] for lead in EIGHT]
    writers.write_scp(tmp_path / "a.scp", counts, leads=leads)
    recording = assert_read(tmp_path / "a.scp", counts, leads)
    twelve = place_leads(recording.signal, recording.lead_names)
    np.testing.assert_allclose(twelve[5], (counts[1] - counts[0] / 2) * MICROVOLTS / 1000, atol=1e-5)


def test_scp_rate_that_is_no_whole_number(tmp_path):
    writers.write_scp(tmp_path / "a.scp", make_counts(), rate=1e6 / 3906)
    assert read_ecg(tmp_path / "a.scp").sampling_rate == pytest.approx(256.016, abs=1e-3)


def test_scp_changed_after_it_was_written(tmp_path):
    writers.write_scp(tmp_path / "a.scp", make_counts())
    content = bytearray((tmp_path / "a.scp").read_bytes())
    content[-500] ^= 1
    (tmp_path / "a.scp").write_bytes(content)
    assert_refused(tmp_path / "a.scp", "CRC mismatch in: record, Section 6")


def test_scp_of_four_billion_samples(tmp_path):
    writers.write_scp(tmp_path / "a.scp", make_counts(), huffman=True)
    content = (tmp_path / "a.scp").read_bytes()
    old = struct.pack("<IIB", 1, 2000, 1)
    assert content.count(old) == 1
    (tmp_path / "a.scp").write_bytes(content.replace(old, struct.pack("<IIB", 1, 2**32 - 1, 1)))
    assert_refused(tmp_path / "a.scp", "lead 1 claims samples 1 to 4294967295")


def test_a_lead_that_comes_twice(tmp_path):
    writers.write_scp(tmp_path / "a.scp", make_counts(), leads=[*LEADS[:11], "II"])
    assert_refused(tmp_path / "a.scp", "lead II appears twice")


# --- DICOM ---


def test_a_real_dicom_file():
    path = get_testdata_file("waveform_ecg.dcm", download=False)
    expected = pydicom.dcmread(path).waveform_array(0).T / 1000  # its unit is µV
    recording = read_ecg(path)
    assert recording.lead_names == LEADS
    assert recording.sampling_rate == 1000.0
    np.testing.assert_allclose(recording.signal, expected, atol=1e-6)


@pytest.mark.parametrize(("unit", "millivolts"), [("mV", 1), ("uV", 1e-3), ("nV", 1e-6), ("V", 1e3)])
def test_dicom_scales_by_sensitivity_correction_and_baseline(tmp_path, unit, millivolts):
    counts = make_counts()
    counts[3, 5] = -32768
    group = writers.dicom_group(counts, unit=unit, sensitivity=0.5, correction=1.25, baseline=-3)
    writers.write_dicom(tmp_path / "a.dcm", group)
    signal = read_ecg(tmp_path / "a.dcm").signal
    assert np.argwhere(np.isnan(signal)).tolist() == [[3, 5]]
    expected = (counts * 0.5 * 1.25 - 3) * millivolts
    np.testing.assert_allclose(np.delete(signal, 5, axis=1), np.delete(expected, 5, axis=1), rtol=1e-5, atol=1e-6)


def test_dicom_whose_rhythm_is_not_first(tmp_path):
    beats, rhythm = writers.dicom_group(make_beats(), label="MEDIAN"), writers.dicom_group(make_counts())
    writers.write_dicom(tmp_path / "a.dcm", beats, rhythm)
    assert_read(tmp_path / "a.dcm", make_counts())
    beats.MultiplexGroupLabel = "A"
    writers.write_dicom(tmp_path / "a.dcm", beats, rhythm)
    assert_refused(tmp_path / "a.dcm", "several groups", "expected the rhythm first")


def test_dicom_without_a_voltage(tmp_path):
    writers.write_dicom(tmp_path / "a.dcm", writers.dicom_group(make_counts(), unit="mm[Hg]"))
    assert_refused(tmp_path / "a.dcm", "expected")


def test_deflated_dicom(tmp_path):
    _dicom(tmp_path / "a.dcm", make_counts())
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "a.dcm", dataset)
    assert_refused(tmp_path / "a.dcm", "deflated DICOM")


# --- HL7 aECG, GE MUSE, Philips ---


@pytest.mark.parametrize(("unit", "millivolts"), [("mV", 1), ("uV", 1e-3), ("nV", 1e-6), ("V", 1e3)])
def test_aecg_units_and_origin(tmp_path, unit, millivolts):
    writers.write_aecg(tmp_path / "a.xml", make_counts(), unit=unit, scale=0.5, origin=7)
    expected = (make_counts() * 0.5 + 7) * millivolts
    np.testing.assert_allclose(read_ecg(tmp_path / "a.xml").signal, expected, rtol=1e-6)


def test_aecg_rate_that_is_no_whole_number(tmp_path):
    writers.write_aecg(tmp_path / "a.xml", make_counts(), rate=256.5)
    assert read_ecg(tmp_path / "a.xml").sampling_rate == pytest.approx(256.5)


@pytest.mark.parametrize("unit", ["", "mmHg", "1"])
@pytest.mark.parametrize("write", [writers.write_aecg, writers.write_muse])
def test_units_that_are_no_voltage(tmp_path, write, unit):
    write(tmp_path / "a.xml", make_counts(), unit=unit)
    assert_refused(tmp_path / "a.xml")


@pytest.mark.parametrize(("unit", "scale"), [("MICROVOLTS", 4.88), ("MILLIVOLTS", 0.00488)])
def test_muse_stores_eight_leads(tmp_path, unit, scale):
    counts = make_counts()[EIGHT]
    leads = [LEADS[lead] for lead in EIGHT]
    writers.write_muse(tmp_path / "a.xml", counts, leads=leads, unit=unit, scale=scale)
    recording = assert_read(tmp_path / "a.xml", counts, leads, step=4.88)
    twelve = place_leads(recording.signal, recording.lead_names)
    one, two = counts[:2] * 4.88 / 1000
    np.testing.assert_allclose(twelve[2:6], [two - one, -(one + two) / 2, one - two / 2, two - one / 2], atol=1e-5)


def test_muse_whose_samples_changed(tmp_path):
    writers.write_muse(tmp_path / "a.xml", make_counts())
    text = (tmp_path / "a.xml").read_bytes()
    checksum = re.search(rb"<LeadDataCRC32>\d+", text)[0]
    (tmp_path / "a.xml").write_bytes(text.replace(checksum, b"<LeadDataCRC32>1"))
    assert_refused(tmp_path / "a.xml", "CRC32 mismatch in lead I")


@pytest.mark.parametrize(
    "options",
    [
        {"xli": True},
        {"encoding": "UTF-16"},
        {"encoding": "UTF-8", "declared": "UTF-16"},
        {"xli": True, "encoding": "UTF-16"},
    ],
)
def test_philips_compression_and_encodings(tmp_path, counts, options):
    writers.write_philips(tmp_path / "a.xml", counts, **options)
    assert_read(tmp_path / "a.xml", counts)


def test_philips_without_a_resolution(tmp_path):
    writers.write_philips(tmp_path / "a.xml", make_counts(), resolution="")
    assert_refused(tmp_path / "a.xml", "no signal resolution")


def test_philips_bombs(tmp_path):
    path = tmp_path / "a.xml"
    writers.write_philips(path, make_counts())
    text = path.read_text()
    path.write_text(text.replace(">12</numberchannelsallocated>", ">999999999</numberchannelsallocated>"))
    assert_refused(path, "999999999 leads")
    labels = " ".join(LEADS)
    path.write_text(text.replace(f'"{labels}"', f'"{"a " * 5000}"'))
    assert_refused(path, "5000 leads")
    signature = f"<mdsignatureline>a{' ' * 200_000}b</mdsignatureline>"
    interpretation = f"<interpretations><interpretation>{signature}</interpretation></interpretations><waveforms>"
    path.write_text(text.replace("<waveforms>", interpretation))
    assert_refused(path, "statements of more than 16384 characters")
    # Codes that each stand for the longest string that LZW of ten bits can have learnt: 2 MB become 500 MB.
    zeros = writers._lzw(bytes(400_000)) + b"\xff\xbf\xef\xfb\xfe" * 500_000
    writers.write_philips(path, make_counts(), xli=True)
    text = path.read_text()
    data = writers.base64.b64encode(struct.pack("<iHh", len(zeros), 0, 0) + zeros).decode()
    path.write_text(re.sub(r">\n[^<]*</parsedwaveforms>", lambda found: f">{data}</parsedwaveforms>", text))
    assert_refused(path, "compressed samples of more than")


# --- EDF ---


def test_edf_in_millivolts_beside_other_signals(tmp_path):
    counts = make_counts()
    others = [
        edfio.EdfSignal(np.zeros(100), 25, label="Resp", physical_dimension="l", physical_range=(-1, 1)),
        edfio.EdfSignal(np.zeros(2000), 500, label="SpO2", physical_dimension="%", physical_range=(-1, 1)),
    ]
    writers.write_edf(tmp_path / "a.edf", counts, unit="mV", microvolts=1.0, others=others)
    assert_read(tmp_path / "a.edf", counts, step=1.0)


def test_edf_pauses_are_not_measured(tmp_path):
    writers.write_edf(tmp_path / "a.edf", make_counts())
    content = (tmp_path / "a.edf").read_bytes().replace(b"EDF+C", b"EDF+D")
    assert content.count(b"+2\x14\x14") == content.count(b"+3\x14\x14") == 1
    (tmp_path / "a.edf").write_bytes(
        content.replace(b"+2\x14\x14", b"+4\x14\x14").replace(b"+3\x14\x14", b"+5\x14\x14")
    )
    signal = read_ecg(tmp_path / "a.edf").signal
    expected = make_counts() * MICROVOLTS / 1000
    assert signal.shape == (12, 3000)
    assert np.isnan(signal[:, 1000:2000]).all()
    np.testing.assert_allclose(np.delete(signal, np.s_[1000:2000], axis=1), expected, rtol=1e-6, atol=1e-6)
    for onset, words in ((b"+1", "overlap"), (b"+9", "overlap")):
        (tmp_path / "a.edf").write_bytes(content.replace(b"+2\x14\x14", onset + b"\x14\x14"))
        assert_refused(tmp_path / "a.edf", words)


def test_edf_of_ten_gigabytes(tmp_path):
    writers.write_edf(tmp_path / "a.edf", make_counts())
    content = bytearray((tmp_path / "a.edf").read_bytes())
    content[236:244] = b"833333  "
    (tmp_path / "a.edf").write_bytes(content)
    assert_refused(tmp_path / "a.edf", "truncated", "833333 data records make")
    content[236:244] = b"-1      "
    (tmp_path / "a.edf").write_bytes(content)
    assert_refused(tmp_path / "a.edf", "-1 data records; expected at least 1")
    content[252:256] = b"9999"
    (tmp_path / "a.edf").write_bytes(content)
    assert_refused(tmp_path / "a.edf", "9999 leads")


def test_bdf_is_named(tmp_path):
    (tmp_path / "a.bdf").write_bytes(b"\xffBIOSEMI" + bytes(500))
    assert_refused(tmp_path / "a.bdf", "it is BDF")


# --- ISHNE ---


def test_ishne_marks_samples_that_were_not_measured(tmp_path):
    counts = make_counts()
    counts[4, 9] = -32768
    writers.write_ishne(tmp_path / "a.ecg", counts, notes=b"")
    signal = read_ecg(tmp_path / "a.ecg").signal
    assert np.argwhere(np.isnan(signal)).tolist() == [[4, 9]]


def test_ishne_cut_between_two_samples(tmp_path):
    writers.write_ishne(tmp_path / "a.ecg", make_counts())
    (tmp_path / "a.ecg").write_bytes((tmp_path / "a.ecg").read_bytes()[:-24])
    assert_refused(tmp_path / "a.ecg", "truncated", "1999 samples for each of 12 leads, not 2000")


def test_ishne_without_a_resolution(tmp_path):
    writers.write_ishne(tmp_path / "a.ecg", make_counts())
    content = bytearray((tmp_path / "a.ecg").read_bytes())
    content[8:10] = bytes(2)  # no checksum
    content[206:208] = bytes(2)
    (tmp_path / "a.ecg").write_bytes(content)
    assert_refused(tmp_path / "a.ecg", "lead I has the unit ''")


# --- MFER ---


@pytest.mark.parametrize(
    "options", [{"little": True}, {"interval": False}, {"preamble": False}, {"blocks": 1}, {"rate": 1000}]
)
def test_mfer_byte_orders_and_sampling_units(tmp_path, options):
    writers.write_mfer(tmp_path / "a.mwf", make_counts(), **options)
    assert_read(tmp_path / "a.mwf", make_counts(), rate=options.get("rate", 500))


def test_mfer_marks_samples_that_were_not_measured(tmp_path):
    counts = make_counts()
    counts[7, 11] = -32768
    writers.write_mfer(tmp_path / "a.mwf", counts)
    assert np.argwhere(np.isnan(read_ecg(tmp_path / "a.mwf").signal)).tolist() == [[7, 11]]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"\x05\x01\x0c", b"\x05\x04\x7f\xff\xff\xff", "2147483647 leads"),
        (b"\x0a\x01\x00", b"\x0a\x01\x09", "compressed"),
        (b"\x0c\x04\x00\xf9", b"\x0c\x04\x01\xf9", "the unit ''"),
        (b"\x04\x04\x00\x00\x00\xc8", b"\x04\x04\x7f\x00\x00\xc8", "frame block of"),
        (b"\x06\x02\x00\x0a", b"\x06\x02\xff\xff", "no waveform data"),
        (b"\x0b\x06", b"\x10\x06", "no sampling interval"),
    ],
)
def test_mfer_headers_that_cannot_be_true(tmp_path, old, new, words):
    writers.write_mfer(tmp_path / "a.mwf", make_counts())
    content = (tmp_path / "a.mwf").read_bytes()
    assert content.count(old) == 1
    (tmp_path / "a.mwf").write_bytes(content.replace(old, new))
    assert_refused(tmp_path / "a.mwf", words)


def test_mfer_groups_in_groups(tmp_path):
    content = b"\x0a\x01\x00"
    for _ in range(400):
        content = b"\x67\x84" + len(content).to_bytes(4, "big") + content
    (tmp_path / "a.mwf").write_bytes(b"\x40\x20" + b"MFR ".ljust(32) + content)
    assert_refused(tmp_path / "a.mwf", "3 deep")


# --- XML ---


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('<!DOCTYPE a [<!ENTITY b "c">]><RestingECG>&b;</RestingECG>', "declares entities"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><RestingECG>&b;</RestingECG>', "declares entities"),
        ('<!DOCTYPE a [<!ATTLIST a b CDATA "c">]><RestingECG/>', "default attributes"),
        ("<RestingECG>" + "<a>" * 100 + "</a>" * 100 + "</RestingECG>", "more than 64 levels"),
        ("<RestingECG>" + "<a/>" * 250_000 + "</RestingECG>", "more than 250000 elements"),
        ("<RestingECG></RestingECG>", "No rhythm waveform"),
        ("<RestingECG>", "not well-formed"),
        ('<?xml version="1.0" encoding="klingon"?><AnnotatedECG/>', "unknown encoding: klingon"),
        ("<html><body>ECG</body></html>", "root 'html'"),
        ("<AnnotatedECG/>" + " " * (1 << 24), "16777231 bytes of XML"),
    ],
)
def test_xml_that_is_no_recording(tmp_path, text, words):
    (tmp_path / "a.xml").write_text(text)
    assert_refused(tmp_path / "a.xml", words)
