"""Shards of an image store: how images become bytes, and how threads fill the files.

A shard is a ``.bin`` file with the pixels of some images and a ``.json`` file that lists them. The second is written last, and
makes the shard count; neither is ever changed.

Threads do the work, not processes: decoding, resizing, hashing and writing all release the interpreter lock, and threads need
no time to start.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from kaggle_kit import files
from kaggle_kit.errors import DataError, ImageError
from kaggle_kit.images.decode import Pixels, Progress, decode_bytes, read_file
from kaggle_kit.images.transforms import prepare
from kaggle_kit.machine.ahead import ahead
from kaggle_kit.machine.host import available_cpus
from kaggle_kit.registry import lookup

logger = logging.getLogger(__name__)

META = "store.json"
_CHUNK = 4  # images that a thread takes at once: handing over one costs time as well
_CHUNKS_AHEAD = 8  # per thread; they keep busy while a full shard is synced to the disk
_SHARD_BYTES = 32 * 1024**2  # what an interrupted build loses at most, and what is synced at its end
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


class Entry(NamedTuple):
    """Where one image lies, and what its file was like. ``offset`` and ``length`` in bytes; ``crc`` is of the stored bytes."""

    path: str
    file_bytes: int
    modified_ns: int
    sha256: str
    offset: int
    length: int
    height: int
    width: int
    crc: int


@dataclass(frozen=True, slots=True)
class Codec:
    """How pixels become bytes and back; ``decode`` is given the height and width as well."""

    encode: Callable[[Pixels], bytes | memoryview]
    decode: Callable[[npt.NDArray[np.uint8], int, int], Pixels]


def _raw_encode(image: Pixels) -> memoryview:
    return np.ascontiguousarray(image).data.cast("B")  # no copy


def _raw_decode(data: npt.NDArray[np.uint8], height: int, width: int) -> Pixels:
    image: Pixels = np.array(data).reshape(height, width, -1)  # a copy: callers may write to it
    return image


def _jpeg_encode(image: Pixels) -> bytes:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _JPEG)
    if not done:
        raise ImageError(f"an image of {image.shape[0]}x{image.shape[1]} cannot be encoded as JPEG.")
    return data.tobytes()


def _jpeg_decode(data: npt.NDArray[np.uint8], height: int, width: int) -> Pixels:
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if image is None or image.shape[:2] != (height, width):
        raise ImageError("the image store is damaged; drop it with `kk cache drop`, it is built again when needed.")
    pixels: Pixels = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return pixels


CODECS: dict[str, Codec] = {
    "raw": Codec(_raw_encode, _raw_decode),
    "jpeg": Codec(_jpeg_encode, _jpeg_decode),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a store does to each image: prepare for ``size`` (height, width), then encode by the codec of that name."""

    size: tuple[int, int]
    codec: str
    channels: int = 3


def absolute(path: Path) -> str:
    """The name under which an image is listed."""
    return str(path.absolute())


def file_state(path: Path) -> tuple[int, int] | None:
    """(size in bytes, modification time in ns); None when there is no such file. Together they stand for the content."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def read_listings(directory: Path) -> Iterator[tuple[Path, list[Entry]]]:
    """Every shard with its entries, the oldest first; files that another builder is still writing begin with a dot."""
    for listing in sorted(directory.glob("[!.]*.json")):
        if listing.name == META:
            continue
        try:
            rows = json.loads(files.read_bytes(listing))
        except FileNotFoundError:  # dropped meanwhile
            continue
        except (ValueError, RecursionError) as error:
            raise DataError(f"{listing} is damaged ({error}). Drop this store with `kk cache drop`.") from error
        yield listing.with_suffix(".bin"), [Entry(*row) for row in rows]


def bytes_of(directory: Path) -> int:
    """Size of all shards."""
    return sum(path.stat().st_size for path in directory.glob("*.bin"))


def remove_leftovers(directory: Path) -> None:
    """Delete what an interrupted build left; only while holding the store's lock."""
    for path in directory.iterdir():
        unlisted = path.suffix == ".bin" and not path.with_suffix(".json").exists()
        if unlisted or path.name.startswith("."):
            path.unlink()


def fill(
    directory: Path,
    recipe: Recipe,
    paths: Sequence[Path],
    room: int,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[Path, str]:
    """Decode ``paths`` and add shards until about ``room`` bytes are used.

    Returns:
        path -> reason of what cannot be read, among those that it came to.
    """
    reasons: dict[Path, str] = {}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the images already keep every CPU busy
    prepared = _prepare_ahead(recipe, paths, reasons, workers or available_cpus(), progress)
    try:
        while room > 0 and (first := next(prepared, None)) is not None:
            room -= _write_shard(directory, chain([first], prepared))
    finally:
        prepared.close()
        cv2.setNumThreads(threads)
    if room <= 0:
        logger.warning("the image store has used up its budget (cache.budget); what it lacks is read from the files")
    return reasons


class _Prepared(NamedTuple):
    """One image on its way into a shard."""

    path: Path
    state: tuple[int, int]
    sha256: str
    size: tuple[int, int]
    data: bytes | memoryview
    crc: int


class _Unreadable(NamedTuple):
    path: Path
    reason: str


def _prepare_ahead(
    recipe: Recipe, paths: Sequence[Path], reasons: dict[Path, str], workers: int, progress: Progress | None
) -> Generator[_Prepared, None, None]:
    """Images in order, decoded ahead by threads, but only a few, so that memory stays flat; unreadable ones go to
    ``reasons``."""
    chunks = (paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK))
    found = ahead(lambda chunk: _prepare_files(chunk, recipe), chunks, threads=workers, depth=_CHUNKS_AHEAD * workers)
    with closing(found):
        for done, item in enumerate(chain.from_iterable(found), 1):
            if progress is not None:
                progress(done, len(paths))
            if isinstance(item, _Unreadable):
                reasons[item.path] = item.reason
            else:
                yield item


def _prepare_files(paths: Sequence[Path], recipe: Recipe) -> list[_Prepared | _Unreadable]:
    items: list[_Prepared | _Unreadable] = []
    for path in paths:
        try:
            items.append(_prepare_file(path, recipe))
        except ImageError as error:
            items.append(_Unreadable(path, str(error)))
    return items


def _prepare_file(path: Path, recipe: Recipe) -> _Prepared:
    state = file_state(path) or (-1, -1)  # no file: read_file says so
    content = read_file(path)
    image = prepare(decode_bytes(content, str(path), min_size=recipe.size, channels=recipe.channels), recipe.size)
    data = lookup(CODECS, recipe.codec, "codec").encode(image)
    return _Prepared(path, state, hashlib.sha256(content).hexdigest(), image.shape[:2], data, zlib.crc32(data))


def _write_shard(directory: Path, images: Iterator[_Prepared]) -> int:
    """Write images until the shard is full; returns its bytes."""
    path = directory / f"{time.time_ns():020d}.bin"
    entries: list[Entry] = []
    offset = 0
    with files.atomic_path(path) as temporary, open(temporary, "wb") as handle:
        for item in images:
            handle.write(item.data)
            where = (offset, len(item.data), *item.size, item.crc)
            entries.append(Entry(absolute(item.path), *item.state, item.sha256, *where))
            offset += len(item.data)
            if offset >= _SHARD_BYTES:
                break
    files.write_text(path.with_suffix(".json"), json.dumps(entries, ensure_ascii=False, separators=(",", ":")))
    return offset
