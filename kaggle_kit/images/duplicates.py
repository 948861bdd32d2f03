"""Finding images that are the same picture.

*Exact* duplicates have the same pixels, whatever the file: a copy, other metadata, another lossless format.

*Near*-duplicates are the same picture after re-encoding, resizing, a change of brightness or contrast, or a step of the
photographer. Two tests must agree: the 64-bit perceptual hashes (ImageHash's phash) differ in at most ``near_distance`` bits,
and the grey thumbnails correlate with at least :data:`MIN_CORRELATION`. The hash alone also matches pictures that merely have
the same layout. Where neither says much, in flat images and in those with a side below :data:`MIN_SIDE` pixels, only equal
pixels count.

Near-duplicates chain: a is like b, b is like c. A cluster that grows beyond :data:`LARGE` images and :data:`LARGE_SHARE` of
all is taken for look-alikes rather than one picture; only its exact duplicates are kept, with a warning.

Every image is decoded once, a large JPEG at reduced size; only images whose hashes agree are decoded in full.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from kaggle_kit.competition import Competition
from kaggle_kit.config import FoldsConfig
from kaggle_kit.folds.duplicates import Duplicates, Key, connected, images_by_key, of_ids
from kaggle_kit.images.decode import Progress, decode_image, read_images
from kaggle_kit.tables import shown

MIN_CORRELATION = 0.96
"""Measured on 5,219 photographs of two competitions, where all 101 pairs within 4 bits show one scene: 98 of them have 0.99 and
more, the other three, taken a step or an exposure apart, 0.94 to 0.97. Of 93 pairs of handwritten digits within 4 bits, where
none is the same image, half have less than 0.953."""
MIN_SIDE = 32
"""phash reduces an image to this side; below it, it would look at pixels that were made up."""
LARGE, LARGE_SHARE = 20, 0.01

_THUMBNAIL = 16
_FLAT = 2.0  # standard deviation of a thumbnail in grey levels, below which the hash is noise
_SKETCHED = (128, 128)  # pixels that are enough for hash and thumbnail
_EXACT_DISTANCE = 4  # bits by which the hashes of a reduced and a full decode of the same pixels may differ
_PAIRS_AT_ONCE = 1 << 22
_MAX_BANDS = 9

Bits = npt.NDArray[np.uint64]
Pairs = npt.NDArray[np.int64]
"""(P, 2) positions, the lower first."""
T = TypeVar("T")


@dataclass(frozen=True)
class _Sketch:
    """What the search keeps of an image.

    Attributes:
        bits: the perceptual hash.
        thumbnail: (256,) float32 grey levels with mean 0 and length 1.
        telling: whether hash and thumbnail say what is in the picture.
    """

    bits: int
    thumbnail: npt.NDArray[np.float32]
    telling: bool


def find_competition_duplicates(
    competition: Competition, config: FoldsConfig, *, workers: int | None = None, progress: Progress | None = None
) -> Duplicates | None:
    """Search a competition's training and test images as ``config`` says; None when ``config.duplicates`` is "off"."""
    if config.duplicates == "off":
        return None
    images = images_by_key(competition)
    distance = config.near_distance if config.duplicates == "near" else None
    rows = [(key, path) for key, (_, path) in images.items()]
    found = find_duplicates(rows, near_distance=distance, workers=workers, progress=progress)
    return of_ids(found, {key: own for key, (own, _) in images.items()})


