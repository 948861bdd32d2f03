"""Reading the sample submission: which file it is, its id column and its target columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from kaggle_kit.competition.labels import read_csv
from kaggle_kit.competition.matching import ImageIndex
from kaggle_kit.competition.questions import Asker
from kaggle_kit.competition.scan import Tree
from kaggle_kit.errors import DataError
from kaggle_kit.tables import shown

PROBE = 300
"""Cells of a column that are looked up to see whether it names images."""


@dataclass(frozen=True)
class Sample:
    """A sample submission.

    Attributes:
        file: relative to the data folder.
        id_column: its column of ids.
        targets: the other columns, in its order.
    """

    file: str
    frame: pd.DataFrame
    id_column: str
    targets: tuple[str, ...]

    @property
    def ids(self) -> list[str]:
        return list(self.frame[self.id_column])

    @cached_property
    def values(self) -> tuple[str, ...]:
        """The different cells of a single target column that are not empty."""
        cells = dict.fromkeys(self.frame[self.targets[0]]) if len(self.targets) == 1 else {}
        return tuple(cell for cell in cells if cell.strip())

    @property
    def named(self) -> tuple[str, ...]:
        """What may be class names: several target columns, or the cells of one."""
        return self.targets if len(self.targets) > 1 else self.values


def find_sample(asker: Asker, data_dir: Path, tree: Tree, index: ImageIndex) -> Sample | None:
    """The sample submission of a competition; None when there is none.

    Raises:
        DataError: it cannot be read, or has no target column.
    """
    named = [table for table in tree.tables if _is_sample(table)]
    options = {table: f"use {table}" for table in (*named, *(table for table in tree.tables if table not in named))}
    options["none"] = "go on without one"
    text = "which file is the sample submission?"
    if len(named) > 1:
        file = asker.ask("sample", text, options)
    else:
        default = named[0] if named else "none"
        said = (
            f"the sample submission is {default}."
            if named
            else "there is no sample submission; ids and class names are written."
        )
        file = asker.ask("sample", text, options, default=default, settled=said)
    if file == "none":
        return None
    frame = read_csv(data_dir / file)
    id_column = _id_column(frame, index)
    targets = tuple(column for column in frame.columns if column != id_column)
    if not targets:
        raise DataError(
            f"{data_dir / file} has no column but {id_column!r}; a sample submission has one for the prediction. If it only "
            "lists the test images, run `kk init` with --choose sample=none."
        )
    return Sample(file, frame, id_column, targets)


def naming_share(cells: Sequence[str], index: ImageIndex) -> float:
    """The share of ``cells`` that name an image, of at most :data:`PROBE` different ones spread over all."""
    unique = list(dict.fromkeys(cells))
    step = max(1, len(unique) // PROBE)
    probe = unique[::step]
    return sum(bool(index.find(cell)) for cell in probe) / len(probe) if probe else 0.0


def _is_sample(table: str) -> bool:
    stem = table.rpartition("/")[2].lower()[:-4]
    return "sample" in stem or "submission" in stem or stem == "submit"


def _id_column(frame: pd.DataFrame, index: ImageIndex) -> str:
    """The first column, unless another one names images and the first does not."""
    shares = {str(column): naming_share(list(frame[column]), index) for column in frame.columns}
    first = next(iter(shares))
    if shares[first] >= 0.5:
        return first
    return next((column for column, share in shares.items() if share >= 0.5), first)


def describe(sample: Sample) -> str:
    """The columns of a sample submission, for findings."""
    return f"{sample.file} has the id column {sample.id_column!r} and {len(sample.targets)} more ({shown(sample.targets)})"
