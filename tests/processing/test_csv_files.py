import numpy as np
import pytest

from processing import LEADS, ECGFeatureExtractor, read_ecg
from tests.processing.refusals import refused
from tests.processing.synthetic import make_ecg


def write(path, ecg, header=LEADS, delimiter=",", time=None, decimals=6, end="\n", encoding="utf-8"):
    columns = [] if time is None else [time]
    columns += [[f"{value:.{decimals}f}" for value in lead] for lead in ecg]
    rows = [header, *zip(*columns, strict=True)] if header else list(zip(*columns, strict=True))
    path.write_text("".join(delimiter.join(row) + end for row in rows), encoding=encoding, newline="")
    return path


def times(samples, rate, unit="s", decimals=6):
    return [f"{sample / rate * (1000 if unit == 'ms' else 1):.{decimals}f}" for sample in range(samples)]


@pytest.fixture
def ecg():
    return make_ecg(samples=600) * np.arange(1, 13)[:, None]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_with_a_stated_rate(tmp_path, ecg, delimiter, encoding, end):
    header = ["i", "Lead II", "III", "AVR", "avl", "MDC_ECG_LEAD_AVF", *LEADS[6:]]
    path = write(tmp_path / "a.txt", ecg, header, delimiter, encoding=encoding, end=end)
    recording = read_ecg(path, sampling_rate=250)
    assert recording.lead_names == tuple(header)
    assert (recording.sampling_rate, recording.source, recording.start_time) == (250.0, str(path), None)
    np.testing.assert_allclose(recording.signal, ecg, atol=1e-6)


def test_a_rate_is_never_guessed(tmp_path, ecg):
    assert "no column of time" in refused(write(tmp_path / "a.csv", ecg))
    header = ["time", *LEADS]
    path = write(tmp_path / "a.csv", ecg, header, time=times(600, 500))
    assert "no column of time with its unit" in refused(path)
    assert read_ecg(path, sampling_rate=500).lead_names == LEADS


@pytest.mark.parametrize(
    ("title", "unit", "rate", "decimals"),
    [
        ("time (s)", "s", 500, 3),
        ("Time [ms]", "ms", 500, 0),
        ("time_ms", "ms", 360, 0),  # rounded: steps of 2 and 3 ms
        ("t(s)", "s", 250, 6),
        ("seconds", "s", 1000, 6),
        ("ms", "ms", 256.4, 6),
    ],
)
def test_the_rate_of_a_column_of_time(tmp_path, title, unit, rate, decimals):
    ecg = make_ecg(samples=3600)
    path = write(tmp_path / "a.csv", ecg, [title, *LEADS], time=times(3600, rate, unit, decimals))
    recording = read_ecg(path)
    assert recording.sampling_rate == pytest.approx(rate, rel=1e-9 if rate != 256.4 else 1e-6)
    assert recording.lead_names == LEADS
    assert read_ecg(path, sampling_rate=rate).sampling_rate == rate
    assert ECGFeatureExtractor()(path, sampling_rate=rate, start_s=0)["ecg_values"].shape == (1, 12, 5000)
    assert "sampling_rate=200" in refused(path, sampling_rate=200)


def test_times_with_a_pause_or_in_disorder(tmp_path, ecg):
    good = times(600, 500)
    for bad in (good[:300] + times(1000, 500)[700:], good[:300] + good[299:-1], good[::-1]):
        path = write(tmp_path / "a.csv", ecg, ["time (s)", *LEADS], time=bad)
        assert "not evenly spaced" in refused(path)
    assert "not evenly spaced" in refused(write(tmp_path / "a.csv", ecg[:, :1], ["time (s)", *LEADS], time=["0"]))


@pytest.mark.parametrize(
    ("form", "per_millivolt"),
    [("{} (uV)", 1e3), ("{} [mV]", 1), ("{}_uV", 1e3), ("{} (µV)", 1e3), ("{}(nV)", 1e6), ("{} [V]", 1e-3)],
)
def test_units_behind_the_names(tmp_path, ecg, form, per_millivolt):
    path = write(tmp_path / "a.csv", ecg * per_millivolt, [form.format(lead) for lead in LEADS], decimals=9)
    recording = read_ecg(path, sampling_rate=500)
    assert recording.lead_names == LEADS
    np.testing.assert_allclose(recording.signal, ecg, atol=1e-6)


def test_units_that_are_wrong_or_missing(tmp_path, ecg):
    path = write(tmp_path / "a.csv", ecg, [f"{lead} (mmHg)" for lead in LEADS])
    assert "the unit 'mmHg'; expected mV" in refused(path, sampling_rate=500)
    assert "and no unit; expected mV" in refused(write(tmp_path / "a.csv", ecg * 1000), sampling_rate=500)
    volts = write(tmp_path / "a.csv", ecg / np.abs(ecg).max() * 0.0199)
    assert "values of up to 0.0199 and no unit, perhaps in V; expected mV" in refused(volts, sampling_rate=500)
    small = write(tmp_path / "a.csv", ecg / np.abs(ecg).max() * 0.0201)
    assert np.abs(read_ecg(small, sampling_rate=500).signal).max() == pytest.approx(0.0201)
    assert not read_ecg(write(tmp_path / "a.csv", ecg * 0), sampling_rate=500).signal.any()


