"""What a competition is once it is read: its images, labels, classes and the submission that it wants."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from kaggle_kit import files
from kaggle_kit.config import ChannelsConfig, SubmissionConfig, TrainDataConfig
from kaggle_kit.results import Result
from kaggle_kit.tables import Classes, Labels

_SUBMISSION_OF_0_1_0 = {"sample", "id_column", "form", "columns", "indices", "separator", "threshold", "empty_label"}


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image.

    Attributes:
        id: the text that names it everywhere; unique within the training or the test images.
        file: the file, as text: a hundred thousand paths take five times the memory of their names.
        labels: one class name, or for multi-label any number; empty for test images.
        group: rows of one group stay in one fold.
        train_only: whether it is external data, never validated on.
        fold: the fold that the data itself gives it; None where it gives none.
        further: more images of the same id, as text. Each is trained on and predicted; what is said of them becomes one row.
    """

    id: str
    file: str | Path
    labels: Labels = ()
    group: str | None = None
    train_only: bool = False
    fold: int | None = None
    further: tuple[str | Path, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", str(self.file))
        object.__setattr__(self, "further", tuple(map(str, self.further)))

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.file)

    @property
    def paths(self) -> tuple[Path, ...]:
        """All images of the id."""
        return (self.path, *map(Path, self.further))


@dataclass(frozen=True, repr=False)
class Competition(Result):
    """A competition as loaded from its data.

    Attributes:
        classes: the order of columns everywhere; for a binary task the positive class is last.
        train: sorted by id.
        test: in the order of the sample submission, else of the test CSV, else sorted by id. Ids are the very cells of the
            sample submission where there is one.
        sample_path: the sample submission.
        channels: of images that are no colours; None for colours and grey.
        open_class: a class without an appearance of its own, which is not trained on; None where there is none.
        fingerprint: of what models learn from: name, task, classes, and training ids with labels.
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
    channels: ChannelsConfig | None = None
    open_class: str | None = None

    @property
    def multilabel(self) -> bool:
        return self.task == "multilabel"

    @cached_property
    def test_fingerprint(self) -> str:
        """sha256 of the test ids, in any order: of what is predicted."""
        return files.fingerprint(sorted(row.id for row in self.test))

    def is_state(self, fingerprint: str | None) -> bool:
        """Return whether ``fingerprint`` is that of these classes and labels; true where none is stated.

        The fingerprint of version 0.1.0 counts, too. It also covered test ids and the form of the submission, on which
        nothing that was learnt depends.
        """
        return fingerprint in (None, self.fingerprint) or fingerprint == self._fingerprint_of_0_1_0

    @cached_property
    def _fingerprint_of_0_1_0(self) -> str:
        submission = self.submission.model_dump(mode="json", include=_SUBMISSION_OF_0_1_0)
        return files.fingerprint(
            {
                "name": self.name,
                "task": self.task,
                "classes": list(self.classes),
                "submission": submission,
                "columns": list(submission["columns"].items()),
                "train": [[row.id, *row.labels] for row in self.train],
                "test": [row.id for row in self.test],
            }
        )

    def describe(self) -> str:
        """Return name, task and sizes on one line."""
        sizes = f"{len(self.train):,} training and {len(self.test):,} test images"
        return f"{self.name}: {self.task}, {len(self.classes)} classes, {sizes}, metric {self.metric}"

    def table(self) -> pd.DataFrame:
        """Return a row a class: its training images."""
        counts = Counter(label for row in self.train for label in row.labels)
        return pd.DataFrame({"class": list(self.classes), "training images": [counts[name] for name in self.classes]})

    def to_dict(self) -> dict[str, Any]:
        """Return what is known of the competition, without its rows."""
        known = {"name": self.name, "task": self.task, "metric": self.metric, "classes": list(self.classes)}
        return {**known, "n_train": len(self.train), "n_test": len(self.test), "fingerprint": self.fingerprint}


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
