"""Faults in the real prediction path of a finished workspace: the models run again, on images, with one step wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

from mapping_fault_list import Fault
from mapping_scene import Scene

from kaggle_kit import runs
from kaggle_kit.tables import read_predictions

Patch = Callable[..., Any]


def predicted_again(wrap: Callable[[Any], Any], target: str) -> Callable[[Scene], None]:
    """Predict the test and control rows of every run again with ``target`` of the prediction module replaced."""

    def inject(scene: Scene) -> None:
        from kaggle_kit.inference import PredictOptions, predict, predict_runs

        shutil.rmtree(scene.workspace.cache_dir, ignore_errors=True)  # features that a probe has kept would be taken instead
        for name in runs.list_runs(scene.workspace):
            one = runs.read_run(scene.workspace, name)
            meta = read_predictions(one.finished_folds()[0].path / runs.TEST).meta
            control = len(read_predictions(one.finished_folds()[0].path / runs.CONTROL))
            for fold in one.finished_folds():
                (fold.path / runs.TEST).unlink()
            options = PredictOptions(meta["views"], meta["merge"], control, oof=False)
            with mock.patch.object(predict, target, wrap(getattr(predict, target))):
                predict_runs(scene.setup, [name], options)

    return inject


def bgr(right: Patch) -> Patch:
    return lambda images, *args, **options: right(images.flip(1), *args, **options)


def other_mean(right: Patch) -> Patch:
    """0.5 for the means and spreads of ImageNet, or the other way round."""

    def wrong(images: Any, spec: Any, *args: Any, **options: Any) -> Any:
        half = tuple(spec.mean) == (0.5, 0.5, 0.5)
        mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if half else ((0.5,) * 3, (0.5,) * 3)
        return right(images, replace(spec, mean=mean, std=std), *args, **options)

    return wrong


def shuffling(right: Patch) -> Patch:
    """The loader shuffles within batches and keeps the row numbers."""

    def wrong(*args: Any, **options: Any) -> Iterator[Any]:
        import torch

        for batch in right(*args, **options):
            order = torch.randperm(len(batch.images), generator=torch.Generator().manual_seed(0))
            yield batch._replace(images=batch.images[order])

    return wrong


def late_by_one(right: Patch) -> Patch:
    """Row numbers are those of the row before."""

    def wrong(*args: Any, **options: Any) -> Iterator[Any]:
        for batch in right(*args, **options):
            yield batch._replace(rows=batch.rows.roll(1))

    return wrong


def upside_down(right: Patch) -> Patch:
    return lambda images, *args, **options: right(images.flip(2), *args, **options)


def views_reversed(right: Patch) -> Patch:
    """All views but the first belong to the batch in reverse order."""

    def wrong(stacked: Any, *args: Any, **options: Any) -> Any:
        import torch

        return right(torch.cat([stacked[:1], stacked[1:].flip(1)]), *args, **options)

    return wrong


REAL_FAULTS: tuple[Fault, ...] = (
    Fault("path: BGR for RGB", predicted_again(bgr, "to_input"), True),
    Fault("path: mean and spread of another model", predicted_again(other_mean, "to_input"), True),
    Fault("path: images upside down", predicted_again(upside_down, "to_input"), True),
    Fault("path: loader shuffles within batches", predicted_again(shuffling, "eval_batches"), True),
    Fault("path: rows numbered one late", predicted_again(late_by_one, "eval_batches"), True),
    Fault("path: views of other rows", predicted_again(views_reversed, "merge_views"), True),
)
