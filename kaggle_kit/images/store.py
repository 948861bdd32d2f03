"""Images decoded once: prepared pixels in memory-mapped shards, for all folds, runs, views and processes.

A store is a folder for one size and one codec, ``raw`` or ``jpeg``, with the shards that :mod:`~kaggle_kit.images.shards`
writes. One process at a time adds shards, and none changes them, so readers need no lock and an interrupted build goes on.

An image counts as stored while its file has the size and modification time that it had then; :func:`verify_store` compares the
files' sha256 as well. Raw pixels are exactly what :class:`~kaggle_kit.images.dataset.FileSource` returns; JPEG ones are close.
A path that the store lacks is read from its file: a store that is full, or cannot be written, slows down and stops nothing.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import zlib
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from filelock import FileLock, Timeout

from kaggle_kit import files
from kaggle_kit.config import CacheConfig
from kaggle_kit.errors import ConfigError, ImageError, MissingFileError, StorageError
from kaggle_kit.images.dataset import FileSource, PixelSource
from kaggle_kit.images.decode import Pixels, Progress, check_images, image_size
from kaggle_kit.images.shards import (
    CODECS,
    META,
    Entry,
    Recipe,
    absolute,
    bytes_of,
    file_state,
    fill,
    read_listings,
    remove_leftovers,
)
from kaggle_kit.machine.host import free_budget
from kaggle_kit.registry import lookup, shortened
from kaggle_kit.results import Result
from kaggle_kit.units import parse_bytes

logger = logging.getLogger(__name__)
K = TypeVar("K", bound=Hashable)
Shape = tuple[int, int, int]
"""Height and width that images are prepared for, and their channels."""

_VERSION = 1  # of the layout, and of decode_image and prepare: raise it when the pixels change


class _Place(NamedTuple):
    """Where one image lies, offset and length in bytes; and size and modification time of the file that it was read from."""

    shard: Path
    offset: int
    length: int
    height: int
    width: int
    state: tuple[int, int]


class _Index:
    """Absolute path -> place; where an image was stored again after a change, the later one.

    In a table, which takes a third of the memory that an object for each image would.
    """

    _COLUMNS = ("offset", "length", "height", "width", "file_bytes", "modified_ns")

    def __init__(self, directory: Path) -> None:
        self._shards: list[Path] = []
        self._rows: dict[str, int] = {}
        parts, self._ends = [np.empty((0, len(self._COLUMNS)), np.int64)], list[int]()
        for shard, entries in read_listings(directory):
            first = self._ends[-1] if self._ends else 0
            self._rows |= zip((entry.path for entry in entries), count(first))
            parts.append(np.array([[getattr(entry, name) for name in self._COLUMNS] for entry in entries], np.int64))
            self._shards.append(shard)
            self._ends.append(first + len(entries))
        self._table = np.concatenate([part.reshape(-1, len(self._COLUMNS)) for part in parts])

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, path: Path) -> _Place | None:
        row = self._rows.get(absolute(path))
        if row is None:
            return None
        offset, length, height, width, *state = self._table[row].tolist()
        return _Place(self._shards[bisect_right(self._ends, row)], offset, length, height, width, (state[0], state[1]))


class ImageStore:
    """Reads prepared images; a :class:`~kaggle_kit.images.dataset.PixelSource`. Picklable: the index is not sent but read.

    Attributes:
        unreadable: key -> reason, of the rows that it was opened for.
        size: (height, width) that the images are prepared for.
    """

    def __init__(self, directory: Path) -> None:
        meta = files.read_json(directory / META, made_by="kk train")
        self.directory = directory
        self.size: tuple[int, int] = (meta["height"], meta["width"])
        self.codec: str = meta["codec"]
        self.channels: int = meta.get("channels", 3)
        self.recipe = Recipe(self.size, self.codec, self.channels)
        self.unreadable: dict[Hashable, str] = {}
        self._codec = lookup(CODECS, self.codec, "codec of an image store")
        self._files = FileSource(self.size, self.channels)
        self._index: _Index | None = None
        self._shards: dict[Path, npt.NDArray[np.uint8]] = {}

    def __call__(self, path: Path) -> Pixels:
        """(H, W, 3) uint8. Raises ImageError."""
        place = self.index.find(path)
        if place is None:
            return self._files(path)
        try:
            data = self.stored_bytes(place.shard, place.offset, place.length)
        except FileNotFoundError:  # dropped meanwhile
            return self._files(path)
        return self._codec.decode(data, place.height, place.width)

    def at(self, size: tuple[int, int]) -> PixelSource:
        """This store where it holds enough pixels, else the files."""
        return self if size[0] <= self.size[0] and size[1] <= self.size[1] else FileSource(size, self.channels)

    def __contains__(self, path: Path) -> bool:
        return self.index.find(path) is not None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def index(self) -> _Index:
        """Where the images lie, read when it is first needed."""
        if self._index is None:
            self._index = _Index(self.directory)
        return self._index

    def reload(self) -> None:
        """See what was added since."""
        self._index = None

    def is_current(self, path: Path) -> bool:
        """Whether the file's pixels are stored and the file has not changed since."""
        place = self.index.find(path)
        return place is not None and file_state(path) == place.state

    def stored_bytes(self, shard: Path, offset: int, length: int) -> npt.NDArray[np.uint8]:
        """The encoded image, a view of the mapped shard. Raises FileNotFoundError when the store was dropped meanwhile."""
        if shard not in self._shards:
            self._shards[shard] = np.memmap(shard, dtype=np.uint8, mode="r")
        return self._shards[shard][offset : offset + length]

    def __reduce__(self) -> tuple[type[ImageStore], tuple[Path]]:
        return ImageStore, (self.directory,)


