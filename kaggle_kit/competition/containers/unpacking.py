"""Unpacking: what a container holds becomes ordinary files in the workspace, beside links to all other files of the data.

``unpacked/archives`` is the data with its archives unpacked, ``unpacked/images`` that with pictures taken out of tables, arrays
and the like; the last of them that is needed stands for the data folder everywhere. What was begun goes on where it was
stopped, and is done again only when the container's content has changed.
"""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

from kaggle_kit import files
from kaggle_kit.choices import CONTAINERS
from kaggle_kit.competition.containers.archives import extract
from kaggle_kit.competition.containers.base import MOST, Container, Item, encoded, read
from kaggle_kit.competition.scan import around, is_below, parent
from kaggle_kit.config import CompetitionConfig, ContainerConfig
from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.machine.host import available_cpus
from kaggle_kit.stop import Stop, StopRequested

FOLDER = "unpacked"
_STATE = "state.json"
_STEP = 2000
"""Pictures between two notes of how far it is."""
_AT_ONCE, _HELD = 250, 1 << 25
"""Pictures, and bytes of them, that are written together."""
_THREADS = 2 * available_cpus()
"""They wait for the disk half of the time."""
Progress = Callable[[int, int], None]
"""``progress(done, total)``; total is 0 where it is not known."""


def data_folder(root: Path, config: CompetitionConfig) -> Path:
    """Return the folder where the data lies as ordinary files: ``data_dir``, or what was unpacked of it below ``root``."""
    stages = [stage for stage, _ in _stages(config.containers)]
    return root / FOLDER / stages[-1] if stages else (root / config.data_dir).resolve()


