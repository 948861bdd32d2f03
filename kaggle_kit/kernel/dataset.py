"""Writing the dataset: models, plan, fold tables and pretrained weights, wheels, manifest and metadata."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kaggle_kit import files
from kaggle_kit import runs as run_files
from kaggle_kit.blending import Fitted, fitted_from_dict, get_blender
from kaggle_kit.blending.sources import usable_runs
from kaggle_kit.check import require_passed
from kaggle_kit.choices import INT8
from kaggle_kit.competition import Competition, Setup
from kaggle_kit.competition.containers import data_folder
from kaggle_kit.config import Config
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.fold_names import fold_folder, fold_text
from kaggle_kit.folds import folds_for, table_like
from kaggle_kit.kernel.bundle import PLAN
from kaggle_kit.kernel.testset import style_of
from kaggle_kit.kernel.weights import copy_model, without_paths
from kaggle_kit.own_code import is_own, require_file
from kaggle_kit.runs import Run
from kaggle_kit.runs.model_header import read_model_record
from kaggle_kit.runs.provenance import seen_by_fold
from kaggle_kit.tables import read_predictions, shown
from kaggle_kit.views import in_int8, views_of
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

LABELS = "labels.csv"
FOLDS, PRETRAINED = "folds.csv", "pretrained"
SEEN = "seen-"
"""Before the names of fold tables that earlier runs were trained on."""
SAID = (run_files.OOF, run_files.TEST, run_files.IN_SAMPLE)
"""What a fold may learn from, of the folds of other runs."""


@dataclass(frozen=True)
class AutoPlan:
    """How a kernel searches.

    Attributes:
        limit: seconds of all sessions together.
        goal, only: as ``kk auto`` takes them.
    """

    limit: float
    goal: str = "balanced"
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """Which runs are blended, and how.

    Attributes:
        name: of the submission of ``kk blend`` that the kernel repeats; "" when only runs were named.
    """

    name: str
    runs: tuple[Run, ...]
    fitted: Fitted
    thresholds: list[float] | None

    @property
    def packages(self) -> tuple[str, ...]:
        """What the blend cannot be repeated without, beside what every kernel needs."""
        needs = get_blender(self.fitted.parameters.get("chosen", self.fitted.blender.name)).needs
        return () if needs is None else needs[:1]


def choose_recipe(
    workspace: Workspace, competition: Competition, *, runs: Sequence[str], blend: str | None, force: bool
) -> tuple[Recipe, list[str]]:
    """Return the blend called ``blend`` (None: the last one), or the plain mean of ``runs`` when some are named; and notes.

    Raises:
        MissingFileError, SubmissionError: there is no such blend, or it has no passed and current check.
        DataError: the runs have changed since they were blended.
    """
    if runs:
        if competition.open_class is not None:
            raise ConfigError(
                f"the class {competition.open_class!r} is ranked by a threshold that `kk blend` finds; build from a blend."
            )
        chosen, notes = usable_runs(workspace, runs)
        mean = Fitted(get_blender("mean"), len(chosen), len(competition.classes), competition.multilabel, {})
        return Recipe("", tuple(chosen), mean, None), notes
    path = workspace.latest_submission() if blend is None else workspace.submission_path(blend)
    require_passed(path, force=force, root=workspace.root)
    record = run_files.read_blend_record(path)
    chosen = [run_files.read_run(workspace, entry.name) for entry in record.runs]
    for run, entry in zip(chosen, record.runs, strict=True):
        now = {fold.fold: fold.record.model_fingerprint for fold in run.finished_models()}
        if now != {**now, **entry.models} or set(now) != set(entry.models):
            raise DataError(f"run {run.name} was trained further after {path.name} was blended. Run `kk blend` again.")
    thresholds = None if record.thresholds is None else list(record.thresholds)
    return Recipe(path.stem, tuple(chosen), fitted_from_dict(record.blend), thresholds), []


def write_inference(folder: Path, setup: Setup, recipe: Recipe, *, half: bool, cpu: bool = False) -> bool:
    """Models and plan of an inference kernel; return whether it is for a session without a GPU.

    Args:
        half: weights in 16 bits.
        cpu: for a session without a GPU; what was predicted in 8-bit integers always is.

    Raises:
        MissingFileError, DataError: a model is missing, or is not the one that was trained.
        ConfigError: there is no test set to find again.
        DependencyError: models in 8-bit integers are to be made anew, and a package is missing.
    """
    workspace, config, competition = setup.workspace, setup.config, setup.competition
    if competition.test == () or config.competition.test is None:
        raise ConfigError("competition.test in kk.yaml names no test images; a kernel needs them to know what to look for.")
    hot = competition.classes.hot(row.labels for row in competition.train if not row.train_only)
    prior = hot.sum(axis=0) / len(hot)
    data_dir = data_folder(workspace.root.resolve(), config.competition)
    entries = [_write_predicting_run(folder, run, setup, half=half) for run in recipe.runs]
    cpu = cpu or any(entry["int8"] for entry in entries)
    plan = {
        "competition": {**config.competition.model_dump(mode="json"), "data_dir": "."},
        "blend_name": recipe.name,
        "blend": recipe.fitted.to_dict(),
        "thresholds": recipe.thresholds,
        "runs": entries,
        "prior": [float(share) for share in prior],
        "batch_size": max(run.record.config.last_stage.data.evaluated_at_once for run in recipe.runs),
        "id_style": style_of([(row.id, row.path) for row in competition.test], data_dir, config.competition.test.dirs),
        "half": half,
        "cpu": cpu,
        "n_visible": len(competition.test),
    }
    files.write_json(folder / PLAN, plan)
    return cpu


def write_training(folder: Path, setup: Setup) -> None:
    """Configuration, fold table, and pretrained weights or the run to begin from, of a training kernel.

    Raises:
        MissingFileError, FoldError: there is no fold table, or it is not of this competition.
        WeightsError: there are no pretrained weights to take along.
    """
    from kaggle_kit.models import find_weights  # torch
    from kaggle_kit.training import default_run_name

    workspace, config = setup.workspace, setup.config
    content = _write_setup(folder, setup)
    pretrained, start = None, None
    if config.run.init_from is not None:
        start = _write_start(folder, workspace, config.run.init_from)
    elif (found := find_weights(config.run.model.name, config.run.model.pretrained).path) is not None:
        pretrained = PRETRAINED + found.suffix
        shutil.copyfile(found, folder / pretrained)
    plan = {"config": content, "run": default_run_name(config.run), "pretrained": pretrained, "start": start}
    files.write_json(folder / PLAN, {**plan, "teachers": _write_teachers(folder, setup)})


def write_auto(folder: Path, setup: Setup, auto: AutoPlan) -> list[str]:
    """Configuration, fold table, and the pretrained weights of every backbone that is here, of a kernel that searches; return
    what a reader should know.

    Raises:
        MissingFileError, FoldError: there is no fold table, or it is not of this competition.
        ConfigError: ``--only`` chooses none of the backbones that are here.
    """
    from kaggle_kit.models import resolve_name  # torch
    from kaggle_kit.models.backbones import local_backbones, require_some

    require_some(auto.only, setup.config.run.model.pretrained)
    content, shipped = _write_setup(folder, setup), []
    for one in local_backbones(auto.only, setup.config.run.model.pretrained):
        shipped.append(f"{resolve_name(one.name)}{one.path.suffix}")
        shutil.copyfile(one.path, folder / shipped[-1])
    files.write_json(folder / PLAN, {"config": content, "pretrained": sorted(shipped), "auto": asdict(auto)})
    return [f"backbones: {shown(shipped)}" if shipped else "no pretrained weights are here: training begins from none"]


def _write_setup(folder: Path, setup: Setup) -> dict[str, Any]:
    """Write fold table, reviewed labels and own functions; return the configuration, without local paths."""
    workspace, config = setup.workspace, setup.config
    folds_for(workspace, setup.competition, config.run.folds)
    path = workspace.folds_path(config.run.folds)
    for source in (path, path.with_suffix(".json")):
        files.write_bytes(folder / (FOLDS if source == path else "folds.json"), source.read_bytes())
    if config.run.data.labels is not None:
        files.write_bytes(folder / LABELS, files.read_bytes(workspace.labels_path(config.run.data.labels)))
    for kind, own in own_functions(config).items():
        shutil.copyfile(require_file(own, kind, workspace.root), folder / f"{kind}.py")
    content = config.model_dump(mode="json")
    content["competition"]["data_dir"], content["run"] = ".", without_paths(content["run"])
    return content


def _write_start(folder: Path, workspace: Workspace, name: str) -> dict[str, Any]:
    """Copy the models of the run that folds begin from, and the fold tables that those have seen; returns the plan's entry."""
    run = run_files.read_run(workspace, name)
    return {**_write_run(folder, run, workspace.root, half=False), "tables": _write_tables(folder, workspace, run)}


