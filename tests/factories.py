"""Synthetic workspaces: what `kk init`, `kk folds`, `kk train` and `kk predict` leave on disk, without a model or torch.

The probabilities are plausible, not real: a row is predicted correctly with chance ``accuracy``, runs and folds err on partly
different rows, and a model is better on rows that it was trained on. Everything is consistent, so that a test can break one
thing and see what notices.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from kaggle_kit import files, runs
from kaggle_kit.competition import Competition, Setup, load_competition
from kaggle_kit.competition.contents import contents_of, keep_contents, training_contents
from kaggle_kit.config import Config, RunConfig, load_config
from kaggle_kit.tables import Classes, FoldTable, Predictions
from kaggle_kit.workspace import Workspace

FORMS = ("label", "index", "labels", "probability", "positive")
TASK_OF_FORM = {
    "label": "multiclass",
    "index": "multiclass",
    "labels": "multilabel",
    "probability": "multiclass",
    "positive": "binary",
}
METRIC_OF_TASK = {"binary": "roc_auc", "multiclass": "accuracy", "multilabel": "f1_macro"}
METADATA_KEY = "kaggle_kit"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Spec:
    """What to fabricate.

    Attributes:
        class_names: overrides ``n_classes``; any names, in the competition's order.
        task, metric: by default what suits ``form``.
        accuracy: chance that a row (multi-label: a cell) is predicted correctly out of fold.
        confusable: pairs of classes, from the first on, that half of the rows of either look like the other one to every model.
        imbalance: 0 for equal classes; 1 makes the most frequent class about ten times the rarest.
        views: views of the test pass; other than "none" writes oof_views.parquet, too.
        unfinished: run name -> folds that were begun and not finished.
        control: number of control rows; 0 writes no control.parquet.
        sample: whether there is a sample submission; ``id_suffix`` is what its ids have after the image's stem.
        sample_order: the sample's probability columns: "classes", "reversed" or "shuffled".
        scheme: "stratified", or "holdout" (one fold, a fifth of the rows).
    """

    n_classes: int = 3
    n_train: int = 120
    n_test: int = 40
    n_runs: int = 2
    n_folds: int = 3
    repeats: int = 1
    form: str = "label"
    task: str | None = None
    metric: str | None = None
    accuracy: float = 0.85
    imbalance: float = 0.0
    confusable: int = 0
    seed: int = 0
    class_names: Sequence[str] = ()
    views: str = "none"
    unfinished: dict[str, Sequence[int]] = field(default_factory=dict)
    control: int = 48
    sample: bool = True
    id_suffix: str = ".png"
    sample_order: str = "shuffled"
    scheme: str = "stratified"

    @property
    def classes(self) -> Classes:
        names = self.class_names or [f"class {position}" for position in range(self.n_classes)]
        return Classes(tuple(names))

    @property
    def the_task(self) -> str:
        return self.task or TASK_OF_FORM[self.form]

    @property
    def run_names(self) -> list[str]:
        return [f"run{number}" for number in range(self.n_runs)]


@dataclass(frozen=True)
class Made:
    """A fabricated workspace. ``answers`` maps each test id to its true labels."""

    workspace: Workspace
    config: Config
    competition: Competition
    folds: FoldTable
    answers: dict[str, tuple[str, ...]]
    spec: Spec

    @property
    def setup(self) -> Setup:
        return Setup(self.workspace, self.config, self.competition)

    @property
    def truth(self) -> Array:
        """True classes of the test rows, as metrics take them, in the order of ``competition.test``."""
        rows = [self.answers[row.id] for row in self.competition.test]
        if self.competition.multilabel:
            return self.competition.classes.encode_rows(rows)
        return self.competition.classes.encode(row[0] for row in rows)


def make_workspace(root: Path, **options: Any) -> Made:
    """Fabricate a whole workspace at ``root``; ``options`` are the fields of :class:`Spec`."""
    spec = Spec(**options)
    rng = np.random.default_rng(spec.seed)
    train_truth, test_truth = _draw_truth(spec, spec.n_train, rng), _draw_truth(spec, spec.n_test, rng)
    train_labels, test_labels = _labels(spec, train_truth), _labels(spec, test_truth)
    _write_data(root / "data", spec, train_labels, rng)
    files.write_text(root / "kk.yaml", yaml.safe_dump(_config_content(spec), allow_unicode=True, sort_keys=False))
    workspace, config = Workspace(root), load_config(root / "kk.yaml")
    competition = load_competition(workspace, config.competition)
    folds = make_fold_table(spec, competition, train_labels, rng)
    folds.write(workspace.folds_path("folds"))
    answers = {f"test_{row:05}{spec.id_suffix if spec.sample else '.png'}": labels for row, labels in enumerate(test_labels)}
    made = Made(workspace, config, competition, folds, answers, spec)
    for number, name in enumerate(spec.run_names):
        write_run(made, name, seed=1000 * spec.seed + number)
    return made


def make_fold_table(
    spec: Spec, competition: Competition, labels: Sequence[tuple[str, ...]], rng: np.random.Generator
) -> FoldTable:
    """Rows dealt to folds class by class, so that each fold has some of each class."""
    order = np.array([competition.classes.index(row[0]) if row else -1 for row in labels])
    n_folds = 1 if spec.scheme == "holdout" else spec.n_folds
    parts = 5 if spec.scheme == "holdout" else n_folds
    assignments = []
    for _ in range(spec.repeats):
        shuffled = rng.permutation(len(order))
        by_class = shuffled[np.argsort(order[shuffled], kind="stable")]
        assignment = np.empty(len(order), dtype=np.int64)
        assignment[by_class] = np.arange(len(order)) % parts
        assignments.append(np.where(assignment < n_folds, assignment, -1))
    meta = {"scheme": spec.scheme, "seed": spec.seed, "competition": competition.name, **_made_from(competition)}
    ids = tuple(f"train_{row:05}.png" for row in range(len(labels)))
    groups = np.arange(len(ids))
    return FoldTable(
        ids, tuple(labels), groups, np.stack(assignments), n_folds, competition.classes, competition.multilabel, meta
    )


def fake_probabilities(truth: Array, n_classes: int, accuracy: float, *, multilabel: bool, rng: np.random.Generator) -> Array:
    """(N, C) float32: the true class is the most probable one with chance ``accuracy``, another one otherwise."""
    if multilabel:
        right = rng.random(truth.shape) < accuracy
        sign = np.where(right, truth, 1 - truth) * 2.0 - 1.0
        logits = sign * (0.3 + rng.gamma(2.0, 1.0, truth.shape))
        return (1 / (1 + np.exp(-logits))).astype(np.float32)
    rows = np.arange(len(truth))
    wrong = rng.random(len(truth)) >= accuracy
    predicted = np.where(wrong, (truth + rng.integers(1, max(n_classes, 2), len(truth))) % n_classes, truth)
    logits = rng.normal(0, 0.7, (len(truth), n_classes))
    logits[rows, truth] += 1.0
    logits[rows, predicted] = logits.max(axis=1) + 0.2 + rng.gamma(2.0, 1.0, len(truth))
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)


def seen_as(truth: Array, spec: Spec) -> Array:
    """What the images look like: their classes, but for rows of confusable pairs that look like the partner's."""
    if truth.ndim == 2 or not spec.confusable:
        return truth
    looks_other = np.random.default_rng(spec.seed + 2).random(len(truth)) < 0.5
    return np.where((truth < 2 * spec.confusable) & looks_other, truth ^ 1, truth)