def unpack(
    root: Path,
    data_dir: Path,
    containers: Sequence[ContainerConfig],
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Unpack what is not unpacked yet; returns the folder that stands for ``data_dir``.

    Args:
        root: the workspace.
        progress: told how many pictures of a container are done.
        stop: asked between pictures; what was begun is kept.

    Raises:
        MissingFileError: a container is not there.
        DataError: it is damaged, or holds what it should not.
        StorageError: the workspace cannot be written.
    """
    base = data_dir
    for stage, some in _stages(containers):
        target = root / FOLDER / stage
        with files.storage_errors(target):
            target.mkdir(parents=True, exist_ok=True)
            with files.folder_lock(root / FOLDER):
                state = _State(root / FOLDER / f"{stage}-{_STATE}", base)
                for one in some:
                    _bring_up_to_date(one, base, target, state, progress or _silent, stop)
                _link_rest(base, target, some)
        base = target
    return base


def needed(config: CompetitionConfig) -> list[ContainerConfig]:
    """Return the containers that hold the test images, their table or the sample submission."""
    test = config.test
    wanted = [config.submission.sample, *([test.csv, *test.dirs] if test else [])]
    paths = [path for path in wanted if path]
    last = [one for one in config.containers if not _is_archive(one) and any(makes(one, path) for path in paths)]
    paths += [one.path for one in last]
    first = [one for one in config.containers if _is_archive(one) and any(makes(one, path) for path in paths)]
    return [*first, *last]


def table_path(one: ContainerConfig) -> str:
    """Return where the table of a container goes, relative to the folder."""
    return f"{one.to}.csv"


def makes(one: ContainerConfig, path: str) -> bool:
    """Whether unpacking writes ``path``, or something in that folder."""
    if _is_archive(one):
        tops = one.options.get("names") or [one.to]
        return any(_overlap(path, str(top)) for top in tops)
    return path == table_path(one) or _overlap(path, one.to)


def _overlap(one: str, other: str) -> bool:
    """Whether two paths are the same, or one lies in the other."""
    return one == other or is_below(one, other) or is_below(other, one)


def _is_archive(one: ContainerConfig) -> bool:
    kind: Container = CONTAINERS[one.kind]
    return kind.archive


def _stages(containers: Sequence[ContainerConfig]) -> list[tuple[str, list[ContainerConfig]]]:
    parts = {"archives": [one for one in containers if _is_archive(one)]}
    parts["images"] = [one for one in containers if not _is_archive(one)]
    return [(stage, some) for stage, some in parts.items() if some]


def _silent(done: int, total: int) -> None:
    """Tell nobody."""


class _State:
    """What is unpacked of which content: container and folder -> entry, kept in a file. Of another data folder nothing is."""

    def __init__(self, path: Path, base: Path) -> None:
        self.path, self.base = path, str(base.resolve())
        with contextlib.suppress(DataError):
            found = files.read_json(path, made_by="kk init")
            if found.get("base") == self.base and isinstance(found.get("containers"), dict):
                self.entries: dict[str, dict[str, Any]] = found["containers"]
                return
        shutil.rmtree(path.parent / path.name.removesuffix(f"-{_STATE}"), ignore_errors=True)
        (path.parent / path.name.removesuffix(f"-{_STATE}")).mkdir(parents=True, exist_ok=True)
        self.entries = {}

    def write(self, key: str, entry: Mapping[str, Any]) -> None:
        self.entries[key] = dict(entry)
        files.write_json(self.path, {"base": self.base, "containers": self.entries})


def _bring_up_to_date(
    one: ContainerConfig, base: Path, target: Path, state: _State, progress: Progress, stop: Stop | None
) -> None:
    """Unpack a container unless that was done of the same content."""
    source, key = base / one.path, f"{one.path}:{one.to}"
    if not source.exists():
        raise MissingFileError(f"{source} is not there, and kk.yaml says that it holds images. Complete the data.")
    stamp, entry = _stamp(source), state.entries.get(key, {})
    about = one.model_dump(mode="json")
    if entry.get("about") == about and entry.get("stamp") == stamp and entry.get("complete"):
        return
    content = _fingerprint(source)
    same = entry.get("about") == about and entry.get("content") == content
    if not (same and entry.get("complete")):
        if not same:
            _remove(one, target)
        entry = {"about": about, "content": content, "done": entry.get("done", 0) if same else 0}
        entry["cells"] = state.entries.get(key, {}).get("cells", 0) if same else 0
        kind: Container = CONTAINERS[one.kind]
        steps = _extracting(one, source, target) if kind.archive else _writing(kind, one, source, target, entry)
        total, noted = int(one.options.get("count", 0)), 0
        for done in steps:
            if done >= noted + _STEP:
                state.write(key, entry)
                noted = done
            progress(done, max(total, done + 1))
            if stop is not None and stop.reason is not None:
                state.write(key, entry)
                raise StopRequested(stop.reason)
        progress(total or 1, total or 1)
    state.write(key, {**entry, "stamp": stamp, "complete": True})


def _remove(one: ContainerConfig, target: Path) -> None:
    """Delete what another content of the container left."""
    if one.to != ".":
        folder = target / one.to
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder, ignore_errors=True)
    for path in (target / table_path(one), target / f"{table_path(one)}.part"):
        path.unlink(missing_ok=True)


def _extracting(one: ContainerConfig, source: Path, target: Path) -> Iterator[int]:
    yield from (done for done, _ in enumerate(extract(source, target / one.to), 1))


def _writing(kind: Container, one: ContainerConfig, source: Path, target: Path, entry: dict[str, Any]) -> Iterator[int]:
    """Write the pictures of a container and its table; ``entry`` says how many are done, and how long the table is.

    Pictures are encoded and written by threads, some at a time.

    Raises:
        DataError: a name leaves the folder, or a picture is damaged.
    """
    folder, table = target / one.to, target / table_path(one)
    part = table.with_name(f"{table.name}.part")
    folder.mkdir(parents=True, exist_ok=True)
    begun, folders, done = int(entry["done"]) if part.exists() else 0, {str(folder)}, 0
    with (
        open(part, "r+" if begun else "w", encoding="utf-8", newline="") as handle,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        handle.seek(int(entry["cells"]) if begun else 0)
        handle.truncate()
        rows: _Rows | None = None
        for some in _in_parts(read(kind, source, dict(one.options))):
            rows = rows or _Rows(handle, some[0], header=not begun)
            new = some[max(begun - done, 0) :]
            done += len(some)
            if not new:
                continue
            shares = [new[at::_THREADS] for at in range(_THREADS)]
            list(pool.map(lambda share: _write_pictures(folder, share, one.options, source, folders), shares))
            for item in new:
                rows.add(item)
            handle.flush()
            entry |= {"done": done, "cells": handle.tell()}
            yield done
    if not done:
        raise DataError(f"{source} holds no pictures any more. Run `kk init` again.")
    if kind.folder:  # its images have tables of their own
        part.unlink()
    else:
        os.replace(part, table)


def _in_parts(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Some pictures at a time: few enough to hold in memory."""
    part: list[Item] = []
    held = 0
    for item in items:
        part.append(item)
        held += len(item.picture) if isinstance(item.picture, bytes) else getattr(item.picture, "nbytes", 0)
        if len(part) == _AT_ONCE or held > _HELD:
            yield part
            part, held = [], 0
    if part:
        yield part


class _Rows:
    """The table of a container, written row by row; a column names the file unless one of the container's own does."""

    def __init__(self, handle: TextIO, first: Item, *, header: bool) -> None:
        self._writer = csv.writer(handle, lineterminator="\n")
        self._columns = list(first.cells)
        self._named = first.cells.get("id") == first.name or first.cells.get("image_id") == first.name
        if header:
            self._writer.writerow([*([] if self._named else [_image_column(self._columns)]), *self._columns])

    def add(self, item: Item) -> None:
        """Write the row of a picture."""
        cells = [item.cells.get(column, "") for column in self._columns]
        self._writer.writerow(cells if self._named else [item.name, *cells])


def _write_pictures(folder: Path, items: Sequence[Item], options: Mapping[str, Any], source: Path, folders: set[str]) -> None:
    """Write the pictures of rows that have one; ``folders`` are those that are known to be there."""
    for item in items:
        if item.picture is None:
            continue
        suffix, content = encoded(item.picture, options)
        path = os.path.join(folder, f"{_safe(item.name, source)}{suffix}")  # noqa: PTH118 -- pathlib takes as long as the rest
        above = os.path.dirname(path)  # noqa: PTH120
        if above not in folders:
            os.makedirs(above, exist_ok=True)  # noqa: PTH103
            folders.add(above)
        with open(path, "wb", buffering=0) as handle:
            handle.write(content)


def _image_column(columns: Sequence[str]) -> str:
    return next(
        name for name in ("image", "image_file", "image_of_row", *(f"image_{at}" for at in range(99))) if name not in columns
    )


def _safe(name: str, source: Path) -> str:
    """``name`` if it stays in its folder."""
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or any(not part for part in parts):
        raise DataError(f"{source} names a picture {name[:80]!r}, which would leave its folder; it is not unpacked.")
    return name


def _stamp(path: Path) -> list[Any]:
    """Sizes and times, of a folder those of all its files."""
    about = path.stat()
    if not path.is_dir():
        return [about.st_size, about.st_mtime_ns]
    entries = [(str(one.relative_to(path)), one.stat()) for one in sorted(path.rglob("*")) if one.is_file()]
    return [files.fingerprint([[name, one.st_size, one.st_mtime_ns] for name, one in entries])]


def _fingerprint(path: Path) -> str:
    """sha256 of a file's bytes, of a folder of its names, sizes and times."""
    if path.is_dir():
        return str(_stamp(path)[0])
    import hashlib

    with files.open_regular(path, most=MOST) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _link_rest(base: Path, target: Path, containers: Sequence[ContainerConfig]) -> None:
    """Make all that is no container stand in ``target``, too, as links."""
    hidden = {one.path for one in containers}
    special = {path for one in containers for path in (one.path, one.to, table_path(one))}
    folders = {one.path: CONTAINERS[one.kind].suffixes for one in containers if CONTAINERS[one.kind].folder}
    inner = {folder for path in special for folder in around(parent(path))} | {one.to for one in containers}
    pending = ["."]
    while pending:
        folder = pending.pop()
        with os.scandir(base if folder == "." else base / folder) as entries:
            for entry in entries:
                path = entry.name if folder == "." else f"{folder}/{entry.name}"
                place = target / path
                folder_container = path in hidden and entry.is_dir()
                used = any(is_below(path, one) and path.lower().endswith(suffixes) for one, suffixes in folders.items())
                if entry.name.startswith(".") or used or (path in hidden and not folder_container):
                    continue
                if entry.is_dir() and path in inner:
                    place.mkdir(exist_ok=True)
                    pending.append(path)
                elif not place.exists() and not (folder_container or place.is_symlink()):
                    _link(Path(entry.path).absolute(), place)


def _link(source: Path, place: Path) -> None:
    """A link to ``source``; where links are not allowed, a second name of a file or a copy."""
    try:
        place.symlink_to(source)
    except OSError:
        if source.is_dir():
            shutil.copytree(source, place)
        else:
            try:
                os.link(source, place)
            except OSError:
                shutil.copyfile(source, place)
