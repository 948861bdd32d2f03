"""The page of a learning-rate range test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from kaggle_kit.competition import Setup
from kaggle_kit.figures import plot_lr_test
from kaggle_kit.report.figures import svg_of
from kaggle_kit.report.make import REPORT
from kaggle_kit.report.pages import write_page
from kaggle_kit.training.lr_finder import LrTest, Sweep, find_lr
from kaggle_kit.training.prepare import default_run_name


def make_lr_test(
    setup: Setup,
    sweep: Sweep,
    *,
    fold: int,
    entries: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> LrTest:
    """Test learning rates on a fold and write ``report/lr-<model>-<configuration>-fold<k>.html``.

    Args:
        entries: what was set beside kk.yaml, for the command that trains with the suggestion.

    Raises:
        ConfigError, WeightsError, ImageError, DeviceMemoryError: see :func:`~kaggle_kit.training.lr_finder.find_lr`.
        StorageError: the page cannot be written.
    """
    found = replace(find_lr(setup, fold=fold, sweep=sweep, progress=progress), entries=tuple(entries))
    path = setup.workspace.root / REPORT / f"lr-{default_run_name(setup.config.run)}-fold{fold}.html"
    figure = plot_lr_test(found.rates, found.losses, found.smoothed, suggestion=found.suggestion)
    write_page(
        path,
        "lr.html",
        title=f"Learning rates for {found.model}",
        lines=found.describe().splitlines(),
        to_copy=found.command,
        svg=svg_of(figure),
        points=found.table(),
    )
    return replace(found, path=path.relative_to(setup.workspace.root).as_posix())
