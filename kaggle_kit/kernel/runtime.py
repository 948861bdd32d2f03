"""What a built notebook does at Kaggle: verify, predict the test set that is there, blend, write and check.

Whatever can be done without is done without, and said: a damaged fold, a GPU that does not work, an image that cannot be
read, time that does not suffice.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from kaggle_kit import files, own_code, runs
from kaggle_kit.blending import Fitted, fitted_from_dict
from kaggle_kit.check import Check, check_submission
from kaggle_kit.choices import INT8
from kaggle_kit.competition import Competition, ImageRow
from kaggle_kit.config import CompetitionConfig, Config
from kaggle_kit.errors import DataError, KaggleKitError
from kaggle_kit.fold_names import fold_text
from kaggle_kit.kernel.bundle import PLAN, Bundle, find_bundle
from kaggle_kit.kernel.testset import TestSet, find_test_set
from kaggle_kit.sparse import SparseRows, arranged, combined, kept_columns
from kaggle_kit.submission import sample_header, write_submission
from kaggle_kit.tables import Classes, Predictions, shown
from kaggle_kit.units import format_duration
from kaggle_kit.workspace import Workspace

if TYPE_CHECKING:
    from kaggle_kit.inference.outputs import RunPrediction
    from kaggle_kit.inference.predict import Compute

logger = logging.getLogger(__name__)

Say = Callable[[str], None]
Key = tuple[str, int]
"""Run and fold."""
Part = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Row numbers (N,), and their probabilities (N, C)."""
SUBMISSION = "submission.csv"
BUDGET = 8.5 * 3600
"""Seconds; Kaggle ends a session after nine hours."""
_MARKS = {"passed": "ok  ", "failed": "FAIL", "warning": "warn", "inconclusive": "  ? "}


@dataclass(frozen=True)
class KernelResult:
    """What a kernel made.

    Attributes:
        checks: form and contract, as ``kk check`` words them.
        n_rows: rows of the submission; ``n_prior`` of them hold the classes' shares of the training data.
        left_out: what was planned and not done.
    """

    submission: Path
    checks: tuple[Check, ...]
    n_rows: int
    n_prior: int
    left_out: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return not any(check.status == "failed" for check in self.checks)

    def __str__(self) -> str:
        """The verdict as a table of text."""
        width = max((len(check.name) for check in self.checks), default=0)
        lines = [f"{_MARKS[check.status]}  {check.name:<{width}}  {check.evidence}" for check in self.checks]
        prior = f", {self.n_prior:,} of them without a prediction" if self.n_prior else ""
        left = f"\nleft out: {'; '.join(self.left_out)}" if self.left_out else ""
        verdict = "passed" if self.passed else "FAILED"
        end = f"{verdict}: {self.submission.name}, {self.n_rows:,} rows{prior}, {format_duration(self.seconds)}"
        return "\n".join([*lines, end + left])


@dataclass(frozen=True)
class _KernelPlan:
    """What the dataset's ``plan.json`` says: which runs to predict with, how to blend, and in which form."""

    config: CompetitionConfig
    runs: tuple[Mapping[str, Any], ...]
    fitted: Fitted
    prior: npt.NDArray[np.float32]
    thresholds: list[float] | None
    batch_size: int
    style: str
    cpu: bool

    @property
    def classes(self) -> Classes:
        return Classes(tuple(self.config.classes))


def timed(say: Say, begin: float) -> Say:
    """Return what says a line with the time since ``begin`` before it."""

    def tell(text: str) -> None:
        say(f"[{format_duration(time.monotonic() - begin):>7}] {text}")

    return tell


