"""What lies in a folder of competition data: one walk, nothing opened, always the same order."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from kaggle_kit.errors import DataError, MissingFileError, StorageError
from kaggle_kit.tables import shown

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".jp2"}
)
"""Lower-case suffixes of the files that count as images; suffixes of files are compared in lower case."""

_TABLE_SUFFIXES = frozenset({".csv"})
_IGNORED = frozenset({"__MACOSX", "__pycache__", "lost+found"})
_WORDS = {
    "train": ("train", "training", "trainset", "trainimages", "trainingset"),
    "val": ("val", "valid", "validation", "valset", "validset", "holdout"),
    "test": ("test", "testing", "testset", "testimages", "unlabeled", "unlabelled"),
    "extra": ("extra", "aux", "auxiliary", "external", "additional"),
}
_ROLES = {word: role for role, words in _WORDS.items() for word in words}
_FILLERS = frozenset(
    {"images", "image", "imgs", "img", "pictures", "photos", "data", "dataset", "set", "files", "folder", "jpg", "jpeg", "png"}
    | {"csv", "labels", "label", "metadata", "meta", "public", "private", "stage", "final", "resized", "small", "full"}
)


_HINTS = {
    ".tfrec": "TFRecords are not read: take the image files of the same competition",
    ".tfrecord": "TFRecords are not read: take the image files of the same competition",
    ".rar": "unpack the .rar by hand",
    ".pkl": "pickles are never loaded: convert them to .npy",
    ".mat": "convert the .mat to .npy",
    ".mp4": "videos are not read: extract their frames",
    ".wav": "sounds are not images: make spectrograms of them",
}
"""What to do about files that are no images to us."""


@dataclass(frozen=True)
class Tree:
    """Files below a data folder; paths are relative to it, with ``/``, and sorted.

    Attributes:
        tables: CSV files.
        others: all other files.
    """

    images: tuple[str, ...]
    folders: tuple[str, ...]
    tables: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def documents(self) -> tuple[str, ...]:
        """JSON files."""
        return tuple(path for path in self.others if path.lower().endswith(".json"))


def scan(root: Path, start: str = ".", *, skip: Collection[str] = ()) -> Tree:
    """Walk ``root/start``; hidden files and folders and those of ``skip`` (relative to ``root``) are left out.

    Links are followed, except those that lead back to a folder around them.

    Raises:
        MissingFileError: there is no such folder.
        StorageError: a folder may not be read.
        DataError: a file name is not valid Unicode, and could not be written to any table.
    """
    top = root if start == "." else root / start
    if not top.is_dir():
        raise MissingFileError(f"{top} is not a folder. Check the data folder, and `data_dir` and `dirs` in kk.yaml.")
    found: dict[str, list[str]] = {"images": [], "folders": [], "tables": [], "others": []}
    pending = ["" if start == "." else start]
    while pending:
        pending.extend(_read_folder(root, pending.pop(), skip, found))
    for path in found["images"]:
        if not path.isascii():
            _require_text(path)
    return Tree(*(tuple(sorted(found[kind])) for kind in ("images", "folders", "tables", "others")))


def own_folders(data_dir: Path, workspace_root: Path) -> tuple[str, ...]:
    """What a workspace that lies in its data folder keeps there, relative to it: no competition data."""
    data, root = data_dir.resolve(), workspace_root.resolve()
    if root == data:
        return "runs", "folds", "submissions", "tune", "unpacked"
    return (root.relative_to(data).as_posix(),) if root.is_relative_to(data) else ()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether this is a folder or leads to one; a link that leads to itself does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _read_folder(root: Path, folder: str, skip: Collection[str], found: dict[str, list[str]]) -> list[str]:
    """Sort the entries of one folder into ``found``; returns its sub-folders."""
    prefix = f"{folder}/" if folder else ""
    below = []
    try:
        with os.scandir(os.path.join(root, folder)) as entries:  # noqa: PTH118 -- pathlib costs seconds over 140,000 files
            for entry in entries:
                path = prefix + entry.name
                if entry.name.startswith(".") or entry.name in _IGNORED or path in skip:
                    continue
                if _is_folder(entry):
                    if not (entry.is_symlink() and _leads_back(entry.path)):
                        below.append(path)
                    continue
                suffix = suffix_of(entry.name)
                if suffix in IMAGE_SUFFIXES:
                    found["images"].append(path)
                elif suffix in _TABLE_SUFFIXES:
                    found["tables"].append(path)
                else:
                    found["others"].append(path)
    except OSError as error:
        reason = (
            "may not be read: permission denied" if isinstance(error, PermissionError) else f"cannot be read: {error.strerror}"
        )
        raise StorageError(f"{root / folder} {reason}.") from error
    found["folders"].extend(below)
    return below


def _leads_back(link: str) -> bool:
    target = os.path.realpath(link)
    around = os.path.realpath(os.path.dirname(link))  # noqa: PTH120
    return around == target or around.startswith(target.rstrip(os.sep) + os.sep)


def _require_text(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(f"the file name {path!r} is not valid Unicode; rename the file.") from None


def suffix_of(path: str) -> str:
    """The suffix in lower case, or an empty string."""
    dot = path.rfind(".")
    return path[dot:].lower() if dot > path.rfind("/") + 1 else ""


def without_suffix(path: str) -> str:
    """``path`` without an image suffix; any other ending is part of the name, as in ``img.v2``."""
    suffix = suffix_of(path)
    return path[: -len(suffix)] if suffix in IMAGE_SUFFIXES else path


def parent(path: str) -> str:
    """The folder of ``path``, ``.`` at the top."""
    return path.rpartition("/")[0] or "."


def is_below(path: str, folder: str) -> bool:
    """Whether ``path`` is in ``folder`` or deeper."""
    return folder == "." or path.startswith(f"{folder}/")


def common_folder(folders: Iterable[str]) -> str:
    """The deepest folder that holds all of ``folders``."""
    split = [[] if folder == "." else folder.split("/") for folder in folders]
    shared: list[str] = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared) or "."


def role_of(name: str) -> str | None:
    """What a folder or file name says about its use: train, val, test, extra, or nothing.

    Only names made of such words, numbers and fillers such as "images" count: "test_images" does, "test_tube" does not.
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+", name)]
    roles = {_ROLES[word] for word in words if word in _ROLES}
    others = [word for word in words if word not in _ROLES and word not in _FILLERS and not word.isdigit()]
    if others or not roles:
        return None
    if "extra" in roles:
        return "extra"
    return "train" if roles == {"train", "val"} else roles.pop() if len(roles) == 1 else None