def test_what_clinicians_export(tmp_path, ecg):
    path = write(tmp_path / "a.csv", ecg * 1000, [f"{lead} (µV)" for lead in LEADS], ";", encoding="latin-1")
    assert b"I (\xb5V);II" in path.read_bytes()
    table = path.read_bytes()
    comment = "# Gerät: Müller, 500 Hz\r\n#\n".encode("latin-1")
    for start in (b"", b"sep=;\r\n", b'"SEP=;"\n', comment, b"sep=;\n" + comment):
        path.write_bytes(start + table)
        recording = read_ecg(path, sampling_rate=500)
        assert recording.lead_names == LEADS
        np.testing.assert_allclose(recording.signal, ecg, atol=1e-6)


def test_the_separator_is_the_one_that_is_stated(tmp_path):
    # The first row holds more commas than semicolons.
    (tmp_path / "a.csv").write_text("sep=;\nI;V1;remark, remark, remark\n1;2;\n")
    recording = read_ecg(tmp_path / "a.csv", sampling_rate=500, lead_names=["V1", "I"])
    np.testing.assert_array_equal(recording.signal, [[2], [1]])


def test_comments_before_numbers_and_an_index_called_number(tmp_path):
    (tmp_path / "a.csv").write_text("# I and II\n0.5,1\n2,3\n")
    np.testing.assert_array_equal(
        read_ecg(tmp_path / "a.csv", sampling_rate=500, lead_names=["I", "II"]).signal, [[0.5, 2], [1, 3]]
    )
    (tmp_path / "a.csv").write_text("#,I\n0,1\n1,2\n")
    np.testing.assert_array_equal(read_ecg(tmp_path / "a.csv", sampling_rate=500).signal, [[1, 2]])


@pytest.mark.parametrize("content", [b"sep=;\n", b"# I,II\n", b"sep=|\nI|II\n1|2\n", b"\x80,I\n1,2\n", b"#\n" * 5000])
def test_first_lines_that_are_no_table(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    assert "not an ECG recording" in refused(tmp_path / "a.csv", sampling_rate=500)


def test_other_columns_are_named_or_refused(tmp_path, ecg):
    rows = np.concatenate([np.arange(600.0)[None], ecg, ecg[:1] * 9])
    path = write(tmp_path / "a.csv", rows, ["", *LEADS, "breath"])
    assert "the column 'breath' is no lead" in refused(path, sampling_rate=500)
    recording = read_ecg(path, sampling_rate=500, lead_names=("V6", "breath", "I"))
    assert recording.lead_names == ("V6", "breath", "I")
    np.testing.assert_allclose(recording.signal, [ecg[11], ecg[0] * 9, ecg[0]], atol=1e-5)
    assert "0 columns called 'V9'" in refused(path, sampling_rate=500, lead_names=["V9"])
    path = write(tmp_path / "a.csv", ecg, [*LEADS[:11], "ii"])
    assert "lead II appears twice" in refused(path, sampling_rate=500)


def test_a_table_without_names(tmp_path, ecg):
    path = write(tmp_path / "a.csv", ecg, header=None)
    assert "12 columns without a row of names" in refused(path, sampling_rate=500)
    assert "12 columns without a row of names" in refused(path, sampling_rate=500, lead_names=LEADS[:3])
    recording = read_ecg(path, sampling_rate=500, lead_names=LEADS)
    np.testing.assert_allclose(recording.signal, ecg, atol=1e-6)


def test_empty_fields_were_not_measured(tmp_path):
    (tmp_path / "a.csv").write_text("I;II\n0,5;1,25\n;nan\n-1;2\n")
    signal = read_ecg(tmp_path / "a.csv", sampling_rate=500).signal
    np.testing.assert_array_equal(signal, [[0.5, np.nan, -1], [1.25, np.nan, 2]])


def test_quoted_names(tmp_path):
    (tmp_path / "a.csv").write_text('"Lead I","V1 (uV)"\n"1","2"\n')
    recording = read_ecg(tmp_path / "a.csv", sampling_rate=500)
    assert recording.lead_names == ("Lead I", "V1")
    np.testing.assert_allclose(recording.signal, [[1], [0.002]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"I,II\n1,2\n3\n", "row 2 has 1 fields; expected 2"),
        (b"I,II\n1,2\n3,x\n", "row 2 holds 'x'; expected a number"),
        (b"I,II\n1,1_0\n", "holds '1_0'"),
        (b"I (mV),II (mV)\n1,2\n3,inf\n", "infinite"),
        (b"I;II\n1,2,3;4\n", "holds '1,2,3'"),
        (b"I,II\n", "0 samples"),
        (b"I,II\n,\n", "0 samples"),
        (b"I,II\n1,\xff\n", "row 1 holds 'ÿ'; expected a number"),
        (b'I,II\n1,"2\n', "unexpected end"),
        (b"I," + b"," * 300 + b"\n1\n", "302 columns"),
        (b"I,II\n" + b"1" * 200_000 + b",1\n", "field larger than"),
    ],
)
def test_damaged_tables(tmp_path, content, words):
    (tmp_path / "a.csv").write_bytes(content)
    assert words in refused(tmp_path / "a.csv", sampling_rate=500)


@pytest.mark.parametrize("rate", [0, -500, float("nan"), float("inf"), 1e9])
def test_absurd_rates(tmp_path, ecg, rate):
    assert "sampling rate" in refused(write(tmp_path / "a.csv", ecg), sampling_rate=rate)


def test_a_real_recording(tmp_path, ptb_xl):
    record = next((ptb_xl / "records500").rglob("*.hea")).with_suffix("")
    expected = read_ecg(record)
    path = write(tmp_path / "a.csv", expected.signal, [f"{name} (mV)" for name in expected.lead_names])
    found = read_ecg(path, sampling_rate=500)
    assert found.lead_names == expected.lead_names
    np.testing.assert_allclose(found.signal, expected.signal, atol=1e-6)
