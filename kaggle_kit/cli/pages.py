"""Commands that write pages: ``kk look``, ``kk report`` and ``kk evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaggle_kit.choices import AUGMENTATIONS, MERGES
from kaggle_kit.cli.common import Config, Entries, Tta, app, command, one_of, page_subjects
from kaggle_kit.project import Project

Open = Annotated[bool, typer.Option("--open", help="show it in the browser")]


@command(app, then="kk folds")
def look(
    overrides: Entries = None,
    config: Config = None,
    augment: Annotated[str | None, typer.Option(help=f"one image in 16 draws: {AUGMENTATIONS.listed}")] = None,
    batch: Annotated[bool, typer.Option("--batch", help="a training batch with its labels after mixing")] = False,
    imagenet: Annotated[
        bool, typer.Option("--imagenet", help="the pretrained model's own labels, before and after its preprocessing")
    ] = False,
    open_: Open = False,
) -> object:
    """Look at the data before any training; writes report/data.html: classes, files, duplicates, folds, train against test."""
    project = Project.open()
    return project.look(*(overrides or ()), config=config, augment=augment, batch=batch, imagenet=imagenet, open=open_)


@command(app)
def report(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|BLEND]...",
            help="several are compared; default: the newest blend or run",
            autocompletion=one_of(page_subjects),
        ),
    ] = None,
    gradcam: Annotated[str, typer.Option(help="ids of images to explain, or a number of the surest mistakes")] = "",
    open_: Open = False,
) -> object:
    """Write a page about a run or a blend: score, verdict, curves, confusion, mistakes, calibration, models."""
    return Project.open().report(*(names or ()), gradcam=gradcam, open=open_)


@command(app)
def evaluate(
    data: Annotated[Path, typer.Argument(help="a folder with a folder for each class, or a CSV of image files and labels")],
    runs: Annotated[str | None, typer.Option(help="names, separated by commas, or a path; default: the newest run")] = None,
    metrics: Annotated[str, typer.Option(help="separated by commas; default: accuracy, precision, recall, F1, log loss")] = "",
    out: Annotated[Path, typer.Option(help="the CSV of predictions beside the truth")] = Path("evaluation.csv"),
    tta: Tta = "none",
    merge: Annotated[str, typer.Option(help=f"how views are merged: {MERGES.listed}")] = "mean",
    open_: Open = False,
) -> object:
    """Score each fold, each run and the ensemble on labelled images that no model has seen."""
    project = Project.here()
    return project.evaluate(data, runs=runs, metrics=metrics, out=out, tta=tta, merge=merge, open=open_)
