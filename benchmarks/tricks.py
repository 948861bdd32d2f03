"""What each trick gives, and where it hurts: trained and predicted with and without it, on the same rows.

    python benchmarks/tricks.py ../scenes ../flowers --work tricks
    python benchmarks/tricks.py ../scenes ../flowers --work tricks --table      # of what is there, without training

Seed s trains one fold, number s of the three, so that each seed is validated on other rows, and all rows are, once. A trick
differs from its base in its own entries alone. Differences are paired by row over all seeds; their intervals are bootstrapped
over rows, and say nothing of other data. What is finished is kept in the folder ``--work`` (``results.jsonl``, runs,
probabilities), and a call that was stopped goes on. A trick that fails is noted with its error, and the others go on.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from common import describe, hardware, print_table, say, write_results

BASES = {
    "probe": ("strategy=probe",),
    "fine-tuned": ("strategy=probe-then-finetune", "lr=1e-4", "batch_size=8", "model.freeze_bn=true"),
    "new head": ("strategy=finetune", "lr=1e-4", "head_lr=3e-3", "batch_size=8", "model.freeze_bn=true"),
}
"""Name -> entries of the runs that tricks are compared with. Batch norm is frozen: measured anew on so few and so small images
it costs more than any trick gives ("batch norm trained")."""
MEMBERS = ("fine-tuned", "augment heavy", "probe")
"""What blends are made of; the plain mean is what they are compared with."""


@dataclass(frozen=True)
class Trick:
    """One trick.

    Attributes:
        base: what it is compared with.
        entries: of the run's configuration, beside the base's.
        views: of the base's models instead of a run of its own.
        method: of a blend of MEMBERS instead.
        teacher: whether a run on pairs of folds, called teacher, must be there; and "predicted": its test images, too.
        after: a run, of the same seed, that must be there.
    """

    name: str
    base: str
    entries: tuple[str, ...] = ()
    views: str = ""
    method: str = ""
    teacher: str = ""
    after: str = ""


def _probe(name: str, *entries: str, teacher: str = "") -> Trick:
    return Trick(name, "probe", entries, teacher=teacher)


def _tuned(name: str, *entries: str, teacher: str = "", after: str = "") -> Trick:
    return Trick(name, "fine-tuned", entries, teacher=teacher, after=after)


def _headed(name: str, *entries: str) -> Trick:
    return Trick(name, "new head", entries)


LEARN = ("teacher.runs=teacher",)
TRICKS = (
    # The probe: what needs no training of the network.
    _probe("probe: more views", "probe.views=3"),
    _probe("probe: no augmented view", "probe.views=0"),
    _probe("probe: whole image", "data.crop_pct=1.0"),
    _probe("probe: label smoothing 0.1", "label_smoothing=0.1"),
    _probe("probe: balanced weights", "loss.class_weights=balanced"),
    _probe("probe: weighted sampler", "sampler=weighted"),
    _probe("probe: focal loss", "loss=focal"),
    _probe("probe: features of the map before the last", "model.head.layer=-2"),
    _probe("probe: features of 2 maps joined", "model.head.joined=[-2]"),
    _probe("probe: features of 3 maps joined", "model.head.joined=[-2,-3]"),
    *(_probe(f"probe: {name}", f"probe.classifier={name}") for name in ("svm", "lda", "mlp", "knn")),
    *(_probe(f"probe: {name}", f"probe.balance={name}") for name in ("smote", "adasyn")),
    _probe("probe: soft labels 0.3", *LEARN, "teacher.mix=0.3", teacher="trained"),
    _probe("probe: drop suspect labels", *LEARN, "teacher.noise=drop", teacher="trained"),
    _probe("probe: flip suspect labels", *LEARN, "teacher.noise=flip", teacher="trained"),
    _probe("probe: pseudo-labels", *LEARN, "teacher.pseudo=soft", teacher="predicted"),
    # Heads and pooling, of which no probe is fitted first.
    _headed("head: hidden layer of 256", "head=mlp", "model.head.hidden=[256]", "model.head.dropout=0.3"),
    _headed("head: cosine", "head=cosine"),
    _headed("head: ArcFace, margin 0.3", "head=cosine", "model.head.margin=0.3"),
    _headed("head: 4 dropout masks", "model.drop_rate=0.3", "model.head.samples=4"),
    _headed("pooling: generalised mean", "pool=gem"),
    _headed("pooling: mean and maximum", "pool=avg-max"),
    _headed("features of 2 maps joined", "model.head.joined=[-2]"),
    _headed("rate of the head 0.01", "head_lr=1e-2"),
    _headed("one rate for all, 0.001", "lr=1e-3", "head_lr=1e-3"),
    _headed("head first, then all (stages)", "stages=[{epochs: 1, freeze: -1}, {epochs: REST}]"),
    _tuned("features of 3 maps joined, fine-tuned", "model.head.joined=[-2,-3]"),
    # Losses.
    _tuned("label smoothing 0.1", "label_smoothing=0.1"),
    _tuned("loss: one sigmoid a class", "loss=bce"),
    _tuned("loss: focal", "loss=focal"),
    _tuned("balanced class weights", "loss.class_weights=balanced"),
    _tuned("effective class weights", "loss.class_weights=effective"),
    _tuned("logit adjustment", "loss.logit_adjustment=1.0"),
    # Images and batches.
    _tuned("augment none", "augment=none"),
    _tuned("augment medium", "augment=medium"),
    _tuned("augment heavy", "augment=heavy"),
    _tuned("mixup 0.2", "mixup=0.2"),
    _tuned("CutMix 1.0", "cutmix=1.0"),
    _tuned("mixup and CutMix, off at the end", "mixup=0.2", "cutmix=1.0", "augment.mix_off_epochs=1"),
    _tuned("weighted sampler", "sampler=weighted"),
    _tuned("two epochs in one", "data.samples_per_epoch=2x"),
    _tuned("classes below 25 augmented alone", "augment=heavy", "augment.only_below=25"),
    _tuned("at most 15 images of a class", "data.samples_per_class=15"),
    # Training.
    _tuned("EMA 0.99", "ema=0.99"),
    _tuned("mean of the last epochs (SWA)", "average.name=swa", "average.share=0.67"),
    _tuned("greedy soup", "average.name=soup"),
    _tuned("small images first (stages)", "stages=[{epochs: 1, image_size: 64}, {epochs: REST}]"),
    _tuned("AdamW, then SGD (stages)", "stages=[{epochs: REST}, {epochs: 1, optimizer: sgd, lr: 1.0e-3}]"),
    _tuned("warm restarts", "schedule=warm_restarts", "schedule.options={cycles: EPOCHS}"),
    _tuned("mean of a snapshot an epoch", "schedule=warm_restarts", "schedule.options={cycles: EPOCHS}", "snapshots=EPOCHS"),
    _tuned("one cycle", "schedule=onecycle"),
    _tuned("warm-up of half an epoch", "schedule.warmup_epochs=0.5"),
    _tuned("SGD", "optimizer=sgd", "lr=3e-3", "weight_decay=1e-4"),
    _tuned("rate 5 times higher", "lr=5e-4"),
    _tuned("rate 3 times lower", "lr=3e-5"),
    _tuned("batches of 32", "batch_size=32"),
    _tuned("rate falling by layer", "layer_decay=0.75"),
    _tuned("first 3 stages frozen", "model.freeze=3"),
    _tuned("batch norm trained", "model.freeze_bn=false"),
    _tuned("gradients clipped", "optimizer.clip_norm=1.0"),
    _tuned("drop path 0.1", "model.drop_path_rate=0.1"),
    _tuned("trained further", "init_from={fine-tuned}", "lr=5e-5", after="fine-tuned"),
    # Earlier runs.
    _tuned("soft labels 0.3", *LEARN, "teacher.mix=0.3", teacher="trained"),
    _tuned("pseudo-labels", *LEARN, "teacher.pseudo=soft", teacher="predicted"),
    _tuned(
        "specialists",
        *("strategy=specialists", "init_from={fine-tuned}", "specialists.confused_by=teacher", "lr=1e-4"),
        teacher="trained",
        after="fine-tuned",
    ),
    # Views and blends.
    *(Trick(f"views: {views}", "fine-tuned", views=views) for views in ("hflip", "five-crop", "multiscale", "larger")),
    *(Trick(f"views: {views}", "fine-tuned", views=views) for views in ("hflip+stretched", "tiles")),
    *(
        Trick(f"blend: {method}", "blend: mean", method=method)
        for method in ("gmean", "power", "vote", "temperature", "rank", "weights", "coordinate", "hill-climb", "vector")
    ),
    *(Trick(f"blend: {method}", "blend: mean", method=method) for method in ("pool", "stack", "trees", "auto")),
)
REFERENCES = (*(Trick(name, "", entries) for name, entries in BASES.items()), Trick("blend: mean", "", method="mean"))


@dataclass(frozen=True)
class Size:
    """How large the trial is: images a data set, their folds, side in pixels, epochs."""

    images: int
    folds: int
    side: int
    epochs: int

    @property
    def entries(self) -> tuple[str, ...]:
        """What all runs share."""
        shared = "model=tf_efficientnet_lite0", f"image_size={self.side}", f"epochs={self.epochs}", "keep=last"
        return (*shared, "model.compile=false", "track=tensorboard")


@dataclass
class Data:
    """One data set with its workspace and what was measured on it."""

    source: Path
    work: Path
    size: Size
    done: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.source.name

    @cached_property
    def project(self) -> Any:
        """Its workspace, with folds of a part of its rows, and the pairs of them."""
        from kaggle_kit import Project
        from kaggle_kit.folds import pairs_of

        root = self.work / self.name
        if not (root / "kk.yaml").is_file():
            Project.init(self.source, root)
        project = Project.open(root)
        path = project.workspace.folds_path("folds")
        if not path.is_file():
            _part(project.folds(n_folds=self.size.folds, name="whole"), self.size.images).write(path)
        if not (pairs := project.workspace.folds_path("pairs")).is_file():
            pairs_of(self.folds_at(path), "folds").write(pairs)
        return project

    @staticmethod
    def folds_at(path: Path) -> Any:
        from kaggle_kit.tables import read_folds

        return read_folds(path)

    @cached_property
    def folds(self) -> Any:
        return self.folds_at(self.project.workspace.folds_path("folds"))

    def path(self, trick: str, seed: int) -> Path:
        """The probabilities of the validated rows."""
        return self.work / self.name / "tricks" / f"{_plain(trick)}-{seed}.parquet"


def _part(folds: Any, images: int) -> Any:
    """``images`` rows of a fold table, of each class and fold their share."""
    order = np.lexsort((np.arange(len(folds)), folds.assignments[0], [row[0] if row else "" for row in folds.labels]))
    rows = np.sort(order[np.linspace(0, len(order) - 1, min(images, len(order))).astype(int)])
    ids, labels = (tuple(values[row] for row in rows) for values in (folds.ids, folds.labels))
    return replace(folds, ids=ids, labels=labels, groups=folds.groups[rows], assignments=folds.assignments[:, rows])


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")


def train(data: Data, name: str, entries: Sequence[str], seed: int, *, pairs: bool = False) -> Any:
    """Train the fold of a seed, or on pairs of folds all that leave it out, and return the run."""
    from kaggle_kit.events import silent
    from kaggle_kit.runs import read_run
    from kaggle_kit.training import TrainOptions, train_run

    folds = data.folds_at(data.project.workspace.folds_path("pairs")) if pairs else data.folds
    splits = [split for split in range(folds.n_splits) if _leaves_out(folds, split, data.folds, seed)] if pairs else [seed]
    setup = data.project._open([*data.size.entries, f"seed={seed}", *entries])
    summary = train_run(setup, TrainOptions(name, splits), folds=folds, reporter=silent)
    if summary.stopped:
        raise SystemExit(f"stopped ({summary.stopped}); the same command goes on")
    return read_run(data.project.workspace, name)


def _leaves_out(pairs: Any, split: int, folds: Any, fold: int) -> bool:
    return set(folds.split(fold)[1].tolist()) <= set(pairs.split(split)[1].tolist())


def teacher(data: Data, seed: int, *, predicted: bool) -> str:
    """A quick run on pairs of folds, whose models that leave out the fold of ``seed`` are trained; return its name."""
    from kaggle_kit.inference import predict_runs

    name = f"teacher-{seed}"
    train(data, name, ("strategy=probe", "folds=pairs"), seed, pairs=True)
    if predicted:
        predict_runs(data.project._open(), [name])
    return name


def measure(data: Data, trick: Trick, seed: int) -> Any:
    """Do what a trick wants done; return the probabilities of the rows that are validated on."""
    from kaggle_kit import runs
    from kaggle_kit.runs.snapshots import snapshot_runs
    from kaggle_kit.tables import read_predictions

    if trick.method:
        return blended(data, trick, seed)
    if trick.views:
        return seen(data, trick, seed)
    words = {"EPOCHS": data.size.epochs, "REST": data.size.epochs - 1, "{fine-tuned}": f"fine-tuned-{seed}"}
    words |= {"=teacher": f"={teacher(data, seed, predicted=trick.teacher == 'predicted')}"} if trick.teacher else {}
    entries = []
    for entry in (*BASES.get(trick.base, ()), *trick.entries):
        for word, meant in words.items():
            entry = entry.replace(word, str(meant))
        entries.append(entry)
    run = train(data, f"{_plain(trick.name)}-{seed}", entries, seed)
    made = snapshot_runs(run.name, run.record.config).values() or [run.name]
    kept = [runs.read_run(data.project.workspace, name).folds[seed].path / runs.OOF for name in made]
    return runs.average_by_id([read_predictions(path) for path in kept], run.classes)


def seen(data: Data, trick: Trick, seed: int) -> Any:
    """The rows of the base, predicted again with other views."""
    from kaggle_kit import runs
    from kaggle_kit.inference.predict import predict_rows
    from kaggle_kit.inference.run import compute_of
    from kaggle_kit.models import load_model
    from kaggle_kit.tables import Predictions, read_predictions

    run = runs.read_run(data.project.workspace, f"{_plain(trick.base)}-{seed}")
    before = read_predictions(data.path(trick.base, seed))
    paths = {row.id: row.path for row in data.project.competition.train}
    model = load_model(run.folds[seed].path / runs.MODEL)
    rows = [(row_id, paths[row_id]) for row_id in before.ids]
    probs = predict_rows([model], rows, tta=trick.views, compute=compute_of(data.project.workspace, run))[0]
    return Predictions(before.ids, probs, before.classes)


def blended(data: Data, trick: Trick, seed: int) -> Any:
    """A blend of the members, cross-fitted within the rows."""
    from kaggle_kit.blending import get_blender
    from kaggle_kit.blending.crossfit import cross_fit, parts_of
    from kaggle_kit.metrics import get_metric
    from kaggle_kit.tables import Predictions, read_predictions

    first, *others = (read_predictions(data.path(name, seed)) for name in MEMBERS)
    stack = [first.probs, *(one.take(first.ids).probs for one in others)]
    rows = data.folds.rows_of(first.ids)
    metric, parts = get_metric(data.project.competition.metric), parts_of(data.folds, rows, seed=seed)
    fitted = cross_fit(get_blender(trick.method), stack, data.folds.truth(rows), parts, metric, seed=seed)
    return Predictions(first.ids, fitted.probs, first.classes)


def run_all(sets: Sequence[Data], tricks: Sequence[Trick], seeds: Sequence[int], results: Path, until: float) -> None:
    """Measure what lacks, seed by seed, so that a call that is stopped leaves a table of fewer seeds; append each result."""
    for seed in seeds:
        for trick in tricks:
            for data in sets:
                if (trick.name, seed) in data.done:
                    continue
                if time.monotonic() > until:
                    say("the time is over; the same command goes on")
                    return
                started = time.monotonic()
                entry: dict[str, Any] = {"data": data.name, "trick": trick.name, "seed": seed}
                try:
                    found = measure(data, trick, seed)
                    found.write(data.path(trick.name, seed))
                    entry |= {"n": len(found), **_scores(data, found)}
                except Exception as error:  # whatever it is, the other tricks are wanted all the same
                    entry["error"] = f"{type(error).__name__}: {error}"
                entry["seconds"] = round(time.monotonic() - started, 1)
                data.done[trick.name, seed] = entry
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
                say(json.dumps(entry))


def _scores(data: Data, found: Any) -> dict[str, float]:
    from kaggle_kit.metrics import METRICS

    truth = data.folds.truth(data.folds.rows_of(found.ids))
    return {name: round(float(METRICS[name](truth, found.probs)), 5) for name in ("accuracy", "log_loss")}


def rows_of(sets: Sequence[Data], tricks: Sequence[Trick]) -> Iterator[dict[str, Any]]:
    """The rows of the table: of a base its scores, of a trick the differences to its base."""
    for trick in (*REFERENCES, *tricks):
        row: dict[str, Any] = {"trick": trick.name, "against": trick.base or None}
        for data in sets:
            row |= {f"{data.name} {key}": text for key, text in _cells(data, trick).items()}
        yield row


def _cells(data: Data, trick: Trick) -> Mapping[str, str | None]:
    done = {seed: entry for (name, seed), entry in data.done.items() if name == trick.name}
    good = {seed: entry for seed, entry in done.items() if "error" not in entry}
    keys = ("accuracy", "log loss", "better")
    if not good:
        error = next((entry["error"] for entry in done.values()), None)
        return {"accuracy": None if error is None else f"failed: {error[:40]}", **dict.fromkeys(keys[1:])}
    if not trick.base:
        accuracy, loss = (np.mean([entry[key] for entry in good.values()]) for key in ("accuracy", "log_loss"))
        return dict(zip(keys, (f"{accuracy:.4f}", f"{loss:.4f}", f"seeds: {len(good)}"), strict=True))
    seeds = [seed for seed in good if (trick.base, seed) in data.done and "error" not in data.done[trick.base, seed]]
    if not seeds:
        return dict.fromkeys(keys)
    better = sum(good[seed]["accuracy"] > data.done[trick.base, seed]["accuracy"] for seed in seeds)
    accuracy, loss = (_difference(data, trick, seeds, metric, scale) for metric, scale in (("accuracy", 100), ("log_loss", 1)))
    return dict(zip(keys, (accuracy, loss, f"{better}/{len(seeds)}"), strict=True))


def _difference(data: Data, trick: Trick, seeds: Sequence[int], metric: str, scale: float) -> str:
    """The paired difference over the rows of all seeds, with its interval; of accuracy in percentage points."""
    from kaggle_kit.diagnosis import paired_difference
    from kaggle_kit.metrics import METRICS
    from kaggle_kit.tables import read_predictions

    pairs = []
    for seed in seeds:
        base, found = (read_predictions(data.path(name, seed)) for name in (trick.base, trick.name))
        pairs.append((data.folds.truth(data.folds.rows_of(base.ids)), base.probs, found.take(base.ids).probs))
    truth, first, second = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    gap, low, high = paired_difference(METRICS[metric], truth, first, second)
    digits = 1 if scale > 1 else 3
    return f"{scale * gap:+.{digits}f} ({scale * low:+.{digits}f} to {scale * high:+.{digits}f})"


def read_done(sets: Sequence[Data], results: Path, *, again: bool) -> None:
    """Take over what earlier calls have measured; with ``again``, without what failed."""
    by_name = {data.name: data for data in sets}
    for line in results.read_text(encoding="utf-8").splitlines() if results.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:  # the line that a killed call was writing
            continue
        if entry["data"] in by_name and not (again and "error" in entry):
            by_name[entry["data"]].done[entry["trick"], entry["seed"]] = entry


def chosen(wanted: str) -> list[Trick]:
    """The tricks whose names contain one of the words given, with commas between them; none: all."""
    words = [word.strip().lower() for word in wanted.split(",") if word.strip()]
    keep: Callable[[Trick], bool] = lambda trick: not words or any(word in trick.name.lower() for word in words)  # noqa: E731
    return [trick for trick in TRICKS if keep(trick)]


def needed(tricks: Sequence[Trick]) -> list[Trick]:
    """The tricks with the bases and members that they are measured against, those first."""
    names = {trick.base for trick in tricks} | {trick.after for trick in tricks}
    names |= set(MEMBERS) if any(trick.method for trick in tricks) else set()
    first = [one for one in REFERENCES if one.name in names and not one.method]
    members = [one for one in TRICKS if one.name in names and one not in tricks]
    return list(dict.fromkeys([*first, *members, *(t for t in tricks if not t.method), *_blends(tricks)]))


def _blends(tricks: Sequence[Trick]) -> list[Trick]:
    found = [trick for trick in tricks if trick.method]
    return [*(one for one in REFERENCES if one.method), *found] if found else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="folders of competitions with one label a row")
    parser.add_argument("--work", type=Path, required=True, help="folder for workspaces and results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=3, help="folds of the images; seed s trains fold s")
    parser.add_argument("--images", type=int, default=480, help="training images taken from each data set")
    parser.add_argument("--size", type=int, default=96, help="side of the images, of all runs")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e6, help="begin nothing after so many minutes")
    parser.add_argument("--only", default="", help="parts of the names of tricks, with commas between them")
    parser.add_argument("--again", action="store_true", help="try again what has failed")
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    parser.add_argument("--out", type=Path, help="write the table as JSON as well")
    options = parser.parse_args()
    if not 1 <= options.seeds <= options.folds:
        parser.error(f"--seeds must lie in 1..{options.folds}: each seed takes one of {options.folds} folds")
    if options.folds < 3:
        parser.error("--folds must be 3 or more: a teacher leaves out two of them")
    tricks = chosen(options.only)
    if not tricks:
        parser.error(f"no trick is called like {options.only!r}; there are {', '.join(trick.name for trick in TRICKS)}")
    logging.getLogger("kaggle_kit").setLevel(logging.WARNING)
    size = Size(options.images, options.folds, options.size, options.epochs)
    work, until = options.work.resolve(), time.monotonic() + 60 * options.minutes
    work.mkdir(parents=True, exist_ok=True)
    sets = [Data(folder.resolve(), work, size) for folder in options.data]
    read_done(sets, work / "results.jsonl", again=options.again)
    if not options.table:
        run_all(sets, needed(tricks), range(options.seeds), work / "results.jsonl", until)
    rows = list(rows_of(sets, tricks))
    print_table(rows)
    facts = hardware()
    print(f"\n{size.images} images in {size.folds} folds, {size.side} pixels, {size.epochs} epochs. {describe(facts)}")
    if options.out:
        write_results(options.out, rows, facts, size=vars(size))


if __name__ == "__main__":
    main()
