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
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaggle_kit import files, runs
from kaggle_kit.blending import Fitted, fitted_from_dict
from kaggle_kit.check import Check, check_submission
from kaggle_kit.competition import Competition, ImageRow
from kaggle_kit.config import CompetitionConfig, Config
from kaggle_kit.errors import DataError
from kaggle_kit.kernel.budget import Governor
from kaggle_kit.kernel.bundle import PLAN, Bundle, find_bundle
from kaggle_kit.kernel.testset import TestSet, find_test_set
from kaggle_kit.submission import sample_header, write_submission
from kaggle_kit.tables import Classes, Predictions, shown
from kaggle_kit.units import format_duration
from kaggle_kit.workspace import Workspace

if TYPE_CHECKING:
    from kaggle_kit.kernel.predicting import Key

logger = logging.getLogger(__name__)

Say = Callable[[str], None]
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
class _Plan:
    """The dataset's plan in our own words."""

    config: CompetitionConfig
    runs: tuple[Mapping[str, Any], ...]
    fitted: Fitted
    prior: npt.NDArray[np.float32]
    thresholds: list[float] | None
    batch_size: int
    style: str

    @property
    def classes(self) -> Classes:
        return Classes(tuple(self.config.classes))


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

    Args:
        input_root: where Kaggle mounts inputs; dataset and competition are looked for below it.
        build: of the dataset that the notebook was made for.
        budget_seconds: from ``started`` on; what does not fit is left out: first views, then folds, then images.
        started: ``time.monotonic()`` when the session began; by default now.
        say: is given each line for the reader.

    Raises:
        MissingFileError: the dataset or the competition is not attached.
        DataError: the plan is damaged, or no model can be used.
    """
    begin = time.monotonic() if started is None else started

    def tell(text: str) -> None:
        say(f"[{format_duration(time.monotonic() - begin):>7}] {text}")

    bundle = find_bundle(Path(input_root), "inference", build, say=tell)
    plan = _read_plan(bundle)
    left_out: list[str] = []
    for wheel, reason in bundle.damaged(bundle.wheels).items():
        tell(f"wheel {wheel}: {reason}")
    paths = _sound_models(bundle, plan, tell, left_out)
    # Absolute, since the check looks at the data from another folder.
    test = find_test_set(Path(input_root).absolute(), plan.config, style=plan.style, say=tell)
    stack, sound, shares = _predict(plan, paths, test, (begin, budget_seconds), tell, left_out)
    probs = np.tile(plan.prior, (len(test.rows), 1))
    if sound.any():
        probs[sound] = plan.fitted.apply([part[sound] for part in stack])
    predictions = Predictions(tuple(row_id for row_id, _ in test.rows), probs, plan.classes, {"kind": "kernel"})
    checks = _write(bundle, plan, test, predictions, shares, paths, Path(working))
    n_prior = int((~sound).sum())
    seconds = time.monotonic() - begin
    return KernelResult(Path(working) / SUBMISSION, checks, len(test.rows), n_prior, tuple(left_out), seconds)


def _read_plan(bundle: Bundle) -> _Plan:
    damaged = bundle.damaged([PLAN])
    if damaged:
        raise DataError(f"{bundle.folder / PLAN}: {damaged[PLAN]}; nothing can be done without it. Upload the dataset again.")
    content = bundle.plan()
    return _Plan(
        config=CompetitionConfig.model_validate(content["competition"]),
        runs=tuple(content["runs"]),
        fitted=fitted_from_dict(content["blend"]),
        prior=np.asarray(content["prior"], dtype=np.float32),
        thresholds=content["thresholds"],
        batch_size=int(content["batch_size"]),
        style=str(content["id_style"]),
    )


def _sound_models(bundle: Bundle, plan: _Plan, say: Say, left_out: list[str]) -> dict[Key, Path]:
    """The models whose bytes are those that were built."""
    named = {(str(run["name"]), int(fold)): name for run in plan.runs for fold, name in run["models"].items()}
    damaged = bundle.damaged(named.values())
    for (run, fold), name in named.items():
        if name in damaged:
            say(f"{name} is damaged: {damaged[name]}; run {run} goes on without fold {fold}")
            left_out.append(f"run {run} fold {fold} (damaged)")
    sound = {key: bundle.folder / name for key, name in named.items() if name not in damaged}
    if not sound:
        raise DataError(f"all {len(named)} models in {bundle.folder} are damaged or missing. Upload the dataset again.")
    say(f"{len(sound)} of {len(named)} models verified by their sha256, classes: {shown(plan.classes)}")
    return sound


def _predict(
    plan: _Plan, paths: dict[Key, Path], test: TestSet, budget: tuple[float, float], say: Say, left_out: list[str]
) -> tuple[list[npt.NDArray[np.float32]], npt.NDArray[np.bool_], dict[str, tuple[int, ...]]]:
    """A stack of all runs (N, C), which rows of it can be used (N,), and run -> folds that took part.

    Args:
        budget: when it began, and its seconds.
    """
    from kaggle_kit.kernel.predicting import full_share, load_models, predict_all, usable_devices

    devices = usable_devices(say)
    models = load_models(paths, say)
    for key in [key for key in paths if key not in models]:
        left_out.append(f"run {key[0]} fold {key[1]} (does not load)")
        del paths[key]
    if not models:
        raise DataError("none of the models can be loaded here; the lines above say why.")
    for key, loaded in models.items():
        plan.classes.require_same(loaded.classes, here="the plan", there=str(paths[key]))
    share = full_share(plan.runs, models, plan.fitted.weights or [1.0] * len(plan.runs), say)
    planned = {str(run["name"]): str(run["views"]) for run in plan.runs}
    left_out += [f"{planned[run.name]} views of run {run.name}" for run in share if run.views != planned[run.name]]
    at = [row for row, (_, path) in enumerate(test.rows) if path is not None]
    rows = [(row_id, path) for row_id, path in test.rows if path is not None]
    started, seconds = budget
    governor = Governor(len(rows), share, seconds, devices=len(devices), say=say, started=started)
    say(f"predicting {len(rows):,} images with {sum(len(run.folds) for run in share)} models on {shown(devices)}")
    with tempfile.TemporaryDirectory() as notes:
        found = predict_all(models, rows, governor, devices=devices, batch_size=plan.batch_size, notes=Path(notes), say=say)
    bad = np.array([path in found.unreadable for _, path in rows], dtype=bool)
    left_out += governor.left_out
    late = ~np.any([np.isfinite(probs[:, 0]) for probs in found.probs.values()], axis=0)
    _say_rows(rows, found.unreadable, late & ~bad, say, left_out)
    stack = _stack(plan, found.probs, len(test.rows), at, say)
    sound = np.zeros(len(test.rows), dtype=bool)
    sound[at] = ~(bad | late)
    return stack, sound, {run.name: run.folds for run in share}


def _say_rows(
    rows: Sequence[tuple[str, Path]],
    unreadable: Mapping[Path, str],
    late: npt.NDArray[np.bool_],
    say: Say,
    left_out: list[str],
) -> None:
    """One line for images that could not be read, one for those that there was no time for."""
    instead = "will have the classes' shares of the training data instead"
    if unreadable:
        reasons = shown(str(reason) for reason in unreadable.values())
        say(f"{_images(len(unreadable))} cannot be read and {instead}: {reasons}")
        left_out.append(f"{_images(len(unreadable))} that cannot be read")
    if late.any():
        ids = [row_id for (row_id, _), is_late in zip(rows, late, strict=True) if is_late]
        say(f"out of time: {len(ids):,} of {len(rows):,} images are not predicted and {instead}: {shown(ids)}")
        left_out.append(f"{len(ids):,} images (out of time)")


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _stack(
    plan: _Plan, probs: Mapping[str, npt.NDArray[np.float32]], n_rows: int, at: Sequence[int], say: Say
) -> list[npt.NDArray[np.float32]]:
    """The runs in the order of the blend, over all rows; where a run was not computed, the mean of the others stands in."""
    known = [np.isfinite(part) for part in probs.values()]
    total = np.sum([np.where(there, part, 0.0) for there, part in zip(known, probs.values(), strict=True)], axis=0)
    mean = (total / np.maximum(np.sum(known, axis=0), 1)).astype(np.float32)
    stack = []
    for run in plan.runs:
        name = str(run["name"])
        if name not in probs:
            say(f"run {name} has no usable model: the mean of the other runs stands in for it in the blend")
        whole = np.tile(plan.prior, (n_rows, 1))
        whole[at] = np.where(np.isfinite(probs[name]), probs[name], mean) if name in probs else mean
        stack.append(whole)
    return stack


def _write(
    bundle: Bundle,
    plan: _Plan,
    test: TestSet,
    predictions: Predictions,
    shares: Mapping[str, tuple[int, ...]],
    paths: Mapping[Key, Path],
    working: Path,
) -> tuple[Check, ...]:
    """Submission, record and verdict."""
    config, path = test.config, working / SUBMISSION
    rows = tuple(ImageRow(row_id, file or Path(config.data_dir)) for row_id, file in test.rows)
    fingerprint = files.fingerprint([config.name, config.classes, list(predictions.ids)])
    competition = Competition(
        *(config.name, config.task, config.metric, plan.classes, (), rows, config.submission, test.sample, fingerprint)
    )
    header = sample_header(test.sample) if test.sample else []
    form, ids, thresholds = config.submission, predictions.ids, plan.thresholds
    write_submission(path, predictions, form, classes=plan.classes, ids=ids, columns=header, thresholds=thresholds)
    entries = [
        {"name": name, "folds": list(folds), "models": {str(fold): files.file_fingerprint(paths[name, fold]) for fold in folds}}
        for name, folds in shares.items()
    ]
    record = {
        "name": path.stem,
        "competition": config.name,
        "competition_fingerprint": fingerprint,
        "runs": entries,
        "method": plan.fitted.blender.name,
        "blend": plan.fitted.to_dict(),
        "thresholds": plan.thresholds,
        "build": bundle.build,
        "classes": list(plan.classes),
        "classes_fingerprint": plan.classes.fingerprint,
        "n_test": len(predictions),
        "sha256": files.file_fingerprint(path),
        "versions": files.versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    files.write_json(path.with_suffix(".json"), record)
    predictions.write(path.with_suffix(".probs.parquet"))
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(Path(scratch))
        _lay_out(workspace, plan, entries, paths)
        report = check_submission(
            path, workspace=workspace, config=Config(competition=config), competition=competition, only=("form", "contract")
        )
    # Of fold tables and out-of-fold rows, which stay at home, the check says that they are not in our scratch folder.
    checks = tuple(replace(check, evidence=check.evidence.replace(f"{scratch}/", "")) for check in report.checks)
    replace(report, checks=checks).write()
    return checks


def _lay_out(workspace: Workspace, plan: _Plan, entries: Sequence[Mapping[str, Any]], paths: Mapping[Key, Path]) -> None:
    """Runs as ``kk check`` expects them in a workspace; models as links."""
    records = {str(run["name"]): run["record"] for run in plan.runs}
    for entry in entries:
        name = str(entry["name"])
        files.write_json(workspace.run_dir(name) / runs.RUN_RECORD, records[name])
        for fold, digest in entry["models"].items():
            folder = workspace.fold_dir(name, int(fold))
            runs.write_fold_record(folder, runs.FoldRecord(int(fold), "finished", model_fingerprint=digest))
            (folder / runs.MODEL).symlink_to(paths[name, int(fold)].resolve())
