"""``kk export``: the models of a run or a blend as files that other programs load, verified against ``kk predict``."""

from kaggle_kit.export.distil import export_distilled
from kaggle_kit.export.run import ExportOptions, ExportResult, export_models

__all__ = ["ExportOptions", "ExportResult", "export_distilled", "export_models"]
