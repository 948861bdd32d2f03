"""Which file a cell of a table means: ids come with or without extension and folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

from kaggle_kit.competition.scan import is_below, without_suffix
from kaggle_kit.errors import DataError
from kaggle_kit.tables import shown

_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")


def leaves_folder(cell: str) -> bool:
    """Whether a path is absolute or climbs with ``..``, so that it could name a file outside the data folder."""
    parts = cell.replace("\\", "/").split("/")
    return ".." in parts or cell.startswith(("/", "\\", "~")) or bool(_DRIVE.match(cell))


class ImageIndex:
    """Finds images by path, path without extension, name, or name without extension, in this order.

    The first of these that finds anything decides; what it finds may be several files, and then the cell is ambiguous.
    A cell with a folder is never matched by its name alone, for ``cat/1.jpg`` is not ``dog/1.jpg``.

    Args:
        images: paths relative to the data folder.
        dirs: folders that cells may be relative to, besides the data folder; images elsewhere are left out.
    """

    def __init__(self, images: Iterable[str], dirs: Sequence[str] = (".",)) -> None:
        self.dirs = tuple(dirs)
        self.images = tuple(path for path in images if any(is_below(path, folder) for folder in self.dirs))

    def find(self, cell: str) -> tuple[str, ...]:
        """The images that ``cell`` may mean: none, one, or several."""
        cell = cell.replace("\\", "/").removeprefix("./")
        if not cell or leaves_folder(cell):
            return ()
        tables = [self._paths, self._bare_paths] if "/" in cell else [self._paths, self._bare_paths, self._names, self._stems]
        for table in tables:
            if cell in table:
                return table[cell]
        return ()

    def require(self, cells: Sequence[str], *, source: str) -> list[str]:
        """The image of every cell.

        Raises:
            DataError: cells that leave the data folder, that no image matches, or that several match.
        """
        outside = [cell for cell in cells if leaves_folder(cell)]
        if outside:
            raise DataError(
                f"{source}: {len(outside)} image names leave the data folder: {shown(map(repr, outside))}. Expected names or "
                "paths relative to it; correct the file."
            )
        found = [self.find(cell) for cell in cells]
        missing = [cell for cell, paths in zip(cells, found, strict=True) if not paths]
        if missing:
            raise DataError(
                f"{source}: {len(missing)} of {len(cells)} rows have no image: {shown(map(repr, missing))}. Looked in "
                f"{shown(self.dirs)} ({len(self.images):,} images). Complete the data, or correct `dirs` in kk.yaml."
            )
        several = [f"{cell!r} ({', '.join(paths[:3])})" for cell, paths in zip(cells, found, strict=True) if len(paths) > 1]
        if several:
            raise DataError(
                f"{source}: {len(several)} rows fit several images: {shown(several)}. Name fewer folders in `dirs` in kk.yaml."
            )
        return [paths[0] for paths in found]

    @cached_property
    def _paths(self) -> dict[str, tuple[str, ...]]:
        return self._table(lambda path: path)

    @cached_property
    def _bare_paths(self) -> dict[str, tuple[str, ...]]:
        return self._table(without_suffix)

    @cached_property
    def _names(self) -> dict[str, tuple[str, ...]]:
        return _collect((path.rpartition("/")[2], path) for path in self.images)

    @cached_property
    def _stems(self) -> dict[str, tuple[str, ...]]:
        return _collect((without_suffix(path.rpartition("/")[2]), path) for path in self.images)

    def _table(self, form: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
        prefixes = {f"{folder}/" for folder in self.dirs if folder != "."} | {""}
        return _collect(
            (form(path.removeprefix(prefix)), path)
            for path in self.images
            for prefix in sorted(prefixes)
            if path.startswith(prefix)
        )


def _collect(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for key, path in pairs:
        known = table.setdefault(key, (path,))
        if path not in known:
            table[key] = (*known, path)
    return table


def inside(data_dir: Path, path: str, *, key: str) -> str:
    """``path`` as a clean path relative to ``data_dir``.

    Raises:
        DataError: it leaves the folder.
    """
    if leaves_folder(path):
        raise DataError(f"{key} must lie in the data folder {data_dir}, got {path!r}; correct kk.yaml.")
    return "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", ".")) or "."
