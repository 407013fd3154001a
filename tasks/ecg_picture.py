"""The plot of a record's ECG for pages and rating sheets."""

import io

import matplotlib.pyplot as plt

from processing import row_recording
from reporting.ecg_paper import plot_ecg, save_png

from .showing import Row

# Small enough for a page that holds many; what a reader measures, they measure in their own viewer.
_DOTS_PER_INCH = 80


def ecg_png(row: Row) -> bytes:
    """The row's ECG on ECG paper, as the bytes of a PNG file; it names no record."""
    recording, picture = row_recording(row), io.BytesIO()
    figure = plot_ecg(recording.signal, recording.sampling_rate)
    save_png(figure, picture, _DOTS_PER_INCH)
    plt.close(figure)
    return picture.getvalue()
