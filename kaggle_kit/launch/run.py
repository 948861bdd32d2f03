"""Training the folds of a run by workers instead of in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kaggle_kit.competition import Competition
from kaggle_kit.config import Config
from kaggle_kit.errors import ConfigError
from kaggle_kit.launch.local import launch_local
from kaggle_kit.launch.process import Ending, gather
from kaggle_kit.launch.ray import launch_ray
from kaggle_kit.registry import lookup
from kaggle_kit.training import EpochRow, FoldJob, LogReporter, Outcome, Reporter, RunSummary, Stop, train_run
from kaggle_kit.training.loop import OnEpoch
from kaggle_kit.training.run import part_finished
from kaggle_kit.workspace import Workspace

LAUNCHERS: dict[str, Callable[..., dict[int, Ending]]] = {"local": launch_local, "ray": launch_ray}
"""Name -> a function with the arguments of :func:`~kaggle_kit.launch.local.launch_local` that waits for all folds."""


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
    on_epoch: OnEpoch | None = None,
) -> RunSummary:
    """:func:`~kaggle_kit.training.train_run`, with each fold trained by a process that has a device to itself.

    The files are those that training in this process would leave. The fold table is the one that ``config.run.folds`` names.
    SIGTERM, Ctrl-C and the time limit reach all workers, which keep their checkpoints. Each fold's log lies in
    ``runs/<run>/logs/``.

    Args:
        launcher: an entry of ``LAUNCHERS``: "local", the devices of this machine, or "ray", a cluster.
        devices: folds at a time; none: as many as there are GPUs, or one where there are none.
        address: of the Ray cluster; none: what ``RAY_ADDRESS`` says, or else this machine.
        on_epoch: called here, soon after the epoch. What it raises is raised when the workers have stopped with a checkpoint.

    Raises:
        LockedError, ConfigError, TrainingError, KeyboardInterrupt: as train_run; a failed fold is named with its log.
        DependencyError: launcher ray, and Ray is not installed.
    """
    start = lookup(LAUNCHERS, launcher, "launcher")
    wanted = config.run.hardware.devices
    if wanted > 1:
        raise ConfigError(
            f"with launcher {launcher} each fold has one device, but the run's configuration says devices={wanted}, which is "
            "one fold on several. Say how many folds to train at a time with --devices, and leave the entry out."
        )

    def train(jobs: Sequence[FoldJob], *, reporter: Reporter, stop: Stop, on_epoch: OnEpoch | None) -> Outcome:  # noqa: ARG001
        done, waiting = part_finished(jobs, reporter)
        options = {"config": config, "devices": devices, "address": address, "reporter": reporter, "stop": stop}
        return gather(done, waiting, start(waiting, **options) if waiting else {})

    own = Stop(within=stop)
    listener = Listener(reporter or LogReporter(), on_epoch, own)
    summary = train_run(
        *(workspace, config, competition),
        run=run,
        fold=fold,
        restart=restart,
        time_limit=time_limit,
        stop=own,
        reporter=listener,
        trainer=train,
    )
    if listener.raised is not None:
        raise listener.raised
    return summary


class Listener:
    """Passes on what workers tell, and calls ``on_epoch``; asks them to stop when that raises.

    Attributes:
        raised: what ``on_epoch`` raised first; it is not called again.
    """

    def __init__(self, reporter: Reporter, on_epoch: OnEpoch | None, stop: Stop) -> None:
        self._reporter, self._on_epoch, self._stop = reporter, on_epoch, stop
        self.raised: Exception | None = None

    def fold_start(self, fold: int, text: str) -> None:
        self._reporter.fold_start(fold, text)

    def batch(self, fold: int, epoch: int, epochs: int, *, done: int, images: int, loss: float, rate: float) -> None:
        self._reporter.batch(fold, epoch, epochs, done=done, images=images, loss=loss, rate=rate)

    def epoch_end(self, fold: int, row: EpochRow, metric: str, *, epochs: int, best: bool) -> None:
        self._reporter.epoch_end(fold, row, metric, epochs=epochs, best=best)
        if self._on_epoch is None or self.raised is not None:
            return
        try:
            self._on_epoch(fold, row)
        except Exception as error:  # kept for the end of the run
            self.raised = error
            self._stop.request(f"the caller stopped it: {type(error).__name__}")

    def fold_end(self, fold: int, text: str) -> None:
        self._reporter.fold_end(fold, text)
