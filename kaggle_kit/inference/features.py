"""Features of images, computed once by a frozen backbone and kept: for folds, runs and `kk predict` alike.

Under the workspace's cache lies a folder for each backbone, image specification and type of number. Parts are added to it about
once a minute and never changed: a part is a folder with one array a view and an index, and counts once it has its final name.
An image is known by path, size and modification time, an augmented view by the augmentation and the seed as well.

Training images and the images of a test pass are kept apart: control rows, which are training images hidden in a test pass,
would prove nothing if they were answered from what training computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock

from kaggle_kit import files
from kaggle_kit.config import AugmentConfig
from kaggle_kit.errors import DataError, StorageError
from kaggle_kit.images.dataset import PixelSource
from kaggle_kit.images.decode import Pixels
from kaggle_kit.images.loaders import EvalLoader
from kaggle_kit.images.pixels import Hashes, batch_hashes
from kaggle_kit.images.shards import absolute, file_state
from kaggle_kit.images.transforms import ImageSpec, eval_transform, train_transform
from kaggle_kit.inference.engines import Engine
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.inference.tta import make_views
from kaggle_kit.machine.device import half_dtype
from kaggle_kit.machine.host import give_back_memory, kept_heap

logger = logging.getLogger(__name__)

Rows = Sequence[tuple[str, Path]]
Features = npt.NDArray[np.float32]
Stamp = tuple[str, int, int]
PLAIN, MIRRORED = "plain", "hflip"
KEPT_VIEWS: dict[str, tuple[str, ...]] = {"none": (PLAIN,), "hflip": (PLAIN, MIRRORED)}
"""Entries of ``VIEWS`` that can be answered from kept features -> the views they consist of, in order."""
_Batch = tuple[npt.NDArray[np.int64], Mapping[str, Features], Hashes]
"""Positions (B,) of rows, their features (B, F) by view, and hashes (B, 2) of the plain view's pixels."""
_VERSION = 2  # of the layout and of what the features are made from: raise it when decoding or a transform changes
_SECONDS, _BYTES = 60.0, 32 << 20  # a part is written after so long, or when it is so large: what a kill loses at most
_OPEN = 256  # arrays that are open at once; each holds a file descriptor
_INDEX, _HASHES = "index.json", "pixels"


@dataclass(frozen=True)
class FeatureCache:
    """Where features are kept, for one of the two kinds of pass."""

    cache_dir: Path
    role: Literal["train", "test"]

    def table(self, fingerprint: str, spec: ImageSpec, device: torch.device, precision: str) -> FeatureTable:
        """What is kept of a backbone, by :func:`~kaggle_kit.models.backbone_fingerprint`, as ``device`` computes it.

        Engines are not told apart, since they agree; half precision does not agree with full.
        """
        dtype = str(half_dtype(device, precision) or torch.float32)
        key = files.fingerprint([_VERSION, fingerprint, spec.to_dict(), dtype])
        return FeatureTable(self.cache_dir / "features" / key[:32], self.role)


