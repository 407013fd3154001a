"""The plot is measured in millimetres on the rendered figure, not in matplotlib's own terms."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from processing.leads import LEADS
from reporting.ecg_paper import plot_ecg, save_png, save_svg

RATE = 500


def beats(seconds=10.0, rate=RATE, heights=None):
    """(12, samples) mV: a 40 ms spike each second at 0.5 s, lead i as high as heights[i] mV."""
    time = np.arange(round(seconds * rate)) / rate
    spike = np.maximum(0, 1 - np.abs(time % 1 - 0.5) / 0.02)
    return np.outer(np.linspace(0.5, 1.6, 12) if heights is None else heights, spike)


def lines(figure, gid):
    return [line for line in figure.axes[0].lines if line.get_gid() == gid]


def in_mm(figure, line):
    """(points, 2): where the line is drawn, in mm from the figure's lower left corner."""
    return figure.axes[0].transData.transform(np.column_stack(line.get_data())) / figure.dpi * 25.4


def texts(figure):
    return [text.get_text() for text in [*figure.texts, *figure.axes[0].texts]]


def peaks(points):
    """Of a drawn lead, the x of each spike's top."""
    y = points[:, 1]
    inner = (y[1:-1] > y[:-2]) & (y[1:-1] >= y[2:]) & (y[1:-1] > y.min() + 2)
    return points[1:-1][inner]


def test_one_second_is_25_mm_and_one_millivolt_10_mm():
    figure = plot_ecg(beats(heights=np.full(12, 1.0)), RATE)
    rhythm = in_mm(figure, lines(figure, "trace-II")[1])
    assert np.diff(peaks(rhythm)[:, 0]) == pytest.approx(25.0)
    assert np.ptp(rhythm[:, 1]) == pytest.approx(10.0)
    assert np.ptp(rhythm[:, 0]) == pytest.approx(250.0, abs=0.1)


def test_calibration_pulse_is_1_mv_for_200_ms_on_every_row():
    figure = plot_ecg(beats(), RATE)
    pulses = [in_mm(figure, pulse) for pulse in lines(figure, "calibration")]
    assert len(pulses) == 4
    for pulse in pulses:
        top = pulse[pulse[:, 1] == pulse[:, 1].max()]
        assert np.ptp(pulse[:, 1]) == pytest.approx(10.0)
        assert np.ptp(top[:, 0]) == pytest.approx(5.0)


def test_grid_lines_are_1_mm_and_5_mm_apart_and_the_pulse_lies_on_them():
    figure = plot_ecg(beats(), RATE)
    for collection, step in zip(figure.axes[0].collections, (1.0, 5.0), strict=True):
        points = [figure.axes[0].transData.transform(path.vertices) for path in collection.get_paths()]
        x = sorted({round(p[0, 0] / figure.dpi * 25.4, 6) for p in points if p[0, 0] == p[1, 0]})
        y = sorted({round(p[0, 1] / figure.dpi * 25.4, 6) for p in points if p[0, 1] == p[1, 1]})
        assert np.diff(x) == pytest.approx(step)
        assert np.diff(y) == pytest.approx(step)
    pulse = in_mm(figure, lines(figure, "calibration")[0])
    assert min(abs(pulse[0, 1] - line) for line in y) == pytest.approx(0, abs=1e-6)


def test_pixels_and_stored_resolution_give_the_true_size():
    figure = plot_ecg(beats(), RATE)
    buffer = io.BytesIO()
    save_png(figure, buffer, dots_per_inch=254)
    image = Image.open(buffer)
    assert image.size[0] == pytest.approx(2800, abs=1)
    assert image.info["dpi"] == pytest.approx((254, 254), abs=0.1)


def test_svg_has_the_true_size(tmp_path):
    save_svg(plot_ecg(beats(), RATE), tmp_path / "ecg.svg")
    assert f'width="{280 / 25.4 * 72:.6f}'[:12] in (tmp_path / "ecg.svg").read_text(encoding="utf-8")


def test_three_by_four_and_a_rhythm_strip():
    figure = plot_ecg(beats(heights=np.full(12, 1.0)), RATE)
    traces = {lead: [in_mm(figure, line) for line in lines(figure, f"trace-{lead}")] for lead in LEADS}
    assert {lead: len(drawn) for lead, drawn in traces.items()} == {lead: 1 + (lead == "II") for lead in LEADS}
    for column in (("I", "II", "III"), ("aVR", "aVL", "aVF"), ("V1", "V2", "V3"), ("V4", "V5", "V6")):
        starts = [traces[lead][0][0] for lead in column]
        assert np.ptp([start[0] for start in starts]) == pytest.approx(0)
        assert np.diff([start[1] for start in starts]) == pytest.approx(-30.0, abs=0.01)
    columns = [traces[lead][0][0, 0] for lead in ("I", "aVR", "V1", "V4")]
    assert np.diff(columns) == pytest.approx(62.5)
    assert np.ptp(traces["V4"][0][:, 0]) == pytest.approx(62.5, abs=0.1)
    assert [text for text in texts(figure) if text in LEADS].count("II") == 2
    assert set(LEADS) <= set(texts(figure))


def test_each_column_shows_its_own_quarter_of_the_recording():
    signal = np.zeros((12, 5000))
    signal[:, 4000] = 1.0  # at 8.0 s: in the fourth column and the rhythm strip alone
    figure = plot_ecg(signal, RATE)
    with_spike = {line.get_gid() for line in figure.axes[0].lines if np.ptp(line.get_ydata()) == 10.0}
    assert with_spike == {"trace-V4", "trace-V5", "trace-V6", "trace-II", "calibration"}


