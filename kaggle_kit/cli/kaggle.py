"""What goes to Kaggle and comes from there: kernels, submissions, data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaggle_kit import show
from kaggle_kit.cli.common import Overrides, app, names, open_all
from kaggle_kit.errors import ConfigError

group = typer.Typer(help="Build, prove and push an offline Kaggle kernel.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(group, name="kernel")

Force = Annotated[bool, typer.Option("--force", help="although the check did not pass, or it was sent before")]
ImageList = Annotated[Path | None, typer.Option(help="`pip freeze` of a Kaggle session, instead of the built-in list")]


@group.command()
def build(
    username: Annotated[str, typer.Option(help="your Kaggle user name")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="the folder to write; default: kernel, with --train training")] = None,
    blend: Annotated[str, typer.Option(help="the blend to repeat there")] = "blend",
    runs: Annotated[str, typer.Option(help="runs to average instead, separated by commas")] = "",
    train: Annotated[bool, typer.Option("--train", help="a kernel that trains, over several sessions if need be")] = False,
    half: Annotated[bool, typer.Option("--half", help="weights in 16 bits")] = False,
    title: Annotated[str | None, typer.Option(help="of the notebook")] = None,
    competition: Annotated[str | None, typer.Option(help="the competition's name in its address")] = None,
    image_list: ImageList = None,
    force: Force = False,
) -> None:
    """Write a dataset (weights, wheels) and a notebook that predicts without internet within nine hours."""
    from kaggle_kit.kernel import build_kernel

    if overrides and not train:
        raise ConfigError(f"{' '.join(overrides)}: entries are for --train; without it the kernel repeats finished runs.")
    workspace, config, data = open_all(overrides or [])
    built = build_kernel(
        *(workspace, config, data),
        out=out or Path("training" if train else "kernel"),
        username=username,
        runs=names(runs),
        blend=blend,
        train=train,
        half=half,
        title=title,
        competition_slug=competition,
        image_list=image_list,
        force=force,
    )
    show.kernel(built)


@group.command("test")
def prove(
    folder: Annotated[Path, typer.Argument(help="what `kk kernel build` wrote")] = Path("kernel"),
    image_list: ImageList = None,
    limit: Annotated[int | None, typer.Option(help="take the first so many test images only")] = None,
    keep: Annotated[Path | None, typer.Option(help="keep inputs, outputs and executed notebooks here")] = None,
) -> None:
    """Run the kernel here as Kaggle would: no network, the image's packages only, and another test set."""
    from kaggle_kit.kernel import test_kernel

    workspace, config, data = open_all()
    result = test_kernel(folder, workspace, config, data, image_list=image_list, limit=limit, keep=keep)
    show.kernel_test(result)
    raise typer.Exit(0 if result.passed else 1)


@group.command()
def push(
    folder: Annotated[Path, typer.Argument(help="what `kk kernel build` wrote")] = Path("kernel"),
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="watch until Kaggle is done")] = True,
    force: Force = False,
) -> None:
    """Upload dataset and notebook by Kaggle's official client, and watch the run; nothing is uploaded twice."""
    from kaggle_kit.kaggle_api import push as push_both

    show.pushed(push_both(folder, force=force, wait=wait, on_status=show.status))


@app.command()
def submit(
    competition: Annotated[str, typer.Argument(help="the competition's name in its address")],
    file: Annotated[Path, typer.Argument(help="the submission")] = Path("submissions/blend.csv"),
    message: Annotated[str, typer.Option("--message", "-m", help="what Kaggle lists it under")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="wait for the score")] = True,
    force: Force = False,
) -> None:
    """Submit a file that passed its check, wait for the score and keep it in the submission's record."""
    from kaggle_kit.kaggle_api import submit as hand_in
    from kaggle_kit.workspace import open_workspace

    workspace = open_workspace()
    show.submitted(hand_in(workspace, competition, file, message=message, force=force, wait=wait, on_status=show.status))


@app.command()
def download(
    competition: Annotated[str, typer.Argument(help="the competition's name in its address")],
    folder: Annotated[Path | None, typer.Argument(help="where to; default: a folder of that name")] = None,
) -> None:
    """Fetch and unpack a competition's data; goes on where it was cut off."""
    from kaggle_kit.kaggle_api import download as fetch

    path = fetch(competition, folder or Path(competition), show_bar=True)
    show.line(f"the data is in {path}. Next: mkdir work && cd work && kk init ../{path}")
