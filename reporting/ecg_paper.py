"""A 12-lead ECG drawn on standard paper: 25 mm/s, 10 mm/mV, true to scale when printed at 100 %."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from processing.leads import LEADS, canonical_lead

MM_PER_SECOND = 25.0
MM_PER_MV = 10.0
SECONDS = 10.0
ROWS = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"), ("II",))

ROW_MM = 30.0  # from one row's baseline to the next: 3 mV
EDGE_MM = 15.0  # grid above the first and below the last baseline; grows with taller traces,
TALLEST_MM = 60.0  # but no further than this; what lies beyond is cut off, and the scale line says so
PULSE_MM = 15.0  # from the grid's left edge to the first sample, with the calibration pulse in it
GRID_WIDTH_MM = PULSE_MM + SECONDS * MM_PER_SECOND + 5.0
MARGIN_MM = 5.0  # white border: 280 mm in all, which fits A4 across
TEXT_MM = 7.0  # height of the strip for the title and of the one for the scale

MINOR_COLOUR, MAJOR_COLOUR, BAR_COLOUR, INK = "#f7d4d4", "#e9a5a5", "#808080", "#111111"
POINTS_PER_MM = 72 / 25.4


@dataclass(frozen=True)
class _Strip:
    """One lead's stretch of a row, in millimetres from the row's first sample and baseline."""

    lead: str
    row: int
    x: np.ndarray
    y: np.ndarray


def plot_ecg(
    signal_mv: np.ndarray,
    sampling_rate: float,
    lead_names: Sequence[str] = LEADS,
    title: str | None = None,
) -> Figure:
    """Draw 3 rows of 4 leads and lead II as a rhythm strip, as an ECG machine prints them.

    The four columns follow each other in time, a quarter of the recording each (2.5 s of 10 s). As on
    paper, a trace's height on its row carries no meaning: each lead is moved so that its median lies on the
    row's baseline. Tall traces may run over neighbouring rows. NaN and infinite samples leave a gap. Of a
    recording longer than 10 s the first 10 s are drawn, and the scale line says so.

    Args:
        signal_mv: (12, samples) in mV.
        sampling_rate: Hz.
        lead_names: the names of the rows of `signal_mv`, in any spelling.
        title: printed above the grid.
    Returns:
        A figure whose size in millimetres is its size on paper.
    Raises:
        ValueError: another shape, no samples, a sampling rate that is not a positive number, or names that
            are not the 12 standard leads, each once.
    """
    signal = np.asarray(signal_mv, dtype=np.float64)
    if signal.ndim != 2 or signal.shape[0] != len(LEADS) or signal.shape[1] == 0:
        raise ValueError(f"signal has shape {signal.shape}, expected (12, samples) in mV")
    if not (np.isfinite(sampling_rate) and sampling_rate > 0):
        raise ValueError(f"sampling rate is {sampling_rate}, expected a positive number of Hz")
    names = [canonical_lead(name) for name in lead_names]
    if sorted(names) != sorted(LEADS):
        raise ValueError(f"leads are {names}, expected each of {list(LEADS)} once")

    shown = _centred(signal[:, : max(1, round(SECONDS * sampling_rate))])
    strips = _strips(dict(zip(names, shown, strict=True)), sampling_rate)
    above, below = _edges(strips)
    grid_height = above + (len(ROWS) - 1) * ROW_MM + below
    baselines = [below + (len(ROWS) - 1 - row) * ROW_MM for row in range(len(ROWS))]

    width = GRID_WIDTH_MM + 2 * MARGIN_MM
    height = grid_height + 2 * MARGIN_MM + TEXT_MM + (TEXT_MM if title else 0.0)
    figure = Figure(figsize=(width / 25.4, height / 25.4), facecolor="white")
    FigureCanvasAgg(figure)
    # One axes in millimetres over the whole grid, so that positions and lengths are those on paper.
    axes = figure.add_axes(
        (MARGIN_MM / width, (MARGIN_MM + TEXT_MM) / height, GRID_WIDTH_MM / width, grid_height / height),
        xlim=(0, GRID_WIDTH_MM),
        ylim=(0, grid_height),
    )
    axes.set_axis_off()
    _draw_grid(axes, GRID_WIDTH_MM, grid_height)
    for baseline in baselines:
        _draw_pulse(axes, baseline)
    for strip in strips:
        _draw_strip(axes, strip, baselines[strip.row])

    if title:
        top = 1 - (MARGIN_MM + TEXT_MM / 2) / height
        figure.text(MARGIN_MM / width, top, title, va="center", fontsize=10, color=INK, parse_math=False)
    scale = " · ".join(["25 mm/s   10 mm/mV", *_remarks(signal, sampling_rate, strips, baselines, grid_height)])
    figure.text(MARGIN_MM / width, (MARGIN_MM + TEXT_MM / 2) / height, scale, va="center", fontsize=8, color=INK)
    return figure


def save_png(figure: Figure, path: str | Path | BinaryIO, dots_per_inch: float = 200) -> None:
    """Write a figure of `plot_ecg` as PNG; its resolution is stored, so it prints at its true size."""
    figure.savefig(path, format="png", dpi=dots_per_inch)


def save_svg(figure: Figure, path: str | Path | BinaryIO) -> None:
    """Write a figure of `plot_ecg` as SVG in its true size."""
    figure.savefig(path, format="svg", metadata={"Date": None})


def _centred(signal: np.ndarray) -> np.ndarray:
    """(leads, samples) mV with each lead's median at 0; what is not finite becomes NaN."""
    centred = np.where(np.isfinite(signal), signal, np.nan)
    for lead in centred:
        if not np.isnan(lead).all():
            lead -= np.nanmedian(lead)
    return centred


