"""Blending runs: reading and aligning them, the blenders, and cross-fitted scores. No model is ever needed."""

from kaggle_kit.blending.alignment import Aligned, align_runs
from kaggle_kit.blending.base import Blender, Fitted, Stack
from kaggle_kit.blending.blenders import fitted_from_dict, get_blender
from kaggle_kit.blending.crossfit import CrossFit, cross_fit, cross_fit_thresholds, parts_of, tune_thresholds

__all__ = [
    "Aligned",
    "Blender",
    "CrossFit",
    "Fitted",
    "Stack",
    "align_runs",
    "cross_fit",
    "cross_fit_thresholds",
    "fitted_from_dict",
    "get_blender",
    "parts_of",
    "tune_thresholds",
]