def write_run(made: Made, name: str, *, seed: int, config: RunConfig | None = None) -> None:
    """Fabricate ``runs/<name>``: the record, and for each fold what training and prediction write."""
    spec, competition, folds = made.spec, made.competition, made.folds
    config = config or made.config.run.model_copy(update={"seed": seed})
    record = {
        "name": name,
        "competition": competition.name,
        "competition_fingerprint": competition.fingerprint,
        "task": competition.task,
        "metric": competition.metric,
        "classes": list(competition.classes.names),
        "folds": "folds",
        "folds_fingerprint": folds.fingerprint,
        "n_splits": folds.n_splits,
        "config": config.model_dump(mode="json"),
        "config_fingerprint": config.fingerprint,
        "versions": files.versions(),
        "created": "2025-01-01T00:00:00+00:00",
    }
    files.write_json(made.workspace.run_dir(name) / runs.RUN_RECORD, record)
    control = control_rows(folds, spec.control, np.random.default_rng(spec.seed))
    for fold in range(folds.n_splits):
        _write_fold(made, name, fold, control, finished=fold not in spec.unfinished.get(name, ()), seed=seed * 100 + fold)


def control_rows(folds: FoldTable, count: int, rng: np.random.Generator) -> Array:
    """Positions of up to ``count`` training rows that are validated on at least once, sorted."""
    validated = np.flatnonzero((folds.assignments >= 0).any(axis=0))
    return np.sort(rng.choice(validated, size=min(count, len(validated)), replace=False))


