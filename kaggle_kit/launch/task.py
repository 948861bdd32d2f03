"""What a worker is told to do: one fold of one run, by paths and plain values."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kaggle_kit.config import Config
from kaggle_kit.images.store import ImageStore
from kaggle_kit.training import FoldJob
from kaggle_kit.workspace import Workspace

LOGS = "logs"


@dataclass(frozen=True)
class FoldTask:
    """One fold for a worker. Images, fold table and artifacts stay where they are and are named by path.

    Attributes:
        root, other_runs: of the workspace, absolute.
        folder: where the worker starts, for relative paths and own metrics.
        config: plain values of the whole configuration.
        inputs: fingerprint of all that the fold depends on, to be found by the worker again.
        left_out: ids of images that cannot be read.
        store: the image store to read from, absolute; None: the files.
        loaders: loader processes, when the configuration leaves it open; None: as many as suit the worker's machine.
    """

    root: str
    other_runs: str | None
    folder: str
    config: dict[str, Any]
    run: str
    fold: int
    inputs: str
    left_out: tuple[str, ...] = ()
    store: str | None = None
    loaders: int | None = None

    @property
    def workspace(self) -> Workspace:
        return Workspace(Path(self.root), None if self.other_runs is None else Path(self.other_runs))

    @property
    def log(self) -> Path:
        """Where all goes that the worker prints."""
        return self.workspace.run_dir(self.run) / LOGS / f"fold{self.fold}.log"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for another process."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FoldTask:
        """The opposite of :meth:`to_dict`."""
        return cls(**values)


def task_of(job: FoldJob, config: Config, *, loaders: int | None = None) -> FoldTask:
    """The task of training ``job``, which was made from ``config``."""
    other = job.workspace.other_runs
    return FoldTask(
        root=str(job.workspace.root.absolute()),
        other_runs=None if other is None else str(other.absolute()),
        folder=os.getcwd(),  # noqa: PTH109
        config=config.model_dump(mode="json"),
        run=job.run,
        fold=job.fold,
        inputs=job.inputs,
        left_out=job.left_out,
        store=str(job.source.directory.absolute()) if isinstance(job.source, ImageStore) else None,
        loaders=loaders,
    )
