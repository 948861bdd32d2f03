"""What could be tried next: runs, what each would take, and the share of the remaining error that it may remove.

The shares to begin with are rough and for the order only; what an idea removes here corrects them, and whether a run is kept is
decided by its out-of-fold rows alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from kaggle_kit.auto.scene import STEP, Scene
from kaggle_kit.auto.state import TAIL, State, pace_of
from kaggle_kit.auto.steps import Step
from kaggle_kit.choices import GOALS
from kaggle_kit.models.backbones import LocalBackbone, can_join, n_stages

_RACE = 0.5  # chance that a run which was trained on one fold earns the others
LONGER = ("balanced", "best")  # goals with time for more than the main ideas
_CYCLES = 2  # of a training with restarts
_PRETRAINED = ("lr=0.0001", "batch_size=16", "model.freeze_bn=true")
_SCRATCH = ("pretrained=false", "lr=0.003")
"""How a network is trained. In a few epochs on a few thousand images, batch norm that is measured anew forgets more than is
learnt (docs/tricks.md)."""
_TAIL_EPOCHS, _TAIL_RATE = 4, "lr=0.0002"
_FROZEN, _TAIL_TIME = 0.6, 0.45
"""The share of the stages that are left alone where later ones are trained, and the time of an epoch beside one of the whole
model: what comes before needs no gradients (docs/tricks.md)."""
_FROM_SCRATCH = 2.0  # times as large a gain where images are so tiny that a network from random weights is tried beside others
_NEW_HEAD = "head_lr=0.003"
_JOINED = (-2, -3)
"""Feature maps that a head sees beside the last one: finer, and less about ImageNet's classes (docs/tricks.md)."""
_WHOLE = "data.crop_pct=1.0"
_OF_LOOK = ("data.crop_pct=", "model.head.")  # what a run that goes on from another's weights must have as that one
_TEACHER_PROBES = 2  # what a teacher costs: twice as many heads as a probe, on features that are there
_VIEWS_GAIN = 0.03
_VIEWS_TRIED, _VIEWS_TAKEN = 12, 3  # passes over the images while views are chosen, and of those that are chosen
TEACHER, PAIRS = "teacher", "auto-pairs"
LOOK, VIEWS, FULL = "look", "views", "full"
"""Another probe of a backbone; and ideas that make no run, but something for a run of the blend."""


@dataclass(frozen=True)
class Candidate:
    """A run that could be trained, or something that could be done for a run of the blend.

    Attributes:
        step: how, all folds.
        gain: expected share of the error that it removes.
        seconds: expected, with prediction; NaN where nothing is measured yet.
        before: what must be there first.
        cycles: models of one training, each of which becomes a run; 0: the run alone.
    """

    idea: str
    run: str
    model: str
    step: Step
    gain: float
    seconds: float
    before: tuple[Step, ...] = ()
    cycles: int = 0

    @property
    def strategy(self) -> str:
        """Of the run."""
        return str(self.step.options["strategy"])

    @property
    def tunes(self) -> bool:
        """Whether a whole network is trained, which takes long and can race on one fold."""
        return self.idea not in (*HEADS, VIEWS, FULL)

    @property
    def makes(self) -> tuple[str, ...]:
        """The runs that may join the blend."""
        return tuple(f"{self.run}-cycle{cycle}" for cycle in range(1, self.cycles + 1)) or (self.run,)

    @property
    def rate(self) -> float:
        """Gain a second."""
        return self.gain / max(self.seconds, 1e-9)

    @property
    def races(self) -> bool:
        """Whether only fold 0 is trained, to be compared with others."""
        return self.step.options.get("fold") == "0"

    def on_one_fold(self, folds: int) -> Candidate:
        """Return the same for fold 0 only, as the first round of a race."""
        step = replace(self.step, options={**self.step.options, "fold": "0"})
        return replace(self, step=step, gain=self.gain * _RACE, seconds=self.seconds / folds)


