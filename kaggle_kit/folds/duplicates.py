"""What a search for duplicate images found. The search itself reads pixels and lies in :mod:`kaggle_kit.images.duplicates`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from kaggle_kit.competition import Competition, ImageRow
from kaggle_kit.tables import Labels

Part = Literal["train", "test"]
Key = tuple[Part, str]
"""An image of the competition: which part it stands in, and its id there."""


@dataclass(frozen=True)
class Duplicates:
    """Images that are the same picture.

    Attributes:
        search: "exact" when only equal pixels were looked for, "near" when near-duplicates were, too.
        groups: clusters of two or more images; each is sorted, and so are they.
        exact: those clusters of images whose pixels are equal; each lies within one of ``groups``.
        near: pairs of near-duplicates whose pixels differ, sorted. A pair that was found but not used, because its cluster
            grew too large to be one picture, is not among them.
        unreadable: image -> why it could not be compared.
        warnings: sentences for the user.
    """

    search: Literal["exact", "near"]
    groups: tuple[tuple[Key, ...], ...]
    exact: tuple[tuple[Key, ...], ...] = ()
    near: tuple[tuple[Key, Key], ...] = ()
    unreadable: Mapping[Key, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def train_groups(self) -> list[tuple[str, ...]]:
        """Ids of training images that are the same picture, also by way of a test image."""
        found = (_ids(group, "train") for group in self.groups)
        return [ids for ids in found if len(ids) > 1]

    def different_labels(self, labels: Mapping[str, Labels]) -> list[tuple[str, ...]]:
        """Those of :meth:`train_groups` whose images do not all have the same labels.

        Args:
            labels: training id -> its labels, in any order.
        """
        return [ids for ids in self.train_groups() if len({frozenset(labels[row_id]) for row_id in ids}) > 1]

    def in_test(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """For each picture that stands in both parts, its training ids and its test ids."""
        found = ((_ids(group, "train"), _ids(group, "test")) for group in self.groups)
        return [(train, test) for train, test in found if train and test]


def images_by_key(competition: Competition) -> dict[Key, tuple[Key, Path]]:
    """Return each image of a competition under a key of its own -> the key of its id, and its file.

    The first image of an id has the id's key.
    """
    found: dict[Key, tuple[Key, Path]] = {}
    for part, rows in _parts(competition):
        for row in rows:
            own: Key = (part, row.id)
            for at, path in enumerate(row.paths, 1):
                found[own if at == 1 else (part, f"{row.id} (image {at})")] = own, path
    return found


def _parts(competition: Competition) -> tuple[tuple[Part, Sequence[ImageRow]], ...]:
    return ("train", competition.train), ("test", competition.test)


def of_ids(found: Duplicates, own: Mapping[Key, Key]) -> Duplicates:
    """Return what was found among images as what it means for their ids.

    Args:
        own: key of an image -> key of its id; where each id has one image, ``found`` is returned as it is.
    """
    if all(key == other for key, other in own.items()):
        return found
    groups, exact = (
        tuple(sorted({tuple(sorted({own[key] for key in group})) for group in some})) for some in (found.groups, found.exact)
    )
    pairs = {tuple(sorted((own[one], own[other]))) for one, other in found.near}
    return replace(
        found,
        groups=tuple(group for group in groups if len(group) > 1),
        exact=tuple(group for group in exact if len(group) > 1),
        near=tuple(sorted((one, other) for one, other in pairs if one != other)),
        unreadable={own[key]: reason for key, reason in found.unreadable.items()},
    )


def _ids(group: Iterable[Key], part: Part) -> tuple[str, ...]:
    return tuple(row_id for where, row_id in group if where == part)


def connected(count: int, links: Iterable[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Number the connected components of ``count`` nodes.

    Args:
        links: node positions that belong together, any number of them a link.

    Returns:
        (count,) int64; components are numbered in the order of their first node, so the order of ``links`` does not matter.
    """
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for link in links:
        for node in link[1:]:
            first, second = root(link[0]), root(node)
            parent[max(first, second)] = min(first, second)
    roots = np.array([root(node) for node in range(count)], dtype=np.int64)
    # The root of a component is its first node, so the sorted roots are in the order of first nodes.
    return np.unique(roots, return_inverse=True)[1].astype(np.int64).reshape(count)
