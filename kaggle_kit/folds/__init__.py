"""Folds: which rows are validated on when. Groups and duplicates are never parted; the same seed gives the same file."""

from kaggle_kit.folds.chosen import chosen_folds, parse_folds
from kaggle_kit.folds.duplicates import Duplicates, Key
from kaggle_kit.folds.keep import held_still, table_like, write_folds
from kaggle_kit.folds.make import check_settings, create_folds, folds_for, make_folds
from kaggle_kit.folds.pairs import pairs_of, rests_on_pairs
from kaggle_kit.folds.summary import FoldsSummary, balance_table, summary

__all__ = [
    "Duplicates",
    "FoldsSummary",
    "Key",
    "balance_table",
    "check_settings",
    "chosen_folds",
    "create_folds",
    "folds_for",
    "held_still",
    "make_folds",
    "pairs_of",
    "parse_folds",
    "rests_on_pairs",
    "summary",
    "table_like",
    "write_folds",
]
