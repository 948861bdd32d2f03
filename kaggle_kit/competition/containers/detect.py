"""Which files of a competition hold images, and need unpacking."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kaggle_kit import files
from kaggle_kit.choices import CONTAINERS
from kaggle_kit.competition.containers.archives import SUFFIXES as ARCHIVES
from kaggle_kit.competition.containers.archives import member_names
from kaggle_kit.competition.containers.base import Container, Options, plain, read, recognise
from kaggle_kit.competition.containers.channels import SUFFIXES as CHANNELS
from kaggle_kit.competition.containers.channels import of_image
from kaggle_kit.competition.containers.unpacking import Progress, unpack
from kaggle_kit.competition.matching import ImageIndex
from kaggle_kit.competition.questions import Asker
from kaggle_kit.competition.scan import Tree, parent, scan
from kaggle_kit.config import ContainerConfig
from kaggle_kit.errors import DataError
from kaggle_kit.tables import shown

_PROBED = 32


def find_containers(
    asker: Asker, data_dir: Path, root: Path, skip: Sequence[str], progress: Progress | None = None
) -> tuple[list[ContainerConfig], Path]:
    """Find and unpack the containers in ``data_dir``; returns them and the folder that stands for it.

    Args:
        root: the workspace.
        skip: folders that hold no competition data, relative to ``data_dir``.

    Raises:
        DataError: a container is damaged.
        DependencyError: a package is needed to read one.
    """
    tree = scan(data_dir, skip=skip)
    found = [one for path in tree.others if path.lower().endswith(ARCHIVES) and (one := _archive(asker, data_dir, tree, path))]
    folder = unpack(root, data_dir, found, progress=progress)
    if found:
        asker.find(f"{shown(one.path for one in found)} were unpacked into the workspace.")
        tree = scan(folder)
    images = _of_images(asker, folder, tree)
    if images:
        listed = shown(f"{one.path} ({CONTAINERS.helps[one.kind]})" for one in images)
        asker.find(f"the images are in {listed}; they were unpacked into the workspace as files.")
        found += images
        folder = unpack(root, data_dir, found, progress=progress)
    return found, folder


def _archive(asker: Asker, data_dir: Path, tree: Tree, path: str) -> ContainerConfig | None:
    """An archive that was not unpacked by hand."""
    stem = _stem(path)
    known = (*tree.folders, *tree.images, *tree.tables, *tree.others)
    if stem in known:
        asker.find(f"{path} is left aside: {stem} is there already.")
        return None
    names = member_names(data_dir / path)
    if not names:
        asker.find(f"{path} is left aside: it holds no files, or it is damaged.")
        return None
    name = stem.rpartition("/")[2]
    beside = len(names) == 1 or all(member.startswith(f"{name}/") for member in names)
    to = parent(path) if beside else stem
    tops = sorted({member.split("/")[0] for member in names} if beside else [])
    inside = [top if to == "." else f"{to}/{top}" for top in tops[:1]]
    return ContainerConfig(path=path, kind="archive", to=to, options={"count": len(names), "names": inside})


def _of_images(asker: Asker, folder: Path, tree: Tree) -> list[ContainerConfig]:
    """Containers of images that do not lie there as files as well."""
    index = ImageIndex(tree.images)
    first = _first_id(folder, tree)
    found: list[ContainerConfig] = []
    for kind in CONTAINERS:
        container: Container = CONTAINERS[kind]
        if container.archive:
            continue
        paths = (
            _folders(tree, container)
            if container.folder
            else [path for path in (*tree.tables, *tree.others) if path.lower().endswith(container.suffixes)]
        )
        some = []
        for path in paths:
            options = recognise(container, folder / path)
            if options is None:
                continue
            for part, about in dict(options.get("parts", {"": options})).items():
                one = about | ({"first": 0} if first == 0 and not container.folder else {})
                if container.suffixes != CHANNELS and _lies_there(container, folder / path, one, index):
                    asker.find(f"{path} is left aside: its images are there as files, too.")
                    continue
                to = path if container.folder else _free(tree, _stem(path))
                some.append((path, f"{to}/{part}" if part else to, one))
        shared = _shared_range([options for _, _, options in some])
        found += [
            ContainerConfig(path=path, kind=kind, to=to, options=plain({**options, **shared})) for path, to, options in some
        ]
    return _without_examples(asker, found)


def _without_examples(asker: Asker, found: list[ContainerConfig]) -> list[ContainerConfig]:
    """Leave out what is called an example or a sample of the same kind."""
    kept = [one for one in found if not any(word in one.path.lower() for word in ("example", "sample"))]
    for one in found:
        if one not in kept and kept:
            asker.find(f"{one.path} is left aside: it is called an example.")
    return kept or found


def _folders(tree: Tree, container: Container) -> list[str]:
    """The outermost folders that hold files of a container's kind; files at the top one by one."""
    if container.suffixes == CHANNELS:
        outer = {parent(parent(path)) for path in tree.images if of_image(path)}
        return sorted(outer | {folder for path in tree.images if parent(folder := parent(path)) not in outer})
    paths = [path for path in tree.others if path.lower().endswith(container.suffixes)]
    return list(dict.fromkeys(path.split("/")[0] for path in paths))


def _lies_there(container: Container, path: Path, options: Options, index: ImageIndex) -> bool:
    """Whether most of a container's first pictures are found as files."""
    if not index.images:
        return False
    if container.names is not None:
        names = list(itertools.islice(container.names(path, options), _PROBED))
    else:
        names = [item.name for item in itertools.islice(read(container, path, options), _PROBED) if item.picture is not None]
    return 2 * sum(bool(index.find(name.rpartition("/")[2])) for name in names) >= len(names) > 0


def _shared_range(options: Sequence[Options]) -> Options:
    """One range of values for all containers of a kind, so that the same number means the same everywhere."""
    ranged = [one for one in options if "low" in one]
    if not ranged:
        return {}
    lows = [float(one.get("low", 0.0)) for one in options]
    highs = [float(one.get("high", 255.0)) for one in options]
    return {"low": min(lows), "high": max(highs)}


def _stem(path: str) -> str:
    suffix = next((one for one in ARCHIVES if path.lower().endswith(one)), None)
    if suffix is not None:
        return path[: -len(suffix)]
    folder, _, name = path.rpartition("/")
    stem = name.rpartition(".")[0] or name
    return f"{folder}/{stem}" if folder else stem


def _free(tree: Tree, stem: str) -> str:
    """A folder's name that nothing there has: ``stem``, or with a word behind it."""
    taken = {*tree.folders, *(table.removesuffix(".csv") for table in tree.tables if table.removesuffix(".csv") != stem)}
    return next(name for name in (stem, f"{stem}_images", *(f"{stem}_images_{at}" for at in range(2, 99))) if name not in taken)


def _first_id(folder: Path, tree: Tree) -> int:
    """Where ids that are numbers of rows begin: at 0 when the sample submission's do, else at 1."""
    for table in tree.tables:
        name = table.rpartition("/")[2].lower()
        if "sample" in name or "submission" in name:
            try:
                ids: Any = files.read_table(folder / table).iloc[:, 0]
            except DataError:
                continue
            return 0 if len(ids) and ids.iloc[0] == "0" else 1
    return 1
