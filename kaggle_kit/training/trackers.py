"""Trackers: sinks of events that keep the numbers, settings and the outcome of a fold where other tools show them.

TensorBoard's event files are always written; ``track=wandb`` or ``track=mlflow`` adds another. A tracker that fails is named
once and used no more: it never stops a run. Offline they work as their own settings say (``WANDB_MODE=offline``; MLflow writes
to ``mlruns/`` unless ``MLFLOW_TRACKING_URI`` names a place).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from kaggle_kit import diagnosis, figures, runs
from kaggle_kit.choices import TRACKERS
from kaggle_kit.errors import DependencyError
from kaggle_kit.events import EpochEnded, Event, FoldEnded, Reporter, silent
from kaggle_kit.metrics import predicted_labels
from kaggle_kit.runs.comparison import flat
from kaggle_kit.sparse import kept_columns
from kaggle_kit.tables import read_predictions
from kaggle_kit.training.job import FoldJob

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)
ALWAYS = "tensorboard"


class Tracker(Protocol):
    """Where a fold is tracked: made of its job and the number of epochs that its history has already."""

    def numbers(self, values: Mapping[str, float], epoch: int) -> None:
        """Take the numbers of an epoch."""

    def outcome(self, scores: Mapping[str, float], text: str, picture: Figure | None) -> None:
        """Take how the fold came out: its scores, a sentence, and the confusion matrix where there is one."""

    def close(self) -> None:
        """Write what is not written yet."""


@contextlib.contextmanager
def trackers(job: FoldJob, *, epochs: int, writes: bool = True) -> Iterator[Reporter]:
    """Yield a reporter that passes what happens to TensorBoard and to the tracker that ``track`` names.

    Args:
        epochs: those that are in the history; later events, which a killed run may have left, are taken back.
        writes: False in all processes but the first.

    Raises:
        DependencyError: the tracker's package is not installed; says how to install it.
    """
    if not writes:
        yield silent
        return
    track = _Trackers(job)
    for name in dict.fromkeys([ALWAYS, job.config.track]):
        track.begin(name, epochs)
    try:
        yield track
    finally:
        track.close()


class _Trackers:
    """A reporter that passes events on to the trackers of a fold that have not failed."""

    def __init__(self, job: FoldJob) -> None:
        self._job = job
        self._made: dict[str, Tracker] = {}

    def begin(self, name: str, epochs: int) -> None:
        """Make a tracker."""
        with self._guarded(name):
            self._made[name] = TRACKERS.lookup(name)(self._job, epochs)

    def __call__(self, event: Event) -> None:
        """Tell each tracker what it keeps of an event."""
        for name, tracker in list(self._made.items()):
            with self._guarded(name):
                if isinstance(event, EpochEnded):
                    tracker.numbers(_known(event), event.row.epoch)
                elif isinstance(event, FoldEnded) and event.state == "finished":
                    tracker.outcome(*_outcome(self._job, event.text))

    def close(self) -> None:
        """Let each tracker write what is left."""
        for name, tracker in list(self._made.items()):
            with self._guarded(name):
                tracker.close()

    @contextlib.contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        """When a tracker fails, say so once and use it no more."""
        try:
            yield
        except DependencyError:
            raise
        except Exception as error:  # each tracker fails in its own ways, and training is worth more
            self._made.pop(name, None)
            logger.warning("tracker %s has failed, going on without it: %s: %s", name, type(error).__name__, error)


def _known(event: EpochEnded) -> dict[str, float]:
    """Return the numbers of an epoch that are defined."""
    values = event.row.values(event.metric)
    return {key: value for key, value in values.items() if key != "epoch" and not math.isnan(value)}


def _outcome(job: FoldJob, text: str) -> tuple[dict[str, float], str, Figure | None]:
    """Return scores of the out-of-fold rows, the sentence, and their confusion matrix; none of several labels or many classes.

    Of all data there are no such rows.
    """
    if len(job.valid) == 0:
        return {}, text, None
    probs, truth = read_predictions(job.folder / runs.OOF).probs, job.valid.truth
    scores = {f"final_{job.scorer.name}": job.scorer(truth, probs)}
    if truth.ndim == 2 or kept_columns(len(job.classes)):
        return scores, text, None
    labels = predicted_labels(probs, multilabel=False)
    counts = diagnosis.confusion_counts(truth, labels, len(job.classes))
    return scores, text, figures.plot_confusion(counts, job.classes.names)


def settings_of(job: FoldJob) -> dict[str, Any]:
    """Return the configuration as dotted keys, with what else tells one fold from another."""
    values = flat(job.config.model_dump(mode="json"))
    plain = {key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in values.items()}
    return {**plain, "run": job.folder.parent.name, "fold": job.fold, "competition": str(job.origin.get("competition", ""))}


def _pixels(figure: Figure) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a figure as (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


class TensorBoard:
    """Event files in the fold's folder: numbers, hyperparameters, the confusion matrix and the outcome."""

    def __init__(self, job: FoldJob, epochs: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._settings, self._last = settings_of(job), epochs
        self._writer = SummaryWriter(log_dir=str(job.folder), purge_step=epochs)

    def numbers(self, values: Mapping[str, float], epoch: int) -> None:
        """Write scalars, one step an epoch."""
        self._last = epoch
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def outcome(self, scores: Mapping[str, float], text: str, picture: Figure | None) -> None:
        """Write the plug-in data of hyperparameters, a picture and a text."""
        from torch.utils.tensorboard.summary import hparams

        known = {name: value for name, value in scores.items() if not math.isnan(value)}
        for part in hparams(self._settings, known):
            self._writer.file_writer.add_summary(part)  # type: ignore[attr-defined]
        for name, value in known.items():
            self._writer.add_scalar(name, value, self._last)
        self._writer.add_text("outcome", text, self._last)
        if picture is not None:
            self._writer.add_image("confusion", _pixels(picture), self._last, dataformats="HWC")

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, named after run and fold."""

    def __init__(self, job: FoldJob, epochs: int) -> None:  # noqa: ARG002 - it keeps what an earlier call logged
        self._wandb = _package("wandb")
        settings = settings_of(job)
        self._run = self._wandb.init(
            project=settings["competition"] or "kaggle_kit",
            group=settings["run"],
            name=f"{settings['run']}-fold{job.fold}",
            config=settings,
            dir=str(job.folder),
        )

    def numbers(self, values: Mapping[str, float], epoch: int) -> None:
        """Log the numbers of an epoch."""
        self._run.log(dict(values), step=epoch)

    def outcome(self, scores: Mapping[str, float], text: str, picture: Figure | None) -> None:
        """Put scores and text into the summary, and log the picture."""
        self._run.summary.update({**scores, "outcome": text})
        if picture is not None:
            self._run.log({"confusion": self._wandb.Image(_pixels(picture))})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class MlFlow:
    """A run of MLflow, named after run and fold, in an experiment of the competition's name."""

    def __init__(self, job: FoldJob, epochs: int) -> None:  # noqa: ARG002 - it keeps what an earlier call logged
        mlflow = _package("mlflow")
        settings = settings_of(job)
        place = os.environ.get("MLFLOW_TRACKING_URI") or (job.cache_dir.parent / "mlruns").resolve().as_uri()
        if place.startswith("file:"):  # MLflow 3 wants to be told that a folder is meant
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._client = mlflow.MlflowClient(tracking_uri=place)
        name = settings["competition"] or "kaggle_kit"
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment is not None else self._client.create_experiment(name)
        self._id = self._client.create_run(number, run_name=f"{settings['run']}-fold{job.fold}").info.run_id
        for key, value in settings.items():
            self._client.log_param(self._id, key, value)

    def numbers(self, values: Mapping[str, float], epoch: int) -> None:
        """Log the numbers of an epoch."""
        for name, value in values.items():
            self._client.log_metric(self._id, name, float(value), step=epoch)

    def outcome(self, scores: Mapping[str, float], text: str, picture: Figure | None) -> None:
        """Log scores, and text and picture as files."""
        for name, value in scores.items():
            self._client.log_metric(self._id, name, float(value))
        self._client.log_text(self._id, text, "outcome.txt")
        if picture is not None:
            self._client.log_figure(self._id, picture, "confusion.png")

    def close(self) -> None:
        """End the run."""
        self._client.set_terminated(self._id)


def _package(name: str) -> Any:
    """Import the package of a tracker; raises DependencyError with the install command."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyError(f"track={name} needs a package: pip install 'kaggle-kit[{name}]'; or leave track out.") from error
