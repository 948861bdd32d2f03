"""The main job: init, folds, train, predict, blend, check; and runs and the demo."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from kaggle_kit import show
from kaggle_kit.choices import BLENDERS, ENGINE_CHOICES, EVENTS, MERGES, PRECISION_CHOICES, SCHEME_CHOICES
from kaggle_kit.cli.common import (
    Address,
    Config,
    Entries,
    Fold,
    Launcher,
    Limit,
    Run,
    Seed,
    Strategy,
    Tta,
    app,
    begin,
    choices_made,
    command,
    one_of,
    run_names,
)
from kaggle_kit.fold_names import fold_number
from kaggle_kit.project import Project
from kaggle_kit.results import Done

Merge = Annotated[str, typer.Option(help=f"how views are merged: {MERGES.listed}")]


def _list_metrics(*, wanted: bool) -> None:
    if wanted:
        from kaggle_kit.metrics import known_metrics

        show.result(known_metrics())
        raise typer.Exit


@command(app, then="kk folds")
def init(
    data_dir: Annotated[Path, typer.Argument(help="the competition's files; they are read where they lie")],
    name: Annotated[str | None, typer.Option(help="the competition's name; default: the folder's")] = None,
    metric: Annotated[str | None, typer.Option(help="how Kaggle scores, as its page calls it")] = None,
    competition: Annotated[str | None, typer.Option(help="its address at Kaggle, of which more may be known")] = None,
    choose: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="settle a question that init asked")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an existing kk.yaml")] = False,
    list_metrics: Annotated[  # noqa: ARG001 -- it ends the command
        bool,
        typer.Option("--list-metrics", is_eager=True, callback=_list_metrics, help="list all metrics and what pages call them"),
    ] = False,
) -> object:
    """Look at the data and write a commented kk.yaml here, saying what was concluded and why."""
    told = {"name": name, "metric": metric, "competition": competition}
    return begin(data_dir, choices_made(choose), **told, force=force).inference


@command(app)
def labels(
    runs: Annotated[str, typer.Option(help="runs whose out-of-fold rows are used, separated by commas; default: all")] = "",
    name: Annotated[str, typer.Option(help="keeps decisions in labels/NAME.csv")] = "review",
    table: Annotated[bool, typer.Option("--table", help="list the labels instead of serving the page, as --json does")] = False,
    effect: Annotated[bool, typer.Option("--effect", help="compare runs trained with and without the review")] = False,
    port: Annotated[int, typer.Option(help="of the page; 0: a free one")] = 0,
    *,
    as_json: bool = False,
) -> object:
    """Review suspect labels on a page for this machine's browser; `kk train labels=review` takes what was decided."""
    project = Project.open()
    if effect:
        return project.review_effect(name)
    return project.labels(runs=runs, name=name, table=table or as_json, port=port)


def _with_these(found: Any) -> str:
    return f"kk train --fold all --run teacher folds={found.path.stem}" if found.pairs else "kk train --fold all"


@command(app, then=_with_these)
def folds(
    name: Annotated[str, typer.Option(help="writes folds/NAME.csv")] = "folds",
    n_folds: Annotated[int | None, typer.Option(help="number of folds")] = None,
    scheme: Annotated[str | None, typer.Option(help=SCHEME_CHOICES.listed, autocompletion=one_of(SCHEME_CHOICES.keys))] = None,
    repeats: Annotated[int | None, typer.Option(help="repeat with other seeds")] = None,
    seed: Seed = None,
    duplicates: Annotated[str | None, typer.Option(help="near, exact or off: what is kept in one fold")] = None,
    extend: Annotated[
        str | None, typer.Option(help="rows of folds/TABLE.csv keep their folds, new ones are dealt", metavar="TABLE")
    ] = None,
    pairs_of: Annotated[
        str | None,
        typer.Option(help="leave out two folds of folds/TABLE.csv at a time, for runs that others learn from", metavar="TABLE"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="although runs rest on the table, which is kept beside it")] = False,
) -> object:
    """Divide the training images into folds, duplicates together; writes folds/NAME.csv and prints the balance."""
    project = Project.open()
    numbers = {"n_folds": n_folds, "repeats": repeats, "seed": seed}
    texts = {"scheme": scheme, "duplicates": duplicates, "extend": extend, "pairs_of": pairs_of}
    made = project.folds(name=name, force=force, **numbers, **texts)  # type: ignore[arg-type]
    from kaggle_kit.folds import FoldsSummary

    return FoldsSummary(made, project.workspace.folds_path(name))


