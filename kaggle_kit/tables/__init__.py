"""The three tables that cross file boundaries: :class:`Classes`, :class:`Predictions` and :class:`FoldTable`.

Classes travel with numbers, rows travel with ids: every file carries the ordered class names and their fingerprint, joins are
by id, and a reader that finds other classes than it expected says which differ.
"""

from kaggle_kit.tables.classes import Classes, Labels, require_unique, shown
from kaggle_kit.tables.fold_table import FoldTable, read_folds
from kaggle_kit.tables.predictions import PIXEL_COLUMNS, Predictions, read_prediction_meta, read_predictions

__all__ = [
    "PIXEL_COLUMNS",
    "Classes",
    "FoldTable",
    "Labels",
    "Predictions",
    "read_folds",
    "read_prediction_meta",
    "read_predictions",
    "require_unique",
    "shown",
]
