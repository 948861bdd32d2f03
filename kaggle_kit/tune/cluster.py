"""Who trains the trials of a study: this process, or a Ray cluster, several trials at a time.

The search itself stays in one process, with its sampler and its storage; what goes to the cluster is the training of each fold.
So nothing is lost with a node: Ray starts the fold again on another one, and it goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from kaggle_kit.competition import Competition
from kaggle_kit.config import Config, RunConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.launch import launch_run
from kaggle_kit.launch.ray import connected, slots
from kaggle_kit.tables import FoldTable
from kaggle_kit.training import RunSummary, Stop
from kaggle_kit.workspace import Workspace

Train = Callable[..., RunSummary]
"""Takes the arguments of ``train_run`` that an objective gives."""


def require_launcher(launcher: str | None, devices: int | None, address: str | None) -> None:
    """Raise ConfigError when there is no such launcher of trials, or an option without one."""
    if launcher is None and (devices is not None or address is not None):
        raise ConfigError("devices and address are for `--launcher ray`.")
    if launcher not in (None, "ray"):
        raise ConfigError(
            f"trials are trained in this process or with launcher ray, not {launcher!r}. On one machine, too, Ray gives each "
            "trial a GPU of its own."
        )
    if devices is not None and devices < 1:
        raise ConfigError(f"devices must be >= 1, got {devices}.")


@contextlib.contextmanager
def trainers(
    run: RunConfig, launcher: str | None, devices: int | None, address: str | None, stop: Stop
) -> Iterator[list[Train | None]]:
    """A trainer for each trial that is trained at a time, None for this process itself; valid while inside.

    Raises:
        DependencyError, RemoteError: Ray is not installed, or the cluster cannot be reached.
    """
    if launcher is None:
        yield [None]
        return
    with connected(address):
        count = devices or slots(run.hardware.accelerator)
        yield [_by_ray(count, address, stop)] * count


def _by_ray(devices: int, address: str | None, stop: Stop) -> Train:
    def train(
        workspace: Workspace,
        config: Config,
        competition: Competition,
        folds: FoldTable,  # noqa: ARG001 - the nodes read it from the workspace
        *,
        time_limit: float | None,  # noqa: ARG001 - ``stop`` knows
        **options: Any,
    ) -> RunSummary:
        where: dict[str, Any] = {"launcher": "ray", "devices": devices, "address": address, "stop": stop}
        return launch_run(workspace, config, competition, **where, **options)

    return train
