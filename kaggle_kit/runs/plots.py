"""Figures of a result for notebooks: ``run.plot_confusion()`` and its like, the same as on the pages of ``kk report``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaggle_kit import diagnosis, figures
from kaggle_kit.runs.scored import Scored

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plots:
    """Base of results that have predictions of rows whose truth is known. Each figure is matplotlib's and shows itself."""

    def scored(self) -> Scored:
        """Return the rows: out of fold, or of a labelled folder."""
        raise NotImplementedError

    def plot_confusion(self, *, most: int = 20) -> Figure:
        """Return which of the ``most`` confused classes are taken for which; raises DataError for multi-label rows."""
        rows = self.scored()
        return figures.plot_confusion(rows.counts, rows.classes.names, most=most)

    def plot_calibration(self) -> Figure:
        """Return the reliability curve, and how many rows lie in each bin of it."""
        rows = self.scored()
        return figures.plot_calibration(diagnosis.calibrate(rows.truth, rows.probs))

    def plot_classes(self, *, most: int = 25) -> Figure:
        """Return precision, recall and F1 of the ``most`` worst classes."""
        return figures.plot_classes(self.scored().class_table, most=most)

    def plot_folds(self) -> Figure:
        """Return the score of each fold."""
        rows = self.scored()
        return figures.plot_scores({rows.metric.name: rows.fold_scores}, rows.metric.name)
