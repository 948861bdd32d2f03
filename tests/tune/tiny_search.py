"""A workspace whose trials are trained by :class:`fake_training.FakeTraining`, or by a tiny model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaggle_kit.competition import Competition, Setup, load_competition
from kaggle_kit.config import Config, load_config
from kaggle_kit.folds import folds_for
from kaggle_kit.tables import FoldTable
from kaggle_kit.tune import TuneOptions, TuneResult, tune
from kaggle_kit.tune.reporter import TrialEnded, TrialEpoch, TuneEvent
from kaggle_kit.workspace import Workspace

RUN = ["model=test_resnet", "pretrained=false", "image_size=32", "epochs=4", "lr=0.3", "workers=0"]
SPACE = """
lr: {log: [1e-4, 1.0]}
model.drop_rate: {float: [0, 0.5]}
"""


class Silent:
    """Keeps what a search tells."""

    def __init__(self) -> None:
        self.ended: list[Any] = []
        self.epochs: list[tuple[int, int, int]] = []

    def __call__(self, event: TuneEvent) -> None:
        if isinstance(event, TrialEpoch):
            self.epochs.append((event.number, event.ended.fold, event.ended.row.epoch))
        elif isinstance(event, TrialEnded):
            self.ended.append(event.row)


@dataclass
class Search:
    """A workspace and its parts."""

    workspace: Workspace
    config: Config
    competition: Competition
    folds: FoldTable

    def tune(self, reporter: Any = None, config: Config | None = None, **options: Any) -> TuneResult:
        """Call :func:`tune` with a small space of its own."""
        if "space" not in options and not options.get("models"):
            options["space"] = self.write_space(SPACE)
        options.setdefault("pruner", "none")
        made = TuneOptions(**options)
        return tune(
            Setup(self.workspace, config or self.config, self.competition),
            made,
            folds=self.folds,
            reporter=reporter or Silent(),
        )

    def write_space(self, text: str) -> Path:
        path = self.workspace.root / "space.yaml"
        path.write_text(text)
        return path

    def with_run(self, *overrides: str) -> Config:
        return load_config(self.workspace.config_path, overrides)


def make_search(root: Path) -> Search:
    """Three classes, three folds; images of 8 pixels."""
    from factories import make_workspace

    make_workspace(root / "workspace", n_runs=0, n_train=36, n_test=6)
    return open_search(root)


def open_search(root: Path) -> Search:
    """The workspace that :func:`make_search` made."""
    workspace = Workspace(root / "workspace")
    config = load_config(workspace.config_path, RUN)
    competition = load_competition(workspace, config.competition)
    return Search(workspace, config, competition, folds_for(workspace, competition, "folds"))
