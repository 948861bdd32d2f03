"""``kk kernel build``: a dataset and a notebook, ready to be uploaded."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kaggle_kit import files
from kaggle_kit.check.report import VERDICT, copy_verdict
from kaggle_kit.competition import Competition
from kaggle_kit.config import Config
from kaggle_kit.errors import ConfigError
from kaggle_kit.kernel.bundle import MANIFEST, Bundle, write_manifest
from kaggle_kit.kernel.dataset import choose_recipe, write_inference, write_training
from kaggle_kit.kernel.image import load_image
from kaggle_kit.kernel.notebook import (
    TITLE_LENGTHS,
    checked_address,
    checked_title,
    dataset_metadata,
    kernel_metadata,
    slug_of,
    write_notebook,
)
from kaggle_kit.kernel.runtime import BUDGET
from kaggle_kit.kernel.wheels import INFERENCE_NEEDS, TRAINING_NEEDS, collect_wheels, missing_from, own_wheel, unlike
from kaggle_kit.results import Result
from kaggle_kit.tables import shown
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

DATASET, KERNEL = "dataset", "kernel"
_DATA_SUFFIX = " data"


@dataclass(frozen=True, repr=False)
class KernelBuild(Result):
    """What was built.

    Attributes:
        folder: holds ``dataset`` and ``kernel``.
        kind: "inference" or "training".
        sizes: name of each file of the dataset -> bytes.
        wheels: file names.
        notes: what a reader should know.
    """

    folder: Path
    kind: str
    build: str
    notebook: Path
    dataset_ref: str
    kernel_ref: str
    sizes: dict[str, int]
    wheels: tuple[str, ...]
    notes: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """Return a row a file of the dataset with its size."""
        return pd.DataFrame([{"file": name, "MB": round(size / 1e6, 2)} for name, size in self.sizes.items()])

    def describe(self) -> str:
        """Return where dataset and notebook are, and what a reader should know."""
        wrote = f"wrote {self.dataset} (dataset {self.dataset_ref}) and {self.notebook} (kernel {self.kernel_ref})"
        return "\n".join([wrote, *(f"note: {note}" for note in self.notes)])

    @property
    def dataset(self) -> Path:
        return self.folder / DATASET

    @property
    def kernel(self) -> Path:
        return self.folder / KERNEL


def build_kernel(
    workspace: Workspace,
    config: Config,
    competition: Competition,
    *,
    out: Path,
    username: str,
    runs: Sequence[str] = (),
    blend: str | None = None,
    train: bool = False,
    half: bool = False,
    title: str | None = None,
    competition_slug: str | None = None,
    image_list: Path | None = None,
    wheels_dir: Path | None = None,
    force: bool = False,
) -> KernelBuild:
    """Write ``out/dataset`` and ``out/kernel``; an earlier build in ``out`` is replaced.

    Args:
        username: of the Kaggle account.
        runs: names of runs to average; without any, the blend called ``blend`` is repeated, by default the last one.
        train: build a training kernel instead.
        half: store weights in 16 bits.
        title: of the notebook; the dataset's is the same with " data".
        competition_slug: the last part of the competition's address; by default made of its name.
        image_list: ``pip freeze`` of a Kaggle session, instead of the list that comes with the package.
        wheels_dir: wheels to take instead of making or downloading them.
        force: build though the blend has no passed check.

    Raises:
        ConfigError: ``out`` holds something else, or a title that Kaggle would not take.
        MissingFileError, SubmissionError, DataError, WeightsError: what is to be shipped is missing or stale.
        DependencyError: a wheel cannot be had.
    """
    checked_address(username, "username")
    if competition_slug is not None:
        checked_address(competition_slug, "competition")
    image, kind = load_image(image_list), "training" if train else "inference"
    titles, needs = _titles(title, competition.name, kind), TRAINING_NEEDS if train else INFERENCE_NEEDS
    notes = [f"the image has {one}" for one in unlike(image, needs)]
    _require_replaceable(Path(out))
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path(out).parent, prefix=".kernel-") as temporary:
        folder = Path(temporary) / "built"
        dataset = folder / DATASET
        dataset.mkdir(parents=True)
        if train:
            write_training(dataset, workspace, config, competition)
        else:
            recipe, found = choose_recipe(workspace, competition, runs=runs, blend=blend, force=force)
            notes += found
            write_inference(dataset, workspace, config, competition, recipe, half=half)
            if recipe.name:
                copy_verdict(workspace.submission_path(recipe.name), folder / VERDICT)
        wheels = [own_wheel(dataset), *collect_wheels(missing_from(image, needs), dataset, image, wheels_dir=wheels_dir)]
        bundle = write_manifest(dataset, kind, (wheel.path.name for wheel in wheels))
        refs = _describe(folder, bundle, titles, username, competition.name, competition_slug)
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(folder, out)
    built = Path(out)
    sizes = {path.name: path.stat().st_size for path in sorted((built / DATASET).iterdir())}
    notebook = next((built / KERNEL).glob("*.ipynb"))
    return KernelBuild(built, kind, bundle.build, notebook, *refs, sizes, bundle.wheels, tuple(notes))


def _describe(
    folder: Path, bundle: Bundle, titles: tuple[str, str], username: str, competition: str, slug: str | None
) -> tuple[str, str]:
    """Write notebook and metadata; returns the addresses of dataset and notebook."""
    kernel_title, data_title = titles
    dataset = dataset_metadata(owner=username, title=data_title)
    files.write_json(folder / DATASET / "dataset-metadata.json", dataset)
    code_file = f"{slug_of(kernel_title)}.ipynb"
    kernel = kernel_metadata(
        owner=username,
        title=kernel_title,
        code_file=code_file,
        dataset=dataset["id"],
        competition=slug or slug_of(competition),
    )
    files.write_json(folder / KERNEL / "kernel-metadata.json", kernel)
    _write_notebook(folder / KERNEL / code_file, bundle, kernel_title, competition, dataset["id"])
    return str(dataset["id"]), str(kernel["id"])


def _titles(title: str | None, competition: str, kind: str) -> tuple[str, str]:
    """Titles of notebook and dataset; a name that is too long for Kaggle is cut, a title that was given is not."""
    longest = TITLE_LENGTHS[1] - len(_DATA_SUFFIX)
    chosen = title or f"{competition} {kind}"[:longest].strip()
    return checked_title(chosen, "notebook"), checked_title(chosen + _DATA_SUFFIX, "dataset")


def _require_replaceable(out: Path) -> None:
    """Only an earlier build may be thrown away.

    Raises:
        ConfigError: something else is there.
    """
    if out.exists() and not (out / DATASET / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        inside = shown(sorted(path.name for path in out.iterdir())) if out.is_dir() else "a file"
        raise ConfigError(f"{out} is no kernel that was built before, it holds {inside}; choose another folder with --out.")


def _write_notebook(path: Path, bundle: Bundle, title: str, competition: str, dataset: str) -> None:
    names = {
        "build": bundle.build,
        "kind": bundle.kind,
        "title": title,
        "competition": competition,
        "dataset": dataset,
        "seconds": str(round(BUDGET)),
    }
    write_notebook(path, bundle.kind, names)
