"""The main job: init, folds, train, predict, blend, check; and runs, plan and the demo."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaggle_kit import show
from kaggle_kit.cli.common import Overrides, RunName, Seed, app, entries, names, open_all, pair
from kaggle_kit.units import parse_duration

if TYPE_CHECKING:
    from kaggle_kit.training import RunSummary

TERMINATED = 143
"""Exit code of training that was stopped from outside, as shells report SIGTERM; a script should not go on to predict."""


@app.command()
def init(
    data_dir: Annotated[Path, typer.Argument(help="the competition's files; they are read where they lie")],
    name: Annotated[str | None, typer.Option(help="the competition's name; default: the folder's")] = None,
    metric: Annotated[str | None, typer.Option(help="how Kaggle scores; default: from the sample submission")] = None,
    choose: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="settle a question that init asked")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an existing kk.yaml")] = False,
) -> None:
    """Look at the data and write a commented kk.yaml here, saying what was concluded and why."""
    from kaggle_kit.competition import init_workspace

    choices = dict(pair(text) for text in choose or [])
    show.inference(init_workspace(data_dir, Path(), choices=choices, metric=metric, name=name, force=force))


@app.command()
def folds(
    name: Annotated[str, typer.Option(help="writes folds/NAME.csv")] = "folds",
    n_folds: Annotated[int | None, typer.Option(help="number of folds")] = None,
    scheme: Annotated[
        str | None,
        typer.Option(help="auto, stratified, group, stratified-group, multilabel, kfold, holdout or column"),
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="repeat with other seeds")] = None,
    seed: Seed = None,
    duplicates: Annotated[str | None, typer.Option(help="near, exact or off: what is kept in one fold")] = None,
) -> None:
    """Divide the training images into folds, duplicates together; writes folds/NAME.csv and prints the balance."""
    from kaggle_kit.config import changed
    from kaggle_kit.folds import check_settings, create_folds
    from kaggle_kit.images.duplicates import find_competition_duplicates

    changes = {"n_folds": n_folds, "scheme": scheme, "repeats": repeats, "seed": seed, "duplicates": duplicates}
    workspace, config, competition = open_all()
    settings = changed(config.folds, changes)
    check_settings(settings)
    found = find_competition_duplicates(competition, settings, progress=show.bar("comparing images"))
    show.folds(create_folds(workspace, competition, settings, name=name, duplicates=found), name)


@app.command()
def train(
    overrides: Overrides = None,
    fold: Annotated[str, typer.Option(help="all, 0, 0,2 or 0-3")] = "all",
    run: RunName = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="a run configuration instead of kk.yaml's")] = None,
    strategy: Annotated[str | None, typer.Option(help="finetune, probe or probe-then-finetune")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16, fp16 or fp32")] = None,
    time_limit: Annotated[str | None, typer.Option(help="end cleanly before this, e.g. 8h30m")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="throw away what this run has trained so far")] = False,
    launcher: Annotated[str | None, typer.Option(help="local: a fold per device; ray: over a cluster")] = None,
    devices: Annotated[int | None, typer.Option(help="with --launcher: folds at a time")] = None,
    address: Annotated[str | None, typer.Option(help="of the Ray cluster")] = None,
) -> None:
    """Train a model on each fold; finished folds are skipped, unfinished ones go on from their last checkpoint."""
    from kaggle_kit.launch import launch_run
    from kaggle_kit.live import make_reporter
    from kaggle_kit.training import train_run

    workspace, config, competition = open_all(entries(overrides, {"strategy": strategy, "precision": precision}), config_file)
    launched = partial(launch_run, launcher=launcher or "", devices=devices, address=address)
    limit = parse_duration(time_limit) if time_limit else None
    run_it: Callable[..., RunSummary] = launched if launcher else train_run
    summary = run_it(
        *(workspace, config, competition), run=run, fold=fold, restart=restart, time_limit=limit, reporter=make_reporter()
    )
    show.training(summary)
    if summary.cut_short:
        raise typer.Exit(TERMINATED)


@app.command()
def predict(
    run: RunName = None,
    tta: Annotated[str, typer.Option(help="none, hflip, flips, d4, five-crop, multiscale …")] = "none",
    merge: Annotated[str, typer.Option(help="how views are merged: mean, gmean or max")] = "mean",
    images: Annotated[Path | None, typer.Option(help="any folder of new images instead of the test set")] = None,
    out: Annotated[Path, typer.Option(help="with --images: the CSV to write")] = Path("predictions.csv"),
    control: Annotated[
        int | None, typer.Option(help="training images hidden among the test images, for `kk check`; 0 for none")
    ] = None,
    oof: Annotated[bool, typer.Option("--oof/--no-oof", help="also predict out-of-fold rows with these views")] = True,
    engine: Annotated[str, typer.Option(help="auto, torch or openvino")] = "auto",
) -> None:
    """Predict the test images with every fold's model, or any folder of images with --images."""
    from kaggle_kit.inference import predict_runs, predict_to_csv

    if images is not None:
        found = predict_to_csv(images, out, run=run, views=tta, merge=merge, engine=engine, progress=show.bar("predicting"))
        show.written(out, len(found))
        return
    workspace, config, competition = open_all()
    show.predictions(
        predict_runs(
            *(workspace, competition),
            run=run,
            views=tta,
            merge=merge,
            control=control,
            oof=oof,
            engine=engine,
            cache=config.cache,
            progress=show.bar("predicting"),
        )
    )


