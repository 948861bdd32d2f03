"""Image files of another number of channels than three: TIFF with a page a channel, as written here, or many samples a pixel.

Everything else about image files is in :mod:`kaggle_kit.images.decode`; this is what unpacking containers, looking for such
files and decoding them have in common.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit.errors import DependencyError, ImageError

Array = npt.NDArray[Any]
MARK = "kaggle_kit: a page is a channel"
"""What the description of a TIFF file says whose pages are channels; the pages of others are documents."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DESCRIPTION, _SAMPLES, _EXTRA, _PHOTOMETRIC = 270, 277, 338, 262
_WIDTH, _HEIGHT, _BITS = 256, 257, 258
_RGB, _ALPHA = 2, (1, 2)


def write_stack(pixels: Array) -> bytes:
    """Return a TIFF file, losslessly compressed, of pixels (H, W, C) of 8 or 16 bits without sign."""
    from PIL import Image

    pages = [Image.fromarray(np.ascontiguousarray(pixels[:, :, channel])) for channel in range(pixels.shape[2])]
    buffer = io.BytesIO()
    pages[0].save(
        *(buffer, "TIFF"),
        save_all=True,
        append_images=pages[1:],
        compression="tiff_deflate",
        tiffinfo={_DESCRIPTION: MARK},
    )
    return buffer.getvalue()


def channels_in(data: bytes) -> int:
    """Return how many channels an image file has that are not colours, grey and transparency; 3 where there are none such."""
    if not data.startswith(_TIFF):
        return 3
    tags, pages = _header(data)
    if MARK in str(tags.get(_DESCRIPTION, "")):
        return pages
    samples, extra = int(tags.get(_SAMPLES, 1)), tags.get(_EXTRA, ())
    transparent = bool(extra) and (extra if isinstance(extra, tuple | list) else (extra,))[0] in _ALPHA
    plain = samples in (1, 3) or (samples == 4 and (transparent or int(tags.get(_PHOTOMETRIC, _RGB)) > _RGB)) or samples == 2
    return 3 if plain else samples


def facts_of(data: bytes) -> tuple[int, int, int]:
    """Return height, width and bits a channel of a TIFF file, from its header."""
    tags, _ = _header(data)
    bits = tags.get(_BITS, 8)
    return int(tags[_HEIGHT]), int(tags[_WIDTH]), int(bits[0] if isinstance(bits, tuple | list) else bits)


def read_channels(data: bytes, wanted: int) -> Array:
    """Return the channels (H, W, ``wanted``) of an image file, of 8 or 16 bits without sign.

    Raises:
        ImageError: it has another number of channels, or its numbers are of another kind.
        DependencyError: a package is needed to read it.
    """
    pixels = _read(data)
    if pixels.ndim != 3 or pixels.shape[2] != wanted:
        raise ImageError(f"it has {pixels.shape[2] if pixels.ndim == 3 else 1} channels, expected {wanted} as kk.yaml says.")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"its channels are {pixels.dtype}, which has no fixed range; convert them to 8 or 16 bits.")
    return pixels


def as_colours(pixels: Array) -> Array:
    """Return (H, W, 3) to look at of (H, W, C): the first three channels; of two their mean as the third."""
    if pixels.shape[2] == 2:
        mean = np.rint(pixels.mean(axis=2, keepdims=True)).astype(pixels.dtype)
        return np.concatenate([pixels, mean], axis=2)
    return np.ascontiguousarray(pixels[:, :, :3])


def _header(data: bytes) -> tuple[dict[int, Any], int]:
    """The tags of a TIFF file's first page, and its pages."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return dict(getattr(image, "tag_v2", {})), int(getattr(image, "n_frames", 1))
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):  # Pillow knows few kinds of many samples
        with _tifffile().TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            return {tag.code: tag.value for tag in page.tags.values()}, len(file.pages)


def _read(data: bytes) -> Array:
    from PIL import Image

    if not data.startswith(_TIFF):
        import cv2

        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if decoded is None:
            raise ImageError("not an image in a known format, or it is damaged.")
        found = np.atleast_3d(np.asarray(decoded))
        return found[:, :, [2, 1, 0, 3]] if found.shape[2] == 4 else found[:, :, ::-1]
    tags, pages = _header(data)
    if MARK not in str(tags.get(_DESCRIPTION, "")):
        found = np.asarray(_tifffile().imread(io.BytesIO(data)))
        planes_first = found.ndim == 3 and found.shape[0] == int(tags.get(_SAMPLES, 1)) < min(found.shape[1:])
        return found.transpose(1, 2, 0) if planes_first else np.atleast_3d(found)
    with Image.open(io.BytesIO(data)) as image:
        channels = []
        for page in range(pages):
            image.seek(page)
            channels.append(np.array(image))
    return np.stack(channels, axis=2)


def _tifffile() -> Any:
    try:
        import tifffile
    except ImportError:
        raise DependencyError(
            "tifffile is needed to read TIFF files of many channels: pip install 'kaggle-kit[forms]'."
        ) from None
    return tifffile