def _page(name: str) -> str:
    """Return the page about a run or a blend if it is there, else the command that makes it."""
    path = Path("report", f"{name}.html")
    return f"{path} (kk report {name} makes it anew)" if path.is_file() else f"kk report {name}"


@command(app, then="kk predict", see=lambda found: _page(found.run) if found.results else None)
def train(
    overrides: Entries = None,
    fold: Fold = "all",
    run: Run = None,
    config: Config = None,
    strategy: Strategy = None,
    precision: Annotated[
        str | None, typer.Option(help=PRECISION_CHOICES.listed, autocompletion=one_of(PRECISION_CHOICES.keys))
    ] = None,
    time_limit: Limit = None,
    restart: Annotated[bool, typer.Option("--restart", help="throw away what this run has trained so far")] = False,
    launcher: Launcher = None,
    devices: Annotated[int | None, typer.Option(help="with --launcher: folds at a time")] = None,
    address: Address = None,
    events: Annotated[str, typer.Option(help=f"how it is shown while it runs: {EVENTS.listed}")] = "auto",
    launched: Annotated[Path | None, typer.Option("--launched", hidden=True, help="of a launcher's worker")] = None,
) -> object:
    """Train a model on each fold; finished folds are skipped, unfinished ones go on from their last checkpoint."""
    if launched is not None:
        from kaggle_kit.launch.worker import train_launched
        from kaggle_kit.live import make_reporter

        raise typer.Exit(train_launched(launched, fold_number(fold), make_reporter(events)))
    return Project.open().train(
        *(overrides or ()),
        fold=fold,
        run=run,
        config=config,
        strategy=strategy,
        precision=precision,
        time_limit=time_limit,
        restart=restart,
        launcher=launcher,
        devices=devices,
        address=address,
        events=events,
    )


@command(app, then=lambda found: "kk predict" if found.changed and found.blend is None else "")
def update(
    data: Annotated[
        Path, typer.Argument(metavar="NEW_DATA", help="a folder with the old data and the new, laid out as before")
    ],
    overrides: Entries = None,
    runs: Annotated[
        str, typer.Option(help="by the names they had at first, separated by commas", autocompletion=one_of(run_names))
    ] = "",
    blend: Annotated[str | None, typer.Option(help="predict with the updated runs, and blend them under this name")] = None,
    time_limit: Limit = None,
    launcher: Launcher = None,
    devices: Annotated[int | None, typer.Option(help="with --launcher: folds at a time")] = None,
    address: Address = None,
    events: Annotated[str, typer.Option(help=f"how it is shown while it runs: {EVENTS.listed}")] = "auto",
) -> object:
    """Let new labelled rows join the folds, and train runs further from their own models; does nothing where none is new."""
    return Project.open().update(
        data,
        *(overrides or ()),
        runs=runs,
        blend=blend,
        time_limit=time_limit,
        launcher=launcher,
        devices=devices,
        address=address,
        events=events,
    )