def _strips(leads: dict[str, np.ndarray], sampling_rate: float) -> list[_Strip]:
    strips = []
    for row, names in enumerate(ROWS):
        samples = len(leads[names[0]])
        bounds = np.linspace(0, samples, len(names) + 1).round().astype(int)
        for lead, start, stop in zip(names, bounds[:-1], bounds[1:], strict=True):
            seconds = np.arange(start, stop) / sampling_rate
            strips.append(_Strip(lead, row, seconds * MM_PER_SECOND, leads[lead][start:stop] * MM_PER_MV))
    return strips


def _edges(strips: list[_Strip]) -> tuple[float, float]:
    """Height of grid above the first baseline and below the last, in whole 5 mm squares."""
    last = len(ROWS) - 1
    above = max(np.nanmax(strip.y, initial=0.0) - strip.row * ROW_MM for strip in strips)
    below = max(np.nanmax(-strip.y, initial=0.0) - (last - strip.row) * ROW_MM for strip in strips)
    above, below = (min(max(room + 2.0, EDGE_MM), TALLEST_MM) for room in (above, below))
    return 5.0 * np.ceil(above / 5.0), 5.0 * np.ceil(below / 5.0)


def _remarks(
    signal: np.ndarray, sampling_rate: float, strips: list[_Strip], baselines: list[float], grid_height: float
) -> list[str]:
    """What the drawing leaves out, in words."""
    remarks = []
    recorded = signal.shape[1] / sampling_rate
    if round(SECONDS * sampling_rate) < signal.shape[1]:
        remarks.append(f"first {SECONDS:g} s of {recorded:.4g} s")
    cut = [
        strip.lead
        for strip in strips
        if np.nanmax(strip.y, initial=0.0) > grid_height - baselines[strip.row]
        or np.nanmin(strip.y, initial=0.0) < -baselines[strip.row]
    ]
    if cut:
        remarks.append(f"runs off the paper: {', '.join(dict.fromkeys(cut))}")
    return remarks


def _draw_grid(axes: Axes, width: float, height: float) -> None:
    for step, colour, line_mm in ((1.0, MINOR_COLOUR, 0.1), (5.0, MAJOR_COLOUR, 0.2)):
        lines = [((x, 0), (x, height)) for x in np.arange(0, width + step / 2, step)]
        lines += [((0, y), (width, y)) for y in np.arange(0, height + step / 2, step)]
        axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=line_mm * POINTS_PER_MM, clip_on=False, zorder=1)
        )


def _draw_pulse(axes: Axes, baseline: float) -> None:
    """1 mV for 200 ms, on the row's baseline."""
    x = np.array([2.0, 5.0, 5.0, 10.0, 10.0, 13.0])
    y = baseline + MM_PER_MV * np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    axes.plot(x, y, color=INK, linewidth=0.25 * POINTS_PER_MM, solid_joinstyle="miter", gid="calibration", zorder=3)


def _draw_strip(axes: Axes, strip: _Strip, baseline: float) -> None:
    x = PULSE_MM + strip.x
    axes.plot(
        x,
        baseline + strip.y,
        color=INK,
        linewidth=0.25 * POINTS_PER_MM,
        solid_joinstyle="round",
        gid=f"trace-{strip.lead}",
        zorder=3,
    )
    if not len(x):
        return
    if strip.x[0] > 0:  # where one lead ends and the next begins; grey, so that it passes for no wave
        axes.plot([x[0]] * 2, [baseline - 3, baseline + 3], color=BAR_COLOUR, linewidth=0.5, zorder=2)
    label = strip.lead if not np.isnan(strip.y).all() else f"{strip.lead} (no signal)"
    axes.text(
        x[0] + 1.0,
        baseline + 8.0,
        label,
        fontsize=9,
        fontweight="bold",
        color=INK,
        path_effects=[withStroke(linewidth=2.0, foreground="white")],
        zorder=2,  # under the trace: a name must never hide a wave
    )
