"""Snapshots of a cyclic schedule: each cycle's models are a run of their own beside the run that trained them. No torch here.

What is known of runs holds of them: they are predicted, blended, reported and shipped like any other.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

from kaggle_kit.config import RunConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.runs.files import Run, list_runs, read_run
from kaggle_kit.runs.record import RUN_RECORD, RunRecord, write_run_record
from kaggle_kit.workspace import Workspace


def snapshot_runs(run: str, config: RunConfig) -> dict[int, str]:
    """Return the epochs whose weights are kept -> the name of the run that they become: ``<run>-cycle3``."""
    return {epoch: f"{run}-cycle{cycle}" for cycle, epoch in config.snapshot_epochs().items()}


def write_snapshot_runs(workspace: Workspace, record: RunRecord) -> None:
    """Write the records of the runs that the cycles of ``record`` become.

    Raises:
        ConfigError: another run has the name of one of them.
    """
    known = list_runs(workspace)
    names = snapshot_runs(record.name, record.config).values()
    for name in names:
        if name in known and read_run(workspace, name).record.snapshot_of != record.name:
            raise ConfigError(
                f"a cycle of run {record.name} would be called {name}, and there is such a run. Use another --run."
            )
    for name in names:
        write_run_record(workspace.run_dir(name), replace(record, name=name, snapshot_of=record.name))


def require_no_snapshot(record: RunRecord) -> None:
    """Raise ConfigError when a run is made of the cycles of another one, which cannot be trained by itself."""
    if record.snapshot_of is not None:
        raise ConfigError(f"run {record.name} is made of a cycle of run {record.snapshot_of}. Train that one.")


def snapshots_of(workspace: Workspace, run: str) -> list[Run]:
    """Return the runs that are made of the cycles of ``run``."""
    found = (read_run(workspace, name) for name in list_runs(workspace))
    return [one for one in found if one.record.snapshot_of == run]


def remove_snapshots(workspace: Workspace, run: str) -> None:
    """Delete the runs that are made of the cycles of ``run``."""
    for one in snapshots_of(workspace, run):
        (one.path / RUN_RECORD).unlink()  # first, so that half a run is none
        shutil.rmtree(one.path)
