"""The groups of classes that the specialists of a fold are for. No torch here.

Which classes are confused is told by predictions of models that have not seen what the fold is validated on, as
:mod:`kaggle_kit.teachers` finds them, so that even the choice of groups has heard nothing of the rows that it is scored on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kaggle_kit.competition import Setup
from kaggle_kit.config import RunConfig
from kaggle_kit.diagnosis import confused_groups
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.runs import read_run
from kaggle_kit.runs.provenance import Seen
from kaggle_kit.tables import FoldTable, Labels
from kaggle_kit.teachers import find_teachers, unseen_rows
from kaggle_kit.workspace import Workspace

_SAME = ("model.head", "model.options", "data.image_size", "data.fit", "data.crop_pct")
"""Entries in which a run of specialists must be like the run that it begins from, since they become one model with it."""


@dataclass(frozen=True)
class Groups:
    """Groups of classes, each with a specialist of its own.

    Attributes:
        names: of the classes of each.
        seen: by the models whose confusions told the groups; nothing where they were named.
    """

    names: tuple[Labels, ...]
    seen: tuple[Seen, ...] = ()


def groups_of(setup: Setup, folds: FoldTable, *, fold: int) -> Groups | None:
    """Return the groups of ``fold``; None where the strategy is not ``specialists``.

    Raises:
        ConfigError: the run that they begin from has another head or other images, or a group names no class.
        MissingFileError, DataError: there is no run to find groups by, or it may not tell; or no groups are found.
    """
    config = setup.config.run
    settings = config.specialists
    if config.strategy != "specialists" or config.init_from is None:
        return None
    _require_like(config, read_run(Workspace(setup.workspace.root), config.init_from).record.config, config.init_from)
    if settings.confused_by is None:
        folds.classes.require((name for group in settings.groups for name in group), key="specialists.groups")
        return Groups(tuple(tuple(group) for group in settings.groups))
    teachers = find_teachers([settings.confused_by], setup.workspace, setup.competition, folds, fold=fold)
    said = unseen_rows(teachers, folds)
    options: dict[str, Any] = {"largest": settings.largest, "least": settings.least}
    found = confused_groups(folds.truth(folds.rows_of(said.ids)), said.probs, **options)
    if not found:
        raise DataError(
            f"run {settings.confused_by} confuses no classes as much as specialists.least={settings.least:g}. "
            "Lower it, or name specialists.groups."
        )
    return Groups(tuple(tuple(folds.classes.decode(group)) for group in found[: settings.count]), teachers.seen)


def _require_like(config: RunConfig, general: RunConfig, name: str) -> None:
    differing = [key for key in _SAME if _entry(config, key) != _entry(general, key)]
    if differing:
        entries = ", ".join(f"{key}: {_entry(general, key)!r} there, {_entry(config, key)!r} here" for key in differing)
        raise ConfigError(f"specialists become one model with that of run {name}, so they must be like it; {entries}.")


def _entry(config: RunConfig, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)
