"""Training the folds of a run by workers instead of in this process."""

from __future__ import annotations

from collections.abc import Sequence

from kaggle_kit.choices import LAUNCHERS
from kaggle_kit.competition import Competition
from kaggle_kit.config import Config
from kaggle_kit.errors import ConfigError
from kaggle_kit.events import Relay, Reporter, log_lines
from kaggle_kit.launch.process import gather
from kaggle_kit.training import FoldJob, Outcome, RunSummary, Stop, train_run
from kaggle_kit.training.run import part_finished
from kaggle_kit.workspace import Workspace


def launch_run(
    workspace: Workspace,
    config: Config,
    competition: Competition,
    *,
    launcher: str = "local",
    devices: int | None = None,
    address: str | None = None,
    run: str | None = None,
    fold: str | Sequence[int] = "all",
    restart: bool = False,
    time_limit: float | None = None,
    stop: Stop | None = None,
    reporter: Reporter | None = None,
) -> RunSummary:
    """:func:`~kaggle_kit.training.train_run`, with each fold trained by a process that has a device to itself.

    The files are those that training in this process would leave. The fold table is the one that ``config.run.folds`` names.
    SIGTERM, Ctrl-C and the time limit reach all workers, which keep their checkpoints. Each fold's log lies in
    ``runs/<run>/logs/``.

    Args:
        launcher: an entry of ``LAUNCHERS``: "local", the devices of this machine, or "ray", a cluster.
        devices: folds at a time; none: as many as there are GPUs, or one where there are none.
        address: of the Ray cluster; none: what ``RAY_ADDRESS`` says, or else this machine.
        reporter: called here, soon after the event. What it raises is raised when the workers have stopped with a checkpoint.

    Raises:
        LockedError, ConfigError, TrainingError, KeyboardInterrupt: as train_run; a failed fold is named with its log.
        DependencyError: launcher ray, and Ray is not installed.
    """
    start = LAUNCHERS.lookup(launcher)
    wanted = config.run.hardware.devices
    if wanted > 1:
        raise ConfigError(
            f"with launcher {launcher} each fold has one device, but the run's configuration says devices={wanted}, which is "
            "one fold on several. Say how many folds to train at a time with --devices, and leave the entry out."
        )

    def train(jobs: Sequence[FoldJob], *, reporter: Reporter, stop: Stop) -> Outcome:
        done, waiting = part_finished(jobs, reporter)
        places = {"workspace": workspace, "devices": devices, "address": address}
        options = {**places, "config": config, "reporter": reporter, "stop": stop}
        return gather(done, waiting, start(waiting, **options) if waiting else {})

    own = Stop(within=stop)
    relay = Relay(reporter or log_lines(), own)
    summary = train_run(
        *(workspace, config, competition),
        run=run,
        fold=fold,
        restart=restart,
        time_limit=time_limit,
        stop=own,
        reporter=relay,
        trainer=train,
    )
    if relay.raised is not None:
        raise relay.raised
    return summary
