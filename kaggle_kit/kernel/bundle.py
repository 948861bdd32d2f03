"""The dataset that a kernel reads: flat files, a manifest with the sha256 of each, and a plan that says what they are for.

Flat, since uploads drop or pack sub-folders; where a file belongs in a workspace is said in the manifest.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kaggle_kit import files
from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.tables import shown

logger = logging.getLogger(__name__)

MANIFEST, PLAN = "manifest.json", "plan.json"
MADE_BY = "kaggle_kit kernel"
FORMAT = 1
DEEPEST = 5
"""Folders below the input root in which datasets are looked for: Kaggle has mounted them at one to four."""
_METADATA = "dataset-metadata.json"


@dataclass(frozen=True)
class Bundle:
    """A dataset that was found or built.

    Attributes:
        kind: "inference", "training" or "auto".
        build: identifies this very content.
        files: name -> {sha256, bytes}.
    """

    folder: Path
    kind: str
    build: str
    files: Mapping[str, Mapping[str, Any]]
    wheels: tuple[str, ...]

    def plan(self) -> dict[str, Any]:
        """What to do with the files.

        Raises:
            MissingFileError, DataError: it is missing or damaged.
        """
        return files.read_json(self.folder / PLAN, made_by="kk kernel build")

    def damaged(self, names: Iterable[str]) -> dict[str, str]:
        """Of ``names`` those that are not what was built, and why."""
        found = {name: self._reason(name) for name in names}
        return {name: reason for name, reason in found.items() if reason}

    def _reason(self, name: str) -> str:
        path, stated = self.folder / name, self.files.get(name)
        if stated is None:
            return "the manifest does not know it"
        if not path.is_file():
            return "it is not there"
        size = path.stat().st_size
        if size != stated["bytes"]:
            return f"it has {size:,} bytes instead of {stated['bytes']:,}"
        digest = files.file_fingerprint(path)
        return "" if digest == stated["sha256"] else f"its sha256 is {digest[:12]}…, expected {str(stated['sha256'])[:12]}…"


def write_manifest(folder: Path, kind: str, wheels: Sequence[str]) -> Bundle:
    """Describe everything in ``folder``; the last file to be written there."""
    described = {
        path.name: {"sha256": files.file_fingerprint(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in (MANIFEST, _METADATA)
    }
    build = files.fingerprint(described)[:12]
    content = {
        "made_by": MADE_BY,
        "format": FORMAT,
        "kind": kind,
        "build": build,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": files.versions(),
        "wheels": list(wheels),
        "files": described,
    }
    files.write_json(folder / MANIFEST, content)
    return Bundle(folder, kind, build, described, tuple(wheels))


def read_bundle(folder: Path) -> Bundle:
    """Read the manifest of a dataset's folder.

    Raises:
        MissingFileError, DataError: there is none, or it is damaged or of another format.
    """
    content = files.read_json(folder / MANIFEST, made_by="kk kernel build")
    if content.get("made_by") != MADE_BY or content.get("format") != FORMAT:
        raise DataError(f"{folder / MANIFEST} is not of this version of kaggle_kit. Run `kk kernel build` again.")
    try:
        return Bundle(folder, content["kind"], content["build"], content["files"], tuple(content["wheels"]))
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / MANIFEST} is damaged ({error!r}). Run `kk kernel build` again.") from error


def find_bundle(input_root: Path, kind: str, build: str = "", *, say: Callable[[str], None] = logger.info) -> Bundle:
    """Find the dataset below ``input_root``, wherever it is mounted.

    Args:
        build: the one that the notebook was made for; another one of the same kind is taken with a word.

    Raises:
        MissingFileError: there is none; says what is mounted.
    """
    found: list[Bundle] = []

    def take(path: Path) -> bool:
        try:
            if json.loads(files.read_bytes(path, most=files.LARGEST_RECORD)).get("made_by") != MADE_BY:
                return False
            found.append(read_bundle(path.parent))
        except (ValueError, OSError, AttributeError, RecursionError, DataError) as error:
            say(f"{path} is passed over: {error}")
            return False
        return found[-1].kind == kind

    search(input_root, MANIFEST, accept=take)
    fitting = [bundle for bundle in found if bundle.kind == kind]
    if not fitting:
        mounted = sorted(path.name for path in input_root.iterdir()) if input_root.is_dir() else []
        raise MissingFileError(
            f"no dataset of `kk kernel build` for {kind} below {input_root}; there is: {shown(mounted) or 'nothing'}. Attach "
            "the dataset to the notebook (Add Input)."
        )
    chosen = next((bundle for bundle in fitting if bundle.build == build), fitting[0])
    if build and chosen.build != build:
        say(f"the dataset in {chosen.folder} is build {chosen.build}; this notebook was made for build {build}")
    return chosen


def search(root: Path, name: str, *, accept: Callable[[Path], bool] = Path.exists, deepest: int = DEEPEST) -> list[Path]:
    """Files or folders called ``name`` (it may hold ``/``) in the folders nearest to ``root`` that have any.

    Folders further down are not listed any more: there may be a million images in them.

    Args:
        accept: whether one that exists is what is looked for.
        deepest: levels below ``root``.
    """
    level = [root]
    for _ in range(deepest + 1):
        found = [folder / name for folder in level if (folder / name).exists() and accept(folder / name)]
        if found:
            return found
        level = [below for folder in level for below in subfolders(folder)]
    return []


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; none where it may not be read."""
    try:
        with os.scandir(folder) as entries:  # no call to the system per file, unlike pathlib
            return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError:
        return []