@dataclass(frozen=True)
class Idea:
    """A kind of run.

    Attributes:
        gain: share of the error that the first of its runs may remove; the next of the same backbone, half as much each.
        entries: the run's configuration beside the model for one backbone, or None where it makes no sense.
        goals: for which goals.
        strategy: of the run; empty: a head first, then the whole model, or from random weights the whole model at once.
        teacher: whether it learns from a probe that leaves out two folds at a time.
        cycles: models of one training, each of which becomes a run.
        share: its seconds as a share of those of the first probe, which computes the features, or of training a whole network.
    """

    name: str
    text: str
    gain: float
    entries: Callable[[Scene, LocalBackbone, State], list[str] | None]
    goals: tuple[str, ...] = tuple(GOALS)
    strategy: str = ""
    teacher: bool = False
    cycles: int = 0
    share: float = 1.0

    def strategy_of(self, backbone: LocalBackbone) -> str:
        """Return the strategy of its run of a backbone."""
        return self.strategy or ("probe-then-finetune" if backbone.pretrained else "finetune")


def _augmentation(state: State, *, mirrored: str = "medium", else_: str = "shift") -> str:
    return f"augment={mirrored if state.mirrors else else_}"


def _probe(scene: Scene, backbone: LocalBackbone, state: State) -> list[str] | None:
    return _seen(backbone, state, whole=_whole_is_better(scene, state)) if backbone.pretrained else None


def _other_look(scene: Scene, backbone: LocalBackbone, state: State) -> list[str] | None:
    probe = state.tried.get(run_of(scene, "probe", backbone))
    return None if probe is None or not probe.entries else _seen(backbone, state, whole=_WHOLE not in probe.entries)


def _seen(backbone: LocalBackbone, state: State, *, whole: bool) -> list[str]:
    """Return entries of a probe with one of two looks at an image."""
    if not whole:
        return [_augmentation(state, else_="none")]
    # The first sees plain images: it then shows whether mirrored ones mean the same.
    preset = "augment=none" if state.mirrors is None else _augmentation(state, mirrored="light", else_="none")
    return [*_look(backbone, whole=True), preset]


def _look(backbone: LocalBackbone, *, whole: bool) -> list[str]:
    return [_WHOLE, *_joined(backbone)] if whole else []


def _whole_is_better(scene: Scene, state: State) -> bool:
    """Return whether images are rather looked at whole, by three feature maps, than cut as in pretraining, by the last one: as
    the two probes of the first backbone came out. On photographs of scenes the first look is better, of flowers the other."""
    first = next((one.model for one in state.tried.values() if one.idea == "probe"), None)
    scores = {one.idea: one.score for one in state.tried.values() if one.model == first and one.idea in ("probe", LOOK)}
    if len(scores) < 2:
        return True
    return scores["probe"] >= scores[LOOK] if scene.greater else scores["probe"] <= scores[LOOK]


def _other_head(classifier: str) -> Callable[[Scene, LocalBackbone, State], list[str] | None]:
    """Another classifier on the features that the probe of a backbone has left: other mistakes at little cost."""

    def entries(scene: Scene, backbone: LocalBackbone, state: State) -> list[str] | None:
        probe = state.tried.get(run_of(scene, "probe", backbone))
        if probe is None or not probe.entries:
            return None
        return [*(entry for entry in probe.entries if not entry.startswith("model=")), f"probe.classifier={classifier}"]

    return entries


def _joined(backbone: LocalBackbone) -> list[str]:
    return [f"model.head.joined={list(_JOINED)}"] if can_join(backbone.name, _JOINED) else []


def _tuned(scene: Scene, backbone: LocalBackbone, state: State, side: int, epochs: int, *further: str) -> list[str]:
    look = _look(backbone, whole=_whole_is_better(scene, state)) if backbone.pretrained else [_WHOLE]
    warmed_up = ["schedule.warmup_epochs=1"] if epochs > 1 else []
    start = _PRETRAINED if backbone.pretrained else (*_SCRATCH, *warmed_up)
    size = [f"image_size={side}"] if side != backbone.side or not backbone.pretrained else []
    # The rate ends at 0. The best epoch by a score as coarse as accuracy would often be the one before training, which is the
    # probe over again, and it would be chosen on the rows that judge it.
    return [f"epochs={epochs}", "keep=last", "validate_every=0", *look, *start, *size, *further]


def _finetune(scene: Scene, backbone: LocalBackbone, state: State) -> list[str]:
    return _tuned(scene, backbone, state, scene.tuned_side(backbone), scene.epochs(backbone), _augmentation(state))


