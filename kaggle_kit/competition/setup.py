"""Workspace, configuration and competition, which travel together through everything that a command does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kaggle_kit.competition.containers import data_folder
from kaggle_kit.competition.load import load_competition
from kaggle_kit.competition.records import Competition
from kaggle_kit.config import Config, RunConfig, load_config
from kaggle_kit.metrics import Metric, get_metric
from kaggle_kit.workspace import Workspace


@dataclass(frozen=True)
class Setup:
    """A workspace with its configuration and its competition, as they were when a command began."""

    workspace: Workspace
    config: Config
    competition: Competition

    @property
    def metric(self) -> Metric:
        """How Kaggle scores; an own metric is run from the workspace."""
        return get_metric(self.competition.metric, self.workspace.root)

    @property
    def data_dir(self) -> Path:
        """Where the data lie as files, what is in containers unpacked."""
        return data_folder(self.workspace.root.resolve(), self.config.competition)

    def with_run(self, run: RunConfig) -> Setup:
        """Return the same with another configuration of the run."""
        return replace(self, config=self.config.model_copy(update={"run": run}))

    def without_test(self) -> Setup:
        """Return the same without test images, where only out-of-fold rows are wanted."""
        return replace(self, competition=replace(self.competition, test=()))


def open_setup(workspace: Workspace, overrides: Sequence[str] = (), run_file: Path | None = None) -> Setup:
    """Return what a workspace holds now: ``kk.yaml`` is read, and the data that it describes.

    Args:
        overrides: entries of the run's configuration as ``key=value``.
        run_file: a file with a run's configuration instead of that of ``kk.yaml``.

    Raises:
        MissingFileError, ConfigError, DataError: the configuration or the data cannot be used; says why.
    """
    config = load_config(workspace.config_path, overrides, run_file=run_file)
    return Setup(workspace, config, load_competition(workspace, config.competition))
