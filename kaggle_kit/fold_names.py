"""What the models of a run are called: fold 0, 1 …, and ``full``, the one that is trained on all labelled images."""

from __future__ import annotations

import re
from pathlib import Path

FULL = -1
"""Number of the model that is trained on all rows and validated on none."""


def fold_name(fold: int) -> str:
    """Return what ``--fold`` takes: ``3``, or ``full``."""
    return "full" if fold == FULL else str(fold)


def fold_number(name: str) -> int:
    """Undo :func:`fold_name`; raises ValueError for another text."""
    return FULL if name == "full" else int(name)


def fold_text(fold: int) -> str:
    """Return ``fold 3``, or ``all data``."""
    return "all data" if fold == FULL else f"fold {fold}"


def fold_folder(fold: int) -> str:
    """Return the name of its folder in a run's: ``fold3``, or ``full``."""
    return "full" if fold == FULL else f"fold{fold}"


def fold_of_folder(folder: Path) -> int | None:
    """Undo :func:`fold_folder`; None for another folder."""
    found = re.fullmatch(r"fold(\d+)|full", folder.name)
    return None if found is None else FULL if found[1] is None else int(found[1])


def fold_folders(run: Path) -> dict[int, Path]:
    """Return fold -> its folder of a run, those that are there, in order; that of all data comes first."""
    found = {fold: path for path in run.glob("*") if path.is_dir() and (fold := fold_of_folder(path)) is not None}
    return dict(sorted(found.items()))