def _tail(scene: Scene, backbone: LocalBackbone, state: State) -> list[str] | None:
    """Later stages alone: what comes before, the most pixels, has learnt from more images than there are here."""
    if not backbone.pretrained or not (count := n_stages(backbone.name)):
        return None
    further = f"model.freeze={math.ceil(_FROZEN * count)}", _augmentation(state, mirrored="light")
    found = _tuned(scene, backbone, state, scene.tuned_side(backbone), _TAIL_EPOCHS, *further)
    return [entry if not entry.startswith("lr=") else _TAIL_RATE for entry in found]


def _mixed(scene: Scene, backbone: LocalBackbone, state: State) -> list[str]:
    mixing = ["augment.cutmix=1.0", "augment.mix_prob=0.5", _augmentation(state, mirrored="light")]
    return _tuned(scene, backbone, state, scene.tuned_side(backbone), math.ceil(1.5 * scene.epochs(backbone)), *mixing)


def _larger(scene: Scene, backbone: LocalBackbone, state: State) -> list[str] | None:
    side = math.ceil(1.2 * scene.tuned_side(backbone) / STEP) * STEP
    if side > 2 * scene.side:  # there is no more to see
        return None
    return _tuned(scene, backbone, state, side, scene.epochs(backbone), _augmentation(state))


def _again(scene: Scene, backbone: LocalBackbone, state: State) -> list[str]:
    return [*_finetune(scene, backbone, state), "seed=1", "loss.label_smoothing=0.1"]


def _ordinal(scene: Scene, backbone: LocalBackbone, state: State) -> list[str] | None:
    new = [_NEW_HEAD] if backbone.pretrained else []
    return [*_finetune(scene, backbone, state), "head=ordinal", *new] if scene.ordered else None


def _soft(scene: Scene, backbone: LocalBackbone, state: State) -> list[str] | None:
    learnt = [f"teacher.runs={run_of(scene, TEACHER, backbone)}", "teacher.mix=0.3"]
    return [*_finetune(scene, backbone, state), *learnt] if backbone.pretrained else None


def _cyclic(scene: Scene, backbone: LocalBackbone, state: State) -> list[str]:
    restarts = ["schedule=warm_restarts", f"schedule.options={{cycles: {_CYCLES}}}", f"snapshots={_CYCLES}"]
    side, epochs = scene.tuned_side(backbone), _CYCLES * scene.epochs(backbone)
    return _tuned(scene, backbone, state, side, epochs, _augmentation(state), *restarts)


def _specialists(scene: Scene, backbone: LocalBackbone, state: State) -> list[str] | None:
    base = run_of(scene, "finetune", backbone)
    if base not in state.tried or not backbone.pretrained:
        return None
    look = [entry for entry in state.tried[base].entries if entry.startswith(_OF_LOOK)]
    found = [entry for entry in _finetune(scene, backbone, state) if not entry.startswith(("lr=", *_OF_LOOK))]
    return [*found, *look, "lr=0.00005", f"init_from={base}", f"specialists.confused_by={run_of(scene, TEACHER, backbone)}"]


IDEAS: tuple[Idea, ...] = (
    Idea("probe", "a head on the frozen backbone", 0.08, _probe, strategy="probe"),
    Idea(LOOK, "the same with another look at the images", 0.08, _other_look, strategy="probe", share=1.2),
    Idea("lda", "a linear discriminant on the probe's features", 0.04, _other_head("lda"), LONGER, "probe", share=0.3),
    Idea("svm", "a support vector machine on the probe's features", 0.04, _other_head("svm"), LONGER, "probe", share=0.6),
    Idea(TAIL, "the later stages, from the fitted head on", 0.25, _tail, share=_TAIL_TIME),
    Idea("finetune", "the whole model, from the fitted head on", 0.25, _finetune),
    Idea("ordinal", "classes as grades, with learnt cuts between them", 0.20, _ordinal, strategy="finetune"),
    Idea("mix", "the same with CutMix, longer", 0.15, _mixed, LONGER),
    Idea("larger", "larger images", 0.12, _larger, LONGER),
    Idea("soft", "labels softened by what a probe says that has not seen them", 0.10, _soft, LONGER, teacher=True),
    Idea("again", "another seed, with smoothed labels", 0.08, _again, ("best",)),
    Idea("snapshots", "one training with restarts, a model a cycle", 0.15, _cyclic, ("best",), cycles=_CYCLES),
    Idea("specialists", "models of classes that are confused", 0.06, _specialists, ("best",), "specialists", teacher=True),
)
"""To add an idea: a function and an entry."""
HEADS = tuple(idea.name for idea in IDEAS if idea.strategy == "probe")
"""Ideas that train no network."""
_WITH_CYCLES = tuple(idea.name for idea in IDEAS if idea.cycles)


