"""``kk auto``, ``kk tune``, ``kk plan`` and ``kk lr``: what to train, what it will cost, and at which rate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kaggle_kit.choices import GOALS, PRUNERS
from kaggle_kit.cli.common import (
    Address,
    Config,
    Entries,
    Fold,
    Launcher,
    Limit,
    Strategy,
    Tta,
    app,
    begin,
    choices_made,
    command,
)
from kaggle_kit.project import Project
from kaggle_kit.workspace import CONFIG_NAME


@command(app, then=lambda found: "kk check" if found.submission else "", see=lambda found: str(found.page))
def auto(
    data_dir: Annotated[Path | None, typer.Argument(help="the competition's files, where there is no kk.yaml yet")] = None,
    time_limit: Annotated[str, typer.Option("--time-limit", "--time", help="of all calls together, e.g. 2h")] = "1h",
    session: Annotated[str | None, typer.Option(help="of this call alone, e.g. 8h30m of a rented machine")] = None,
    goal: Annotated[str, typer.Option(help=GOALS.listed)] = "balanced",
    only: Annotated[str, typer.Option(help="patterns of backbones, separated by commas; default: all that are here")] = "",
    max_size: Annotated[str | None, typer.Option(help="of the models of the blend, e.g. 500MB")] = None,
    internet: Annotated[bool, typer.Option("--internet/--no-internet", help="whether weights may be downloaded")] = True,
    metric: Annotated[str | None, typer.Option(help="how Kaggle scores, for a new workspace")] = None,
    choose: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="settle a question about the data")] = None,
    launcher: Launcher = None,
    devices: Annotated[int | None, typer.Option(help="with --launcher: folds at a time")] = None,
    address: Address = None,
) -> object:
    """From raw files to the best checked submission within a time; stop it at any moment, and the same command goes on."""
    new = data_dir is not None and not Path(CONFIG_NAME).exists()
    project = begin(data_dir, choices_made(choose), metric=metric) if new and data_dir else Project.open()
    where: dict[str, Any] = {"launcher": launcher, "devices": devices, "address": address}
    limits: dict[str, Any] = {"time_limit": time_limit, "session": session, "max_size": max_size}
    return project.auto(**limits, goal=goal, only=only, internet=internet, **where)


@command(app, then=lambda found: found and found.best_path and f"kk train --fold all --config {found.best_path}")
def tune(
    overrides: Entries = None,
    config: Config = None,
    study: Annotated[str, typer.Option(help="its name; an existing one goes on")] = "tune",
    space: Annotated[Path | None, typer.Option(help="a YAML file of what to search; default: what usually matters")] = None,
    models: Annotated[str, typer.Option(help="models to choose from, separated by commas")] = "",
    trials: Annotated[int | None, typer.Option(help="number of trials of the study")] = None,
    time_limit: Limit = None,
    folds: Annotated[str, typer.Option(help="those that every trial trains: 0, 0,2 or all")] = "0",
    promote: Annotated[float | None, typer.Option(help="share of trials that earn the other folds")] = None,
    pruner: Annotated[str, typer.Option(help=PRUNERS.listed)] = "hyperband",
    storage: Annotated[str | None, typer.Option(help="database URL or journal file; default: SQLite in the workspace")] = None,
    seed: Annotated[int, typer.Option(help="of the sampler")] = 0,
    strategy: Strategy = None,
    launcher: Launcher = None,
    devices: Annotated[int | None, typer.Option(help="with --launcher: trials at a time; default: one a GPU or node")] = None,
    address: Address = None,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="serve optuna-dashboard for the study instead")] = False,
) -> object:
    """Search hyperparameters with Optuna; writes tune/STUDY/best.yaml for `kk train --config`, and a page of plots."""
    project = Project.open()
    if dashboard:
        project.dashboard(study, storage=storage)
        return None
    where: dict[str, Any] = {"launcher": launcher, "devices": devices, "address": address}
    what: dict[str, Any] = {"config": config, "space": space, "models": models, "strategy": strategy, "folds": folds}
    how: dict[str, Any] = {"trials": trials, "time_limit": time_limit, "promote": promote, "pruner": pruner, "seed": seed}
    return project.tune(*(overrides or ()), study=study, storage=storage, **what, **how, **where)


@command(app)
def plan(
    overrides: Entries = None,
    config: Config = None,
    fold: Fold = "all",
    time_limit: Annotated[str, typer.Option("--time-limit", "--limit", help="the time there is, e.g. Kaggle's 9h")] = "9h",
    seconds: Annotated[float, typer.Option(help="how long to measure")] = 30.0,
    devices: Annotated[int, typer.Option(help="folds trained at a time")] = 1,
    tta: Tta = "none",
) -> object:
    """Measure for half a minute and say how long a run will take, and what would fit the limit."""
    options: dict[str, Any] = {"fold": fold, "time_limit": time_limit, "seconds": seconds, "devices": devices, "tta": tta}
    return Project.open().plan(*(overrides or ()), config=config, **options)


@command(app, then=lambda found: found.command)
def lr(
    overrides: Entries = None,
    config: Config = None,
    fold: Annotated[int, typer.Option(help="whose images are trained on")] = 0,
    lowest: Annotated[float, typer.Option(help="rate to begin with")] = 1e-6,
    highest: Annotated[float, typer.Option(help="rate to end with, unless the loss diverges before")] = 10.0,
    updates: Annotated[int, typer.Option(help="optimizer steps from one to the other")] = 100,
) -> object:
    """Train a fold with a growing learning rate until the loss diverges, suggest lr, and draw the curve; keeps no model."""
    return Project.open().lr(*(overrides or ()), config=config, fold=fold, lowest=lowest, highest=highest, updates=updates)