def role_folders(tree: Tree) -> dict[str, list[str]]:
    """For each role the outermost folders with such a name that hold images; wrapped ones (train/train) are unwrapped."""
    holding = {folder for path in set(map(parent, tree.images)) for folder in around(path)}
    found: dict[str, list[str]] = {}
    taken: list[str] = []
    for folder in sorted(tree.folders, key=lambda path: (path.count("/"), path)):
        role = role_of(folder.rpartition("/")[2])
        if role and folder in holding and not any(is_below(folder, outer) for outer in taken):
            taken.append(folder)
            found.setdefault(role, []).append(_unwrap(folder, tree, holding))
    return found


def around(folder: str) -> list[str]:
    """``folder`` and all folders that hold it, from ``.`` inwards."""
    parts = [] if folder == "." else folder.split("/")
    return [".", *("/".join(parts[:count]) for count in range(1, len(parts) + 1))]


def what_lies_there(tree: Tree) -> str:
    """Say in half a sentence which files a folder holds, the most frequent kinds first, and what could be done about them."""
    counts = Counter(suffix_of(path) or path.rpartition("/")[2] for path in (*tree.tables, *tree.others))
    if not counts:
        return "the folder is empty"
    listed = shown(f"{count:,} {suffix}" for suffix, count in counts.most_common(6))
    hints = [hint for suffix, hint in _HINTS.items() if suffix in counts]
    return f"there are {listed}" + (f"; {'; '.join(hints)}" if hints else "")


def _unwrap(folder: str, tree: Tree, holding: Collection[str]) -> str:
    while True:
        inner = [path for path in tree.folders if parent(path) == folder and path in holding]
        same_role = len(inner) == 1 and role_of(inner[0].rpartition("/")[2]) == role_of(folder.rpartition("/")[2])
        if not same_role or any(parent(path) == folder for path in tree.images):
            return folder
        folder = inner[0]
