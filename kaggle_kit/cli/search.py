"""``kk tune`` and ``kk plan``: what to train, and what it will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaggle_kit import show
from kaggle_kit.cli.common import Overrides, app, entries, names, open_all
from kaggle_kit.durations import parse_duration


@app.command()
def tune(
    overrides: Overrides = None,
    study: Annotated[str, typer.Option(help="its name; an existing one goes on")] = "tune",
    space: Annotated[Path | None, typer.Option(help="a YAML file of what to search; default: what usually matters")] = None,
    models: Annotated[str, typer.Option(help="models to choose from, separated by commas")] = "",
    trials: Annotated[int | None, typer.Option(help="number of trials of the study")] = None,
    time_limit: Annotated[str | None, typer.Option("--time", help="end after this, e.g. 2h")] = None,
    fold: Annotated[str, typer.Option(help="the folds that every trial trains")] = "0",
    promote: Annotated[float | None, typer.Option(help="share of trials that earn the other folds")] = None,
    pruner: Annotated[str, typer.Option(help="hyperband, median or none")] = "hyperband",
    storage: Annotated[str | None, typer.Option(help="database URL or journal file; default: SQLite in the workspace")] = None,
    seed: Annotated[int, typer.Option(help="of the sampler")] = 0,
    strategy: Annotated[str | None, typer.Option(help="finetune or probe")] = None,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="serve optuna-dashboard for the study instead")] = False,
) -> None:
    """Search hyperparameters with Optuna; writes tune/STUDY/best.yaml for `kk train --config`, and a page of plots."""
    from kaggle_kit.tune import TuneOptions, make_tune_reporter, open_dashboard
    from kaggle_kit.tune import tune as search

    workspace, config, competition = open_all(entries(overrides, {"strategy": strategy}))
    if dashboard:
        open_dashboard(workspace, study, storage=storage)
        return
    limit = parse_duration(time_limit) if time_limit else None
    options = TuneOptions(study, space, names(models), trials, limit, fold, promote, pruner, storage, seed)
    show.tuning(search(workspace, config, competition, options, reporter=make_tune_reporter()))


@app.command("tune-blend")
def tune_blend(
    runs: Annotated[str, typer.Option(help="runs to blend, separated by commas; default: all")] = "",
    method: Annotated[str, typer.Option(help="weights, or power: weights and an exponent")] = "weights",
    name: Annotated[str, typer.Option(help="writes submissions/NAME.csv")] = "tuned",
    trials: Annotated[int, typer.Option(help="of each search")] = 200,
    seed: Annotated[int, typer.Option(help="of the sampler")] = 0,
) -> None:
    """Tune the weights of a blend by its cross-fitted score, write the submission and check it."""
    from kaggle_kit.tune import tune_blend as search

    workspace, config, competition = open_all()
    result = search(workspace, config, competition, runs=names(runs), method=method, name=name, trials=trials, seed=seed)
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
