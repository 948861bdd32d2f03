"""What a search has to work with: the backbones that are here, and how large the images are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kaggle_kit import seeds
from kaggle_kit.choices import GOALS
from kaggle_kit.competition import Competition, Setup
from kaggle_kit.config import RunConfig
from kaggle_kit.errors import ImageError, WeightsError
from kaggle_kit.images.decode import image_facts
from kaggle_kit.models import find_weights
from kaggle_kit.models.backbones import WORTH_FETCHING, LocalBackbone, chosen_by, local_backbones, require_some
from kaggle_kit.models.weights import weights_folder

Say = Callable[[str], None]
STEP = 32
"""Image sizes are multiples of it."""
_TINY = 2 * STEP
"""Pixels on the short side. Smaller images are enlarged to it for pretrained networks, which have learnt from larger ones."""
_SAMPLED = 64  # images whose size is read
_LONGER_FROM_SCRATCH = 5  # times as many epochs for a model that begins from random weights
# A small network that learns from random weights: where no pretrained ones are, and beside them where images are tiny.
_SCRATCH = LocalBackbone("resnet10t", 224, 21_765_496, pretrained=False)


@dataclass(frozen=True)
class Scene:
    """What ideas are made for.

    Attributes:
        backbones: those whose weights are here, the smallest first; before them, where there is one, what begins from random
            weights.
        side: of most images, pixels on the short side.
        goal: an entry of GOALS.
        ordered: whether the metric counts how far a class is off.
        greater: whether a greater score is better.
        folds: name of the fold table.
        n_folds: of it.
        shorter: backbone -> the epochs of the goal are divided by this, where there is no time for them.
    """

    backbones: Sequence[LocalBackbone]
    side: float
    goal: str
    ordered: bool = False
    greater: bool = True
    folds: str = "folds"
    n_folds: int = 5
    shorter: Mapping[str, int] = field(default_factory=dict)

    @property
    def pretrained(self) -> bool:
        """Whether there are weights to begin from."""
        return any(one.pretrained for one in self.backbones)

    def epochs(self, backbone: LocalBackbone) -> int:
        """Return the epochs of a fine-tuned run."""
        longer = 1 if backbone.pretrained else _LONGER_FROM_SCRATCH
        return max(1, GOALS[self.goal] * longer // self.shorter.get(backbone.name, 1))

    def shortened(self, backbones: Sequence[LocalBackbone], times: int) -> Scene:
        """Return the same with the epochs of some backbones divided once more."""
        further = {one.name: times * self.shorter.get(one.name, 1) for one in backbones}
        return replace(self, shorter={**self.shorter, **further})

    def tuned_side(self, backbone: LocalBackbone) -> int:
        """Return the image size to fine-tune at: the model's own, or less where the images are much smaller."""
        least = _TINY if backbone.pretrained else STEP
        return int(min(backbone.side, max(least, math.ceil(self.side / STEP) * STEP)))


def find_scene(setup: Setup, goal: str, only: Sequence[str], *, internet: bool, n_folds: int, say: Say) -> Scene:
    """Return what there is.

    Args:
        only: shell patterns of backbones; none: all.
        internet: whether the weights of the configured model may be downloaded where there are none.

    Raises:
        ConfigError: the patterns choose none of the backbones that are here, and none may be downloaded.
    """
    run, metric = setup.config.run, setup.metric
    side = _usual_side(setup.competition)
    found = _find_backbones(run, only, internet=internet, say=say)
    if found:
        say(f"backbones: {', '.join(one.name for one in found)}; images of about {side:.0f} pixels on the short side")
    return Scene(
        backbones=_with_scratch(found, only, side) if found else [_SCRATCH],
        side=side,
        goal=goal,
        ordered=metric.ordered and not setup.competition.multilabel,
        greater=metric.greater_is_better,
        folds=run.folds,
        n_folds=n_folds,
    )


def may_fetch(run: RunConfig) -> bool:
    """Return whether weights may come from anywhere: ``kk.yaml`` asks for some, and names no folder of them."""
    return run.model.pretrained is not False and weights_folder(run.model.pretrained) is None


def with_fetched(scene: Scene, only: Sequence[str], say: Say) -> tuple[Scene, str]:
    """Download the weights of further backbones; return the scene with them, and why there are no more of them."""
    here, why = {one.name for one in scene.backbones}, ""
    try:
        for name in WORTH_FETCHING:
            if name not in here and chosen_by(only, name):
                say(f"fetching the weights of {name}")
                find_weights(name, True)
    except WeightsError as error:
        why = str(error)
        say(f"no further backbones can be had: {why}")
    return replace(scene, backbones=_with_scratch(local_backbones(only), only, scene.side)), why


def _find_backbones(run: RunConfig, only: Sequence[str], *, internet: bool, say: Say) -> Sequence[LocalBackbone]:
    """Return those whose weights are here; where there are none, the configured one if it can be had."""
    pretrained, anywhere = run.model.pretrained, may_fetch(run)
    if not (anywhere and internet):
        require_some(only, pretrained)
    found = local_backbones(only, pretrained)
    if found or pretrained is False:
        return found
    why = f"no pretrained weights are in {pretrained}"
    if anywhere:
        try:
            find_weights(run.model.name, True)
            return local_backbones([run.model.name])
        except WeightsError as error:
            why = f"no pretrained weights are here ({error})"
    say(f"{why}; a small network is trained from random ones instead")
    return []


def _with_scratch(found: Sequence[LocalBackbone], only: Sequence[str], side: float) -> Sequence[LocalBackbone]:
    """Return backbones, and before them where images are tiny one that begins from random weights: it learns those quickly."""
    return [_SCRATCH, *found] if side < _TINY and chosen_by(only, _SCRATCH.name) else found


def _usual_side(competition: Competition) -> float:
    """Return the median short side of some training images, pixels; 224 where none can be opened."""
    rows = competition.train
    some = seeds.generator(0, "auto sizes").choice(len(rows), size=min(_SAMPLED, len(rows)), replace=False)
    sides = []
    for row in sorted(some.tolist()):
        try:
            facts = image_facts(rows[row].path)
        except ImageError:
            continue
        sides.append(min(facts.height, facts.width))
    return float(statistics.median(sides)) if sides else 224.0
