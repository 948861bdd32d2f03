"""What the images of a competition hold, told by content: which of them have changed since a run or a prediction was made.

Names, sizes and labels say nothing about pixels. Each image file is therefore hashed once; the workspace's cache remembers the
hash as long as the file's size and times stay. All hashes of a set of images together have one fingerprint, which stands in the
records of what was made from them, and the list behind it is kept beside the run, so that a change can be told by id.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit import files
from kaggle_kit.competition.records import Competition, ImageRow
from kaggle_kit.errors import DataError, StorageError
from kaggle_kit.machine.host import available_cpus
from kaggle_kit.tables import FoldTable, shown

CACHE_NAME = "contents.npy"
FOLDER = "contents"
"""The folder of a run that keeps the lists behind the fingerprints in its records."""
MAX_CACHED = 1_000_000
"""The cache remembers so many files at most, those asked for last."""
UNREADABLE = "unreadable"
"""Stands in place of the hash of what is no regular file or cannot be read."""

_BLOCK = 1 << 20
_AT_ONCE = 256  # files a task of the thread pool
_SETTLED_NS = 2_000_000_000  # file systems tell times in steps of up to two seconds
_FORMAT = 1
_ENTRY = np.dtype([("path", "<u8"), ("size", "<i8"), ("modified", "<i8"), ("changed", "<i8"), ("content", "<u8")])
"""What the cache knows of a file, path and content by their hashes: as text they would take some ten times the memory."""
Entries = npt.NDArray[np.void]


@dataclass(frozen=True)
class Contents:
    """What some images hold.

    Attributes:
        hashes: id -> 16 hex digits of a hash of the bytes of its file or files, or :data:`UNREADABLE`.
    """

    hashes: Mapping[str, str]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all ids with their hashes, whatever their order."""
        return files.fingerprint(sorted(self.hashes.items()))

    def take(self, ids: Iterable[str]) -> Contents:
        """Return the contents of ``ids`` only; ids that are not here are left out."""
        return Contents({row_id: self.hashes[row_id] for row_id in ids if row_id in self.hashes})

    def changed_since(self, before: Contents) -> tuple[str, ...]:
        """Return the ids, sorted, whose content is not what it was ``before``; new ids and ids that are gone are among them."""
        ids = self.hashes.keys() | before.hashes.keys()
        return tuple(sorted(row_id for row_id in ids if self.hashes.get(row_id) != before.hashes.get(row_id)))


def contents_of(rows: Iterable[ImageRow], cache_dir: Path | None, *, workers: int | None = None) -> Contents:
    """Return what the images of ``rows`` hold; files that the cache knows are not read.

    Args:
        cache_dir: the workspace's cache; None: every file is read and nothing is remembered.
        workers: threads; none: two a CPU, since reading waits for the disk. Hashing releases the interpreter lock.
    """
    paths_of = {row.id: (str(row.file), *map(str, row.further)) for row in rows}
    cache = None if cache_dir is None else cache_dir / CACHE_NAME
    known = _Known(np.empty(0, _ENTRY) if cache is None else _read_cache(cache))
    paths = list(dict.fromkeys(path for some in paths_of.values() for path in some))
    parts = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    found: dict[str, str] = {}
    new: list[tuple[int, ...]] = []
    with ThreadPoolExecutor(workers or 2 * available_cpus()) as pool:
        for part, hashed in zip(parts, pool.map(lambda some: [_hash(path, known) for path in some], parts), strict=True):
            for path, one in zip(part, hashed, strict=True):
                found[path] = one.content
                if one.settled and not one.known:
                    new.append((_short(path), *one.stamp, int(one.content, 16)))
    if cache is not None and new:
        with contextlib.suppress(StorageError):  # what is not remembered is read again
            _write_cache(cache, known.entries, np.array(new, _ENTRY), np.array([_short(path) for path in paths], np.uint64))
    return Contents({row_id: _together([found[path] for path in some]) for row_id, some in paths_of.items()})


def _together(hashes: Sequence[str]) -> str:
    """What stands for the images of one id: of one image its hash."""
    if len(hashes) == 1 or UNREADABLE in hashes:
        return hashes[0] if len(hashes) == 1 else UNREADABLE
    return hashlib.blake2b(" ".join(hashes).encode(), digest_size=8).hexdigest()


def training_contents(competition: Competition, folds: FoldTable, cache_dir: Path | None) -> Contents:
    """Return what the images of the fold table hold; see :func:`contents_of`."""
    wanted = set(folds.ids)
    return contents_of((row for row in competition.train if row.id in wanted), cache_dir)


