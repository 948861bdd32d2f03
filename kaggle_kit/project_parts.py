"""What :class:`~kaggle_kit.project.Project` is put together from: the commands of ``kk kernel``, ``kk cache``, ``kk weights``,
and what its methods share: lists of names, and checks of options before PyTorch is imported.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit import files, show
from kaggle_kit.choices import ENGINE_CHOICES, GOALS, MERGES
from kaggle_kit.errors import ConfigError
from kaggle_kit.results import Done
from kaggle_kit.views import in_int8, require_views
from kaggle_kit.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from kaggle_kit.competition import Setup
    from kaggle_kit.images.store import Verified
    from kaggle_kit.kaggle_api import PushResult
    from kaggle_kit.kernel import KernelBuild, KernelTest
    from kaggle_kit.models.catalogue import FetchedWeights
    from kaggle_kit.runs import Run
    from kaggle_kit.tables import FoldTable

logger = logging.getLogger(__name__)

PathLike = str | Path
PICTURES = (".png", ".svg", ".pdf")
_PLACES = {"inference": "kernel", "training": "training", "auto": "auto-kernel"}
"""Where a kernel of each kind is written."""


@dataclass(frozen=True)
class Kernel:
    """The commands of ``kk kernel``."""

    workspace: Workspace

    def build(
        self,
        *overrides: str,
        username: str,
        config: PathLike | None = None,
        out: PathLike | None = None,
        blend: str | None = None,
        runs: Sequence[str] = (),
        train: bool = False,
        auto: str | float | None = None,
        goal: str = "balanced",
        only: str | Sequence[str] = (),
        half: bool = False,
        cpu: bool = False,
        title: str | None = None,
        competition: str | None = None,
        image_list: PathLike | None = None,
        force: bool = False,
        **entries: Any,
    ) -> KernelBuild:
        """Write a dataset (weights, wheels) and a notebook that predicts without internet within nine hours.

        Args:
            overrides, config, entries: with ``train`` or ``auto``: of the run's configuration.
            username: your Kaggle user name.
            out: the folder to write; None: ``kernel``, ``training`` or ``auto-kernel`` in the workspace.
            blend: the blend to repeat there, by default the last one, or
            runs: the runs to average instead.
            train: a kernel that trains, over several sessions if need be.
            auto: a kernel that does what :meth:`~kaggle_kit.project.Project.auto` does, for so long in all its sessions.
            goal, only: with ``auto``, as there.
            half: weights in 16 bits.
            cpu: for a session without a GPU; the package of the faster engine goes along.
            competition: its name in its address.
            image_list: ``pip freeze`` of a Kaggle session, instead of the built-in list.
        """
        from kaggle_kit.competition import open_setup
        from kaggle_kit.config import as_overrides
        from kaggle_kit.kernel import Address, AutoPlan, Content, build_kernel
        from kaggle_kit.units import as_seconds

        given, seconds = [*overrides, *as_overrides(entries)], as_seconds(auto)
        if (given or config) and not (train or seconds):
            what = " ".join([*([f"--config {config}"] if config else []), *given])
            raise ConfigError(f"{what}: entries are for --train and --auto; without them the kernel repeats finished runs.")
        if train and seconds:
            raise ConfigError("--train trains one run, --auto searches; choose one of them.")
        if cpu and (train or seconds):
            raise ConfigError("--cpu is for kernels that predict; one that trains takes the GPU where there is one.")
        GOALS.require(goal)
        plan = None if seconds is None else AutoPlan(seconds, goal, tuple(names(only)))
        content = Content(names(runs), blend, train, half, force, plan, cpu)
        place = self.workspace.root / _PLACES[content.kind] if out is None else Path(out)
        address = Address(username, competition, title)
        image = None if image_list is None else Path(image_list)
        run_file = None if config is None else Path(config)
        return build_kernel(open_setup(self.workspace, given, run_file), place, address, content, image_list=image)

    def test(
        self,
        folder: PathLike = "kernel",
        *,
        image_list: PathLike | None = None,
        limit: int | None = None,
        keep: PathLike | None = None,
    ) -> KernelTest:
        """Run the kernel here as Kaggle would: no network, the image's packages only, and another test set.

        Args:
            limit: take the first so many test images only.
            keep: a folder for inputs, outputs and executed notebooks.
        """
        from kaggle_kit.competition import open_setup
        from kaggle_kit.kernel import test_kernel

        image, kept = (None if path is None else Path(path) for path in (image_list, keep))
        place = self.workspace.locate(folder)
        return test_kernel(place, open_setup(self.workspace), image_list=image, limit=limit, keep=kept)

    def push(self, folder: PathLike = "kernel", *, wait: bool = True, force: bool = False) -> tuple[PushResult, PushResult]:
        """Upload dataset and notebook by Kaggle's official client, and watch the run; nothing is uploaded twice."""
        from kaggle_kit.kaggle_api import push

        place = self.workspace.locate(folder)
        return push(place, force=force, wait=wait, on_status=show.status)