def run_of(scene: Scene, idea: str, backbone: LocalBackbone) -> str:
    """Return the name of a run; one of fewer epochs than the goal's is another."""
    shorter = scene.shorter.get(backbone.name, 1) > 1 and idea not in (*HEADS, TEACHER, TAIL)
    short = f"-{scene.epochs(backbone)}ep" if shorter else ""
    return f"auto-{idea}-{re.sub(r'[^A-Za-z0-9._-]+', '-', backbone.name)}"[:100] + short


def candidates(scene: Scene, state: State) -> Iterator[Candidate]:
    """Yield all that was neither tried nor has failed."""
    for idea in IDEAS:
        if scene.goal not in idea.goals:
            continue
        for backbone in scene.backbones:
            found = _candidate(idea, backbone, scene, state)
            if found is not None and found.run not in state.failed and not set(found.makes) <= state.tried.keys():
                yield found
    if scene.goal in LONGER:
        yield from _views(state)
    if scene.goal == "best":
        yield from _of_all_data(scene, state)


def outdone(candidate: Candidate, state: State) -> bool:
    """Return whether the same was trained already, for more epochs."""
    of_same = (one.entries for one in state.tried.values() if (one.idea, one.model) == (candidate.idea, candidate.model))
    return any(_epochs_of(entries) > _epochs_of(candidate.step.entries) for entries in of_same)


def _epochs_of(entries: Sequence[str]) -> int:
    return int(_told(entries).get("epochs", 0))


def _told(entries: Sequence[str]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in entries)


def _candidate(idea: Idea, backbone: LocalBackbone, scene: Scene, state: State) -> Candidate | None:
    entries = idea.entries(scene, backbone, state)
    if entries is None:
        return None
    run = run_of(scene, idea.name, backbone)
    step = _training(backbone, entries, idea.strategy_of(backbone), run, state)
    gain, seconds = _gain(idea, backbone, scene, state, run), _seconds(idea, backbone, scene, state, step.entries)
    before = _teacher(backbone, scene, state) if idea.teacher else ()
    return Candidate(idea.name, run, backbone.name, step, gain, seconds, before, idea.cycles)


def _training(backbone: LocalBackbone, entries: Sequence[str], strategy: str, run: str, state: State) -> Step:
    """Return the command; a run that was begun goes on with the entries that it was begun with, whatever was learnt since."""
    entries = state.started.get(run) or (f"model={backbone.name}", *entries)
    return Step("train", entries, {"strategy": strategy, "fold": "all", "run": run})


def _teacher(backbone: LocalBackbone, scene: Scene, state: State) -> tuple[Step, ...]:
    """What makes the run that others learn from: a probe of the same backbone, which leaves out two folds at a time."""
    entries = [*(_probe(scene, backbone, state) or ()), f"folds={PAIRS}"]
    pairs = Step("folds", options={"pairs_of": scene.folds, "name": PAIRS})
    return pairs, _training(backbone, entries, "probe", run_of(scene, TEACHER, backbone), state)


def _views(state: State) -> Iterator[Candidate]:
    """Yield a choice of views for each run of the blend."""
    for run in state.kept:
        name = views_of(run)
        if name in state.viewed or name in state.failed:
            continue
        model = state.tried[run].model
        step = Step("predict", options={"run": run, "tta": "auto"})
        seconds = math.nan
        if model in state.measured:
            measured = state.measured[model]
            passes = _VIEWS_TRIED * measured.work.n_valid + _VIEWS_TAKEN * measured.work.folds * measured.work.n_test
            seconds = passes / measured.rates.predict * state.slowness(VIEWS)
        yield Candidate(VIEWS, name, model, step, state.expected_gain(VIEWS, _VIEWS_GAIN), seconds)


def _of_all_data(scene: Scene, state: State) -> Iterator[Candidate]:
    """Yield one more model, of all labelled images, for each run of the blend.

    No out-of-fold row can show what it gains, so none is expected: it comes when nothing else is left.
    """
    for run in state.kept:
        name, tried = f"full-of-{run}", state.tried[run]
        whole = tried.entries and tried.strategy != "specialists" and tried.idea not in _WITH_CYCLES
        if name in state.completed or name in state.failed or not whole:
            continue
        step = Step("train", tried.entries, {"strategy": tried.strategy, "fold": "full", "run": run})
        # k folds train on k - 1 parts of k each.
        yield Candidate(FULL, name, tried.model, step, 0.0, tried.seconds / max(1, scene.n_folds - 1))