def _write_fold(made: Made, run: str, fold: int, control: Array, *, finished: bool, seed: int) -> None:
    spec, folds, competition = made.spec, made.folds, made.competition
    rng, path = np.random.default_rng(seed), made.workspace.fold_dir(run, fold)
    if not finished:
        files.write_json(path / runs.FOLD_RECORD, {"fold": fold, "state": "running", "epoch": 1, "seconds": 3.0})
        return
    _, valid = folds.split(fold)
    everything = fake_probabilities(
        seen_as(folds.truth(), spec), len(folds.classes), spec.accuracy, multilabel=folds.multilabel, rng=rng
    )  # what this fold's model says of each training row, as if it had seen none of them
    with_views = everything if spec.views == "none" else _blur(everything, folds.multilabel, rng)
    trained_on = ~np.isin(np.arange(len(folds)), valid)
    remembered = fake_probabilities(folds.truth(), len(folds.classes), 0.99, multilabel=folds.multilabel, rng=rng)
    control_probs = np.where(trained_on[:, None], remembered, with_views)[control]
    test = fake_probabilities(
        seen_as(made.truth, spec), len(folds.classes), spec.accuracy, multilabel=folds.multilabel, rng=rng
    )
    model = write_model(path / runs.MODEL, made, run, fold)
    meta = {"run": run, "fold": fold, "competition": competition.name, "seed": seed, "folds_fingerprint": folds.fingerprint}
    meta |= {**_made_from(competition), "model_fingerprint": model, "versions": files.versions()}
    ids = np.array(folds.ids, dtype=object)
    contents = write_contents(made, run)

    test_ids = [row.id for row in competition.test]
    of_pass = {"test_rows": runs.rows_fingerprint(test_ids, test)}

    def write(file_name: str, kind: str, row_ids: Sequence[str], probs: Array, views: str) -> None:
        about = {
            **meta,
            "contents": contents["test" if kind == "test" else "train"],
            "kind": kind,
            "views": views,
            "merge": "mean",
            **({} if kind == "oof" else of_pass),
        }
        Predictions(tuple(row_ids), probs, competition.classes, about, _pixels(row_ids)).write(path / file_name)

    write(runs.OOF, "oof", ids[valid], everything[valid], "none")
    if spec.views != "none":
        write(runs.OOF_VIEWS, "oof", ids[valid], with_views[valid], spec.views)
    write(runs.TEST, "test", test_ids, test, spec.views)
    if spec.control:
        write(runs.CONTROL, "control", ids[control], control_probs, spec.views)
    score = _score(competition, folds.truth(valid), everything[valid])
    record = {"fold": fold, "state": "finished", "epoch": 2, "score": score, "metric": competition.metric, "seconds": 12.5}
    record["contents"] = contents["train"]
    files.write_json(path / runs.FOLD_RECORD, {**record, "parameters": 1234, "model_fingerprint": model, "n_valid": len(valid)})


def write_contents(made: Made, run: str) -> dict[str, str]:
    """Keep what the images hold beside the run; returns the fingerprint of each part."""
    cache, folder = made.workspace.cache_dir, made.workspace.run_dir(run)
    return {
        "test": keep_contents(folder, contents_of(made.competition.test, cache)),
        "train": keep_contents(folder, training_contents(made.competition, made.folds, cache)),
    }


def _pixels(ids: Sequence[str]) -> Array:
    """Hashes (N, 2) of the pixels that the model saw and of those of the id's image: the same for each row."""
    hashes = np.array([zlib.crc32(row_id.encode()) for row_id in ids], dtype=np.uint64)
    return np.stack([hashes, hashes], axis=1)


def write_model(path: Path, made: Made, run: str, fold: int) -> str:
    """A tiny safetensors file that says which classes it knows; returns its fingerprint."""
    from safetensors.numpy import save_file

    meta = {
        "arch": "tf_efficientnet_lite0.in1k",
        "num_classes": len(made.competition.classes),
        "classes": list(made.competition.classes.names),
        "classes_fingerprint": made.competition.classes.fingerprint,
        "task": made.competition.task,
        "competition": made.competition.name,
        **_made_from(made.competition),
        "folds_fingerprint": made.folds.fingerprint,
        "run": run,
        "fold": fold,
    }
    weight = np.full((len(made.competition.classes), 2), fold, dtype=np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"classifier.weight": weight}, str(path), metadata={METADATA_KEY: json.dumps(meta, ensure_ascii=False)})
    return files.file_fingerprint(path)


def _score(competition: Competition, truth: Array, probs: Array) -> float:
    from kaggle_kit.metrics import get_metric

    return get_metric(competition.metric)(truth, probs)


