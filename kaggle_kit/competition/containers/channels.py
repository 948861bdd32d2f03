"""Images that are several files, a channel each, put together into one: ID_red.png, ID_green.png …, or ID/red.png …"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kaggle_kit import files
from kaggle_kit.competition.containers.base import Array, Container, Item, Options
from kaggle_kit.errors import DataError

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
_CHANNEL = re.compile(
    r"(?P<start>.+?)[_-](?P<channel>red|green|blue|yellow|nir|rededge|red_edge|swir\d?|vv|vh|hh|hv|dapi|w\d+|c\d+|ch\d+"
    r"|channel_?\d+|band_?\d+|b\d+a?)",
    re.IGNORECASE,
)
_ALONE = re.compile(r"red|green|blue|yellow|nir|rededge|swir\d?|vv|vh|hh|hv|dapi|ch\d+|b\d\da?|band_?\d+", re.IGNORECASE)
"""A whole name; what could number the images of a class is none."""
_ORDER = ("red", "green", "blue", "yellow", "nir")
_PROBE = 400


def _split(path: Path, folder: Path) -> tuple[str, str] | None:
    """A file's image and channel by its name; in a folder of its own the image may be called as that."""
    found = _CHANNEL.fullmatch(path.stem)
    if found is None and path.parent != folder and _ALONE.fullmatch(path.stem):
        return path.parent.name, path.stem.lower()
    return (found["start"], found["channel"].lower()) if found else None


def of_image(path: str) -> bool:
    """Return whether a file is called by a channel, or by its folder and a channel: its folder is an image."""
    folder, _, name = path.rpartition("/")
    stem = name.rpartition(".")[0]
    found = _CHANNEL.fullmatch(stem)
    own = found is not None and found["start"] == folder.rpartition("/")[2]
    return "/" in folder and (own or _ALONE.fullmatch(stem) is not None)


def _parts(folder: Path) -> Iterator[Path]:
    """The files of a folder; where it has none, those of the folders in it."""
    there = sorted(folder.iterdir())
    files_here = [path for path in there if path.suffix.lower() in SUFFIXES]
    for one in [] if files_here else there:
        if one.is_dir():
            yield from (path for path in sorted(one.iterdir()) if path.suffix.lower() in SUFFIXES)
    yield from files_here


def _recognise(folder: Path) -> Options | None:
    paths = list(_parts(folder))
    split = [_split(path, folder) for path in paths[:_PROBE]]
    if not split or sum(part is not None for part in split) < 0.9 * len(split):
        return None
    channels = Counter(part[1] for part in split if part)
    if not 2 <= len(channels) <= 16 or min(channels.values()) < 0.8 * max(channels.values()):
        return None
    names = sorted(channels, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), _number(name)))
    deep = _read_grey(paths[0]).dtype == np.uint16
    images = {part[0] for path in paths if (part := _split(path, folder))}
    return {"channels": names, "count": len(images)} | ({"low": 0, "high": 65535} if deep else {})


def _number(name: str) -> tuple[int, str]:
    found = re.search(r"\d+", name)
    return (int(found.group()) if found else 0, name)


def _read_grey(path: Path) -> Array:
    """A file of one channel, (H, W) of 8 or 16 bits."""
    import cv2  # here, since folds and competition start without it

    pixels = cv2.imdecode(np.frombuffer(files.read_bytes(path), np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise DataError(f"{path} is no image that can be read.")
    return np.asarray(pixels)


def _read(folder: Path, options: Options) -> Iterator[Item]:
    """The images of a folder in the order of their names.

    Raises:
        DataError: an image lacks a channel, or its channels are of different sizes.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in _parts(folder):
        part = _split(path, folder)
        if part:
            found.setdefault(part[0], {})[part[1]] = path
    wanted = [str(name) for name in options["channels"]]
    for name, files_of in found.items():
        lacking = [channel for channel in wanted if channel not in files_of]
        if lacking:
            raise DataError(f"{folder / name} lacks the channel {lacking[0]!r}. Complete the data.")
        channels = [_read_grey(files_of[channel]) for channel in wanted]
        if len({one.shape for one in channels}) > 1:
            raise DataError(f"the channels of {folder / name} are of different sizes: {[one.shape for one in channels]}.")
        yield Item(name, np.stack(channels, axis=2))


CHANNELS = Container(SUFFIXES, _recognise, _read, folder=True)
