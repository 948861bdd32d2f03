"""What the commands share: the app, how a command is made of a function, and options that several take."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from kaggle_kit import show
from kaggle_kit.choices import LAUNCHERS, STRATEGIES, VIEWS
from kaggle_kit.errors import AmbiguousDataError
from kaggle_kit.project import Project
from kaggle_kit.show.terminal import NORMAL, QUIET, VERBOSE

Then = Callable[[Any], str | None]
HELP = {"help_option_names": ["-h", "--help"]}


def _version(asked: bool) -> None:
    if asked:
        from kaggle_kit import __version__

        show.line(f"kaggle_kit {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="kk",
    help="From a folder of images to a checked submission.csv.",
    epilog="A workspace is the folder you stand in; `kk init DATA_DIR` makes one. `kk COMMAND -h` tells more. "
    "Exit codes: 0 fine, 1 failed, 2 wrong call or data, 3 not proven, 130 Ctrl-C, 143 stopped; see docs/cli.md.",
    no_args_is_help=True,
    context_settings=HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def main_options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")] = False,
) -> None:
    """From a folder of images to a checked submission.csv."""


def group(name: str, text: str) -> typer.Typer:
    """Return a group of commands that is part of the app."""
    made = typer.Typer(help=text, no_args_is_help=True, context_settings=HELP, rich_markup_mode=None)
    app.add_typer(made, name=name)
    return made


_COMMON = {
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="results, warnings and errors only")],
    "verbose": Annotated[bool, typer.Option("--verbose", "-v", help="say more, and where each line comes from")],
    "as_json": Annotated[bool, typer.Option("--json", help="print the result as JSON, with the keys of docs/cli.md")],
}


def command(
    where: typer.Typer, name: str | None = None, *, then: str | Then = "", see: Then | None = None
) -> Callable[[Callable[..., object]], Any]:
    """Return a decorator that makes a command of a function, which returns what is to be shown.

    The command also takes ``-q``, ``-v`` and ``--json``, and ends with the result's exit code. A function with a parameter
    ``as_json`` is told whether JSON is wanted.

    Args:
        then: the command that usually follows, or a function that makes it of the result.
        see: a function of the result that names the page about it, or the command that makes one.
    """

    def register(body: Callable[..., object]) -> Callable[..., object]:
        wants_json = "as_json" in inspect.signature(body).parameters

        @functools.wraps(body)
        def run(*, quiet: bool = False, verbose: bool = False, as_json: bool = False, **options: Any) -> None:
            show.set_up_logging(QUIET if quiet else VERBOSE if verbose else NORMAL)
            found = body(**options, **({"as_json": as_json} if wants_json else {}))
            show.result(found, as_json=as_json)
            code = getattr(found, "exit_code", 0)
            silent = quiet or as_json
            page = see(found) if see is not None and not silent else None
            if page:
                show.line(f"See: {page}")
            following = then if isinstance(then, str) else then(found)
            if following and not (code or silent):
                show.line(f"Next: {following}")
            raise typer.Exit(code)

        own = [one for one in inspect.signature(body, eval_str=True).parameters.values() if one.name not in _COMMON]
        added = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
            for key, annotation in _COMMON.items()
        ]
        parameters = [*(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *added]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        where.command(name)(run)
        return body

    return register


def one_of(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return how a shell completes one of ``names``, or the last of several with commas between them."""

    def complete(incomplete: str) -> list[str]:
        before, comma, begun = incomplete.rpartition(",")
        return [before + comma + name for name in names() if name.startswith(begun)]

    return complete


def run_names() -> list[str]:
    """Return the names of the runs that lie here; nothing is read."""
    return sorted(path.parent.name for path in Path("runs").glob("*/run.json"))


def recipe_names() -> list[str]:
    """Return the names of the recipes."""
    from kaggle_kit.config.recipes import recipes

    return list(recipes())


def page_subjects() -> list[str]:
    """Return the names of the runs and blends that lie here."""
    return run_names() + sorted(path.stem for path in Path("submissions").glob("[!.]*.csv") if "." not in path.stem)


Entries = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="entries of the run's configuration, e.g. model=resnet50 epochs=5"),
]
Run = Annotated[str | None, typer.Option("--run", help="the run's name", autocompletion=one_of(run_names))]
Seed = Annotated[int | None, typer.Option(help="another seed than kk.yaml's")]
Fold = Annotated[str, typer.Option(help="all, 0, 0,2 or 0-3; of train also full: one model on all data")]
Config = Annotated[
    Path | None,
    typer.Option(
        help="recipe:NAME, see `kk recipes`, or a file with a run's configuration, instead of kk.yaml's",
        autocompletion=one_of(lambda: [f"recipe:{name}" for name in recipe_names()]),
    ),
]
Tta = Annotated[
    str,
    typer.Option(
        help=f"views of each image: {VIEWS.listed}; a+b is their mean, and `auto` of `kk predict` chooses for each run",
        autocompletion=one_of(VIEWS.keys),
    ),
]
Limit = Annotated[str | None, typer.Option("--time-limit", "--time", help="end cleanly before this, e.g. 8h30m")]
Launcher = Annotated[
    str | None, typer.Option(help=f"train in other processes: {LAUNCHERS.listed}", autocompletion=one_of(LAUNCHERS.keys))
]
Address = Annotated[str | None, typer.Option(help="of the Ray cluster")]
Strategy = Annotated[str | None, typer.Option(help=STRATEGIES.listed, autocompletion=one_of(STRATEGIES.keys))]


def choices_made(given: Sequence[str] | None) -> dict[str, str]:
    """Return the parts of ``KEY=VALUE`` texts.

    Raises:
        ConfigError: one of them has no ``=``.
    """
    from kaggle_kit.errors import ConfigError

    pairs = [text.partition("=") for text in given or ()]
    for key, equals, value in pairs:
        if not equals:
            raise ConfigError(f"expected --choose KEY=VALUE, got {key + value!r}.")
    return {key: value for key, _, value in pairs}


def begin(data_dir: Path, choices: dict[str, str], **told: Any) -> Project:
    """Make a workspace here as ``Project.init`` does; in a terminal, ask what the data leave open."""
    while True:
        try:
            return Project.init(data_dir, choose=choices, **told)
        except AmbiguousDataError as error:
            choices |= show.ask(error)
