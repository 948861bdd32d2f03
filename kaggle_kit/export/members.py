"""The runs that a run or a blend is made of, as models with weights: what can be exported, and served."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kaggle_kit import runs
from kaggle_kit.blending import Fitted, open_class
from kaggle_kit.blending.means import mean
from kaggle_kit.choices import BLENDERS
from kaggle_kit.competition import Setup
from kaggle_kit.errors import ConfigError
from kaggle_kit.fold_names import fold_name
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.folder import thresholds_of
from kaggle_kit.kernel.dataset import choose_recipe
from kaggle_kit.models import LoadedModel, licence_of, load_model
from kaggle_kit.report.subjects import Subject, find_subjects
from kaggle_kit.runs import FoldRun, Run


@dataclass(frozen=True)
class Member:
    """One run with its models.

    Attributes:
        weight: its share of the blend.
        folds: whose models' mean it is, that of all data among them where there is one.
    """

    run: Run
    weight: float
    folds: tuple[FoldRun, ...]

    @cached_property
    def models(self) -> tuple[LoadedModel, ...]:
        """The model of each fold."""
        return tuple(load_model(fold.path / runs.MODEL) for fold in self.folds)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fold -> sha256 of its model."""
        names = (fold_name(fold.fold) for fold in self.folds)
        return dict(zip(names, (model.fingerprint for model in self.models), strict=True))

    @property
    def spec(self) -> ImageSpec:
        """What the models want to see."""
        return self.models[0].spec

    @cached_property
    def licence(self) -> str:
        """The licence of the pretrained weights, or that there were none."""
        began = {fold.record.weights or "" for fold in self.folds}
        if all("none" in text for text in began) and self.run.record.config.init_from is None:
            return "none: trained from random values"
        return licence_of(self.models[0].name) or "not stated by timm; ask whoever made the weights"


@dataclass(frozen=True)
class Members:
    """What a run or a blend is made of.

    Attributes:
        members: those with a weight; weights sum to 1.
        thresholds: of a multi-label task, from which on each class is named, (C,); else None.
        notes: what a reader should know.
    """

    subject: Subject
    members: tuple[Member, ...]
    thresholds: tuple[float, ...] | None
    notes: tuple[str, ...]


def find_members(setup: Setup, name: str | None, *, full: bool = False) -> Members:
    """Return the models of the run or blend called ``name``; None: of the newest blend, else of the newest run.

    Args:
        full: of a run, take the model of all data alone.

    Raises:
        MissingFileError, DataError: there is no such run or blend, or its models have changed.
        ConfigError: the blend is no weighted mean.
    """
    (subject,) = find_subjects(setup, [] if name is None else [name])
    named = {"runs": [subject.name], "blend": None} if subject.run is not None else {"runs": [], "blend": subject.name}
    # Whether the submission passed its check says nothing of the models themselves.
    recipe, notes = choose_recipe(setup.workspace, setup.competition, **named, force=True)  # type: ignore[arg-type]
    weights = _weights(recipe.fitted, subject.name)
    used = [(run, weight) for run, weight in zip(recipe.runs, weights, strict=True) if weight > 0]
    views = None if subject.record is None else subject.record.views
    if views not in (None, "none"):
        notes = [*notes, f"the blend was made with views {views}; here each image is looked at once"]
    members = tuple(Member(run, weight, (run.full,) if full else tuple(run.finished_models())) for run, weight in used)
    thresholds = recipe.thresholds
    if setup.competition.multilabel and thresholds is None:
        n_classes = len(setup.competition.classes)
        found, _ = thresholds_of(setup.workspace, [run.name for run, _ in used], n_classes)
        thresholds = np.broadcast_to(np.asarray(found, dtype=np.float64), n_classes).tolist()
    return Members(subject, members, None if thresholds is None else tuple(thresholds), tuple(notes))


def _weights(fitted: Fitted, name: str) -> list[float]:
    """Return the share of each run; raises ConfigError for a blend that is no weighted mean of probabilities."""
    method = str(fitted.parameters.get("chosen", fitted.blender.name))
    if fitted.weights is None or BLENDERS[method].combine is not mean or open_class.COLUMN in fitted.parameters:
        means = [other for other in BLENDERS if BLENDERS[other].combine is mean]
        raise ConfigError(
            f"blend {name} is by the method {method}, which is no weighted mean of probabilities, so that models with weights "
            f"cannot stand for it. Export a run, or blend with --method {' or '.join(means)} first."
        )
    return fitted.weights