def keep_contents(run_dir: Path, contents: Contents) -> str:
    """Write the list behind ``contents.fingerprint`` into a run's folder, unless it is there; return the fingerprint."""
    path = _list_path(run_dir, contents.fingerprint)
    if not path.exists():
        files.write_json(path, {"format": _FORMAT, "hashes": dict(contents.hashes)})
    return contents.fingerprint


def kept_contents(run_dir: Path, fingerprint: str) -> Contents | None:
    """Return the list that :func:`keep_contents` wrote; None when it is not there, or is not the one of that fingerprint."""
    try:
        hashes = files.read_json(_list_path(run_dir, fingerprint), made_by="kk train").get("hashes")
    except DataError:
        return None
    contents = Contents(hashes) if isinstance(hashes, dict) else None
    return contents if contents is not None and contents.fingerprint == fingerprint else None


def describe_change(now: Contents, run_dir: Path, before: object, *, what: str) -> str:
    """Say in one sentence which images changed since ``before`` was recorded for a run; empty when none did.

    Args:
        before: the fingerprint in the record; None in records of versions that took none, of which nothing can be said.
        what: "test images" or "training images".
    """
    if before is None or before == now.fingerprint:
        return ""
    then = kept_contents(run_dir, str(before))
    if then is None:
        return (
            f"the contents of the {what} have changed (of which ones is not known: their list is gone from {run_dir / FOLDER})"
        )
    changed = now.changed_since(then)
    return f"the contents of {len(changed):,} of {len(now.hashes):,} {what} have changed: {shown(changed)}"


@dataclass(frozen=True, slots=True)
class _Hashed:
    """A file's hash, and the stamp that it holds for.

    Attributes:
        settled: whether a later change of the file would show in its stamp, so that the hash may be remembered.
        known: whether it was remembered.
    """

    stamp: tuple[int, int, int]
    content: str
    settled: bool
    known: bool = False


class _Known:
    """Entries of the cache, found by path."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self._order = np.argsort(entries["path"], kind="stable")
        self._paths = entries["path"][self._order]

    def content(self, path: str, stamp: tuple[int, int, int]) -> str | None:
        """The hash of a file, if its size and times are what they were."""
        short = np.uint64(_short(path))
        at = int(np.searchsorted(self._paths, short))
        if at == len(self._paths) or self._paths[at] != short:
            return None
        _, *held, content = self.entries[self._order[at]].item()
        return f"{content:016x}" if (*held,) == stamp else None


def _short(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(path.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


def _hash(path: str, known: _Known) -> _Hashed:
    """Hash a file, unless ``known`` has it with the same size and times."""
    now = time.time_ns()
    try:
        before = Path(path).stat()
        stamp = (before.st_size, before.st_mtime_ns, before.st_ctime_ns)
        if not stat.S_ISREG(before.st_mode):  # a pipe or a device would never end
            return _Hashed(stamp, UNREADABLE, settled=False)
        if (content := known.content(path, stamp)) is not None:
            return _Hashed(stamp, content, settled=True, known=True)
        digest = hashlib.blake2b(digest_size=8)
        with open(path, "rb", buffering=0) as handle:
            while block := handle.read(_BLOCK):
                digest.update(block)
    except (OSError, ValueError):
        return _Hashed((0, 0, 0), UNREADABLE, settled=False)
    return _Hashed(stamp, digest.hexdigest(), settled=max(stamp[1:]) < now - _SETTLED_NS)


def _read_cache(path: Path) -> Entries:
    """The entries, those asked for last at the end; none when there is no cache or it is damaged."""
    none = np.empty(0, _ENTRY)
    try:
        with files.open_regular(path) as handle:
            entries: npt.NDArray[Any] = np.load(handle, allow_pickle=False)
    except files.DAMAGE:
        return none
    return entries if entries.dtype == _ENTRY and entries.ndim == 1 else none


def _write_cache(path: Path, known: Entries, new: Entries, asked: npt.NDArray[np.uint64]) -> None:
    """Write the entries of the files ``asked`` for and, up to :data:`MAX_CACHED` in all, those of others, the latest last."""
    known = known[~np.isin(known["path"], new["path"])]
    wanted = np.isin(known["path"], asked)
    others, mine = known[~wanted], np.concatenate([known[wanted], new])
    room = max(MAX_CACHED - len(mine), 0)
    with files.atomic_path(path) as temporary:
        np.save(temporary, np.concatenate([others[len(others) - min(room, len(others)) :], mine]), allow_pickle=False)


def _list_path(run_dir: Path, fingerprint: str) -> Path:
    return run_dir / FOLDER / f"{fingerprint[:16]}.json"