def run_inference_kernel(
    input_root: Path,
    working: Path,
    *,
    build: str = "",
    budget_seconds: float = BUDGET,
    started: float | None = None,
    say: Say = logger.info,
) -> KernelResult:
    """Predict the test set below ``input_root`` and write ``submission.csv``, its record and its verdict to ``working``.

    The dataset becomes a small workspace; what predicts, blends and checks there is what does at home.

    Args:
        input_root: where Kaggle mounts inputs; dataset and competition are looked for below it.
        build: of the dataset that the notebook was made for.
        budget_seconds: from ``started`` on; what does not fit is left out by the rule of
            :mod:`~kaggle_kit.inference.time_limit`, and then images.
        started: ``time.monotonic()`` when the session began; by default now.
        say: is given each line for the reader.

    Raises:
        MissingFileError: the dataset or the competition is not attached.
        DataError: the plan is damaged, or no model can be used.
    """
    begin = time.monotonic() if started is None else started
    tell = timed(say, begin)
    bundle = find_bundle(Path(input_root), "inference", build, say=tell)
    plan = _read_plan(bundle)
    for wheel, reason in bundle.damaged(bundle.wheels).items():
        tell(f"wheel {wheel}: {reason}")
    paths, damaged = _sound_models(bundle, plan, tell)
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(Path(scratch))
        # Absolute, since the check looks at the data from another folder.
        test = find_test_set(Path(input_root).absolute(), plan.config, style=plan.style, scratch=workspace.root, say=tell)
        _lay_out(workspace, bundle, plan, paths)
        computes = _computes(bundle, plan, tell)
        predicted = _predict(workspace, plan, test, computes, (begin, budget_seconds), tell)
        probs, sound = _blend(workspace, plan, [row_id for row_id, _ in test.rows], tell)
        predictions = Predictions(tuple(row_id for row_id, _ in test.rows), probs, plan.classes, {"kind": "kernel"})
        checks = _write(workspace, bundle, plan, test, predictions, Path(working))
    left_out = (*damaged, *dict.fromkeys(text for result in predicted for text in result.left_out))
    left_out += _rows_left_out(predicted, int(sum(path is not None for _, path in test.rows)), tell)
    n_prior = int((~sound).sum())
    seconds = time.monotonic() - begin
    return KernelResult(Path(working) / SUBMISSION, checks, len(test.rows), n_prior, left_out, seconds)


def _read_plan(bundle: Bundle) -> _KernelPlan:
    damaged = bundle.damaged([PLAN])
    if damaged:
        raise DataError(f"{bundle.folder / PLAN}: {damaged[PLAN]}; nothing can be done without it. Upload the dataset again.")
    content = bundle.plan()
    return _KernelPlan(
        config=CompetitionConfig.model_validate(content["competition"]),
        runs=tuple(content["runs"]),
        fitted=fitted_from_dict(content["blend"]),
        prior=np.asarray(content["prior"], dtype=np.float32),
        thresholds=content["thresholds"],
        batch_size=int(content["batch_size"]),
        style=str(content["id_style"]),
        cpu=bool(content["cpu"]),
    )


def _sound_models(bundle: Bundle, plan: _KernelPlan, say: Say) -> tuple[dict[Key, Path], list[str]]:
    """Return the models whose bytes are those that were built, and what is left out for it."""
    named = {(str(run["name"]), int(fold)): name for run in plan.runs for fold, name in run["models"].items()}
    damaged = bundle.damaged(named.values())
    left_out = []
    for (run, fold), name in named.items():
        if name in damaged:
            say(f"{name} is damaged: {damaged[name]}; run {run} goes on without {fold_text(fold)}")
            left_out.append(f"run {run} {fold_text(fold)} (damaged)")
    sound = {key: bundle.folder / name for key, name in named.items() if name not in damaged}
    if not sound:
        raise DataError(f"all {len(named)} models in {bundle.folder} are damaged or missing. Upload the dataset again.")
    say(f"{len(sound)} of {len(named)} models verified by their sha256, classes: {shown(plan.classes)}")
    return sound, left_out


def _lay_out(workspace: Workspace, bundle: Bundle, plan: _KernelPlan, paths: Mapping[Key, Path]) -> None:
    """Make the workspace of the plan: its runs with the models that are sound, as links, and the files of own models."""
    for run in plan.runs:
        lay_out_run(workspace, bundle, run, {fold: path for (name, fold), path in paths.items() if name == run["name"]})


def lay_out_run(workspace: Workspace, bundle: Bundle, run: Mapping[str, Any], models: Mapping[int, Path]) -> None:
    """Make a run of a plan's entry, with ``models`` (fold -> file) as links, and the file of an own model."""
    name = str(run["name"])
    if "code" in run:  # that it is the one which the run was trained with is seen to where models are loaded
        path = own_code.own_path(str(run["record"]["config"]["model"]["name"]), "model", workspace.root)
        files.write_bytes(path, files.read_bytes(bundle.folder / str(run["code"])))
    splits = max(*map(int, run["models"]), 0) + 1
    files.write_json(workspace.run_dir(name) / runs.RUN_RECORD, {**run["record"], "n_splits": splits})
    for fold, path in models.items():
        folder = workspace.fold_dir(name, fold)
        digest = files.file_fingerprint(path)
        several = run.get("several", {}).get(str(fold))
        runs.write_fold_record(folder, runs.FoldRecord(fold, "finished", model_fingerprint=digest, several=several))
        (folder / runs.MODEL).unlink(missing_ok=True)
        (folder / runs.MODEL).symlink_to(path.resolve())


