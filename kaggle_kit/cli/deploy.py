"""From trained models to their use elsewhere: ``kk export``, ``kk serve`` and ``kk latency``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaggle_kit.choices import ENGINE_CHOICES, ENGINES, EXPORTS, PREPROCESSING
from kaggle_kit.cli.common import Entries, app, command, one_of, page_subjects, run_names
from kaggle_kit.project import Project

Name = Annotated[
    str | None,
    typer.Argument(metavar="[RUN|BLEND]", help="default: the newest blend, else run", autocompletion=one_of(page_subjects)),
]


@command(app)
def export(
    to: Annotated[Path, typer.Option(help="the folder to write; an earlier export there is replaced")],
    name: Name = None,
    overrides: Entries = None,
    format: Annotated[str, typer.Option(help=EXPORTS.listed, autocompletion=one_of(EXPORTS.keys))] = "onnx",
    preprocessing: Annotated[
        str, typer.Option(help=f"normalise images {PREPROCESSING.listed} the model", autocompletion=one_of(PREPROCESSING.keys))
    ] = "inside",
    distil: Annotated[
        bool, typer.Option("--distil", help="of a run: train one model that learns from its folds, with entries of its own")
    ] = False,
) -> object:
    """Write a run's or blend's models for other programs, with classes and preprocessing, verified against `kk predict`."""
    return Project.open().export(name, *(overrides or ()), to=to, format=format, preprocessing=preprocessing, distil=distil)


@command(app)
def serve(
    name: Name = None,
    host: Annotated[str, typer.Option(help="to listen at; default: this machine only")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 8000,
    engine: Annotated[str, typer.Option(help=ENGINE_CHOICES.listed, autocompletion=one_of(ENGINE_CHOICES.keys))] = "auto",
    urls: Annotated[bool, typer.Option("--urls", help="fetch images that requests name by URL, from the internet")] = False,
) -> object:
    """Serve a run or a blend over HTTP until Ctrl-C: POST /predict, /health, /metrics and a page to drop images on."""
    return Project.open().serve(name, host=host, port=port, engine=engine, urls=urls)


@command(app)
def latency(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="timm's names; without models and --runs, all runs")
    ] = None,
    runs: Annotated[
        str, typer.Option(help="whose models are measured, separated by commas", autocompletion=one_of(run_names))
    ] = "",
    engines: Annotated[
        str,
        typer.Option(
            help=f"separated by commas: {ENGINES.listed}; default: all installed", autocompletion=one_of(ENGINES.keys)
        ),
    ] = "",
    batch_sizes: Annotated[str, typer.Option(help="images at a time, separated by commas")] = "1,8,32",
    image_size: Annotated[int | None, typer.Option(min=1, help="side of the images of models; default: their own")] = None,
    picture: Annotated[Path | None, typer.Option(help="a PNG, SVG or PDF to draw")] = None,
) -> object:
    """Measure how long models take on this machine, by engine and batch size, beside the scores of runs."""
    options = {"runs": runs, "engines": engines, "batch_sizes": batch_sizes, "image_size": image_size, "picture": picture}
    return Project.here().latency(*(models or ()), **options)  # type: ignore[arg-type]
