"""The one place where an image file becomes pixels.

Whatever a file holds, the result is upright 8-bit RGB:

- EXIF orientation is applied.
- CMYK and YCCK JPEG are converted as Pillow does it, without colour profiles.
- 16-bit grey and colour are scaled by 1/257 and rounded, so that 65535 becomes 255. The scale is never taken from the image
  itself: two images with the same values stay the same.
- Transparency (RGBA, LA, palette, a transparent colour) is laid over white.
- The first frame of an animation and the first page of a document are taken.

OpenCV decodes plain 8-bit JPEG and PNG, the bulk of real data; Pillow does the rest, and everything that looks damaged,
because OpenCV fills what is missing with grey and says nothing. What no decoder notices is not noticed here either: bytes
changed in the middle of a JPEG decode to wrong colours.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from kaggle_kit import files, stacks
from kaggle_kit.errors import DataError, ImageError
from kaggle_kit.machine.host import available_cpus

LARGEST = 2 * 1024**3
"""Bytes of an image file."""
Pixels = npt.NDArray[np.uint8]
"""(H, W, 3) uint8 RGB, or (H, W, C) where the images of a competition have other channels."""
Progress = Callable[[int, int], None]
"""Called with how many are done, and of how many."""
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# Large images and odd metadata are no news to the user. Set once: warnings.catch_warnings is not safe in threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")

_REDUCED = {1: 0, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 8: cv2.IMREAD_REDUCED_GRAYSCALE_8}
"""The scale alone; a colour flag is added."""
_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)
"""From OpenCV 4.11 on: the decoder writes RGB, which saves a pass over the image."""
_TIFF = (b"II", b"MM")
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_UNDO: dict[int, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image.transpose(1, 0, 2)[:, ::-1],
    7: lambda image: image.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda image: image.transpose(1, 0, 2)[::-1],
}
"""What brings an image of this EXIF orientation upright."""


def decode_image(source: Path | bytes, *, min_size: tuple[int, int] | None = None, channels: int = 3) -> Pixels:
    """Decode an image file, or the bytes of one.

    Args:
        channels: how many an image has. Of files with other channels than colours, three are something to look at.
        min_size: (height, width). A JPEG may then be decoded at 1/2, 1/4 or 1/8 of its size, which is much faster, as long as
            the upright result is still at least this large in both directions.

    Returns:
        (H, W, 3) uint8 RGB, or (H, W, ``channels``), contiguous.

    Raises:
        ImageError: the file is missing, empty, truncated or no image; the message names it and the reason.
    """
    return decode_bytes(*_read(source), min_size=min_size, channels=channels)


def decode_bytes(data: bytes, name: str, *, min_size: tuple[int, int] | None = None, channels: int = 3) -> Pixels:
    """:func:`decode_image` for the content of a file that was read already; errors call it ``name``."""
    if not data:
        raise ImageError(f"{name}: the file is empty (0 bytes).")
    if channels != 3 or (data.startswith(_TIFF) and stacks.channels_in(data) != 3):
        with _naming(name):
            return _decode_channels(data, channels)
    with _naming(name), _header(data) as (image, header_end):
        if _is_plain(image, data, header_end):
            pixels = _decode_plain(image, data, min_size)
            if pixels is not None:
                return pixels
        if _bits(image, data) == 16:
            return _decode_deep(image, data)
        return _decode_any(image)


def _decode_channels(data: bytes, channels: int) -> Pixels:
    """Channels that are no colours, in 8 bits; of three that are asked for something to look at."""
    found = stacks.read_channels(data, channels if channels != 3 else stacks.channels_in(data))
    pixels = found if found.dtype == np.uint8 else _to_8_bit(found)
    return np.ascontiguousarray(pixels if channels != 3 else stacks.as_colours(pixels))


def image_size(source: Path | bytes) -> tuple[int, int]:
    """(height, width) of the upright image, from the header alone.

    Raises:
        ImageError: the file is missing, empty or no image.
    """
    if not isinstance(source, bytes) and source.suffix.lower() in (".tif", ".tiff"):
        source = read_file(source)
    data, name = _read(source) if isinstance(source, bytes) else (None, str(source))
    if data is not None and data.startswith(_TIFF) and stacks.channels_in(data) != 3:
        return stacks.facts_of(data)[:2]
    with _naming(name), _header(data if data is not None else Path(source)) as (image, _):  # type: ignore[arg-type]
        height, width = _stored_size(image)
        return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


class ImageFacts(NamedTuple):
    """What the header of an image file says.

    Attributes:
        format, mode: as Pillow names them, such as JPEG and RGB.
        bits: of each channel.
        height, width: of the upright image, in pixels.
        turned: whether EXIF says that it is to be turned or mirrored.
        frames: more than 1 for animations and documents.
        n_bytes: of the file.
    """

    format: str
    mode: str
    bits: int
    height: int
    width: int
    turned: bool
    frames: int
    n_bytes: int


def image_facts(path: Path) -> ImageFacts:
    """Read the header of an image file; raises ImageError."""
    data = read_file(path)
    with _naming(str(path)):
        channels = stacks.channels_in(data)
        if channels != 3:
            height, width, bits = stacks.facts_of(data)
            return ImageFacts("TIFF", f"{channels} channels", bits, height, width, False, 1, len(data))
    with _naming(str(path)), _header(data) as (image, _):
        height, width = _stored_size(image)
        orientation = _orientation(image)
        if orientation in _SIDEWAYS:
            height, width = width, height
        return ImageFacts(
            image.format or "unknown",
            image.mode,
            _bits(image, data) if image.mode not in ("1", "F") else {"1": 1, "F": 32}[image.mode],
            height,
            width,
            orientation != 1,
            int(getattr(image, "n_frames", 1)),
            len(data),
        )


def read_images(
    read: Callable[[Path], T],
    rows: Sequence[tuple[K, Path]],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[dict[K, T], dict[K, str]]:
    """Call ``read`` with every file, in threads.

    Args:
        read: what is wanted of a file; raises ImageError for one that cannot be read. Decoding releases the interpreter lock.
        rows: a key of any kind, such as the id, and the file.
        workers: threads; none: one per CPU.

    Returns:
        key -> what was read, and key -> why nothing could be, in the order of ``rows``.
    """

    def attempt(path: Path) -> T | ImageError:
        try:
            return read(path)
        except ImageError as error:
            return error

    found: dict[K, T] = {}
    unreadable: dict[K, str] = {}
    pool = ThreadPoolExecutor(workers or available_cpus())
    try:
        results = pool.map(attempt, [path for _, path in rows])
        for done, ((key, _), result) in enumerate(zip(rows, results, strict=True), 1):
            if isinstance(result, ImageError):
                unreadable[key] = str(result)
            else:
                found[key] = result
            if progress is not None:
                progress(done, len(rows))
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, do not read the rest first
    return found, unreadable


def check_images(
    rows: Sequence[tuple[K, Path]], *, workers: int | None = None, progress: Progress | None = None
) -> dict[K, str]:
    """Decode every image and return why the bad ones cannot be read, as :func:`read_images` does."""
    return read_images(_decode_and_forget, rows, workers=workers, progress=progress)[1]


def _decode_and_forget(path: Path) -> None:
    decode_image(path, min_size=(1, 1))  # the whole file is still read and entropy-decoded


def _read(source: Path | bytes) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, f"image of {len(source)} bytes"
    return read_file(source), str(source)


def read_file(path: Path) -> bytes:
    """The content of an image file. Raises ImageError."""
    with _naming(str(path)):
        return files.read_bytes(path, most=LARGEST)


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn whatever the decoders raise into an ImageError with the file's name."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such file.") from None
    except DataError as error:  # no regular file, which says its name itself
        raise ImageError(str(error)) from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image in a known format, or its header is damaged.") from None
    except (OSError, ValueError, SyntaxError, IndexError, TypeError, EOFError, ArithmeticError, MemoryError) as error:
        # Pillow's format plugins let many kinds of error through for damaged files.
        raise ImageError(f"{name}: {_sentence(error)}") from error
    except (Image.DecompressionBombError, cv2.error, KeyError, AttributeError, NotImplementedError, RuntimeError) as error:
        raise ImageError(f"{name}: {_sentence(error)}") from error


def _sentence(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{' '.join(reason.split()) or type(error).__name__}."


@contextlib.contextmanager
def _header(source: bytes | Path) -> Iterator[tuple[Image.Image, int]]:
    """Open with Pillow, which parses the header only; also yields where in the stream the header ended."""
    stream = io.BytesIO(source) if isinstance(source, bytes) else files.open_regular(source, most=LARGEST)
    with stream, Image.open(stream) as image:
        yield image, stream.tell()


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) as stored, before orientation."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None:  # newer versions of Pillow report the upright size of a TIFF
        return int(tags[257]), int(tags[256])
    return image.height, image.width


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 is upright."""
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & set(image.info):
        return 1  # getexif() would decode the whole image to look behind it
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError):
        return 1  # damaged metadata does not make the pixels unreadable
    return value if value in _UNDO else 1


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits per channel, 8 or 16; Pillow's mode hides 16-bit colour."""
    if image.mode in _DEEP_MODES:
        return 16
    if image.format == "PNG":
        return 16 if data[24] == 16 else 8
    tags = getattr(image, "tag_v2", None)
    return 16 if tags is not None and max(tags.get(258, (8,))) == 16 else 8