def _computes(bundle: Bundle, plan: _KernelPlan, say: Say) -> list[Compute]:
    """Return where and how to predict with each run: by OpenVINO in a session without a GPU, if it was shipped for that."""
    import torch

    from kaggle_kit.inference.predict import Compute

    plain = Compute(batch_size=plan.batch_size, engine="torch")
    if torch.cuda.device_count():
        return [plain] * len(plan.runs)
    if not plan.cpu:  # as where the accelerator was forgotten
        say("there is no GPU; predicting on the CPU, which is slow")
        return [plain] * len(plan.runs)
    if why := _lacks_openvino():
        say(f"OpenVINO cannot be used ({why}); predicting by PyTorch, which is slower")
        return [plain] * len(plan.runs)
    return [_compute_of(bundle, run, replace(plain, engine="auto"), say) for run in plan.runs]


def _lacks_openvino() -> str:
    """Say why OpenVINO does not work here; nothing if it does."""
    from kaggle_kit.inference.openvino_models import openvino_core

    try:
        return "" if "CPU" in openvino_core().available_devices else "it finds no CPU"
    except (KaggleKitError, RuntimeError, OSError) as error:
        return str(error)


def _compute_of(bundle: Bundle, run: Mapping[str, Any], compute: Compute, say: Say) -> Compute:
    """Return how to predict with a run: in 8-bit integers where it was predicted so at home, and all of it is sound."""
    graphs: Mapping[str, Sequence[str]] = run.get("graphs", {})
    if not graphs:
        return compute
    if damaged := bundle.damaged(name for names in graphs.values() for name in names):
        first, reason = next(iter(damaged.items()))
        say(f"{first} is damaged: {reason}; run {run['name']} is computed in floating point instead")
        return compute
    return replace(compute, engine=INT8, graphs={name: bundle.folder / names[0] for name, names in graphs.items()})


def _predict(
    workspace: Workspace,
    plan: _KernelPlan,
    test: TestSet,
    computes: Sequence[Compute],
    budget: tuple[float, float],
    say: Say,
) -> list[RunPrediction]:
    """Predict the images that are there with all runs together, as `kk predict` does.

    Args:
        computes: where and how, of each run.
        budget: when it began, and its seconds.
    """
    from kaggle_kit.inference.job import RunJob
    from kaggle_kit.inference.run import predict_jobs
    from kaggle_kit.inference.time_limit import TimeLimit

    there = test.image_rows()
    competition = _competition(plan, test, there)
    jobs, weights = [], plan.fitted.weights or [1.0] * len(plan.runs)
    for run, weight, compute in zip(plan.runs, weights, computes, strict=True):
        known = runs.read_run(workspace, str(run["name"]))
        if any(fold.finished for fold in (*known.folds, known.full)):
            tta, merge = str(run["views"]), str(run["merge"])
            mixes = {int(fold): str(mix) for fold, mix in run.get("mixes", {}).items()}
            jobs.append(RunJob(competition, known, None, tta, merge, compute, with_oof=False, weight=weight, mixes=mixes))
    started, seconds = budget
    return predict_jobs(jobs, limit=TimeLimit(seconds, started=started), tolerant=True, say=say) if there else []