def _write_tables(folder: Path, workspace: Workspace, run: Run) -> list[str]:
    """Copy the fold tables that the models of a run have seen; return their names."""
    seen = {one.folds_fingerprint for fold in run.finished_models() for one in seen_by_fold(run, fold, workspace)}
    tables = [path for one in sorted(seen) if (path := table_like(workspace, one)) is not None]
    for path in tables:
        for suffix in (".csv", ".json"):
            shutil.copyfile(path.with_suffix(suffix), folder / f"{SEEN}{path.stem}{suffix}")
    return [path.stem for path in tables]


def _write_teachers(folder: Path, setup: Setup) -> list[dict[str, Any]]:
    """Copy what the runs say that folds learn from, and the fold tables that they have seen; return the plan's entries."""
    from kaggle_kit.training.prepare import require_lessons  # torch

    config, workspace = setup.config.run, setup.workspace
    table = folds_for(workspace, setup.competition, config.folds)
    require_lessons(setup, table, range(table.n_splits))
    entries = []
    for name in dict.fromkeys((*config.teacher.runs, *filter(None, (config.specialists.confused_by,)))):
        run = run_files.read_run(workspace, name)
        for fold in run.finished_folds():
            for kind in SAID:
                if (fold.path / kind).is_file():
                    shutil.copyfile(fold.path / kind, folder / said_name(name, fold.fold, kind))
        folds = {str(fold.fold): fold.record.to_dict() for fold in run.finished_folds()}
        record = without_paths_of_config(run.record.to_dict())
        entries.append({"name": name, "record": record, "folds": folds, "tables": _write_tables(folder, workspace, run)})
    return entries


