"""What could be tried next: runs, what each would take, and the share of the remaining error that it may remove.

The shares to begin with are rough and for the order only; what an idea removes here corrects them, and whether a run is kept is
decided by its out-of-fold rows alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from kaggle_kit.auto.state import State
from kaggle_kit.auto.steps import Step
from kaggle_kit.choices import GOALS
from kaggle_kit.models.backbones import LocalBackbone

_SCRATCH_LONGER = 5  # times as many epochs for a model that begins from random weights
_RACE = 0.5  # chance that a run which was trained on one fold earns the others
_STEP = 32  # image sizes are multiples of it


@dataclass(frozen=True)
class Scene:
    """What ideas are made for.

    Attributes:
        backbones: whose weights are here, the smallest first; without ``pretrained`` one that begins from random weights.
        side: of most images, pixels on the short side.
        goal: an entry of GOALS.
    """

    backbones: Sequence[LocalBackbone]
    side: float
    goal: str
    pretrained: bool = True

    @property
    def epochs(self) -> int:
        """Epochs of a fine-tuned run."""
        return GOALS[self.goal] * (1 if self.pretrained else _SCRATCH_LONGER)

    def tuned_side(self, backbone: LocalBackbone) -> int:
        """Return the image size to fine-tune at: the model's own, or less where the images are much smaller."""
        least = 2 * _STEP if self.pretrained else _STEP
        return int(min(backbone.side, max(least, math.ceil(self.side / _STEP) * _STEP)))


@dataclass(frozen=True)
class Candidate:
    """A run that could be trained.

    Attributes:
        step: how, all folds.
        gain: expected share of the error that it removes.
        seconds: expected, with prediction; NaN where nothing is measured yet.
    """

    idea: str
    run: str
    model: str
    step: Step
    gain: float
    seconds: float

    @property
    def strategy(self) -> str:
        """Of the run."""
        return str(self.step.options["strategy"])

    @property
    def rate(self) -> float:
        """Gain a second."""
        return self.gain / max(self.seconds, 1e-9)

    def on_one_fold(self, folds: int) -> Candidate:
        """Return the same for fold 0 only, as the first round of a race."""
        step = replace(self.step, options={**self.step.options, "fold": "0"})
        return replace(self, idea="race", step=step, gain=self.gain * _RACE, seconds=self.seconds / folds)


@dataclass(frozen=True)
class Idea:
    """A kind of run.

    Attributes:
        gain: share of the error that the first of its runs may remove; the next of the same backbone, half as much each.
        entries: the run's configuration beside the model for one backbone, or None where it makes no sense.
        goals: for which goals.
    """

    name: str
    text: str
    gain: float
    entries: Callable[[Scene, LocalBackbone, State], list[str] | None]
    probe: bool = False
    goals: tuple[str, ...] = tuple(GOALS)


def _augmentation(state: State, *, mirrored: str, else_: str) -> str:
    return f"augment={mirrored if state.mirrors else else_}"


def _probe(scene: Scene, backbone: LocalBackbone, state: State) -> list[str] | None:  # noqa: ARG001
    # The first sees plain images: it then shows whether mirrored ones mean the same.
    preset = "augment=none" if state.mirrors is None else _augmentation(state, mirrored="light", else_="none")
    return ["data.crop_pct=1.0", preset] if scene.pretrained else None


def _tuned(scene: Scene, backbone: LocalBackbone, side: int, epochs: int, *further: str) -> list[str]:
    start = ["lr=0.0005"] if scene.pretrained else ["pretrained=false", "lr=0.003", "schedule.warmup_epochs=1"]
    size = [f"image_size={side}"] if side != backbone.side or not scene.pretrained else []
    return [f"epochs={epochs}", "data.crop_pct=1.0", *start, *size, *further]


def _finetune(scene: Scene, backbone: LocalBackbone, state: State) -> list[str] | None:
    preset = _augmentation(state, mirrored="medium", else_="shift")
    return _tuned(scene, backbone, scene.tuned_side(backbone), scene.epochs, preset)