def _rows_left_out(predicted: Sequence[RunPrediction], images: int, say: Say) -> tuple[str, ...]:
    """Say in one line each which images could not be read, and which there was no time for."""
    instead = "will have the classes' shares of the training data instead"
    unreadable = {row_id: reason for result in predicted for row_id, reason in result.unreadable.items()}
    lines = []
    if unreadable:
        say(f"{_images(len(unreadable))} cannot be read and {instead}: {shown(map(str, unreadable.values()))}")
        lines.append(f"{_images(len(unreadable))} that cannot be read")
    done = [set(result.late) for result in predicted if result.predicted]
    late = [row_id for result in predicted[:1] for row_id in result.late if all(row_id in some for some in done)]
    if late:
        say(f"out of time: {len(late):,} of {images:,} images are not predicted and {instead}: {shown(late)}")
        lines.append(f"{len(late):,} images (out of time)")
    return tuple(lines)


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _blend(
    workspace: Workspace, plan: _KernelPlan, ids: Sequence[str], say: Say
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Repeat the blend on what was predicted: (N, C), and which of the rows (N,) any run has predicted.

    Where a run has nothing to say, the mean of the others stands in for it; where no run has, the classes' shares of the
    training data.
    """
    said = [_of_run(workspace, str(run["name"]), plan.classes, ids) for run in plan.runs]
    for run, part in zip(plan.runs, said, strict=True):
        if part is None:
            say(f"run {run['name']} has no usable model: the mean of the other runs stands in for it in the blend")
    parts = [part for part in said if part is not None]
    count = np.bincount(np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in parts)]), minlength=len(ids))
    sound, unsound = np.flatnonzero(count), np.flatnonzero(count == 0)
    probs = [(unsound, prior_rows(plan.prior, len(unsound), multilabel=plan.config.task == "multilabel"))]
    if parts:
        mean = (combined(np.add, parts, len(ids)) / np.maximum(count, 1)[:, None]).astype(np.float32)
        probs.append((sound, plan.fitted.apply([_filled(part, mean)[sound] for part in said])))
    return arranged(probs), count > 0


def _filled(part: Part | None, mean: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what a run says of all rows, the mean of the others where it says nothing."""
    if part is None:
        return mean
    others = np.setdiff1d(np.arange(len(mean)), part[0])
    return arranged([part, (others, mean[others])])


def prior_rows(prior: npt.NDArray[np.float32], n_rows: int, *, multilabel: bool) -> npt.NDArray[np.float32]:
    """Return rows of the classes' shares (C,) in the training data, which stand for what could not be predicted."""
    kept, one = kept_columns(len(prior), multilabel=multilabel), prior[None]
    rows = SparseRows.largest(one, kept) if kept else one
    return cast(npt.NDArray[np.float32], rows[np.zeros(n_rows, dtype=np.int64)])


def _of_run(workspace: Workspace, name: str, classes: Classes, ids: Sequence[str]) -> Part | None:
    """Return the rows of ``ids`` that a run predicted, each the mean over its folds as `kk blend` takes it; None without."""
    where = {row_id: row for row, row_id in enumerate(ids)}
    run = runs.read_run(workspace, name)
    if not any((fold.path / runs.TEST).is_file() for fold in (*run.folds, run.full)):
        return None
    parts = [part.align(classes, here="the plan") for part in runs.read_test(run)]
    total = sum((part.probs for part in parts[1:]), start=parts[0].probs.astype(np.float64))
    rows = np.array([where[row_id] for row_id in parts[0].ids], dtype=np.int64)
    return rows, (total / len(parts)).astype(np.float32)


def _competition(plan: _KernelPlan, test: TestSet, rows: tuple[ImageRow, ...]) -> Competition:
    """Return the competition as it is here, with ``rows`` as its test images and without any training image."""
    config = test.config
    fingerprint = files.fingerprint([config.name, config.classes, [row_id for row_id, _ in test.rows]])
    return Competition(
        name=config.name,
        task=config.task,
        metric=config.metric,
        classes=plan.classes,
        train=(),
        test=rows,
        submission=config.submission,
        sample_path=test.sample,
        fingerprint=fingerprint,
    )


def _write(
    workspace: Workspace, bundle: Bundle, plan: _KernelPlan, test: TestSet, predictions: Predictions, working: Path
) -> tuple[Check, ...]:
    """Write submission, record and verdict."""
    config, path = test.config, working / SUBMISSION
    competition = _competition(plan, test, test.image_rows(Path(config.data_dir)))
    header = sample_header(test.sample) if test.sample else []
    form, ids, thresholds = config.submission, predictions.ids, plan.thresholds
    write_submission(path, predictions, form, classes=plan.classes, ids=ids, columns=header, thresholds=thresholds)
    record = runs.BlendRecord(
        name=path.stem,
        competition=config.name,
        competition_fingerprint=competition.fingerprint,
        runs=tuple(_entries(workspace, plan)),
        method=plan.fitted.blender.name,
        blend=plan.fitted.to_dict(),
        thresholds=None if plan.thresholds is None else tuple(plan.thresholds),
        build=bundle.build,
        classes=plan.classes.names,
        classes_fingerprint=plan.classes.fingerprint,
        n_test=len(predictions),
        sha256=files.file_fingerprint(path),
        versions=files.versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    runs.write_blend_record(path, record)
    predictions.write(path.with_suffix(".probs.parquet"))
    report = check_submission(
        path, workspace=workspace, config=Config(competition=config), competition=competition, only=("form", "contract")
    )
    # Of fold tables and out-of-fold rows, which stay at home, the check says that they are not in our scratch folder.
    checks = tuple(replace(check, evidence=check.evidence.replace(f"{workspace.root}/", "")) for check in report.checks)
    replace(report, checks=checks).write()
    return checks


def _entries(workspace: Workspace, plan: _KernelPlan) -> list[runs.BlendedRun]:
    """Return what the record says of each run: its folds that took part, with their models."""
    entries = []
    for run in plan.runs:
        folds = [fold for fold in runs.read_run(workspace, str(run["name"])).folds if fold.finished]
        if any((fold.path / runs.TEST).is_file() for fold in folds):
            models = {fold.fold: fold.record.model_fingerprint for fold in folds}
            entries.append(runs.BlendedRun(str(run["name"]), folds=tuple(models), models=models))
    return entries
