"""``kk kernel build``: a dataset and a notebook, ready to be uploaded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kaggle_kit import files
from kaggle_kit.check.report import VERDICT, copy_verdict
from kaggle_kit.competition import Setup
from kaggle_kit.kernel.bundle import MANIFEST, Bundle, write_manifest
from kaggle_kit.kernel.dataset import AutoPlan, choose_recipe, write_auto, write_inference, write_training
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
from kaggle_kit.kernel.wheels import CPU_NEEDS, NEEDS, collect_wheels, missing_from, own_wheel, unlike
from kaggle_kit.results import Result

logger = logging.getLogger(__name__)

DATASET, KERNEL = "dataset", "kernel"
_DATA_SUFFIX = " data"


@dataclass(frozen=True, repr=False)
class KernelBuild(Result):
    """What was built.

    Attributes:
        folder: holds ``dataset`` and ``kernel``.
        kind: "inference", "training" or "auto".
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


@dataclass(frozen=True)
class Address:
    """Where a kernel goes at Kaggle.

    Attributes:
        username: of the Kaggle account.
        competition: the last part of the competition's address; None: made of its name.
        title: of the notebook; the dataset's is the same with " data". None: made of the competition's name.

    Raises:
        ConfigError: a user or a competition that cannot be in an address.
    """

    username: str
    competition: str | None = None
    title: str | None = None

    def __post_init__(self) -> None:
        checked_address(self.username, "username")
        if self.competition is not None:
            checked_address(self.competition, "competition")


@dataclass(frozen=True)
class Content:
    """What a kernel does: repeat a blend, average runs, train, or search.

    Attributes:
        runs: names of runs to average; without any, the blend called ``blend`` is repeated, by default the last one.
        train: train the configured run instead.
        auto: do what ``kk auto`` does instead.
        half: ship weights in 16 bits.
        force: although the blend has no passed check.
        cpu: for a session without a GPU: OpenVINO goes along. A blend of runs in 8-bit integers is always for such a one.
    """

    runs: Sequence[str] = ()
    blend: str | None = None
    train: bool = False
    half: bool = False
    force: bool = False
    auto: AutoPlan | None = None
    cpu: bool = False

    @property
    def kind(self) -> str:
        return "auto" if self.auto is not None else "training" if self.train else "inference"


def build_kernel(
    setup: Setup,
    out: Path,
    address: Address,
    content: Content | None = None,
    *,
    image_list: Path | None = None,
    wheels_dir: Path | None = None,
) -> KernelBuild:
    """Write ``out/dataset`` and ``out/kernel``; an earlier build in ``out`` is replaced.

    Args:
        content: by default the last blend.
        image_list: ``pip freeze`` of a Kaggle session, instead of the list that comes with the package.
        wheels_dir: wheels to take instead of making or downloading them.

    Raises:
        ConfigError: ``out`` holds something else, or a title that Kaggle would not take.
        MissingFileError, SubmissionError, DataError, WeightsError: what is to be shipped is missing or stale.
        DependencyError: a wheel cannot be had.
        LockedError: another process builds there.
    """
    out, content, image = Path(out), content or Content(), load_image(image_list)
    titles = _titles(address.title, setup.competition.name, content.kind)
    needs = NEEDS[content.kind]
    mark = f"{DATASET}/{MANIFEST}"
    with files.whole_folder(out, mark=mark, what="kernel that was built before", option="--out") as folder:
        dataset = folder / DATASET
        dataset.mkdir()
        written = _write_content(folder, setup, content)
        needs = (*needs, *written.packages)
        notes = [f"the image has {one}" for one in unlike(image, needs)] + list(written.notes)
        wheels = [own_wheel(dataset), *collect_wheels(missing_from(image, needs), dataset, image, wheels_dir=wheels_dir)]
        bundle = write_manifest(dataset, content.kind, [wheel.path.name for wheel in wheels])
        refs = _describe(folder, bundle, titles, address, setup.competition.name, gpu=written.gpu)
    sizes = {path.name: path.stat().st_size for path in sorted((out / DATASET).iterdir())}
    notebook = next((out / KERNEL).glob("*.ipynb"))
    return KernelBuild(out, content.kind, bundle.build, notebook, *refs, sizes, bundle.wheels, tuple(notes))


@dataclass(frozen=True)
class _Written:
    """What a reader should know of a dataset, what it needs beside the packages of its kind, and whether it is for a GPU."""

    notes: Sequence[str] = ()
    packages: tuple[str, ...] = ()
    gpu: bool = True


def _write_content(folder: Path, setup: Setup, content: Content) -> _Written:
    """Write models or what training needs, and the verdict on the blend."""
    dataset, workspace = folder / DATASET, setup.workspace
    if content.auto is not None:
        return _Written(write_auto(dataset, setup, content.auto))
    if content.train:
        write_training(dataset, setup)
        return _Written()
    recipe, notes = choose_recipe(workspace, setup.competition, runs=content.runs, blend=content.blend, force=content.force)
    cpu = write_inference(dataset, setup, recipe, half=content.half, cpu=content.cpu)
    if recipe.name:
        copy_verdict(workspace.submission_path(recipe.name), folder / VERDICT)
    return _Written(notes, (*recipe.packages, *(CPU_NEEDS if cpu else ())), gpu=not cpu)


def _describe(
    folder: Path, bundle: Bundle, titles: tuple[str, str], address: Address, competition: str, *, gpu: bool
) -> tuple[str, str]:
    """Write notebook and metadata; returns the addresses of dataset and notebook."""
    kernel_title, data_title = titles
    dataset = dataset_metadata(owner=address.username, title=data_title)
    files.write_json(folder / DATASET / "dataset-metadata.json", dataset)
    code_file = f"{slug_of(kernel_title)}.ipynb"
    kernel = kernel_metadata(
        owner=address.username,
        title=kernel_title,
        code_file=code_file,
        dataset=dataset["id"],
        competition=address.competition or slug_of(competition),
        gpu=gpu,
    )
    files.write_json(folder / KERNEL / "kernel-metadata.json", kernel)
    _write_notebook(folder / KERNEL / code_file, bundle, kernel_title, competition, dataset["id"])
    return str(dataset["id"]), str(kernel["id"])


def _titles(title: str | None, competition: str, kind: str) -> tuple[str, str]:
    """Titles of notebook and dataset; a name that is too long for Kaggle is cut, a title that was given is not."""
    longest = TITLE_LENGTHS[1] - len(_DATA_SUFFIX)
    chosen = title or f"{competition} {kind}"[:longest].strip()
    return checked_title(chosen, "notebook"), checked_title(chosen + _DATA_SUFFIX, "dataset")


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