@dataclass(frozen=True)
class Cache:
    """The commands of ``kk cache``."""

    workspace: Workspace

    def list(self) -> pd.DataFrame:
        """Return a row for each store: image size, how images are kept, their number and the bytes on disk."""
        from kaggle_kit.images.store import stores_table

        return stores_table(self.workspace.cache_dir)

    def verify(self, name: str = "all") -> Verified:
        """Compare each stored image with its checksum, and its file with the one that was stored."""
        from kaggle_kit.images.store import verify_stores

        return verify_stores(self.workspace.cache_dir, name, progress=show.bar("verifying"))

    def drop(self, name: str) -> Done:
        """Delete a store, or all; the next `kk train` or `kk predict` builds it again."""
        from kaggle_kit.images.store import chosen_stores, drop_store

        freed = sum(drop_store(store) for store in chosen_stores(self.workspace.cache_dir, name))
        return Done(f"freed {freed / 1e6:,.1f} MB", {"bytes": freed})


@dataclass(frozen=True)
class Weights:
    """The commands of ``kk weights``."""

    def list(self) -> pd.DataFrame:
        """Return the pretrained weights on this machine: model, MB, licence and where they are."""
        from kaggle_kit.models.catalogue import weights_table

        return weights_table()

    def fetch(self, *models: str, to: PathLike = "weights") -> FetchedWeights:
        """Fill a folder with pretrained weights, for ``pretrained=FOLDER`` where there is no network.

        Args:
            models: timm's names.
            to: the folder.
        """
        from kaggle_kit.config.known import require_model

        for model in models:
            require_model(model)
        from kaggle_kit.models.catalogue import fetch_weights

        return fetch_weights(models, Path(to), say=logger.info)


def names(given: str | Sequence[str]) -> list[str]:
    """Return names given as a list, or as ``a,b,c``."""
    parts = given.split(",") if isinstance(given, str) else given
    return [part.strip() for part in parts if part.strip()]


def positive_numbers(given: str | Sequence[int], option: str) -> list[int]:
    """Return whole numbers from 1 on, given as such or as ``1,8,32``; raises ConfigError that names the ``option``."""
    parts = names(given) if isinstance(given, str) else [str(part) for part in given]
    if not parts or not all(part.isdecimal() and part.isascii() and 0 < int(part) < 10**6 for part in parts):
        raise ConfigError(f"{option}: expected whole numbers from 1 on, like 1,8,32; got {', '.join(parts) or 'none'}.")
    return [int(part) for part in parts]


def drawable(path: PathLike) -> Path:
    """Return the path of a picture; raises ConfigError for a suffix that says no kind of one."""
    if Path(path).suffix.lower() not in PICTURES:
        raise ConfigError(f"{path}: expected a picture ending in {', '.join(PICTURES)}.")
    return Path(path)


def write_picture(path: Path, figure: Figure) -> None:
    """Write a figure, of the kind that the suffix says; raises StorageError."""
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight", dpi=150)


