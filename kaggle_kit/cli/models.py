"""Which models there are, ``kk models``, and their weights for work without a network, ``kk weights``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaggle_kit.cli.common import app, command, group
from kaggle_kit.project import Project

weights = group("weights", "List pretrained weights, and fill folders with them for work without a network.")


@command(app)
def models(
    pattern: Annotated[str, typer.Argument(help="a shell pattern, or a part of the name; default: all")] = "",
    under: Annotated[str | None, typer.Option(help="the most parameters, e.g. 50M")] = None,
    faster_than: Annotated[
        float | None, typer.Option(min=0, help="the least images a second, of those that `kk latency` has measured here")
    ] = None,
    here: Annotated[bool, typer.Option("--here", help="only models whose weights are on this machine")] = False,
) -> object:
    """List timm's pretrained models, the most accurate on ImageNet first, with parameters, licence and speed here."""
    return Project.models(pattern, under=under, faster_than=faster_than, here=here)


@command(weights, "list")
def list_() -> object:
    """List the pretrained weights on this machine, with licence and place."""
    return Project.here().weights.list()


@command(weights)
def fetch(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="timm's names, e.g. convnext_tiny")],
    to: Annotated[Path, typer.Option(help="the folder to fill")] = Path("weights"),
) -> object:
    """Fill a folder with pretrained weights; `kk train pretrained=FOLDER` then needs no network."""
    return Project.here().weights.fetch(*models, to=to)
