"""Figures for notebooks and pages: functions of plain arrays and tables that return a matplotlib figure.

matplotlib is imported when a figure is drawn. Pages take them by :func:`kaggle_kit.report.svg_of`.
"""

from kaggle_kit.figures.calibration import plot_calibration
from kaggle_kit.figures.classes import plot_classes
from kaggle_kit.figures.confusion import plot_confusion, plot_confusion_whole
from kaggle_kit.figures.curves import plot_curves, plot_lr_test, plot_schedule
from kaggle_kit.figures.features import plot_filters, plot_map
from kaggle_kit.figures.scores import plot_progress, plot_public, plot_scores, plot_weights
from kaggle_kit.figures.speed import plot_latency

__all__ = [
    "plot_calibration",
    "plot_classes",
    "plot_confusion",
    "plot_confusion_whole",
    "plot_curves",
    "plot_filters",
    "plot_latency",
    "plot_lr_test",
    "plot_map",
    "plot_progress",
    "plot_public",
    "plot_schedule",
    "plot_scores",
    "plot_weights",
]