def find_duplicates(
    rows: Sequence[tuple[Key, Path]],
    *,
    near_distance: int | None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Duplicates:
    """Find the images that are the same picture.

    Args:
        rows: key and file of each image, in any order; the result does not depend on it.
        near_distance: bits of 64 in which perceptual hashes may differ; None: only equal pixels count.
        workers: decoding threads; none: one per CPU. Decoding releases the interpreter lock.
        progress: called with the number of images read so far and of all.

    Returns:
        The clusters. Unreadable images are left out and listed in ``unreadable``.
    """
    rows = sorted(rows)
    sketches, unreadable = read_images(_sketch, rows, workers=workers, progress=progress)
    keys = [key for key, _ in rows if key in sketches]
    paths = dict(rows)
    bits = np.array([sketches[key].bits for key in keys], dtype=np.uint64)
    telling = np.array([sketches[key].telling for key in keys], dtype=bool)

    suspects = [keys[position] for position in _suspects(bits, telling)]
    digests, unreadable_in_full = read_images(_digest, [(key, paths[key]) for key in suspects], workers=workers)
    exact = _clusters_of_equals(keys, digests)
    near = np.empty((0, 2), dtype=np.int64)
    if near_distance is not None:
        # One of each cluster of equals stands for all, or n copies of one picture would make n * n pairs.
        copies = {position for cluster in exact for position in cluster[1:]}
        chosen = np.array([p for p in np.flatnonzero(telling).tolist() if p not in copies], dtype=np.int64)
        thumbnails = np.array([sketches[keys[p]].thumbnail for p in chosen], dtype=np.float32)
        near = chosen[_near_pairs(bits[chosen], thumbnails, near_distance)]
    groups, near, warnings = _join(keys, exact, near)
    return Duplicates(
        search="exact" if near_distance is None else "near",
        groups=_named(keys, groups),
        exact=_named(keys, exact),
        near=tuple((keys[first], keys[second]) for first, second in near.tolist()),
        unreadable=unreadable | unreadable_in_full,
        warnings=warnings,
    )


def _sketch(path: Path) -> _Sketch:
    grey = cv2.cvtColor(decode_image(path, min_size=_SKETCHED), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    telling = min(grey.shape) >= MIN_SIDE and float(small.std()) >= _FLAT
    small -= small.mean()
    length = float(np.linalg.norm(small))
    bits = int.from_bytes(np.packbits(imagehash.phash(Image.fromarray(grey)).hash).tobytes(), "big")
    return _Sketch(bits, small / length if length else small, telling)


def _digest(path: Path) -> bytes:
    """sha256 of an image's size and pixels."""
    pixels = decode_image(path)
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _suspects(bits: Bits, telling: npt.NDArray[np.bool_]) -> list[int]:
    """Positions of images that may have an exact duplicate: those with a close hash, and those whose hash says nothing."""
    suspect = ~telling
    where = np.flatnonzero(telling)
    for pairs in _close_pairs(bits[where], _EXACT_DISTANCE):
        suspect[where[pairs.ravel()]] = True
    return np.flatnonzero(suspect).tolist()


def _clusters_of_equals(keys: Sequence[Key], digests: dict[Key, bytes]) -> list[tuple[int, ...]]:
    """Positions of images with equal digests, two or more each, in rising order."""
    members: dict[bytes, list[int]] = {}
    for position, key in enumerate(keys):
        if key in digests:
            members.setdefault(digests[key], []).append(position)
    return [tuple(cluster) for cluster in members.values() if len(cluster) > 1]


def _near_pairs(bits: Bits, thumbnails: npt.NDArray[np.float32], distance: int) -> Pairs:
    """Pairs that pass both tests, each once, in rising order.

    Args:
        bits: (N,) hashes.
        thumbnails: (N, 256), of mean 0 and length 1.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    for pairs in _close_pairs(bits, distance):
        correlation = np.einsum("ij,ij->i", thumbnails[pairs[:, 0]], thumbnails[pairs[:, 1]])
        found.append(pairs[correlation >= MIN_CORRELATION])
    return np.unique(np.concatenate(found), axis=0)


def _close_pairs(bits: Bits, distance: int) -> Iterator[Pairs]:
    """Blocks of pairs whose hashes differ in at most ``distance`` bits; a pair may come more than once.

    Cut into ``distance + 1`` bands, two such hashes agree in at least one band (pigeonhole), so only hashes that share a band
    are compared. For large distances the bands would be too narrow to help, and all are compared with all.
    """
    n_bands = distance + 1 if distance < _MAX_BANDS else 1
    edges = [64 * band // n_bands for band in range(n_bands + 1)]
    for low, high in pairwise(edges):
        mask = np.uint64((1 << (high - low)) - 1 if n_bands > 1 else 0)
        band = (bits >> np.uint64(low)) & mask
        order = np.argsort(band, kind="stable")
        cuts = np.flatnonzero(np.diff(band[order])) + 1
        for bucket in np.split(order, cuts):
            yield from _compare(bits, bucket, distance)


def _compare(bits: Bits, bucket: npt.NDArray[np.int64], distance: int) -> Iterator[Pairs]:
    """Pairs within one bucket (positions in rising order), in blocks that fit the memory."""
    start = 0
    while start < len(bucket) - 1:
        step = max(1, _PAIRS_AT_ONCE // (len(bucket) - start))
        left, right = bucket[start : start + step], bucket[start:]
        first, second = np.nonzero(_popcount(bits[left][:, None] ^ bits[right][None, :]) <= distance)
        ahead = second > first
        if ahead.any():
            yield np.stack([left[first[ahead]], right[second[ahead]]], axis=1)
        start += step


def _popcount(values: Bits) -> npt.NDArray[np.uint8]:
    """Number of one bits of each value."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(values), dtype=np.uint8)
    values = values - ((values >> np.uint64(1)) & np.uint64(0x5555555555555555))
    values = (values & np.uint64(0x3333333333333333)) + ((values >> np.uint64(2)) & np.uint64(0x3333333333333333))
    values = (values + (values >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((values * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)


def _join(
    keys: Sequence[Key], exact: Sequence[tuple[int, ...]], near: Pairs
) -> tuple[list[tuple[int, ...]], Pairs, tuple[str, ...]]:
    """Clusters of exact and near-duplicates; the near pairs that were used; warnings."""
    number = connected(len(keys), [*exact, *near.tolist()])
    sizes = np.bincount(number, minlength=1)
    too_large = (sizes > LARGE) & (sizes > LARGE_SHARE * len(keys))
    # A cluster of nothing but equals is one picture, however many copies there are.
    too_large &= np.isin(np.arange(len(sizes)), number[near.ravel()])
    warnings = tuple(_look_alikes(keys, np.flatnonzero(number == cluster)) for cluster in np.flatnonzero(too_large))
    if warnings:
        near = near[~too_large[number[near[:, 0]]]]
        number = connected(len(keys), [*exact, *near.tolist()])
    members: dict[int, list[int]] = {}
    for position, cluster in enumerate(number.tolist()):
        members.setdefault(cluster, []).append(position)
    return [tuple(cluster) for cluster in members.values() if len(cluster) > 1], near, warnings


def _look_alikes(keys: Sequence[Key], cluster: npt.NDArray[np.int64]) -> str:
    names = shown(f"{part} {row_id}" for part, row_id in (keys[position] for position in cluster))
    return (
        f"{len(cluster)} of {len(keys)} images look alike in a chain of near-duplicates; they are taken for different pictures "
        f"of one kind, and only those with equal pixels are kept together: {names}. "
        "If they belong together, say so with a group column; else lower near_distance."
    )


def _named(keys: Sequence[Key], clusters: Sequence[tuple[int, ...]]) -> tuple[tuple[Key, ...], ...]:
    return tuple(tuple(keys[position] for position in cluster) for cluster in clusters)