def pixel_source(
    cache_dir: Path,
    rows: Sequence[tuple[K, Path]],
    size: tuple[int, int],
    cache: CacheConfig,
    *,
    channels: int = 3,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[PixelSource, dict[K, str]]:
    """A store for ``rows``, or their files where the cache is switched off or its folder cannot be made; and key -> reason of
    the rows that cannot be read."""
    if cache.enabled:
        try:
            store = open_store(cache_dir, rows, size, cache, channels=channels, workers=workers, progress=progress)
        except StorageError as error:
            logger.warning("%s Images are read from their files.", error)
        else:
            return store, {key: store.unreadable[key] for key, _ in rows if key in store.unreadable}
    return FileSource(size, channels), check_images(rows, workers=workers, progress=progress)


def open_store(
    cache_dir: Path,
    rows: Sequence[tuple[K, Path]],
    size: tuple[int, int],
    cache: CacheConfig | None = None,
    *,
    channels: int = 3,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ImageStore:
    """Open the store of ``size`` under ``cache_dir``, and decode into it what it lacks of ``rows``.

    Args:
        rows: key, such as the id, and file.
        size: (height, width) to prepare for, as ``ImageSpec.prepare_size``.
        channels: of each image; other than three are always kept raw.
        workers: threads; none: one per CPU.
        progress: called with images done, and to do in this call.

    Raises:
        StorageError: not even the folder can be made. Later failures to write, and a spent budget, are logged, and the images
            that are not stored are read from their files.
        ConfigError: ``cache.budget`` is no number of bytes.
    """
    budget = None if cache is None or cache.budget is None else parse_bytes(cache.budget)
    store = _choose(cache_dir, rows, (*size, channels), budget)
    if _missing(store, rows):
        reasons = _add(store, rows, budget, workers=workers, progress=progress)
        unchecked = [(path, path) for path in _missing(store, rows) if path not in reasons]
        reasons.update(check_images(unchecked, workers=workers, progress=progress))
        store.unreadable = {key: reasons[path] for key, path in rows if path in reasons}
    return store


def has_store(cache_dir: Path, paths: Sequence[Path], size: tuple[int, int], *, channels: int = 3) -> bool:
    """Whether a store of ``size`` and ``channels`` holds any of ``paths``."""
    return _existing_for(cache_dir, paths, (*size, channels)) is not None


_DECODE_NS, _REDUCED_NS, _READ_NS, _WRITE_NS = 8.0, 1.6, 0.1, 5.0
"""Measured, roughly: a pixel decoded, a pixel beyond a million (decoded at reduced scale), a stored byte read, and written."""
_OPEN_NS, _STORED_NS = 100_000.0, 50_000.0
"""The same for a file opened, and for a stored image looked up."""


def store_pays(paths: Sequence[Path], size: tuple[int, int], *, reads: int, sample: int = 64) -> bool:
    """Whether decoding ``paths`` once, to read each ``reads`` times, is less work than to decode them each time.

    Estimated from the headers of some, so that the answer does not depend on how busy the machine is.
    """
    saved = 0.0
    for path in paths[:: max(1, len(paths) // sample)]:
        with contextlib.suppress(ImageError):
            height, width = image_size(path)
            pixels, stored = height * width, _stored_bytes(height, width, size)
            decode = _OPEN_NS + _DECODE_NS * min(pixels, 10**6) + _REDUCED_NS * max(pixels - 10**6, 0)
            saved += reads * (decode - _STORED_NS - _READ_NS * stored) - decode - _WRITE_NS * stored
    return saved > 0


def _stored_bytes(height: int, width: int, size: tuple[int, int]) -> float:
    """Bytes that prepared raw pixels take."""
    scale = min(1.0, max(size[0] / height, size[1] / width))
    return 3 * height * width * scale**2


def _missing(store: ImageStore, rows: Sequence[tuple[K, Path]]) -> list[Path]:
    """Files whose pixels are not stored, or not as they are now; each once."""
    return [path for path in dict.fromkeys(path for _, path in rows) if not store.is_current(path)]


def _add(
    store: ImageStore, rows: Sequence[tuple[K, Path]], budget: int | None, *, workers: int | None, progress: Progress | None
) -> dict[Path, str]:
    """Store what is missing; path -> reason of what cannot be read."""
    reasons: dict[Path, str] = {}
    try:
        with _alone(store.directory):
            store.reload()  # another process may have added them while this one waited
            remove_leftovers(store.directory)
            taken = bytes_of(store.directory)
            room = free_budget(store.directory, memory=False) if budget is None else budget - taken
            paths = _missing(store, rows)
            reasons = fill(store.directory, store.recipe, paths, room, workers=workers, progress=progress)
    except OSError as error:
        logger.warning("the image store is incomplete, what it lacks is read from the files: %s", error)
    store.reload()
    return reasons


def _choose(cache_dir: Path, rows: Sequence[tuple[K, Path]], shape: Shape, budget: int | None) -> ImageStore:
    """The codec that already holds some of these rows, so that training and prediction see the same pixels; else raw when it
    fits the budget, else JPEG."""
    existing = _existing_for(cache_dir, [path for _, path in rows], shape)
    if existing is not None:
        return existing
    height, width, channels = shape
    names = _directories(cache_dir, shape)
    needed = len(rows) * _mean_bytes([path for _, path in rows], (height, width))
    fits = needed <= (free_budget(cache_dir, memory=True) if budget is None else budget)
    codec = "raw" if fits or channels != 3 else "jpeg"
    if not (names[codec] / META).is_file():
        about = {"height": height, "width": width, "codec": codec} | ({"channels": channels} if channels != 3 else {})
        try:
            files.write_json(names[codec] / META, about)
        except OSError as error:
            raise StorageError(f"cannot make an image store: {error}") from error
    return ImageStore(names[codec])


def _directories(cache_dir: Path, shape: Shape) -> dict[str, Path]:
    height, width, channels = shape
    size = f"{height}x{width}" if channels == 3 else f"{height}x{width}x{channels}"
    return {codec: _stores_dir(cache_dir) / f"{size}-{codec}-v{_VERSION}" for codec in CODECS}


def _existing_for(cache_dir: Path, paths: Sequence[Path], shape: Shape) -> ImageStore | None:
    """The store of this shape that holds some of ``paths``."""
    for directory in _directories(cache_dir, shape).values():
        if (directory / META).is_file():
            store = ImageStore(directory)
            if any(path in store for path in paths):
                return store
    return None


def _mean_bytes(paths: Sequence[Path], size: tuple[int, int], sample: int = 64) -> float:
    """Bytes that prepared raw pixels take on average, from the headers of some."""
    total, seen = 0.0, 0
    for path in paths[:: max(1, len(paths) // sample)]:
        with contextlib.suppress(ImageError):
            total, seen = total + _stored_bytes(*image_size(path), size), seen + 1
    return total / seen if seen else 0.0


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One writing process at a time; the system frees the lock of one that died."""
    lock = FileLock(str(directory.with_name(directory.name + ".lock")))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("another process is filling the image store; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """One line of ``kk cache``."""

    directory: Path
    size: tuple[int, int]
    codec: str
    images: int
    bytes: int


def list_stores(cache_dir: Path) -> list[StoreInfo]:
    """All stores of a workspace, by name."""
    stores = [ImageStore(meta.parent) for meta in sorted(_stores_dir(cache_dir).glob(f"*/{META}"))]
    return [StoreInfo(store.directory, store.size, store.codec, len(store), bytes_of(store.directory)) for store in stores]


def chosen_stores(cache_dir: Path, name: str = "all") -> list[Path]:
    """Folders of the store called ``name``, or of all stores.

    Raises:
        ConfigError: there is no such store; names those there are.
    """
    stores = {store.directory.name: store.directory for store in list_stores(cache_dir)}
    if not stores and name != "all":
        raise ConfigError(f"there is no store {shortened(name)}: `kk train` and `kk predict` have made none here yet.")
    return list(stores.values()) if name == "all" else [lookup(stores, name, "store")]


def stores_table(cache_dir: Path) -> pd.DataFrame:
    """Return a row a store: store, size, kept as, images, MB."""
    rows = [
        (store.directory.name, f"{store.size[0]}x{store.size[1]}", store.codec, store.images, round(store.bytes / 1e6, 1))
        for store in list_stores(cache_dir)
    ]
    return pd.DataFrame(rows, columns=["store", "size", "kept as", "images", "MB"])


@dataclass(frozen=True, repr=False)
class Verified(Result):
    """What is wrong with some stores.

    Attributes:
        stores: their names.
        problems: one line each.
    """

    stores: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """What ``kk cache verify`` ends with."""
        return 1 if self.problems else 0

    def describe(self) -> str:
        """Return the problems, or that there are none."""
        return "\n".join(self.problems) or f"all is well ({len(self.stores)} stores)"


def verify_stores(cache_dir: Path, name: str = "all", *, progress: Progress | None = None) -> Verified:
    """:func:`verify_store` for the store called ``name``, or for all."""
    chosen = chosen_stores(cache_dir, name)
    lines = [f"{store.name}: {line}" for store in chosen for line in verify_store(store, progress=progress)]
    return Verified(tuple(store.name for store in chosen), tuple(lines))


def verify_store(directory: Path, *, sources: bool = True, progress: Progress | None = None) -> list[str]:
    """What is wrong with a store, one line each; empty when all is well.

    Args:
        sources: also compare each image's file with the sha256 it had when it was stored.

    Raises:
        MissingFileError: ``directory`` is no store.
    """
    store = _existing(directory)
    problems = []
    latest = {entry.path: (shard, entry) for shard, entries in read_listings(directory) for entry in entries}
    for done, (shard, entry) in enumerate(latest.values(), 1):
        if not _is_intact(store, shard, entry):
            problems.append(f"{entry.path}: its pixels in {shard.name} are damaged; drop this store.")
        if sources and (reason := _source_problem(entry)):
            problems.append(f"{entry.path}: {reason}")
        if progress is not None:
            progress(done, len(latest))
    return problems


def drop_store(directory: Path) -> int:
    """Delete a store and return how many bytes that freed. Processes that read it go on with the files.

    Raises:
        MissingFileError: ``directory`` is no store.
    """
    store = _existing(directory)
    with files.storage_errors(store.directory), _alone(store.directory):
        freed = bytes_of(store.directory)
        (store.directory / META).unlink()  # from here on it is no store, even if the rest is interrupted
        shutil.rmtree(store.directory)
    return freed


def _existing(directory: Path) -> ImageStore:
    if not (directory / META).is_file():
        raise MissingFileError(f"{directory} is no image store: it has no {META}. `kk cache` lists the stores.")
    return ImageStore(directory)


def _is_intact(store: ImageStore, shard: Path, entry: Entry) -> bool:
    try:
        data = store.stored_bytes(shard, entry.offset, entry.length).tobytes()
    except (OSError, ValueError):  # gone, or empty and not to be mapped
        return False
    return len(data) == entry.length and zlib.crc32(data) == entry.crc


def _source_problem(entry: Entry) -> str:
    try:
        changed = files.file_fingerprint(Path(entry.path)) != entry.sha256
    except OSError as error:
        return f"the file is gone ({error.strerror})."
    return "the file has changed; it is decoded again when needed." if changed else ""


def _stores_dir(cache_dir: Path) -> Path:
    return cache_dir / "images"
