import math

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from evaluation.bootstrap import Interval
from tasks.robustness_plot import COLOURS, plot_robustness

CLEAN = {"model": Interval(0.5, 0.45, 0.55), "retrieval": Interval(0.4, 0.3, 0.5)}
CURVES = {
    "muscle": {
        "model": [("12 dB", Interval(0.48, 0.4, 0.5)), ("0 dB", Interval(0.3, math.nan, math.nan))],
        "retrieval": [("12 dB", Interval(0.38, 0.3, 0.4)), ("0 dB", Interval(0.1, 0.05, 0.2))],
    },
    "limb-lead swap": {"model": [("", Interval(0.2, 0.1, 0.3))]},
}


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The figure that was written, and its path."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **options: (figures.append(self), save(self, *args, **options))
    )
    path = tmp_path / "noise.png"
    plot_robustness(CURVES, CLEAN, "ROUGE-L", "PTB-XL test, 32 records", path)
    return figures[0], path


def test_a_picture_is_written(drawn):
    height, width, _ = imread(drawn[1]).shape
    assert width > 900
    assert height > 400


def test_each_kind_has_a_panel_with_its_levels_and_figures(drawn):
    muscle, swap = drawn[0].axes
    assert (muscle.get_title(), swap.get_title()) == ("muscle", "limb-lead swap")
    assert [label.get_text() for label in muscle.get_xticklabels()] == ["12 dB", "0 dB"]
    lines = [list(line.get_ydata()) for line in muscle.get_lines()]
    assert [0.48, 0.3] in lines
    assert [0.38, 0.1] in lines
    assert [0.1, 0.3] in [list(line.get_ydata()) for line in swap.get_lines()]


def test_the_clean_figures_are_dashed_and_the_title_says_on_what(drawn):
    figure, _ = drawn
    dashed = {
        (line.get_color(), line.get_ydata()[0])
        for line in figure.axes[0].get_lines()
        if line.get_linestyle() == "--" and len(line.get_ydata())
    }
    assert dashed == {(COLOURS[0], 0.5), (COLOURS[1], 0.4)}
    assert figure.get_suptitle() == "PTB-XL test, 32 records"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["model", "retrieval", "on clean ECGs"]
    assert figure.axes[0].get_ylabel() == "ROUGE-L"


@pytest.mark.parametrize(
    ("curves", "clean", "message"),
    [
        ({}, CLEAN, "no kinds of noise"),
        (CURVES, {"model": CLEAN["model"]}, "muscle: no figure on clean ECGs of retrieval"),
        (CURVES, {str(number): CLEAN["model"] for number in range(8)}, "8 systems, expected at most 7"),
        ({"muscle": {"model": []}}, CLEAN, "muscle: levels"),
        (
            {"muscle": {"model": CURVES["muscle"]["model"], "retrieval": CURVES["muscle"]["retrieval"][:1]}},
            CLEAN,
            "muscle: levels .* expected the same ones of every system",
        ),
    ],
)
def test_curves_that_do_not_fit_are_refused(curves, clean, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        plot_robustness(curves, clean, "ROUGE-L", "title", tmp_path / "noise.png")
