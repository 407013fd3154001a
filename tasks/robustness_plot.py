"""The picture of the task `noise`: how far each system's drafts get worse as the ECG does."""

import math
import os
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.bootstrap import Interval

# Okabe and Ito (2008): told apart by colour-blind readers too; a marker each helps in black and white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLUMNS = 4

Curve = Sequence[tuple[str, Interval]]


def plot_robustness(
    curves: Mapping[str, Mapping[str, Curve]],
    clean: Mapping[str, Interval],
    metric: str,
    title: str,
    path: str | os.PathLike,
) -> None:
    """Draw one small picture per kind of noise as a PNG.

    A system's line joins its figures from level to level in the order given; its band is the interval; the dashed line
    is its figure on clean ECGs. A kind of one level has error bars. An interval of NaN bounds leaves the band out.

    Args:
        curves: by kind of noise, by system: the levels, with their unit ("6 dB"), and the figure at each. All systems
            of a kind have the same levels.
        clean: by system, the figure on clean ECGs.
        metric: what is drawn, for the axis.
        title: the data and the number of records.
        path: the PNG to write.
    Raises:
        ValueError: nothing to draw, more systems than colours, a system without a clean figure, or levels that differ
            between the systems of a kind.
    """
    _check(curves, clean)
    columns = min(COLUMNS, len(curves))
    rows = math.ceil(len(curves) / columns)
    # A figure of its own rather than pyplot's: no window system is asked for and no global state is left.
    figure = Figure(figsize=(max(7.5, 3.1 * columns), 2.6 * rows + 1.2), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, (kind, systems) in zip(grid, curves.items(), strict=False):
        axes.set_title(kind, fontsize=10)
        levels = [level for level, _ in next(iter(systems.values()))]
        axes.set_xticks(range(len(levels)), levels)
        axes.set_xlim(-0.4, max(1, len(levels)) - 0.6)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        for number, system in enumerate(clean):
            if system in systems:
                _draw(axes, systems[system], clean[system], number, len(clean))
    for axes in grid[len(curves) :]:
        axes.set_visible(False)
    for axes in grid[::columns]:
        axes.set_ylabel(metric)
    figure.suptitle(title, fontsize=12)
    handles = [
        grid[0].plot([], [], color=COLOURS[number], marker=MARKERS[number], label=system)[0]
        for number, system in enumerate(clean)
    ]
    handles.append(grid[0].plot([], [], color="grey", linestyle="--", label="on clean ECGs")[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), frameon=False)
    figure.savefig(path, format="png", dpi=130)


def _check(curves: Mapping[str, Mapping[str, Curve]], clean: Mapping[str, Interval]) -> None:
    if not curves:
        raise ValueError("no kinds of noise to draw")
    if len(clean) > len(COLOURS):
        raise ValueError(f"{len(clean)} systems, expected at most {len(COLOURS)}: one colour each")
    for kind, systems in curves.items():
        if unknown := sorted(set(systems) - set(clean)):
            raise ValueError(f"{kind}: no figure on clean ECGs of {', '.join(unknown)}")
        levels = {tuple(level for level, _ in curve) for curve in systems.values()}
        if len(levels) != 1 or levels == {()}:
            raise ValueError(f"{kind}: levels {sorted(levels)}, expected the same ones of every system, at least one")


def _draw(axes: Axes, curve: Curve, clean: Interval, number: int, systems: int) -> None:
    colour, marker = COLOURS[number], MARKERS[number]
    middle, low, high = ([getattr(figure, bound) for _, figure in curve] for bound in ("estimate", "low", "high"))
    axes.axhline(clean.estimate, color=colour, linestyle="--", linewidth=1)
    if len(curve) == 1:
        # Side by side, for bars at one place would hide each other.
        x = 0.12 * (number - (systems - 1) / 2)
        axes.plot([x, x], [low[0], high[0]], color=colour, linewidth=1.5)
        axes.plot(x, middle[0], marker, color=colour)
        return
    axes.fill_between(range(len(curve)), low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(range(len(curve)), middle, marker=marker, color=colour, markersize=4)
