"""Training the folds of a run by workers instead of in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kaggle_kit.choices import LAUNCHERS
from kaggle_kit.competition import Setup
from kaggle_kit.errors import ConfigError
from kaggle_kit.events import Relay, Reporter, log_lines
from kaggle_kit.launch.process import gather
from kaggle_kit.training import FoldJob, Outcome, RunSummary, Stop, TrainOptions, train_run
from kaggle_kit.training.run import part_finished


@dataclass(frozen=True)
class LaunchOptions:
    """Where folds are trained, each by a process that has a device to itself.

    Attributes:
        launcher: an entry of ``LAUNCHERS``: "local", the devices of this machine, or "ray", a cluster.
        devices: folds at a time; None: as many as there are GPUs, or one where there are none.
        address: of the Ray cluster; None: what ``RAY_ADDRESS`` says, or else this machine.
    """

    launcher: str = "local"
    devices: int | None = None
    address: str | None = None


def launch_run(
    setup: Setup,
    where: LaunchOptions,
    options: TrainOptions | None = None,
    *,
    stop: Stop | None = None,
    reporter: Reporter | None = None,
) -> RunSummary:
    """:func:`~kaggle_kit.training.train_run`, with each fold trained by a process that has a device to itself.

    The files are those that training in this process would leave. The fold table is the one that ``config.run.folds`` names.
    SIGTERM, Ctrl-C and the time limit reach all workers, which keep their checkpoints. Each fold's log lies in
    ``runs/<run>/logs/``.

    Args:
        reporter: called here, soon after the event. What it raises is raised when the workers have stopped with a checkpoint.

    Raises:
        LockedError, ConfigError, TrainingError, KeyboardInterrupt: as train_run; a failed fold is named with its log.
        DependencyError: launcher ray, and Ray is not installed.
    """
    start = LAUNCHERS.lookup(where.launcher)
    wanted = setup.config.run.hardware.devices
    if wanted > 1:
        raise ConfigError(
            f"with launcher {where.launcher} each fold has one device, but the run's configuration says devices={wanted}, "
            "which is one fold on several. Say how many folds to train at a time with --devices, and leave the entry out."
        )

    def train(jobs: Sequence[FoldJob], *, reporter: Reporter, stop: Stop) -> Outcome:
        done, waiting = part_finished(jobs, reporter)
        place: dict[str, Any] = {"workspace": setup.workspace, "config": setup.config}
        place |= {"devices": where.devices, "address": where.address}
        return gather(done, waiting, start(waiting, **place, reporter=reporter, stop=stop) if waiting else {})

    own = Stop(within=stop)
    relay = Relay(reporter or log_lines(), own)
    summary = train_run(setup, options, stop=own, reporter=relay, trainer=train)
    if relay.raised is not None:
        raise relay.raised
    return summary