def _mixed(scene: Scene, backbone: LocalBackbone, state: State) -> list[str] | None:
    mixing = ["augment.cutmix=1.0", "augment.mix_prob=0.5", _augmentation(state, mirrored="light", else_="shift")]
    return _tuned(scene, backbone, scene.tuned_side(backbone), math.ceil(1.5 * scene.epochs), *mixing)


def _larger(scene: Scene, backbone: LocalBackbone, state: State) -> list[str] | None:
    side = math.ceil(1.2 * scene.tuned_side(backbone) / _STEP) * _STEP
    if side > 2 * scene.side:  # there is no more to see
        return None
    preset = _augmentation(state, mirrored="medium", else_="shift")
    return _tuned(scene, backbone, side, scene.epochs, preset)


def _again(scene: Scene, backbone: LocalBackbone, state: State) -> list[str] | None:
    found = _finetune(scene, backbone, state)
    return None if found is None else [*found, "seed=1", "loss.label_smoothing=0.1"]


IDEAS: tuple[Idea, ...] = (
    Idea("probe", "a head on the frozen backbone", 0.08, _probe, probe=True),
    Idea("finetune", "the whole model, from the fitted head on", 0.25, _finetune),
    Idea("mix", "the same with CutMix, longer", 0.15, _mixed, goals=("balanced", "best")),
    Idea("larger", "larger images", 0.12, _larger, goals=("balanced", "best")),
    Idea("again", "another seed, with smoothed labels", 0.08, _again, goals=("best",)),
)
"""To add an idea: a function and an entry."""


def candidates(scene: Scene, state: State) -> Iterator[Candidate]:
    """Yield all that was neither tried nor has failed."""
    for idea in IDEAS:
        if scene.goal not in idea.goals:
            continue
        for backbone in scene.backbones:
            run = _run_name(idea.name, backbone.name)
            entries = None if run in state.tried or run in state.failed else idea.entries(scene, backbone, state)
            if entries is None:
                continue
            strategy = "probe" if idea.probe else "probe-then-finetune" if scene.pretrained else "finetune"
            step = Step("train", (f"model={backbone.name}", *entries), {"strategy": strategy, "fold": "all", "run": run})
            yield Candidate(
                idea.name,
                run,
                backbone.name,
                step,
                _gain(idea, backbone, state, run),
                _seconds(idea, backbone, scene, state, entries),
            )


def _gain(idea: Idea, backbone: LocalBackbone, state: State, run: str) -> float:
    """Expected share of the error removed: less for each run of the same backbone, and as a race on fold 0 has shown."""
    before = sum(one.model == backbone.name and one.idea != "probe" for one in state.tried.values())
    expected = state.expected_gain(idea.name, idea.gain) * 0.5**before
    return expected if run not in state.raced else 0.5 * expected + 0.5 * max(0.0, state.raced[run])


def _seconds(idea: Idea, backbone: LocalBackbone, scene: Scene, state: State, entries: Sequence[str]) -> float:
    """Expected seconds of training and prediction."""
    probe = _probe_seconds(backbone, scene, state)
    if idea.probe:
        return probe
    measured = state.measured.get(backbone.name)
    if measured is None:
        return math.nan
    strategy = "probe-then-finetune" if scene.pretrained else "finetune"
    told = dict(entry.split("=", 1) for entry in entries)
    side, epochs = float(told.get("image_size", backbone.side)), int(told["epochs"])
    head = probe if scene.pretrained and math.isfinite(probe) else 0.0
    return (measured.seconds(side=side, epochs=epochs) + head) * state.slowness(strategy)


def _probe_seconds(backbone: LocalBackbone, scene: Scene, state: State) -> float:
    """From the probes that were made: time goes with pixels and, about, with the size of the weights."""
    sizes = {one.name: one for one in scene.backbones}
    known = [one for one in state.tried.values() if one.idea == "probe" and one.model in sizes]
    if not known:
        return math.nan
    work = {name: one.n_bytes * one.side**2 for name, one in sizes.items()}
    return sum(one.seconds for one in known) * work[backbone.name] / sum(work[one.model] for one in known)


def _run_name(idea: str, model: str) -> str:
    return f"auto-{idea}-{re.sub(r'[^A-Za-z0-9._-]+', '-', model)}"[:120]