def views_of(run: str) -> str:
    """Return the name of a choice of views."""
    return f"views-of-{run}"


def _gain(idea: Idea, backbone: LocalBackbone, scene: Scene, state: State, run: str) -> float:
    """Expected share of the error removed: less for each run of the same backbone and where its heads are worse than those of
    others, and as a race on fold 0 has shown."""
    before = sum(one.model == backbone.name and one.idea not in HEADS for one in state.tried.values())
    prior = idea.gain * (_FROM_SCRATCH if scene.pretrained and not backbone.pretrained else 1.0)
    expected = state.expected_gain(idea.name, prior) * 0.5**before
    if idea.name not in HEADS:
        expected *= _promise(backbone, scene, state)
    return expected if run not in state.raced else 0.5 * expected + 0.5 * max(0.0, state.raced[run])


def _promise(backbone: LocalBackbone, scene: Scene, state: State) -> float:
    """Return the least error of all heads on frozen features over the least of this backbone's; 1 where it has none.

    Fine-tuned networks mostly come in the order of these heads, which take a tenth of the time (benchmarks/ranks.py).
    """
    errors: dict[str, float] = {}
    for one in state.tried.values():
        error = max(1 - one.score if scene.greater else one.score, 0.0)
        if one.idea in HEADS and math.isfinite(error):
            errors[one.model] = min(error, errors.get(one.model, math.inf))
    own = errors.get(backbone.name, 0.0)
    return min(errors.values()) / own if own > 0 else 1.0


def _seconds(idea: Idea, backbone: LocalBackbone, scene: Scene, state: State, entries: Sequence[str]) -> float:
    """Expected seconds of training and prediction."""
    probe = _probe_seconds(backbone, scene, state)
    if idea.strategy == "probe":
        return _share_of_probe(idea, scene, state) * probe
    measured = state.measured.get(backbone.name)
    if measured is None:
        return math.nan
    told = _told(entries)
    side, epochs, strategy = float(told.get("image_size", backbone.side)), _epochs_of(entries), idea.strategy_of(backbone)
    head = probe if strategy == "probe-then-finetune" and math.isfinite(probe) else 0.0
    trained = measured.seconds(side=side, epochs=epochs, share=idea.share)
    seconds = (trained + head) * state.slowness(pace_of(idea.name, strategy))
    lacking = idea.teacher and any(step.text not in state.prepared for step in _teacher(backbone, scene, state))
    return seconds + (_TEACHER_PROBES * probe if lacking else 0.0)


def prediction_seconds(candidate: Candidate, state: State) -> float:
    """Expected seconds of predicting with a network that was trained; heads have features that mostly are there."""
    measured = state.measured.get(candidate.model)
    if measured is None or not candidate.tunes:
        return 0.0
    return measured.prediction(float(_told(candidate.step.entries).get("image_size", measured.side)))


def _share_of_probe(idea: Idea, scene: Scene, state: State) -> float:
    """Return the seconds of a head over those of its backbone's probe: as it was with the others, or as the idea has it."""
    found = []
    for backbone in scene.backbones:
        head, probe = (state.tried.get(run_of(scene, name, backbone)) for name in (idea.name, "probe"))
        if head is not None and probe is not None and probe.seconds > 0:
            found.append(head.seconds / probe.seconds)
    return median(found) if found and idea.name != "probe" else idea.share


def _probe_seconds(backbone: LocalBackbone, scene: Scene, state: State) -> float:
    """From the probes that were made: time goes with pixels and, about, with the size of the weights."""
    sizes = {one.name: one for one in scene.backbones}
    probes = [one for one in state.tried.values() if one.idea == "probe"]
    known = [one for one in probes if one.model in sizes]
    if not known:  # an earlier session had other backbones, whose size is not known here
        return median(one.seconds for one in probes) if probes else math.nan
    work = {name: one.n_bytes * one.side**2 for name, one in sizes.items()}
    return sum(one.seconds for one in known) * work[backbone.name] / sum(work[one.model] for one in known)
