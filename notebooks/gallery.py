"""Pictures in a grid, for notebooks 10 to 14: samples, batches, augmentation, mistakes; and bars of numbers with names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kaggle_kit import Project
from kaggle_kit.config import RunConfig, as_overrides, derive
from kaggle_kit.diagnosis import least_sure_right, surest_mistakes
from kaggle_kit.figures.style import RIGHT, new_figure, plain_axes
from kaggle_kit.images.decode import decode_image
from kaggle_kit.report.network import ask_pretrained, draw_augmented, draw_batch, spec_of
from kaggle_kit.report.survey import class_table

INCHES = 1.05
"""Width of a picture."""


def pictures(images: Sequence[Any], titles: Sequence[str], *, columns: int = 8) -> Figure:
    """Return pictures with their titles, ``columns`` in a row."""
    rows = -(-len(images) // columns)
    figure, _ = new_figure(INCHES * columns, 1.25 * INCHES * rows)
    figure.clear()
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, image, title in zip(figure.axes, images, titles, strict=False):
        axes.imshow(image, aspect="equal")
        axes.set_title(title, fontsize=6.5)
    return figure


def first_look(project: Project, count: int = 16) -> Figure:
    """Return training images from all over the data, with their labels and sizes."""
    rows = project.competition.train
    chosen = [rows[place] for place in np.linspace(0, len(rows) - 1, count).astype(int)]
    images = [decode_image(row.path) for row in chosen]
    sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in images]
    return pictures(images, ["\n".join([*row.labels, size]) for row, size in zip(chosen, sizes, strict=True)])


def class_sizes(project: Project) -> dict[str, int]:
    """Return class -> number of training images that have it."""
    counts = class_table(project.competition).set_index("class")["images"].to_dict()
    return {name: counts[name] for name in project.competition.classes}


def bars(values: Mapping[str, float], what: str) -> Figure:
    """Return a bar for each name, with its number."""
    figure, (axes,) = new_figure(7, 0.8 + 0.28 * len(values))
    drawn = axes.barh(list(values), list(values.values()), color=RIGHT)
    axes.bar_label(drawn, fmt="%.4g", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(what)
    plain_axes(axes, grid="x")
    return figure


def configured(project: Project, recipe: str, **entries: Any) -> RunConfig:
    """Return a recipe with other entries, as ``project.train(config=f"recipe:{recipe}", **entries)`` takes it."""
    from kaggle_kit.config import load_config

    return load_config(project.workspace.config_path, as_overrides(entries), run_file=Path(f"recipe:{recipe}")).run


def batch(project: Project, config: RunConfig) -> Figure:
    """Return the first training batch with its labels, as the network gets it."""
    root, competition = project.workspace.root, project.competition
    drawn = draw_batch(config, spec_of(config, root), competition)
    titles = ["\n".join(f"{name} {share:.0%}" if share < 1 else name for name, share in found) for found in drawn.labels]
    return pictures(drawn.images, titles)


def augmented(project: Project, config: RunConfig, *, times: int = 5, row: int = 0) -> Figure:
    """Return one training image as it is evaluated, and ``times`` draws of it as it is trained on."""
    spec = spec_of(config, project.workspace.root)
    drawn = draw_augmented(config, spec, project.competition.train[row], draws=times)
    return pictures([drawn.original, *drawn.images], ["as it is", *(f"draw {number}" for number in range(1, times + 1))])


def imagenet(project: Project, *, count: int = 4, seed: int = 1) -> Figure:
    """Return images before and after the pretrained model's preprocessing, with what its own classes say of them."""
    config = derive(RunConfig(), ["model=tf_efficientnet_lite0"])
    _, said = ask_pretrained(config, project.competition, count=count, seed=seed)
    images = [image for one in said for image in (one.raw, one.prepared)]
    guesses = [guess for one in said for guess in (one.said_raw, one.said_prepared)]
    return pictures(images, [f"{label[:18]}\n{share:.0%}" for (label, share), *_ in guesses])


def mistakes(project: Project, run: Any, *, count: int = 8) -> Figure:
    """Return the out-of-fold rows that a run is surest of and wrong about, or of a run without mistakes the least sure ones."""
    rows = run.scored()
    right, sure = rows.sureness
    paths = {row.id: row.path for row in project.competition.train}
    wrong = (least_sure_right if right.all() else surest_mistakes)(right, sure, count).tolist()
    titles = ["\n".join([*rows.labels_of(at), "said", *rows.labels_of(at, predicted=True)]) for at in wrong]
    return pictures([decode_image(paths[rows.ids[at]]) for at in wrong], titles, columns=max(4, len(wrong)))


def scores_by_fold(runs: Mapping[str, Any]) -> Figure:
    """Return the scores of several runs, fold by fold."""
    from kaggle_kit.figures import plot_scores

    scored = {name: run.scored() for name, run in runs.items()}
    metric = next(iter(scored.values())).metric.name
    return plot_scores({name: rows.fold_scores for name, rows in scored.items()}, metric)
