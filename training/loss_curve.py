"""The loss of a run, as numbers and as a picture."""

import csv
import os
from pathlib import Path

from matplotlib.figure import Figure

COLUMNS = ("step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "mean_token_accuracy")


def write_loss_curve(log_history: list[dict], folder: str | os.PathLike) -> tuple[Path, Path]:
    """Write `loss_curve.csv` and `loss_curve.png` into `folder`.

    Args:
        log_history: `trainer.state.log_history`: one dict per logging or evaluation step. Losses are in nats per
            report token.

    Returns:
        The paths of the table and of the picture.
    """
    folder = Path(folder)
    rows = [entry for entry in log_history if "loss" in entry or "eval_loss" in entry]
    table = folder / "loss_curve.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)

    # A figure of its own rather than pyplot's: no window system is asked for and no global state is left.
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, label, style in (("loss", "training", "-"), ("eval_loss", "evaluation", "o-")):
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, linewidth=1.2, markersize=4)
    axes.set_xlabel("update")
    axes.set_ylabel("loss (nats per report token)")
    axes.grid(alpha=0.3)
    if axes.has_data():
        axes.legend()
    picture = folder / "loss_curve.png"
    figure.savefig(picture, dpi=120)
    return table, picture