def require_trainable(setup: Setup, fold: str | Sequence[int]) -> None:
    """Raise what is wrong with names, fold table, folds or the run to begin from, before PyTorch is imported."""
    from kaggle_kit.config.known import require_known
    from kaggle_kit.folds import chosen_folds, folds_for
    from kaggle_kit.runs.warm_start import models_of
    from kaggle_kit.specialists import groups_of
    from kaggle_kit.teachers import require_teachable

    config, competition = setup.config.run, setup.competition
    require_known(config, competition.task)
    folds = folds_for(setup.workspace, competition, config.folds)
    numbers = chosen_folds(fold, folds.n_splits)
    if config.init_from is not None:
        about = {"model": config.model.name, "competition": competition.name}
        models_of(setup.workspace, config.init_from, **about, folds=folds, fold_list=numbers)
    for number in numbers:
        groups_of(setup, folds, fold=number)
    require_teachable(setup, folds, numbers)


def require_extendable(workspace: Workspace, name: str, given: Mapping[str, object]) -> None:
    """Raise what is wrong with extending the fold table ``name``; ``given`` are options that only a new table has."""
    from kaggle_kit.tables import read_folds

    wrong = [option for option, value in given.items() if value is not None]
    if wrong:
        raise ConfigError(f"a table that is extended keeps its folds, so {' and '.join(wrong)} cannot be given with extend.")
    read_folds(workspace.folds_path(name))


def student_and_teacher(setup: Setup, name: str | None, given: Sequence[str], *, distil: bool) -> tuple[Setup, Run] | None:
    """Return what is to be trained so that it learns from the run ``name``, and that run; None where that is not wanted.

    Raises:
        ConfigError: no run is named, an entry of ``given`` is wrong, or entries are given although nothing is to be trained.
        MissingFileError, DataError: there is no such run, or it has no finished fold.
    """
    from kaggle_kit.runs import read_run
    from kaggle_kit.teachers import student_of

    if not distil:
        if given:
            raise ConfigError(f"{' '.join(given)}: entries are for --distil; without it the models are exported as they are.")
        return None
    if name is None:
        raise ConfigError("--distil needs the name of the run whose models are learnt from: `kk export RUN --distil`.")
    teacher = read_run(setup.workspace, name)
    student = setup.with_run(student_of(teacher, given))
    require_trainable(student, [fold.fold for fold in teacher.finished_folds()])
    return student, teacher


def make_pairs(setup: Setup, of: str, name: str, *, given: Mapping[str, Any], force: bool) -> FoldTable:
    """Write ``folds/<name>.csv`` with the pairs of folds of the table ``of``.

    Raises:
        ConfigError: other settings are ``given``, or the table would replace the one that it is made of.
        MissingFileError, FoldError: there is no such table, or no pairs can be made of it.
    """
    from kaggle_kit.folds import folds_for, pairs_of, write_folds

    if given:
        raise ConfigError(f"pairs of folds are divided as the table is that they are made of; leave out {', '.join(given)}.")
    if name == of:
        raise ConfigError(
            f"the pairs would replace folds/{of}.csv, of which they are made; give them a name with --name pairs."
        )
    return write_folds(setup.workspace, pairs_of(folds_for(setup.workspace, setup.competition, of), of), name, force=force)


def require_prediction(tta: str, merge: str, engine: str) -> None:
    """Raise ConfigError for a name that is not known, before PyTorch is imported."""
    require_views(tta, merge)
    MERGES.require(merge)
    ENGINE_CHOICES.require(engine)


def int8_costs(setup: Setup, names: Sequence[str]) -> Iterator[str]:
    """Say of each run how its out-of-fold rows score in 8-bit integers, beside those that training left; nothing of a run for
    whose rows there was no time."""
    from kaggle_kit.diagnosis import paired_difference
    from kaggle_kit.report.subjects import oof_with_views
    from kaggle_kit.runs import read_run
    from kaggle_kit.runs.scored import scored_run

    for name in names:
        run = read_run(setup.workspace, name)
        exact, found = scored_run(setup.workspace, run), oof_with_views(setup.workspace, run, 0.5)
        if found is None or not in_int8(found[0]) or found[1].ids != exact.ids:
            continue
        seen, coarse = found
        gap, low, high = paired_difference(exact.metric, exact.truth, exact.probs, coarse.probs)
        yield (
            f"{name}: {exact.metric.name} {exact.score + gap:.4f} out of fold with views {seen}, {exact.score:.4f} as trained; "
            f"difference {gap:+.4f} ({low:+.4f} to {high:+.4f})"
        )


def given_only(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}
