"""A tiny competition that can be learnt: three classes told by colour, 36 images of 32 pixels."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from kaggle_kit.competition import Competition, ImageRow, Setup
from kaggle_kit.config import CompetitionConfig, Config, RunConfig, SubmissionConfig, TrainDataConfig, derive
from kaggle_kit.events import EpochEnded, Event, Reporter
from kaggle_kit.runs.history import EpochRow
from kaggle_kit.tables import Classes, FoldTable
from kaggle_kit.workspace import Workspace

COLOURS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}
BASE = [
    "model=test_resnet",
    "pretrained=false",
    "image_size=32",
    "epochs=2",
    "batch_size=6",
    "workers=0",
    "lr=3e-3",
    "data.crop_pct=1.0",
]


@dataclass(frozen=True)
class Tiny:
    """A workspace with data and folds."""

    workspace: Workspace
    competition: Competition
    folds: FoldTable

    def config(self, *overrides: str) -> RunConfig:
        return derive(RunConfig(), [*BASE, *overrides])

    def whole(self, *overrides: str) -> Config:
        """A whole configuration around :meth:`config`."""
        train = TrainDataConfig(layout="folders", dirs=["."])
        section = CompetitionConfig(
            name="tiny",
            data_dir="data",
            task=self.competition.task,
            metric=self.competition.metric,
            classes=list(self.competition.classes),
            train=train,
        )
        return Config(competition=section, run=self.config(*overrides))

    def setup(self, *overrides: str) -> Setup:
        """What is trained with :meth:`config`."""
        return Setup(self.workspace, self.whole(*overrides), self.competition)


def make_tiny(root: Path, *, multilabel: bool = False, metric: str = "accuracy") -> Tiny:
    """Write the images and put the tables together."""
    rng = np.random.default_rng(0)
    classes = Classes(tuple(COLOURS))
    (root / "data").mkdir()
    rows = []
    for number in range(36):
        names = classes.decode([number % 3])
        if multilabel and number % 2:
            names = [*names, *classes.decode([(number + 1) % 3])]
        colour = np.mean([COLOURS[name] for name in names], axis=0)
        pixels = np.clip(rng.normal(colour, 40, (36, 40, 3)), 0, 255).astype(np.uint8)
        path = root / "data" / f"{number:03}.png"
        cv2.imwrite(str(path), pixels[:, :, ::-1])
        rows.append(ImageRow(path.name, path, tuple(names), None, False, None))
    competition = Competition(
        name="tiny",
        task="multilabel" if multilabel else "multiclass",
        metric=metric,
        classes=classes,
        train=tuple(rows),
        test=(),
        submission=SubmissionConfig(),
        sample_path=None,
        fingerprint="tiny",
    )
    assignments = (np.arange(36) // 3 % 3)[None]
    labels = tuple(row.labels for row in rows)
    folds = FoldTable(tuple(row.id for row in rows), labels, np.arange(36), assignments, 3, classes, multilabel, {})
    return Tiny(Workspace(root), competition, folds)


def at_epochs(function: Callable[[int, EpochRow], None]) -> Reporter:
    """Return a reporter that calls ``function(fold, row)`` after each validation; what it raises ends the fold."""

    def look(event: Event) -> None:
        if isinstance(event, EpochEnded):
            function(event.fold, event.row)

    return look
