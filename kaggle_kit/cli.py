"""The command ``kk``. Each command is one call into the package; whatever it can do, Python can do, too.

Nothing heavy is imported before a command needs it: ``kk --help`` must answer at once.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaggle_kit import show
from kaggle_kit.durations import parse_duration
from kaggle_kit.errors import KaggleKitError

if TYPE_CHECKING:
    from kaggle_kit.competition import Competition
    from kaggle_kit.config import Config
    from kaggle_kit.workspace import Workspace

_INTERRUPTED = 130
# Where it lives depends on the version: in click, or in typer itself.
UsageError: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="kk",
    help="From a folder of images to a checked submission.csv.",
    epilog="A workspace is the folder you stand in; `kk init DATA_DIR` makes one. `kk COMMAND --help` tells more.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="entries of the run's configuration, e.g. model=resnet50 epochs=5"),
]
RunName = Annotated[str | None, typer.Option("--run", help="the run's name")]
Seed = Annotated[int | None, typer.Option(help="another seed than kk.yaml's")]


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

    choices = dict(_pair(text) for text in choose or [])
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
    from kaggle_kit.folds import create_folds
    from kaggle_kit.images.duplicates import find_competition_duplicates

    changes = {"n_folds": n_folds, "scheme": scheme, "repeats": repeats, "seed": seed, "duplicates": duplicates}
    workspace, config, competition = _open([])
    settings = changed(config.folds, changes)
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
) -> None:
    """Train a model on each fold; finished folds are skipped, unfinished ones go on from their last checkpoint."""
    from kaggle_kit.training import make_reporter, train_run

    workspace, config, competition = _open(_entries(overrides, {"strategy": strategy, "precision": precision}), config_file)
    limit = parse_duration(time_limit) if time_limit else None
    show.training(
        train_run(
            workspace, config, competition, run=run, fold=fold, restart=restart, time_limit=limit, reporter=make_reporter()
        )
    )


@app.command()
def predict(
    run: RunName = None,
    tta: Annotated[str, typer.Option(help="none, hflip, flips, d4, five-crop, multiscale …")] = "none",
    merge: Annotated[str, typer.Option(help="how views are merged: mean, gmean or max")] = "mean",
    images: Annotated[Path | None, typer.Option(help="any folder of new images instead of the test set")] = None,
    out: Annotated[Path, typer.Option(help="with --images: the CSV to write")] = Path("predictions.csv"),
    control: Annotated[int, typer.Option(help="training images hidden among the test images, for `kk check`")] = 256,
    oof: Annotated[bool, typer.Option("--oof/--no-oof", help="also predict out-of-fold rows with these views")] = True,
    engine: Annotated[str, typer.Option(help="auto, torch or openvino")] = "auto",
) -> None:
    """Predict the test images with every fold's model, or any folder of images with --images."""
    from kaggle_kit.inference import predict_runs, predict_to_csv

    if images is not None:
        found = predict_to_csv(images, out, run=run, views=tta, merge=merge, engine=engine, progress=show.bar("predicting"))
        show.written(out, len(found))
        return
    workspace, _, competition = _open([])
    bar = show.bar("predicting")
    show.predictions(
        predict_runs(
            *(workspace, competition), run=run, views=tta, merge=merge, control=control, oof=oof, engine=engine, progress=bar
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
    from kaggle_kit.blend import blend as blend_runs

    workspace, config, competition = _open([])
    chosen = [part.strip() for part in runs.split(",") if part.strip()]
    result = blend_runs(
        *(workspace, config, competition),
        runs=chosen,
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

    workspace, config, competition = _open([])
    report = check_submission(file, workspace=workspace, config=config, competition=competition, answers=answers)
    show.report(report)
    raise typer.Exit(0 if report.passed else 1)


@app.command()
def runs() -> None:
    """List the runs of this workspace with model, size, score, time and state."""
    from kaggle_kit.runs import runs_table
    from kaggle_kit.workspace import open_workspace

    show.table(runs_table(open_workspace()), title="runs")


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


def _open(overrides: list[str], config_file: Path | None = None) -> tuple[Workspace, Config, Competition]:
    """The workspace one stands in, its configuration and its data."""
    from kaggle_kit.competition import load_competition
    from kaggle_kit.config import load_config
    from kaggle_kit.workspace import open_workspace

    workspace = open_workspace()
    config = load_config(workspace.config_path, overrides, run_file=config_file)
    return workspace, config, load_competition(workspace, config.competition)


def _entries(overrides: list[str] | None, options: dict[str, str | None]) -> list[str]:
    """key=value entries from the command line, those of options last, so that an option wins."""
    return [*(overrides or []), *(f"{key}={value}" for key, value in options.items() if value is not None)]


def _pair(text: str) -> tuple[str, str]:
    from kaggle_kit.errors import ConfigError

    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"expected KEY=VALUE, got {text!r}.")
    return key, value


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``kk``: errors raised on purpose become one message and an exit code, never a traceback.

    Args:
        arguments: by default those of the process.
    """
    show.set_up_logging()
    sys.path.insert(0, os.getcwd())  # noqa: PTH109  an own metric, module:function, lies in the workspace
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    """Run one command and return the exit code."""
    try:
        code = int(app(arguments, prog_name="kk", standalone_mode=False) or 0)
        if code == _INTERRUPTED:  # what newer versions of typer make of Ctrl-C
            raise KeyboardInterrupt
        return code
    except UsageError as error:
        error.show()
        return int(error.exit_code)
    except KaggleKitError as error:
        show.error(str(error))
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        show.error("stopped by Ctrl-C. Finished work and the last checkpoint are kept; the same command goes on from there.")
        return _INTERRUPTED
    except BrokenPipeError:
        return 1
    except Exception as error:
        if os.environ.get("KK_DEBUG"):
            raise
        show.error(
            f"unexpected {type(error).__name__}: {error}\n"
            "This is a defect of kaggle_kit. KK_DEBUG=1 kk … shows where; please report it."
        )
        return 1