@app.command()
def blend(
    runs: Annotated[str, typer.Option(help="runs to blend, separated by commas; default: all")] = "",
    method: Annotated[
        str, typer.Option(help="mean, gmean, power, rank, weights, coordinate, hill-climb, pool or stack")
    ] = "mean",
    name: Annotated[str, typer.Option(help="writes submissions/NAME.csv")] = "blend",
    seed: Annotated[int, typer.Option(help="of blenders that draw")] = 0,
    tune_thresholds: Annotated[
        bool, typer.Option("--tune-thresholds", help="multi-label: a threshold a class, out of fold")
    ] = False,
) -> None:
    """Blend runs by their out-of-fold rows, write the submission in the sample's form, and check it."""
    from kaggle_kit.blending.blend import blend as blend_runs

    workspace, config, competition = open_all()
    result = blend_runs(
        *(workspace, config, competition),
        runs=names(runs),
        method=method,
        name=name,
        seed=seed,
        thresholds="tuned" if tune_thresholds else "config",
    )
    show.blend(result)
    raise typer.Exit(0 if result.report.passed else 1)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="the submission")],
    answers: Annotated[Path | None, typer.Option(help="a CSV with the true labels, to score as Kaggle would")] = None,
) -> None:
    """Say whether a submission would be accepted and whether each class stands in its own column."""
    from kaggle_kit.check import check_submission

    workspace, config, competition = open_all()
    report = check_submission(file, workspace=workspace, config=config, competition=competition, answers=answers)
    show.report(report)
    raise typer.Exit(0 if report.passed else 1)


@app.command()
def runs(
    submissions: Annotated[bool, typer.Option("--submissions", help="submissions and their public scores instead")] = False,
) -> None:
    """List the runs of this workspace with model, size, score, time and state."""
    from kaggle_kit.kaggle_api import submissions_table
    from kaggle_kit.runs import runs_table
    from kaggle_kit.workspace import open_workspace

    if submissions:
        show.submissions(submissions_table(open_workspace()))
    else:
        show.table(runs_table(open_workspace()))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="where to make the demo's workspace")] = Path("kk-demo"),
    force: Annotated[bool, typer.Option("--force", help="start anew in a folder that holds a demo")] = False,
) -> None:
    """The whole job on scikit-learn's handwritten digits: data, folds, training, views, blend, check, score."""
    from kaggle_kit.demo import run_demo

    show.demo(run_demo(folder, force=force, execute=_execute))


def _execute(arguments: Sequence[str]) -> None:
    """Run one command of ``kk`` in this process, printed as it would be typed."""
    show.line(f"\n$ kk {shlex.join(arguments)}")
    code = app(list(arguments), prog_name="kk", standalone_mode=False)
    if code:
        raise typer.Exit(code)