def _is_plain(image: Image.Image, data: bytes, header_end: int) -> bool:
    """Whether OpenCV decodes these bytes rightly: 8-bit grey or RGB, one frame, no transparency, and complete."""
    if image.mode not in ("RGB", "L"):
        return False
    if image.format in ("JPEG", "MPO"):
        # Entropy-coded data escapes 0xFF, so this is the end marker. A thumbnail in the header has one as well.
        return data.rfind(b"\xff\xd9", header_end) >= 0
    if image.format == "PNG":
        plain = data[24] == 8 and "transparency" not in image.info and getattr(image, "n_frames", 1) == 1
        return plain and b"IEND" in data[-64:]
    return False


def _decode_plain(image: Image.Image, data: bytes, min_size: tuple[int, int] | None) -> Pixels | None:
    """OpenCV; None when it cannot decode the data, so that Pillow may try or say why."""
    orientation = _orientation(image)
    scale = 1
    if min_size is not None and image.format != "PNG":
        wanted_h, wanted_w = min_size[::-1] if orientation in _SIDEWAYS else min_size
        scale = max((s for s in (1, 2, 4, 8) if image.height // s >= wanted_h and image.width // s >= wanted_w), default=1)
    flags = _REDUCED[scale] | (_RGB or cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    if decoded is None:
        return None
    return _upright(decoded if _RGB else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), orientation)


def _decode_deep(image: Image.Image, data: bytes) -> Pixels:
    """16 bits per channel. Pillow reads grey; colour only with the low byte cut off, so OpenCV reads that."""
    orientation = _orientation(image)
    image.load()  # OpenCV would return a truncated file half empty; Pillow raises
    if image.mode in _DEEP_MODES:
        stored = np.asarray(ImageOps.exif_transpose(image))
        grey = _to_8_bit(stored)
        if isinstance(transparent := image.info.get("transparency"), int):
            grey = np.where(stored == transparent, np.uint8(255), grey)
        return np.repeat(grey[:, :, None], 3, axis=2)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        return _decode_any(image)
    return _upright(_flatten(_to_8_bit(decoded)), orientation)


def _to_8_bit(values: npt.NDArray[np.generic]) -> Pixels:
    scaled: npt.NDArray[np.float32] = np.rint(np.asarray(values, np.float32) / np.float32(257.0))
    return scaled.clip(0, 255).astype(np.uint8)


def _flatten(pixels: Pixels) -> Pixels:
    """OpenCV's (H, W), (H, W, 2), BGR or BGRA to RGB over white."""
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels[:, :, ::-1])
    alpha = pixels[:, :, -1:].astype(np.float32) / 255.0
    colour = pixels[:, :, -2::-1] if pixels.shape[2] == 4 else np.repeat(pixels[:, :, :1], 3, axis=2)
    blended: npt.NDArray[np.float32] = np.rint(colour * alpha + 255.0 * (1.0 - alpha))
    return blended.astype(np.uint8)


def _decode_any(image: Image.Image) -> Pixels:
    """Pillow, for every other kind of image."""
    if image.mode == "F":
        raise ImageError("floating-point pixels have no fixed range; convert the image to 8 or 16 bits.")
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)
    return np.array(upright.convert("RGB"), dtype=np.uint8)


def _upright(image: Pixels, orientation: int) -> Pixels:
    undo = _UNDO.get(orientation)
    return image if undo is None else np.ascontiguousarray(undo(image))
