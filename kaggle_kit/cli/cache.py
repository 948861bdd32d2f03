"""``kk cache``: the stores of decoded images."""

from __future__ import annotations

from typing import Annotated

import typer

from kaggle_kit import show
from kaggle_kit.cli.common import app

group = typer.Typer(help="List, verify and drop the stores of decoded images.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(group, name="cache")

Name = Annotated[str, typer.Argument(help="a store, as `kk cache list` names it; all: every one")]


@group.command("list")
def list_() -> None:
    """List the stores with image size, number of images and bytes on disk."""
    from kaggle_kit.images.store import list_stores
    from kaggle_kit.workspace import open_workspace

    show.stores(list_stores(open_workspace().cache_dir))


@group.command()
def verify(name: Name = "all") -> None:
    """Compare each stored image with its checksum, and its file with the one that was stored."""
    from kaggle_kit.images.store import chosen_stores, verify_store
    from kaggle_kit.workspace import open_workspace

    wrong = [
        f"{store.name}: {line}"
        for store in chosen_stores(open_workspace().cache_dir, name)
        for line in verify_store(store, progress=show.bar("verifying"))
    ]
    show.lines(wrong or ["all is well"])
    raise typer.Exit(1 if wrong else 0)


@group.command()
def drop(name: Name) -> None:
    """Delete a store; the next `kk train` or `kk predict` builds it again."""
    from kaggle_kit.images.store import chosen_stores, drop_store
    from kaggle_kit.workspace import open_workspace

    freed = sum(drop_store(store) for store in chosen_stores(open_workspace().cache_dir, name))
    show.line(f"freed {freed / 1e6:,.1f} MB")
