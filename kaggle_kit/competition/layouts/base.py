"""What a layout is, and what of the data it is found by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.competition.matching import ImageIndex
from kaggle_kit.competition.questions import Asker
from kaggle_kit.competition.records import ImageRow, TrainReading
from kaggle_kit.competition.sample import Sample
from kaggle_kit.competition.scan import Tree
from kaggle_kit.config import CompetitionConfig

if TYPE_CHECKING:
    from kaggle_kit.competition.layouts.columns import CsvTable


@dataclass(frozen=True)
class Material:
    """What lies in a competition's folder.

    Attributes:
        data_dir: the folder, after unpacking.
        index: finds images from the names in tables.
        tables: those that name images.
    """

    asker: Asker
    data_dir: Path
    tree: Tree
    index: ImageIndex
    sample: Sample | None
    tables: Sequence[CsvTable] = field(default=())


@dataclass(frozen=True)
class Layout:
    """A source of labels.

    Attributes:
        offers: says what its labels would be, or None where the data has nothing of the kind.
        infer: concludes the ``train`` section.
        read: returns all labelled images: (data folder, configuration, folders to skip).
    """

    offers: Callable[[Material], str | None]
    infer: Callable[[Material], TrainReading]
    read: Callable[[Path, CompetitionConfig, Sequence[str]], list[ImageRow]]


def note_held_out(asker: Asker, held_out: str, others: str) -> None:
    """Say what becomes of validation data that the organisers have set apart."""
    asker.find(
        f"{held_out}: they get fold 0, and `kk folds` (scheme column) makes that one fold; {others} are only trained on. To "
        "cross-validate over all of them, set scheme: auto in kk.yaml."
    )
