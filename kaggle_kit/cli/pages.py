"""Commands that make pages: ``kk report``."""

from __future__ import annotations

from typing import Annotated

import typer

from kaggle_kit.cli.common import app, command
from kaggle_kit.project import Project

Open = Annotated[bool, typer.Option("--open", help="show it in the browser")]


@command(app)
def report(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN|BLEND]...", help="several are compared; default: the newest blend or run"),
    ] = None,
    gradcam: Annotated[str, typer.Option(help="ids of images to explain, or a number of the surest mistakes")] = "",
    open_: Open = False,
) -> object:
    """Write a page about a run or a blend: score, verdict, curves, confusion, mistakes, calibration, models."""
    return Project.open().report(*(names or ()), gradcam=gradcam, open=open_)