def said_name(run: str, fold: int, kind: str) -> str:
    """Return what a prediction file of a run that others learn from is called in the dataset."""
    return f"{run}-fold{fold}-{kind}"


def own_functions(config: Config) -> dict[str, str]:
    """Return what of the configuration is a ``file.py:function`` of the workspace: "metric" and "model" -> its name.

    The file is called ``<kind>.py`` in a dataset of training.
    """
    found = {"metric": config.competition.metric, "model": config.run.model.name}
    return {kind: name for kind, name in found.items() if is_own(name)}


def _write_run(folder: Path, run: Run, root: Path, *, half: bool) -> dict[str, Any]:
    """Copy the finished models of a run; returns its entry of the plan."""
    models, several = {}, {}
    for fold in run.finished_models():
        stated, path = fold.record.model_fingerprint, fold.path / run_files.MODEL
        name = f"{run.name}-{fold_folder(fold.fold)}.safetensors"
        copy_model(path, folder / name, half=half)
        if stated and files.file_fingerprint(path) != stated:
            raise DataError(f"{path} is not the model that {fold_text(fold.fold)} was trained to. Train it again.")
        models[str(fold.fold)] = name
        if fold.record.several:
            several[str(fold.fold)] = fold.record.several
    code = _write_code(folder, run, root)
    seen, merge, mixes = _views_of(run)
    # Without the fingerprint of the competition, which holds the ids of the visible test set.
    kept = replace(run.record, competition_fingerprint=None, config_fingerprint=None).to_dict()
    record = without_paths_of_config(kept)
    how = {"views": views_of(seen), "merge": merge, "int8": in_int8(seen), **mixes}
    return {"name": run.name, **how, "models": models, "several": several, **code, "record": record}


