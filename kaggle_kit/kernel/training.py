"""What a built training notebook does at Kaggle: train within a session, and go on from the output of the last one."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kaggle_kit import files, own_code, runs
from kaggle_kit.competition import Setup, load_competition
from kaggle_kit.competition.containers.unpacking import FOLDER as UNPACKED
from kaggle_kit.config import Config, build_config
from kaggle_kit.errors import DataError, TrainingError
from kaggle_kit.fold_names import fold_folders
from kaggle_kit.kernel.bundle import PLAN, Bundle, find_bundle, search
from kaggle_kit.kernel.dataset import FOLDS, LABELS, SAID, SEEN, own_functions, said_name
from kaggle_kit.kernel.runtime import BUDGET, Say, lay_out_run, timed
from kaggle_kit.kernel.testset import locate
from kaggle_kit.runs.record import fold_record_from
from kaggle_kit.units import format_duration
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

WORKSPACE = "kk"
"""Folder of the workspace in the output of a training kernel."""
_NOT_CARRIED = (".lock", ".lock.json")


@dataclass(frozen=True)
class TrainingResult:
    """How far a run has come.

    Attributes:
        runs_dir: the ``runs`` folder of the output.
        scores: fold -> score, of the finished folds.
        stopped: why the session ended early, or None.
        failed: why folds could not be trained, or None.
    """

    run: str
    runs_dir: Path
    metric: str
    scores: dict[int, float]
    n_folds: int
    stopped: str | None
    failed: str | None
    seconds: float

    @property
    def finished(self) -> bool:
        return len(self.scores) == self.n_folds

    def __str__(self) -> str:
        lines = [f"fold {fold}: {self.metric} {score:.4f}" for fold, score in self.scores.items()]
        state = "finished" if self.finished else f"stopped: {self.stopped}" if self.stopped else "not finished"
        lines.append(f"run {self.run}: {len(self.scores)} of {self.n_folds} folds, {state}, {format_duration(self.seconds)}")
        if self.failed:
            lines.append(self.failed)
        if not self.finished:
            lines.append("To go on: attach this notebook's output as an input (Add Input, Your Work), and run it again.")
        return "\n".join(lines)


def run_training_kernel(
    input_root: Path,
    working: Path,
    *,
    build: str = "",
    budget_seconds: float = BUDGET,
    started: float | None = None,
    say: Say = logger.info,
) -> TrainingResult:
    """Train the run of the dataset's plan into ``working/kk/runs``, for as long as the session lasts.

    An earlier session's output below ``input_root`` is taken over: finished folds are kept, others go on from their checkpoint.

    Args:
        budget_seconds: from ``started`` on; training stops cleanly a little before.
        started: ``time.monotonic()`` when the session began; by default now.

    Raises:
        MissingFileError: dataset or competition are not attached.
        DataError, FoldError: the dataset is damaged, or the data is not that which the folds were made for.
    """
    from kaggle_kit.training import TrainOptions, train_run

    begin = time.monotonic() if started is None else started
    tell = timed(say, begin)
    bundle = find_bundle(Path(input_root), "training", build, say=tell)
    workspace = Workspace(Path(working) / WORKSPACE)
    config = set_up(bundle, workspace, Path(input_root), tell)
    run = str(bundle.plan()["run"])
    _take_over(workspace, run, Path(input_root), tell)
    competition = load_competition(workspace, config.competition)
    tell(f"{len(competition.train):,} training images in {config.competition.data_dir}")
    stopped, failed = None, None
    # What is said to the log has its lines there already.
    with contextlib.nullcontext() if say == logger.info else _lines_to(tell):
        try:
            left = max(budget_seconds - (time.monotonic() - begin), 0.0)
            stopped = train_run(Setup(workspace, config, competition), TrainOptions(run, time_limit=left)).stopped
        except TrainingError as error:
            failed = str(error)  # said, not raised: a notebook that fails loses what the other folds have reached
    earlier = [*config.run.teacher.runs, *filter(None, (config.run.init_from, config.run.specialists.confused_by))]
    drop_images(workspace)
    for folder in map(workspace.run_dir, earlier):  # runs of the dataset are no output
        shutil.rmtree(folder, ignore_errors=True)
    found = runs.read_run(workspace, run)
    scores = {fold.fold: fold.record.score for fold in found.folds if fold.finished}
    seconds = time.monotonic() - begin
    return TrainingResult(run, workspace.runs_dir, competition.metric, scores, len(found.folds), stopped, failed, seconds)


def set_up(bundle: Bundle, workspace: Workspace, input_root: Path, say: Say) -> Config:
    """Write configuration and fold table of the workspace; return the configuration.

    Raises:
        DataError: the dataset is damaged.
    """
    damaged = bundle.damaged(name for name in bundle.files if name not in bundle.wheels)
    if damaged:
        listed = "; ".join(f"{name}: {reason}" for name, reason in damaged.items())
        raise DataError(f"the dataset in {bundle.folder} is damaged: {listed}. Upload it again.")
    for wheel, reason in bundle.damaged(bundle.wheels).items():
        say(f"wheel {wheel}: {reason}")
    plan = bundle.plan()
    content: dict[str, Any] = plan["config"]
    content["run"]["model"]["pretrained"] = _pretrained(bundle, plan["pretrained"])
    # What home's computer was like says nothing about this one.
    content["run"]["hardware"] = {"precision": content["run"]["hardware"]["precision"]}
    content["run"]["data"]["workers"] = None
    config = build_config(content, source=str(bundle.folder / PLAN))
    # Absolute: a workspace takes a relative data folder to be below itself.
    config = config.model_copy(update={"competition": locate(input_root.absolute(), config.competition, training=True)})
    files.write_text(workspace.config_path, yaml.safe_dump(config.model_dump(mode="json"), allow_unicode=True, sort_keys=False))
    for kind, name in own_functions(config).items():
        files.write_bytes(own_code.own_path(name, kind, workspace.root), files.read_bytes(bundle.folder / f"{kind}.py"))
    path = workspace.folds_path(config.run.folds)
    for target, name in ((path, FOLDS), (path.with_suffix(".json"), "folds.json")):
        files.write_bytes(target, (bundle.folder / name).read_bytes())
    if plan.get("start") is not None:
        _lay_out_start(workspace, bundle, plan["start"])
    for teacher in plan.get("teachers", ()):
        _lay_out_teacher(workspace, bundle, teacher)
    if config.run.data.labels is not None:
        files.write_bytes(workspace.labels_path(config.run.data.labels), (bundle.folder / LABELS).read_bytes())
    return config


def _lay_out_start(workspace: Workspace, bundle: Bundle, start: Mapping[str, Any]) -> None:
    """Put the run to begin from into the workspace, and the fold tables that its models have seen."""
    lay_out_run(workspace, bundle, start, {int(fold): bundle.folder / name for fold, name in start["models"].items()})
    _lay_out_tables(workspace, bundle, start["tables"])


def _lay_out_teacher(workspace: Workspace, bundle: Bundle, teacher: Mapping[str, Any]) -> None:
    """Put what a run says that folds learn from into the workspace, without its models."""
    name = str(teacher["name"])
    files.write_json(workspace.run_dir(name) / runs.RUN_RECORD, teacher["record"])
    for fold, record in teacher["folds"].items():
        folder = workspace.fold_dir(name, int(fold))
        runs.write_fold_record(folder, fold_record_from(record))
        for kind in SAID:
            if (said := said_name(name, int(fold), kind)) in bundle.files:
                files.write_bytes(folder / kind, files.read_bytes(bundle.folder / said))
    _lay_out_tables(workspace, bundle, teacher["tables"])


def _lay_out_tables(workspace: Workspace, bundle: Bundle, names: Sequence[str]) -> None:
    for name in names:
        for suffix in (".csv", ".json"):
            path = workspace.folds_path(f"{SEEN}{name}").with_suffix(suffix)
            files.write_bytes(path, (bundle.folder / path.name).read_bytes())


def _pretrained(bundle: Bundle, given: str | Sequence[str] | None) -> str | bool:
    """A path of the weights, of several of their folder, that is the same in every session, wherever the dataset is mounted: it
    is part of the run."""
    if not given:
        return False
    names = [given] if isinstance(given, str) else list(given)
    digest = hashlib.sha256("".join(bundle.files[name]["sha256"] for name in names).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"kaggle_kit-{digest[:12]}"
    folder.mkdir(exist_ok=True)
    for name in names:
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to((bundle.folder / name).resolve())
    return str(folder / given if isinstance(given, str) else folder)


def _take_over(workspace: Workspace, run: str, input_root: Path, say: Say) -> None:
    """Copy what an earlier session has reached, unless this one has begun already."""
    if (workspace.run_dir(run) / runs.RUN_RECORD).is_file():
        say("going on with what this session has trained already")
        return
    found = search(input_root, f"{WORKSPACE}/runs/{run}/{runs.RUN_RECORD}")
    if not found:
        say("no output of an earlier session is attached: training begins")
        return
    best = max((path.parent for path in found), key=_progress)
    cycles = [folder for folder in best.parent.glob(f"{run}-cycle*") if (folder / runs.RUN_RECORD).is_file()]
    for folder in (best, *cycles):
        carry(folder, workspace.run_dir(folder.name))
    done, epochs = _progress(best)
    say(f"going on from {best}: finished folds: {done}, trained epochs: {epochs}")


def drop_images(workspace: Workspace) -> None:
    """Remove decoded and unpacked images, which are no output of a session."""
    for folder in (workspace.cache_dir, workspace.root / UNPACKED):
        shutil.rmtree(folder, ignore_errors=True)


def carry(source: Path, target: Path) -> None:
    """Copy the files of an earlier session's folder."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.name not in _NOT_CARRIED:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)  # contents only: inputs are read-only


def _progress(folder: Path) -> tuple[int, int]:
    """Finished folds and epochs of a run's folder; the greater has come further."""
    folds = [runs.read_fold(path, fold) for fold, path in fold_folders(folder).items()]
    return sum(fold.finished for fold in folds), sum(fold.record.epoch or 0 for fold in folds)


@contextlib.contextmanager
def _lines_to(say: Say) -> Iterator[None]:
    """Hand the package's log lines to ``say`` while inside: a notebook shows no log."""
    handler = _Handler(say)
    package = logging.getLogger("kaggle_kit")
    before = package.level, package.propagate
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    package.propagate = False
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(before[0])
        package.propagate = before[1]


class _Handler(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())
