"""What a run will cost: hours = folds x epochs x images / img/s, and the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from kaggle_kit.results import Result
from kaggle_kit.units import format_duration

MARGIN = 0.05
"""Share of the limit that is kept free: for starting, for checkpoints, and for what a short measurement does not see."""


@dataclass(frozen=True)
class Work:
    """How much is to be done.

    Attributes:
        n_train: images of an epoch, and
        n_valid: images to validate on, both summed over the folds.
        n_test: test images, those for control included.
        share: of the images of an epoch at the measured size that an epoch costs on average; stages at smaller sizes cost less.
        validate_every: epochs from one validation to the next; 0: none while training.
        views: of each test image.
        devices: folds that are trained at a time, each on its own device.
    """

    folds: int
    epochs: int
    n_train: int
    n_valid: int
    n_test: int
    share: float = 1.0
    views: int = 1
    devices: int = 1
    validate_every: int = 1

    @property
    def validations(self) -> int:
        """Of a fold while it trains: before the first epoch, and after those in turn and the last."""
        return 0 if self.validate_every == 0 else 1 + math.ceil(self.epochs / self.validate_every)

    def first_folds(self, folds: int) -> Work:
        """The same with fewer folds, taken to be of the same size."""
        share = folds / self.folds
        return replace(self, folds=folds, n_train=round(self.n_train * share), n_valid=round(self.n_valid * share))


@dataclass(frozen=True)
class Rates:
    """Images a second on one device.

    Attributes:
        predict: of `kk predict`.
        validate: of validation while training, by PyTorch; None: as many.
    """

    train: float
    predict: float
    validate: float | None = None

    def times(self, factor: float) -> Rates:
        """The same of a machine, or of images, that many times as fast."""
        return Rates(factor * self.train, factor * self.predict, None if self.validate is None else factor * self.validate)

    def seconds(self, work: Work) -> tuple[float, float, float]:
        """Of training, of validation and of prediction."""
        # The last device to finish has this share of the folds.
        share = math.ceil(work.folds / min(work.devices, work.folds)) / work.folds
        train = share * work.share * work.epochs * work.n_train / self.train
        # Once more with the weights that are kept, as `kk predict` does.
        valid = share * work.n_valid * (work.validations / (self.validate or self.predict) + 1 / self.predict)
        again = work.n_valid if work.views > 1 else 0  # out-of-fold rows are predicted with views, too
        predict = work.views * (work.folds * work.n_test + again) / self.predict
        return train, valid, predict


@dataclass(frozen=True)
class Option:
    """Something else to do, what to write for it, and the seconds it would take."""

    text: str
    seconds: float


@dataclass(frozen=True, repr=False)
class Plan(Result):
    """What a run will take, measured on this machine.

    Attributes:
        image_size: (height, width).
        limit: seconds.
        options: if the run does not fit the limit, what would; if it does, what more would.
    """

    model: str
    device: str
    precision: str
    image_size: tuple[int, int]
    batch_size: int
    rates: Rates
    work: Work
    limit: float
    options: tuple[Option, ...] = field(default=())

    @property
    def seconds(self) -> float:
        """All together."""
        return sum(self.rates.seconds(self.work))

    @property
    def fits(self) -> bool:
        """Whether that is within the limit, less the margin."""
        return self.seconds <= self.limit * (1 - MARGIN)

    def describe(self) -> str:
        """A few lines of text."""
        work, (train, valid, predict) = self.work, self.rates.seconds(self.work)
        height, width = self.image_size
        at_once = f", {work.devices} folds at a time" if work.devices > 1 else ""
        views = f" x {work.views} views" if work.views > 1 else ""
        counted = f"{round(work.n_valid / work.folds):,} images {work.validations + 1} times a fold"
        lines = [
            f"{self.model} at {height}x{width}, batches of {self.batch_size}, on {self.device} ({self.precision})",
            f"measured: {self.rates.train:.1f} img/s in training, {self.rates.predict:.1f} img/s in prediction",
            f"training    {format_duration(train):>9}  {work.folds} folds x {work.epochs} epochs x "
            f"{round(work.n_train / work.folds):,} images{at_once}",
            f"validation  {format_duration(valid):>9}  {counted}",
            f"prediction  {format_duration(predict):>9}  {work.folds} models x {work.n_test:,} images{views}",
        ]
        verdict = "fits" if self.fits else "does not fit"
        lines.append(
            f"together    {format_duration(self.seconds):>9}  {verdict} into {format_duration(self.limit)} less {MARGIN:.0%}"
        )
        if self.options:
            lines.append("so would:" if self.fits else "what would fit:")
            lines += [f"  {format_duration(option.seconds):>9}  {option.text}" for option in self.options]
        elif not self.fits:
            lines.append("a smaller model is needed: one epoch of one fold is too much already.")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement, the work, the time it takes and what else would fit."""
        return {**super().to_dict(), "seconds": self.seconds, "fits": self.fits}