def _write_predicting_run(folder: Path, run: Run, setup: Setup, *, half: bool) -> dict[str, Any]:
    """Copy the finished models of a run, in 8-bit integers as well where it was predicted so; returns its entry of the plan."""
    entry = _write_run(folder, run, setup.workspace.root, half=half)
    return entry if not entry["int8"] else {**entry, "graphs": _write_graphs(folder, run, entry, setup)}


def _write_graphs(folder: Path, run: Run, entry: Mapping[str, Any], setup: Setup) -> dict[str, list[str]]:
    """Write the shipped models of a run in 8-bit integers; return their names -> their files, which runs may share."""
    from kaggle_kit.inference.openvino_models import save_export  # torch
    from kaggle_kit.inference.predict import Predictor
    from kaggle_kit.inference.run import compute_of, engine_of
    from kaggle_kit.models import load_model

    models = [load_model(folder / name) for name in entry["models"].values()]
    views = [entry.get("mixes", {}).get(fold, entry["views"]) for fold in entry["models"]]
    compute = compute_of(setup.workspace, run, **engine_of(INT8, setup.competition), device="cpu")
    found = {}
    for name, graph in Predictor(models, (), tta=views, merge=entry["merge"], compute=compute).graphs():
        found[name] = [f"{INT8}-{name}.xml", f"{INT8}-{name}.bin"]
        if not (folder / found[name][0]).is_file():
            save_export(graph, folder / found[name][0])
    return found


def _write_code(folder: Path, run: Run, root: Path) -> dict[str, str]:
    """Copy the file of a run's own model; returns the plan's entry of it, none for other models."""
    own = run.record.config.model.name
    if not is_own(own):
        return {}
    path, name = require_file(own, "model", root), f"{run.name}-model.py"
    for fold in run.finished_models():
        if read_model_record(fold.path / run_files.MODEL).get("code") != files.file_fingerprint(path):
            raise DataError(f"{path} has changed since {fold_text(fold.fold)} of run {run.name} was trained. Train it again.")
    shutil.copyfile(path, folder / name)
    return {"code": name}


def without_paths_of_config(record: dict[str, Any]) -> dict[str, Any]:
    """A run's record without local paths; class names, which may begin with a slash, stay as they are."""
    return {**record, "config": without_paths(record["config"])}


def _views_of(run: Run) -> tuple[str, str, dict[str, Any]]:
    """What files call the views of the run's test predictions, none where it was not predicted yet; their merge; and the views
    of each fold, where they were chosen for each."""
    tests = [fold.path / run_files.TEST for fold in run.finished_models()]
    found = {
        (str(meta.get("views", "none")), str(meta.get("merge", "mean")))
        for meta in (read_predictions(path).meta for path in tests if path.is_file())
    }
    if len(found) > 1:
        raise DataError(
            f"the folds of run {run.name} were predicted with different views ({shown(sorted(views for views, _ in found))}). "
            f"Run `kk predict --run {run.name}` again."
        )
    views, merge = found.pop() if found else ("none", "mean")
    if not views.startswith("auto-"):
        return views, merge, {}
    record = run_files.read_views(run.path)
    if record.name != views_of(views):
        raise DataError(
            f"other views were chosen for run {run.name} since it was predicted. Run `kk predict` and `kk blend` again."
        )
    return views, merge, {"mixes": {str(fold): mix for fold, mix in record.of_all_models.items()}}