def test_leads_are_placed_by_name():
    signal = beats()
    order = [*LEADS[:4], "aVF", "aVL", *LEADS[6:]]  # as MIMIC-IV-ECG stores them
    shuffled = signal[[LEADS.index(lead) for lead in order]]
    straight, by_name = plot_ecg(signal, RATE), plot_ecg(shuffled, RATE, [lead.upper() for lead in order])
    for lead in LEADS:
        expected, drawn = lines(straight, f"trace-{lead}")[0], lines(by_name, f"trace-{lead}")[0]
        assert np.array_equal(expected.get_ydata(), drawn.get_ydata())
    assert np.ptp(lines(by_name, "trace-aVF")[0].get_ydata()) == pytest.approx(10 * signal[5].max())


def test_invalid_samples_leave_a_gap_and_a_dead_lead_says_so():
    signal = beats()
    signal[1, 600:700] = np.nan
    signal[1, 800] = np.inf
    signal[7] = np.nan
    figure = plot_ecg(signal, RATE)
    drawn = lines(figure, "trace-II")[0].get_ydata()
    assert np.flatnonzero(np.isnan(drawn)).tolist() == [*range(600, 700), 800]
    assert "V2 (no signal)" in texts(figure)
    assert "V2" not in texts(figure)


def test_an_offset_does_not_move_a_lead_off_its_row():
    signal = beats()
    moved = signal + np.linspace(-5, 5, 12)[:, None]
    for lead in LEADS:
        expected = lines(plot_ecg(signal, RATE), f"trace-{lead}")[0].get_ydata()
        assert lines(plot_ecg(moved, RATE), f"trace-{lead}")[0].get_ydata() == pytest.approx(expected)


def visible_rows(figure):
    """Whether every point of every trace lies on the grid."""
    low, high = figure.axes[0].get_ylim()
    return all(low <= y <= high for line in figure.axes[0].lines for y in line.get_ydata() if np.isfinite(y))


@pytest.mark.parametrize("height", [3.0, -3.0, 5.5, -5.5])
def test_the_paper_grows_with_tall_traces(height):
    figure = plot_ecg(beats(heights=np.full(12, height)), RATE)
    assert visible_rows(figure)
    assert not any("runs off the paper" in text for text in texts(figure))


def test_what_is_cut_off_is_named():
    signal = beats()
    signal[9] *= 100
    figure = plot_ecg(signal, RATE)
    assert not visible_rows(figure)
    assert any("runs off the paper: V4" in text for text in texts(figure))
    assert figure.get_size_inches()[1] * 25.4 <= 297


def test_a_long_recording_says_how_much_is_shown():
    figure = plot_ecg(beats(seconds=30), RATE)
    assert any("first 10 s of 30 s" in text for text in texts(figure))
    assert np.ptp(in_mm(figure, lines(figure, "trace-II")[1])[:, 0]) == pytest.approx(250, abs=0.1)


def test_a_short_recording_shows_all_leads():
    figure = plot_ecg(beats(seconds=4), RATE)
    assert all(len(lines(figure, f"trace-{lead}")[0].get_xdata()) == 500 for lead in LEADS)
    assert np.ptp(in_mm(figure, lines(figure, "trace-II")[1])[:, 0]) == pytest.approx(100, abs=0.1)


def test_scale_and_title_are_printed_as_they_are():
    figure = plot_ecg(beats(), RATE, title="record $1_2$")
    assert any(text.startswith("25 mm/s   10 mm/mV") for text in texts(figure))
    assert "record $1_2$" in texts(figure)
    save_png(figure, io.BytesIO())


@pytest.mark.parametrize(
    ("signal", "rate", "names", "message"),
    [
        (np.zeros((5000, 12)), RATE, LEADS, r"shape \(5000, 12\)"),
        (np.zeros((3, 5000)), RATE, LEADS, r"shape \(3, 5000\)"),
        (np.zeros((12, 0)), RATE, LEADS, r"shape \(12, 0\)"),
        (np.zeros((12, 5000)), 0, LEADS, "sampling rate is 0"),
        (np.zeros((12, 5000)), float("nan"), LEADS, "sampling rate is nan"),
        (np.zeros((12, 5000)), RATE, [*LEADS[:11], "V5"], "each of"),
        (np.zeros((12, 5000)), RATE, LEADS[:11], "each of"),
    ],
)
def test_bad_input_is_refused(signal, rate, names, message):
    with pytest.raises(ValueError, match=message):
        plot_ecg(signal, rate, names)


def test_no_global_plotting_state_is_touched():
    check = "import sys, reporting.ecg_paper; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize("corpus", ["ptb_xl", "mimic_iv_ecg"])
def test_a_real_recording_is_drawn_whole(corpus, request):
    import wfdb

    header = min(request.getfixturevalue(corpus).rglob("*.hea"))
    record = wfdb.rdrecord(str(header.with_suffix("")))
    figure = plot_ecg(record.p_signal.T, record.fs, record.sig_name, title=header.stem)
    signal = dict(zip((name.lower() for name in record.sig_name), record.p_signal.T, strict=True))
    rhythm = lines(figure, "trace-II")[1].get_ydata()
    assert np.ptp(rhythm) == pytest.approx(10 * np.ptp(signal["ii"]))
    second_quarter = signal["avf"][record.sig_len // 4 : record.sig_len // 2]
    assert np.ptp(lines(figure, "trace-aVF")[0].get_ydata()) == pytest.approx(10 * np.ptp(second_quarter))
    save_png(figure, io.BytesIO())
