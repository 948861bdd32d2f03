"""What goes to Kaggle and comes from there: kernels, submissions, data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kaggle_kit.choices import GOALS
from kaggle_kit.cli.common import Config, Entries, app, command, group
from kaggle_kit.project import Project
from kaggle_kit.results import Done

kernel = group("kernel", "Build, test and push an offline Kaggle kernel.")

Force = Annotated[bool, typer.Option("--force", help="although the check failed or is NOT PROVEN, or it was sent before")]
ImageList = Annotated[Path | None, typer.Option(help="`pip freeze` of a Kaggle session, instead of the built-in list")]
Folder = Annotated[Path, typer.Argument(help="what `kk kernel build` wrote")]
Slug = Annotated[str, typer.Argument(help="the competition's name in its address")]


@command(kernel, then=lambda built: f"kk kernel test {built.folder}")
def build(
    username: Annotated[str, typer.Option(help="your Kaggle user name")],
    overrides: Entries = None,
    config: Config = None,
    out: Annotated[Path | None, typer.Option(help="the folder to write; default: kernel, training or auto-kernel")] = None,
    blend: Annotated[str | None, typer.Option(help="the blend to repeat there; default: the last one")] = None,
    runs: Annotated[str, typer.Option(help="runs to average instead, separated by commas")] = "",
    train: Annotated[bool, typer.Option("--train", help="a kernel that trains, over several sessions if need be")] = False,
    auto: Annotated[str | None, typer.Option(help="a kernel that does what `kk auto` does, for so long, e.g. 8h30m")] = None,
    goal: Annotated[str, typer.Option(help=f"with --auto: {GOALS.listed}")] = "balanced",
    only: Annotated[str, typer.Option(help="with --auto: patterns of backbones, separated by commas")] = "",
    half: Annotated[bool, typer.Option("--half", help="weights in 16 bits")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="for a session without a GPU: OpenVINO goes along")] = False,
    title: Annotated[str | None, typer.Option(help="of the notebook")] = None,
    competition: Annotated[str | None, typer.Option(help="the competition's name in its address")] = None,
    image_list: ImageList = None,
    force: Force = False,
) -> object:
    """Write a dataset (weights, wheels) and a notebook that predicts without internet within nine hours."""
    what: dict[str, Any] = {"blend": blend, "runs": runs, "train": train, "half": half, "force": force}
    what |= {"auto": auto, "goal": goal, "only": only, "cpu": cpu}
    names: dict[str, Any] = {"title": title, "competition": competition, "image_list": image_list, "out": out, "config": config}
    return Project.open().kernel.build(*(overrides or ()), username=username, **what, **names)


@command(kernel, "test")
def test_(
    folder: Folder = Path("kernel"),
    image_list: ImageList = None,
    limit: Annotated[int | None, typer.Option(help="take the first so many test images only")] = None,
    keep: Annotated[Path | None, typer.Option(help="keep inputs, outputs and executed notebooks here")] = None,
) -> object:
    """Run the kernel here as Kaggle would: no network, the image's packages only, and another test set."""
    return Project.open().kernel.test(folder, image_list=image_list, limit=limit, keep=keep)


@command(kernel)
def push(
    folder: Folder = Path("kernel"),
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="watch until Kaggle is done")] = True,
    force: Force = False,
) -> object:
    """Upload dataset and notebook by Kaggle's official client, and watch the run; nothing is uploaded twice."""
    return Project.here().kernel.push(folder, wait=wait, force=force)


@command(app)
def submit(
    competition: Slug,
    file: Annotated[Path | None, typer.Argument(help="the submission; default: the last blend")] = None,
    message: Annotated[str, typer.Option("--message", "-m", help="what Kaggle lists it under")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="wait for the score")] = True,
    force: Force = False,
) -> object:
    """Submit a file that passed its check, wait for the score and keep it in the submission's record."""
    return Project.open().submit(competition, file, message=message, wait=wait, force=force)


@command(app, then=lambda done: f"mkdir work && cd work && kk init ../{done.facts['folder']}")
def download(
    competition: Slug,
    folder: Annotated[Path | None, typer.Argument(help="where to; default: a folder of that name")] = None,
) -> object:
    """Fetch and unpack a competition's data; goes on where it was cut off."""
    path = Project.download(competition, folder)
    return Done(f"the data is in {path}", {"folder": path})
