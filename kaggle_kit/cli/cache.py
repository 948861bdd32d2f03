"""``kk cache``: the stores of decoded images."""

from __future__ import annotations

from typing import Annotated

import typer

from kaggle_kit.cli.common import command, group
from kaggle_kit.project import Project

cache = group("cache", "List, verify and drop the stores of decoded images.")

Name = Annotated[str, typer.Argument(help="a store, as `kk cache list` names it; all: every one")]


@command(cache, "list")
def list_() -> object:
    """List the stores with image size, number of images and bytes on disk."""
    return Project.open().cache.list()


@command(cache)
def verify(name: Name = "all") -> object:
    """Compare each stored image with its checksum, and its file with the one that was stored."""
    return Project.open().cache.verify(name)


@command(cache)
def drop(name: Name) -> object:
    """Delete a store; the next `kk train` or `kk predict` builds it again."""
    return Project.open().cache.drop(name)
