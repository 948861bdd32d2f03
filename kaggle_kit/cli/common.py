"""What the commands share: the app, options that several take, and how a workspace is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kaggle_kit.competition import Competition
    from kaggle_kit.config import Config
    from kaggle_kit.workspace import Workspace

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


def open_all(overrides: Sequence[str] = (), config_file: Path | None = None) -> tuple[Workspace, Config, Competition]:
    """The workspace one stands in, its configuration and its data."""
    from kaggle_kit.competition import load_competition
    from kaggle_kit.config import load_config
    from kaggle_kit.workspace import open_workspace

    workspace = open_workspace()
    config = load_config(workspace.config_path, overrides, run_file=config_file)
    return workspace, config, load_competition(workspace, config.competition)


def entries(overrides: list[str] | None, options: dict[str, str | None]) -> list[str]:
    """key=value entries from the command line, those of options last, so that an option wins."""
    return [*(overrides or []), *(f"{key}={value}" for key, value in options.items() if value is not None)]


def pair(text: str) -> tuple[str, str]:
    from kaggle_kit.errors import ConfigError

    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"expected KEY=VALUE, got {text!r}.")
    return key, value


def names(text: str) -> list[str]:
    """The parts of ``a,b,c``."""
    return [part.strip() for part in text.split(",") if part.strip()]
