"""Thumbnails: small WebP images of what stands in files, decoded by the one decoder, in threads."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import cv2

from kaggle_kit import files
from kaggle_kit.errors import ImageError
from kaggle_kit.images.decode import Pixels, Progress, decode_image, read_images
from kaggle_kit.images.transforms import resize
from kaggle_kit.report.gallery import Album
from kaggle_kit.stacks import as_colours

SIDE = 112
"""Pixels of the longer side."""
QUALITY = 55
BUDGET = 3_500_000
"""Bytes of thumbnails that a page holds itself; base64 makes 4.7 MB of them. Beyond it they lie in a folder beside the page."""
FOLDER = "_images"
"""What the folder beside a page has after the stem of the page's name."""
_DIGITS = 24
_OURS = re.compile(rf"[0-9a-f]{{{_DIGITS}}}\.webp")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Thumbnail:
    """A WebP image and its size in pixels."""

    data: bytes
    width: int
    height: int


def make_thumbnail(pixels: Pixels, *, side: int = SIDE, quality: int = QUALITY) -> Thumbnail:
    """Return an image (H, W, C) shrunk until its longer side is ``side``; a smaller one keeps its pixels. Of other channels
    than three :func:`~kaggle_kit.stacks.as_colours` makes something to look at."""
    pixels = pixels if pixels.shape[2] == 3 else as_colours(pixels)
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    small = resize(pixels, (max(1, round(height * scale)), max(1, round(width * scale))))
    done, data = cv2.imencode(".webp", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise ImageError(f"an image of {width}x{height} pixels cannot be encoded as WebP.")
    return Thumbnail(data.tobytes(), small.shape[1], small.shape[0])


def make_thumbnails(
    rows: Sequence[tuple[K, Path]], *, side: int = SIDE, workers: int | None = None, progress: Progress | None = None
) -> tuple[dict[K, Thumbnail], dict[K, str]]:
    """Return thumbnails of image files by key, and why some have none.

    Args:
        rows: key and file; a key that comes again is read once.
        workers: decoding threads; none: one per CPU.
    """

    def read(path: Path) -> Thumbnail:
        return make_thumbnail(decode_image(path, min_size=(side, side)), side=side)

    return read_images(read, list(dict(rows).items()), workers=workers, progress=progress)


def make_album(
    page: Path,
    thumbnails: Mapping[K, Thumbnail],
    unreadable: Mapping[K, str] | None = None,
    *,
    budget: int | None = None,
) -> Album[K]:
    """Return where the page finds its thumbnails: as data URIs, or above ``budget`` bytes in a folder beside it.

    The folder is called as the page, with ``_images`` after its stem; thumbnails that an earlier page left there are deleted.
    ``budget`` is :data:`BUDGET` unless it is given.

    Raises:
        StorageError: the folder cannot be written.
    """
    size = sum(len(one.data) for one in thumbnails.values())
    folder, beside = page.with_name(f"{page.stem}{FOLDER}"), size > (BUDGET if budget is None else budget)
    address = partial(_write_beside, folder) if beside else data_uri
    sources = {key: (address(one), one.width, one.height) for key, one in thumbnails.items()}
    _remove_others(folder, {Path(source).name for source, _, _ in sources.values()} if beside else set())
    return Album(sources, unreadable or {}, size, beside)


def data_uri(thumbnail: Thumbnail) -> str:
    """Return the thumbnail as an address that holds it."""
    return f"data:image/webp;base64,{base64.b64encode(thumbnail.data).decode()}"


def _write_beside(folder: Path, thumbnail: Thumbnail) -> str:
    """Write the thumbnail to ``folder`` under a name made of its content, and return its address from the page."""
    path = folder / f"{hashlib.sha256(thumbnail.data).hexdigest()[:_DIGITS]}.webp"
    if not path.exists():
        files.write_bytes(path, thumbnail.data)
    return quote(f"{folder.name}/{path.name}")


def _remove_others(folder: Path, wanted: set[str]) -> None:
    """Delete the thumbnails that an earlier page left in ``folder``, and the folder when nothing is left in it."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _OURS.fullmatch(path.name) and path.name not in wanted:
                path.unlink()
        if not wanted:
            folder.rmdir()
