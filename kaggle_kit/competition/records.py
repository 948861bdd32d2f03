"""What a competition is once it is read: its images, labels, classes and the submission that it wants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaggle_kit.config import SubmissionConfig, TrainDataConfig
from kaggle_kit.tables import Classes, Labels


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image.

    Attributes:
        id: the text that names it everywhere; unique within the training or the test images.
        path: the file.
        labels: one class name, or for multi-label any number; empty for test images.
        group: rows of one group stay in one fold.
        train_only: whether it is external data, never validated on.
        fold: the fold that the data itself gives it; None where it gives none.
    """

    id: str
    path: Path
    labels: Labels = ()
    group: str | None = None
    train_only: bool = False
    fold: int | None = None


@dataclass(frozen=True)
class Competition:
    """A competition as loaded from its data.

    Attributes:
        classes: the order of columns everywhere; for a binary task the positive class is last.
        train: sorted by id.
        test: in the order of the sample submission, else of the test CSV, else sorted by id. Ids are the very cells of the
            sample submission where there is one.
        sample_path: the sample submission.
        fingerprint: of name, task, classes, form of the submission, training ids with labels, and test ids.
    """

    name: str
    task: str
    metric: str
    classes: Classes
    train: tuple[ImageRow, ...]
    test: tuple[ImageRow, ...]
    submission: SubmissionConfig
    sample_path: Path | None
    fingerprint: str

    @property
    def multilabel(self) -> bool:
        return self.task == "multilabel"


@dataclass(frozen=True)
class TrainReading:
    """What was found out about the training data.

    Attributes:
        config: the ``train`` section.
        names: classes, in order of first appearance.
        images: the training images that were found, relative to the data folder.
        multilabel: whether rows have several labels or none.
        in_table: whether ``names`` come from a table, so that their order was somebody's.
        count: rows.
    """

    config: TrainDataConfig
    names: tuple[str, ...]
    images: frozenset[str]
    multilabel: bool = False
    in_table: bool = False
    count: int = 0
