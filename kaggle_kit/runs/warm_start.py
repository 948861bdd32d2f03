"""The models of an earlier run that the folds of a run begin from: ``init_from``. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kaggle_kit.errors import ConfigError, FoldError
from kaggle_kit.fold_names import fold_name, fold_text
from kaggle_kit.own_code import is_own
from kaggle_kit.runs.files import MODEL, read_run
from kaggle_kit.runs.model_header import read_model_record
from kaggle_kit.runs.provenance import require_unseen, seen_by_fold
from kaggle_kit.tables import FoldTable, shown
from kaggle_kit.workspace import Workspace


def models_of(
    workspace: Workspace, name: str, *, model: str, competition: str, folds: FoldTable, fold_list: Sequence[int]
) -> dict[int, Path]:
    """Return fold -> the model file of the same fold of the run ``name``.

    Args:
        model: name of the architecture that is to begin from them.
        folds: the table whose folds ``fold_list`` are to be trained; the run may have been trained on an earlier one, as long
            as none of its folds has seen what the fold of its number is validated on.

    Raises:
        MissingFileError: there is no such run.
        ConfigError: it is of another architecture.
        FoldError: the run has not finished the folds, or they have seen rows to be validated on; names them.
    """
    run = read_run(Workspace(workspace.root), name)  # a trial of `kk tune` lies elsewhere, what it begins from does not
    finished = {fold.fold: fold for fold in (*run.folds, run.full) if fold.finished}
    missing = [fold_name(fold) for fold in fold_list if fold not in finished]
    if missing:
        has = shown(map(fold_name, finished)) or "none"
        raise FoldError(
            f"init_from: run {name} has no finished fold {shown(missing)} to begin from; it has {has}. Run `kk train --run "
            f"{name}` first, or train those folds only with --fold."
        )
    theirs = str(read_model_record(finished[fold_list[0]].path / MODEL).get("arch"))
    if _architecture(theirs) != _architecture(model):
        raise ConfigError(
            f"init_from: run {name} is of model {theirs}, and a fold can only begin from a model of its own architecture, "
            f"got {model}. Train with model={theirs}, or begin from another run."
        )
    conflicts = []
    for fold in fold_list:
        try:
            require_unseen(seen_by_fold(run, finished[fold], workspace), workspace, competition, folds, fold=fold)
        except FoldError as error:
            conflicts.append(f"{fold_text(fold)}: {error}")
    if conflicts:
        listed = "\n  ".join(conflicts)
        raise FoldError(f"init_from: the folds of run {name} are not those of this run:\n  {listed}")
    return {fold: finished[fold].path / MODEL for fold in fold_list}


def _architecture(name: str) -> str:
    return name if is_own(name) else name.partition(".")[0]