class FeatureTable:
    """Features of a backbone by image and view."""

    def __init__(self, folder: Path, role: str) -> None:
        self.folder = folder
        self._role = role
        self._where: dict[str, dict[Stamp, tuple[Path, int]]] = {}
        self._arrays: dict[tuple[Path, str], npt.NDArray[Any]] = {}
        self.reload()

    def reload(self) -> None:
        """See what was added since."""
        self._where, self._arrays = {}, {}
        for index in sorted(self.folder.glob(f"{self._role}-*/{_INDEX}")):
            self._read(index.parent)

    def __bool__(self) -> bool:
        return bool(self._where)

    def has(self, paths: Sequence[Path], views: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(V, N) whether each view of each image is kept, and of the file as it is now."""
        stamps = [stamp(path) for path in paths]
        found = [[one in self._where.get(view, {}) for one in stamps] for view in views]
        return np.array(found, dtype=bool).reshape(len(views), len(paths))

    def lacking(self, rows: Rows, plan: ViewPlan) -> int:
        """How many features, images times views, are not kept."""
        return int((~self.has([path for _, path in rows], plan.names)).sum())

    def read(self, paths: Sequence[Path], view: str) -> Features:
        """(N, F) float32.

        Raises:
            DataError: one of them is not kept, see :meth:`has`, or the part that holds it is damaged.
        """
        where = self._where.get(view, {})
        places: dict[Path, tuple[list[int], list[int]]] = {}
        for row, path in enumerate(paths):
            found = where.get(stamp(path))
            if found is None:
                raise DataError(f"no features of {path} are kept for view {view}; run the command again.")
            into, out_of = places.setdefault(found[0], ([], []))
            into.append(row)
            out_of.append(found[1])
        width = self._array(next(iter(places)), view).shape[1] if places else 0
        result = np.empty((len(paths), width), dtype=np.float32)
        for part, (into, out_of) in places.items():
            result[into] = self._array(part, view)[out_of]
        return result

    def pixels(self, paths: Sequence[Path]) -> npt.NDArray[np.uint64]:
        """Return hashes (N, 2) of the plain view: of the pixels that the backbone saw, and of those that the file holds.

        Raises:
            DataError: the plain view of one of them is not kept, or the part that holds it is damaged.
        """
        where = self._where.get(PLAIN, {})
        found = [where[stamp(path)] for path in paths]
        return np.array([self._array(part, _HASHES)[row] for part, row in found], dtype=np.uint64).reshape(-1, 2)

    def add(self, stamps: Sequence[Stamp], features: Mapping[str, Features], hashes: Hashes) -> None:
        """Keep a part.

        Args:
            stamps: of N images, as they were before they were read.
            features: of those, by view, each (N, F).
            hashes: (N, 2) as :meth:`pixels` returns them.

        Raises:
            StorageError: it cannot be written.
        """
        final = self.folder / f"{self._role}-{uuid.uuid4().hex[:12]}"
        temporary = final.with_name(f".{final.name}.tmp")
        try:
            temporary.mkdir(parents=True)
            arrays: dict[str, npt.NDArray[Any]] = {**features, _HASHES: hashes}
            for name, array in arrays.items():
                with files.atomic_path(temporary / f"{name}.npy") as target:
                    np.save(target, array)
            files.write_json(temporary / _INDEX, {"views": list(features), "images": list(stamps)})
            temporary.rename(final)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            needed = sum(array.nbytes for array in features.values())
            raise StorageError(f"cannot keep features in {self.folder} ({needed:,} bytes wanted): {error}.") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._read(final)

    def _read(self, part: Path) -> None:
        index = files.read_json(part / _INDEX, made_by="kk train")
        places = {(str(path), int(size), int(time)): (part, row) for row, (path, size, time) in enumerate(index["images"])}
        for view in index["views"]:
            self._where.setdefault(view, {}).update(places)

    def _array(self, part: Path, view: str) -> npt.NDArray[Any]:
        if (part, view) not in self._arrays:
            if len(self._arrays) >= _OPEN:
                self._arrays.pop(next(iter(self._arrays)))
            try:
                self._arrays[part, view] = np.load(part / f"{view}.npy", mmap_mode="r", allow_pickle=False)
            except files.DAMAGE as error:
                raise DataError(f"the features in {part} are damaged ({error}). Delete that folder and run again.") from error
        return self._arrays[part, view]


def stamp(path: Path) -> Stamp:
    """What an image is known by. A file that is missing has a stamp of its own, which no table holds."""
    return (absolute(path), *(file_state(path) or (-1, -1)))


@dataclass(frozen=True)
class ViewPlan:
    """Which views of an image to keep: the plain one, the mirrored one, and ``count`` augmented ones."""

    mirrored: bool = True
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    count: int = 0
    seed: int = 0

    @property
    def names(self) -> list[str]:
        """Names of the views in the feature table."""
        return [PLAIN, *([MIRRORED] if self.mirrored else []), *self.augmented]

    @property
    def augmented(self) -> list[str]:
        """Names of the augmented views; the first ones of a longer plan are those of a shorter one."""
        what = files.fingerprint([self.augment.preset, self.augment.transforms, self.seed])[:16]
        return [f"augmented-{what}-{number}" for number in range(self.count)]


class StackedViews:
    """The plain view of an image and some augmented ones, one below the other, so that one decode serves them all.

    Args:
        names: of the augmented views.
        ids: row id of each row; a view's randomness depends on its name and on the id alone.
    """

    def __init__(self, spec: ImageSpec, augment: AugmentConfig, names: Sequence[str], ids: Sequence[str]) -> None:
        self._arguments = (spec, augment, list(names), list(ids))
        self._plain = eval_transform(spec)
        self._augment = train_transform(spec, augment) if names else None
        # Of the whole stack: loaders look at it to see how much memory a batch takes.
        self.spec = replace(spec, height=spec.height * (1 + len(names)))

    def __call__(self, image: Pixels, seed: int) -> Pixels:
        """(H, W, 3) uint8 and row number → ((1 + A) * spec.height, spec.width, 3) uint8."""
        _, _, names, ids = self._arguments
        views = [self._plain(image)]
        if self._augment is not None:
            views += [self._augment(image, _seed(name, ids[seed])) for name in names]
        return np.concatenate(views)

    def __reduce__(self) -> tuple[type[StackedViews], tuple[Any, ...]]:
        return StackedViews, self._arguments


def _seed(view: str, row_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{view}/{row_id}".encode(), digest_size=8).digest()) >> 2


@dataclass(frozen=True)
class Extractor:
    """How to compute features.

    Attributes:
        engine: of the backbone.
        on_batch: called with the number of images done after each batch; what it raises ends the extraction.
    """

    engine: Engine
    spec: ImageSpec
    device: torch.device
    batch_size: int = 64
    workers: int | None = None
    source: PixelSource | None = None
    on_batch: Callable[[int], None] = lambda _images: None

    def complete(self, table: FeatureTable, rows: Rows, plan: ViewPlan) -> int:
        """Add what ``table`` lacks of ``rows``; returns the number of images that were computed.

        Raises:
            ImageError: an image cannot be read.
            StorageError: the features cannot be written.
        """
        if table.has([path for _, path in rows], plan.names).all():
            return 0
        table.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(table.folder / ".lock"), kept_heap(self.device.type):
            table.reload()  # another process may have added them while this one waited
            return self.add(table, rows, plan)

    def add(self, table: FeatureTable, rows: Rows, plan: ViewPlan) -> int:
        """Do what :meth:`complete` does, beside others that may be computing the same."""
        lacking = ~table.has([path for _, path in rows], plan.names)  # (V, N)
        todo = [rows[position] for position in np.flatnonzero(lacking.any(axis=0)).tolist()]
        views = [name for name, lacks in zip(plan.names, lacking, strict=True) if lacks.any()]
        part = _Part(table, todo)
        try:
            for positions, features, hashes in self._computed(todo, views, plan):
                part.take(positions, features, hashes)
                self.on_batch(len(positions))
        except BaseException:
            with contextlib.suppress(StorageError):  # what was computed until somebody stopped it is kept, too
                part.write()
            raise
        part.write()
        return len(todo)

    def _computed(self, rows: Rows, views: Sequence[str], plan: ViewPlan) -> Iterator[_Batch]:
        augmented = [view for view in views if view in plan.augmented]
        transform = StackedViews(self.spec, plan.augment, augmented, [row_id for row_id, _ in rows])
        with EvalLoader(
            *(rows, self.spec),
            batch_size=self.batch_size,
            workers=self.workers,
            source=self.source,
            transform=transform,
            origins=True,
        ) as loader:
            for batch in loader:
                positions = batch.rows.numpy().copy()  # lest a worker's memory, and its file descriptor, be held
                hashes = np.empty((len(positions), 2), dtype=np.uint64)
                hashes[:, 0] = batch_hashes(batch.images[:, :, : self.spec.height])
                hashes[:, 1] = [(batch.origins or {})[str(rows[at][1])] for at in positions.tolist()]
                found = self._views(batch.images, augmented, mirrored=MIRRORED in views)
                features = {view: self._features(images) for view, images in found if view in views}
                yield positions, features, hashes

    def _features(self, images: torch.Tensor) -> Features:
        """(B, F), a copy, since an engine may hand out its own memory."""
        return self.engine.logits(images).float().cpu().numpy().copy()

    def _views(self, stacked: torch.Tensor, augmented: Sequence[str], *, mirrored: bool) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and normalised images (B, 3, H, W) of each view in a batch of stacks (B, 3, (1 + A) * H, W)."""
        parts = stacked.split(self.spec.height, dim=2)
        channels_last = self.engine.name == "torch"
        plain = to_input(parts[0], self.spec, self.device, channels_last=channels_last)
        yield PLAIN, plain
        if mirrored:
            yield MIRRORED, make_views("hflip", *self.spec.size)[1](plain)
        for view, part in zip(augmented, parts[1:], strict=True):
            yield view, to_input(part, self.spec, self.device, channels_last=channels_last)


class _Part:
    """Gathers what is computed of some rows, and adds it to a table from time to time."""

    def __init__(self, table: FeatureTable, rows: Rows) -> None:
        self._table = table
        self._stamps = [stamp(path) for _, path in rows]
        self._batches: list[_Batch] = []
        self._bytes, self._began = 0, monotonic()

    def take(self, positions: npt.NDArray[np.int64], features: Mapping[str, Features], hashes: Hashes) -> None:
        self._batches.append((positions, features, hashes))
        self._bytes += sum(array.nbytes for array in features.values())
        if self._bytes >= _BYTES or monotonic() - self._began >= _SECONDS:
            self.write()

    def write(self) -> None:
        """Add what there is.

        Raises:
            StorageError: it cannot be written.
        """
        batches, self._batches, self._bytes, self._began = self._batches, [], 0, monotonic()
        if not batches:
            return
        positions, features, hashes = zip(*batches, strict=True)
        stamps = [self._stamps[position] for position in np.concatenate(positions).tolist()]
        together = {view: np.concatenate([of_batch[view] for of_batch in features]) for view in features[0]}
        self._table.add(stamps, together, np.concatenate(hashes))
        give_back_memory()
