"""``kk tune`` and ``kk plan``: what to train, and what it will cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaggle_kit import show
from kaggle_kit.cli.common import Overrides, app, entries, names, open_all
from kaggle_kit.units import parse_duration

if TYPE_CHECKING:
    from kaggle_kit.competition import Competition
    from kaggle_kit.config import Config
    from kaggle_kit.workspace import Workspace


@app.command()
def tune(
    overrides: Overrides = None,
    study: Annotated[str, typer.Option(help="its name; an existing one goes on")] = "tune",
    space: Annotated[Path | None, typer.Option(help="a YAML file of what to search; default: what usually matters")] = None,
    models: Annotated[str, typer.Option(help="models to choose from, separated by commas")] = "",
    trials: Annotated[int | None, typer.Option(help="number of trials of the study")] = None,
    time_limit: Annotated[str | None, typer.Option("--time", help="end after this, e.g. 2h")] = None,
    folds: Annotated[str, typer.Option(help="those that every trial trains: 0, 0,2 or all")] = "0",
    promote: Annotated[float | None, typer.Option(help="share of trials that earn the other folds")] = None,
    pruner: Annotated[str, typer.Option(help="hyperband, median or none")] = "hyperband",
    storage: Annotated[str | None, typer.Option(help="database URL or journal file; default: SQLite in the workspace")] = None,
    seed: Annotated[int, typer.Option(help="of the sampler")] = 0,
    strategy: Annotated[str | None, typer.Option(help="finetune or probe")] = None,
    blend: Annotated[bool, typer.Option("--blend", help="tune the weights of a blend of all runs instead")] = False,
    method: Annotated[str, typer.Option(help="with --blend: weights, or power: weights and an exponent")] = "weights",
    launcher: Annotated[str | None, typer.Option(help="ray: trials side by side on a cluster")] = None,
    devices: Annotated[int | None, typer.Option(help="with --launcher: trials at a time; default: one a GPU or node")] = None,
    address: Annotated[str | None, typer.Option(help="of the Ray cluster")] = None,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="serve optuna-dashboard for the study instead")] = False,
) -> None:
    """Search hyperparameters with Optuna; writes tune/STUDY/best.yaml for `kk train --config`, and a page of plots."""
    from kaggle_kit.tune import TuneOptions, make_tune_reporter, open_dashboard
    from kaggle_kit.tune import tune as search

    given = open_all(entries(overrides, {"strategy": strategy}))
    limit = parse_duration(time_limit) if time_limit else None
    if dashboard:
        open_dashboard(given[0], study, storage=storage)
    elif blend:
        _tune_blend(*given, method=method, trials=trials, time_limit=limit, seed=seed)
    else:
        options = TuneOptions(
            *(study, space, names(models), trials, limit, folds, promote, pruner, storage, seed),
            launcher=launcher,
            devices=devices,
            address=address,
        )
        show.tuning(search(*given, options, reporter=make_tune_reporter()))


def _tune_blend(
    workspace: Workspace,
    config: Config,
    competition: Competition,
    *,
    method: str,
    trials: int | None,
    time_limit: float | None,
    seed: int,
) -> None:
    from kaggle_kit.tune import DEFAULT_BLEND_TRIALS, tune_blend

    trials = trials or DEFAULT_BLEND_TRIALS
    result = tune_blend(workspace, config, competition, method=method, trials=trials, time_limit=time_limit, seed=seed)
    show.tuned_blend(result)
    raise typer.Exit(0 if result.blend.report.passed else 1)


@app.command()
def plan(
    overrides: Overrides = None,
    fold: Annotated[str, typer.Option(help="all, 0, 0,2 or 0-3")] = "all",
    limit: Annotated[str, typer.Option(help="the time there is, e.g. Kaggle's 9h")] = "9h",
    seconds: Annotated[float, typer.Option(help="how long to measure")] = 30.0,
    devices: Annotated[int, typer.Option(help="folds trained at a time")] = 1,
    tta: Annotated[str, typer.Option(help="views of the test images")] = "none",
) -> None:
    """Measure for half a minute and say how long a run will take, and what would fit the limit."""
    from kaggle_kit.launch import plan_run

    workspace, config, competition = open_all(overrides or ())
    show.plan(plan_run(workspace, config, competition, fold=fold, limit=limit, seconds=seconds, devices=devices, views=tta))
