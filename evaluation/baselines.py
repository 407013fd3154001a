"""Systems that need no training, to hold a model against."""

from collections import Counter
from collections.abc import Sequence

import numpy as np


def most_frequent_report(reports: Sequence[str]) -> str:
    """The report that occurs most often; of several, the first in sorted order.

    Raises:
        ValueError: no reports.
    """
    if not reports:
        raise ValueError("no reports to choose the most frequent one of")
    counts = Counter(reports)
    most = max(counts.values())
    return min(report for report, count in counts.items() if count == most)


class NearestNeighbourReports:
    """Drafts a report by copying that of the recording whose features are nearest.

    Distance: Euclidean between features that are each brought to mean 0 and standard deviation 1 over the recordings
    given here, times their weights. A feature that is the same in all of them is left out. Of recordings equally near,
    the first counts.

    Args:
        features: shape (recordings, d), such as `ecg_features` gives.
        reports: one per recording.
        feature_names: d names, for messages; by default their numbers.
        weights: shape (d,), not negative; by default 1 each.

    Raises:
        ValueError: other shapes, no recordings, or a feature that is NaN or infinite (the message names it).
    """

    def __init__(
        self,
        features: np.ndarray,
        reports: Sequence[str],
        feature_names: Sequence[str] | None = None,
        weights: np.ndarray | None = None,
    ):
        features = np.asarray(features, dtype=np.float64)
        if features.ndim != 2 or len(features) != len(reports) or features.size == 0:
            raise ValueError(
                f"features of shape {features.shape} and {len(reports)} reports; expected (recordings, features) and "
                "one report per recording, at least one"
            )
        columns = features.shape[1]
        self.feature_names = tuple(feature_names if feature_names is not None else map(str, range(columns)))
        weights = np.ones(columns) if weights is None else np.asarray(weights, dtype=np.float64)
        if len(self.feature_names) != columns or weights.shape != (columns,) or not (weights >= 0).all():
            raise ValueError(
                f"{len(self.feature_names)} names and weights of shape {weights.shape} for {columns} features; "
                "expected one name and one weight, not negative, per feature"
            )
        for row, values in enumerate(features):
            self._check(values, f"recording {row}")
        self.reports = list(reports)
        self._mean = features.mean(axis=0)
        deviation = features.std(axis=0)
        # Rounding leaves a constant column with a deviation that is not quite 0.
        varies = deviation > 1e-12 * np.maximum(1.0, np.abs(self._mean))
        self._scale = np.where(varies, weights / np.where(varies, deviation, 1.0), 0.0)
        self._known = (features - self._mean) * self._scale

    def nearest(self, features: np.ndarray) -> int:
        """Number of the recording that is nearest to features of shape (d,).

        Raises:
            ValueError: another shape, or a feature that is NaN or infinite (the message names it).
        """
        features = np.asarray(features, dtype=np.float64)
        if features.shape != self._mean.shape:
            raise ValueError(f"features of shape {features.shape}, expected {self._mean.shape}")
        self._check(features, "query")
        return int(((self._known - (features - self._mean) * self._scale) ** 2).sum(axis=1).argmin())

    def report(self, features: np.ndarray) -> str:
        """The report of the nearest recording; arguments and errors are those of `nearest`."""
        return self.reports[self.nearest(features)]

    def _check(self, features: np.ndarray, whose: str) -> None:
        bad = np.flatnonzero(~np.isfinite(features))
        if bad.size:
            names = ", ".join(self.feature_names[index] for index in bad[:5])
            raise ValueError(f"{whose}: {bad.size} features are not finite, among them {names}; expected numbers")
