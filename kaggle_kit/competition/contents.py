"""What the images of a competition hold, told by content: which of them have changed since a run or a prediction was made.

Names, sizes and labels say nothing about pixels. Each image file is therefore hashed once; the workspace's cache remembers the
hash as long as the file's size and times stay. All hashes of a set of images together have one fingerprint, which stands in the
records of what was made from them, and the list behind it is kept beside the run, so that a change can be told by id.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import stat
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kaggle_kit import files
from kaggle_kit.competition.records import Competition, ImageRow
from kaggle_kit.errors import DataError, StorageError
from kaggle_kit.machine.host import available_cpus
from kaggle_kit.tables import FoldTable, shown

CACHE_NAME = "contents.json"
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
    paths_of = {row.id: tuple(map(str, row.paths)) for row in rows}
    cache = None if cache_dir is None else cache_dir / CACHE_NAME
    known = {} if cache is None else _read_cache(cache)
    paths = list(dict.fromkeys(path for some in paths_of.values() for path in some))
    parts = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    found: dict[str, str] = {}
    new: dict[str, list[object]] = {}
    with ThreadPoolExecutor(workers or 2 * available_cpus()) as pool:
        for part, hashed in zip(parts, pool.map(lambda some: [_hash(path, known) for path in some], parts), strict=True):
            for path, one in zip(part, hashed, strict=True):
                found[path] = one.content
                if one.settled and known.get(path) != (entry := [*one.stamp, one.content]):
                    new[path] = entry
    if cache is not None and new:
        with contextlib.suppress(StorageError):  # what is not remembered is read again
            _write_cache(cache, known, new, found)
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
    """

    stamp: tuple[int, int, int]
    content: str
    settled: bool


def _hash(path: str, known: Mapping[str, object]) -> _Hashed:
    """Hash a file, unless ``known`` has it with the same size and times."""
    now = time.time_ns()
    try:
        before = Path(path).stat()
        stamp = (before.st_size, before.st_mtime_ns, before.st_ctime_ns)
        if not stat.S_ISREG(before.st_mode):  # a pipe or a device would never end
            return _Hashed(stamp, UNREADABLE, settled=False)
        entry = known.get(path)
        if isinstance(entry, list) and len(entry) == 4 and (*entry[:3],) == stamp and isinstance(entry[3], str):
            return _Hashed(stamp, entry[3], settled=True)
        digest = hashlib.blake2b(digest_size=8)
        with open(path, "rb", buffering=0) as handle:
            while block := handle.read(_BLOCK):
                digest.update(block)
    except (OSError, ValueError):
        return _Hashed((0, 0, 0), UNREADABLE, settled=False)
    return _Hashed(stamp, digest.hexdigest(), settled=max(stamp[1:]) < now - _SETTLED_NS)


def _read_cache(path: Path) -> dict[str, object]:
    """Path -> size, times and hash; empty when there is no cache or it is damaged."""
    try:
        content = files.read_json(path, made_by="kk train")
    except (DataError, OSError, RecursionError):
        return {}
    entries = content.get("files")
    return entries if content.get("format") == _FORMAT and isinstance(entries, dict) else {}


def _write_cache(path: Path, known: Mapping[str, object], new: Mapping[str, object], asked: Collection[str]) -> None:
    """Write the entries of the files ``asked`` for and, up to :data:`MAX_CACHED` in all, those of others, the latest last."""
    others = [name for name in known if name not in asked]
    mine = [name for name in asked if name in new or name in known]
    room = max(MAX_CACHED - len(mine), 0)
    entries = {name: new.get(name, known.get(name)) for name in (*others[len(others) - min(room, len(others)) :], *mine)}
    text = json.dumps({"format": _FORMAT, "files": entries}, ensure_ascii=True, separators=(",", ":"))
    files.write_text(path, text)


def _list_path(run_dir: Path, fingerprint: str) -> Path:
    return run_dir / FOLDER / f"{fingerprint[:16]}.json"