@command(app, then=lambda found: "" if isinstance(found, Done) else "kk blend")
def predict(
    run: Run = None,
    tta: Tta = "none",
    merge: Merge = "mean",
    images: Annotated[Path | None, typer.Option(help="any folder of new images instead of the test set")] = None,
    out: Annotated[Path, typer.Option(help="with --images: the CSV to write")] = Path("predictions.csv"),
    control: Annotated[
        int | None, typer.Option(help="training images hidden among the test images, for `kk check`; 0 for none")
    ] = None,
    oof: Annotated[bool, typer.Option("--oof/--no-oof", help="also predict out-of-fold rows with these views")] = True,
    engine: Annotated[str, typer.Option(help=ENGINE_CHOICES.listed, autocompletion=one_of(ENGINE_CHOICES.keys))] = "auto",
    time_limit: Annotated[
        str | None, typer.Option(help="e.g. 8h30m; leaves out what there is no time for: views first, then folds")
    ] = None,
) -> object:
    """Predict the test images with every fold's model, or any folder of images with --images."""
    if images is not None:
        found = Project.here().predict_images(images, out=out, run=run, tta=tta, merge=merge, engine=engine)
        return Done(f"wrote {out} ({len(found)} rows)", {"path": out, "rows": len(found)})
    return Project.open().predict(run=run, tta=tta, merge=merge, control=control, oof=oof, engine=engine, time_limit=time_limit)


@command(app, see=lambda found: _page(found.name))
def blend(
    runs: Annotated[
        str, typer.Option(help="runs to blend, separated by commas; default: all", autocompletion=one_of(run_names))
    ] = "",
    method: Annotated[str, typer.Option(help=BLENDERS.listed, autocompletion=one_of(BLENDERS.keys))] = "mean",
    name: Annotated[str | None, typer.Option(help="writes submissions/NAME.csv; default: blend-0001, blend-0002 …")] = None,
    seed: Annotated[int, typer.Option(help="of methods that draw")] = 0,
    tune_thresholds: Annotated[
        bool, typer.Option("--tune-thresholds", help="multi-label: a threshold a class, out of fold")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="write over NAME, unless it was sent to Kaggle")] = False,
    oof: Annotated[bool, typer.Option("--oof", help="score out of fold only: no test rows needed, no submission")] = False,
) -> object:
    """Blend runs by their out-of-fold rows, write the submission in the sample's form, and check it."""
    project = Project.open()
    return project.blend(runs, method=method, name=name, seed=seed, tune_thresholds=tune_thresholds, force=force, oof=oof)


@command(app, see=lambda found: _page(found.path.stem) if found.path.with_suffix(".oof.parquet").is_file() else None)
def check(
    file: Annotated[Path | None, typer.Argument(help="the submission; default: the last blend")] = None,
    answers: Annotated[Path | None, typer.Option(help="a CSV with the true labels, to score as Kaggle would")] = None,
) -> object:
    """Say whether a submission would be accepted and whether each class stands in its own column.

    Exit code 0: PASSED; 1: FAILED; 3: NOT PROVEN, when nothing independent shows that classes or rows are in their places.
    """
    return Project.open().check(file, answers=answers)


@command(app)
def runs(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="two runs or more: what they differ in", autocompletion=one_of(run_names)),
    ] = None,
    submissions: Annotated[bool, typer.Option("--submissions", help="submissions and their public scores instead")] = False,
    rm: Annotated[bool, typer.Option("--rm", help="delete the named runs")] = False,
    force: Annotated[bool, typer.Option("--force", help="with --rm: although a submission rests on them")] = False,
) -> object:
    """List the runs, the best first; with names, compare them fold by fold, or delete them."""
    project = Project.open()
    if rm:
        return project.remove(*(names or ()), force=force)
    if names:
        return project.compare(*names)
    return project.submissions() if submissions else project.runs()


@command(app)
def demo(
    folder: Annotated[Path, typer.Argument(help="where to make the demo's workspace")] = Path("kk-demo"),
    force: Annotated[bool, typer.Option("--force", help="start anew in a folder that holds a demo")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="a third of the digits and fewer epochs; the same steps")] = False,
) -> object:
    """The whole job on scikit-learn's handwritten digits: data, folds, training, views, blend, check, score."""
    from kaggle_kit.demo import FULL, QUICK, run_demo

    return run_demo(folder, force=force, execute=_execute, size=QUICK if quick else FULL)


def _execute(arguments: Sequence[str]) -> None:
    """Run one command of ``kk`` in this process, printed as it would be typed."""
    show.line(f"\n$ kk {shlex.join(arguments)}")
    code = app(list(arguments), prog_name="kk", standalone_mode=False)
    if code:
        raise typer.Exit(code)