def _blur(probs: Array, multilabel: bool, rng: np.random.Generator) -> Array:
    """Slightly other probabilities, as other views give."""
    changed = probs * np.exp(rng.normal(0, 0.05, probs.shape)).astype(np.float32)
    return np.clip(changed, 0, 1) if multilabel else changed / changed.sum(axis=1, keepdims=True)


def _made_from(competition: Competition) -> dict[str, str]:
    return {"competition_fingerprint": competition.fingerprint}


def _draw_truth(spec: Spec, rows: int, rng: np.random.Generator) -> Array:
    """Class positions (N,), every class at least once where rows allow; multi-label: 0/1 (N, C) with at least one a row."""
    n_classes = len(spec.classes)
    weights = 10.0 ** (-spec.imbalance * np.arange(n_classes) / max(n_classes - 1, 1))
    truth = rng.choice(n_classes, size=rows, p=weights / weights.sum())
    truth[: min(n_classes, rows)] = np.arange(n_classes)[:rows]
    if spec.the_task != "multilabel":
        return truth
    matrix = (rng.random((rows, n_classes)) < 0.25).astype(np.uint8)
    matrix[np.arange(rows), truth] = 1
    return matrix


def _labels(spec: Spec, truth: Array) -> list[tuple[str, ...]]:
    if truth.ndim == 2:
        return [tuple(spec.classes.decode(np.flatnonzero(row))) for row in truth]
    return [(name,) for name in spec.classes.decode(truth)]


def separator_of(spec: Spec) -> str:
    """A separator of labels that stands in no class name."""
    text = "".join(spec.classes.names)
    return next(mark for mark in (" ", "|", ";", ",", "~") if mark not in text)


def _write_data(data: Path, spec: Spec, labels: Sequence[tuple[str, ...]], rng: np.random.Generator) -> None:
    """train.csv, tiny images and the sample submission."""
    train = [f"train_{row:05}.png" for row in range(spec.n_train)]
    test = [f"test_{row:05}" for row in range(spec.n_test)]
    for folder, names in (("train_images", train), ("test_images", [f"{stem}.png" for stem in test])):
        (data / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            _write_png(data / folder / name, rng)
    cells = [separator_of(spec).join(row) if spec.the_task == "multilabel" else row[0] for row in labels]
    files.write_table(data / "train.csv", pd.DataFrame({"image": train, "label": cells}))
    if spec.sample:
        _sample_frame(spec, [stem + spec.id_suffix for stem in test]).to_csv(data / "sample_submission.csv", index=False)


def _write_png(path: Path, rng: np.random.Generator) -> None:
    from PIL import Image

    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


def _target_columns(spec: Spec) -> dict[str, str]:
    if spec.form != "probability":
        return {{"labels": "labels", "positive": "target"}.get(spec.form, "label"): ""}
    names = list(spec.classes.names)
    if spec.sample_order == "reversed":
        names = names[::-1]
    elif spec.sample_order == "shuffled":
        names = [names[position] for position in np.random.default_rng(spec.seed + 1).permutation(len(names))]
    # A class may be called as the id column is.
    return {f"class:{name}" if name == "id" else name: name for name in names}


def _sample_frame(spec: Spec, ids: Sequence[str]) -> pd.DataFrame:
    first = spec.classes.names[0]
    value: Any = {"label": first, "index": 0, "labels": first, "positive": 0.5}.get(spec.form, 1 / len(spec.classes))
    return pd.DataFrame({"id": list(ids), **{column: [value] * len(ids) for column in _target_columns(spec)}})


def _config_content(spec: Spec) -> dict[str, Any]:
    names = list(spec.classes.names)
    submission: dict[str, Any] = {"id_column": "id", "form": spec.form, "columns": _target_columns(spec)}
    if spec.sample:
        submission["sample"] = "sample_submission.csv"
    if spec.form == "index":
        submission["indices"] = {name: position for position, name in enumerate(names)}
    if spec.form == "labels":
        submission["separator"] = separator_of(spec)
    train: dict[str, Any] = {"layout": "csv", "dirs": ["train_images"], "csv": "train.csv", "image_column": "image"}
    train["label_columns"] = ["label"]
    if spec.the_task == "multilabel":
        train["label_separator"] = separator_of(spec)
    competition = {
        "name": "synthetic",
        "data_dir": "data",
        "task": spec.the_task,
        "metric": spec.metric or METRIC_OF_TASK[spec.the_task],
        "classes": names,
        "train": train,
        "test": {"dirs": ["test_images"]},
        "submission": submission,
    }
    return {"competition": competition}
