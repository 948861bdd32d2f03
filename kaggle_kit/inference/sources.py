"""Finding training images that cannot be read, before hours are spent; what was looked at once is remembered."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from kaggle_kit import files, runs
from kaggle_kit.competition.records import Competition
from kaggle_kit.config import CacheConfig, RunConfig
from kaggle_kit.errors import ImageError
from kaggle_kit.images.dataset import PixelSource
from kaggle_kit.images.decode import check_images
from kaggle_kit.images.store import has_store, pixel_source, store_pays
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.models import build_model, image_spec, read_header
from kaggle_kit.runs import Run
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

_SLOW = 2000  # images that take long enough for a word


def unreadable_images(
    workspace: Workspace, rows: Sequence[tuple[str, Path]], *, bad_images: Literal["stop", "skip"], workers: int | None = None
) -> tuple[str, ...]:
    """Ids of ``rows`` (id, path) whose images cannot be read and are to be left out.

    Each file is decoded once; its size and time of change are kept in the workspace's cache with the verdict.

    Raises:
        ImageError: there are such images and ``bad_images`` is "stop"; lists them with their ids.
    """
    record = workspace.cache_dir / "checked_images.json"
    known = _read(record)
    stamps = {row_id: _stamp(path) for row_id, path in rows}
    new = [(row_id, path) for row_id, path in rows if known.get(str(path), {}).get("stamp") != stamps[row_id]]
    if len(new) >= _SLOW:
        logger.info("reading %d images once, to find damaged ones", len(new))
    reasons = check_images(new, workers=workers or None)
    known |= {str(path): {"stamp": stamps[row_id], "reason": reasons.get(row_id)} for row_id, path in new}
    if new:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            files.write_json(record, known)
    return leave_out({row_id: reason for row_id, path in rows if (reason := known[str(path)]["reason"])}, rows, bad_images)


def leave_out(bad: Mapping[str, str], rows: Sequence[tuple[str, Path]], bad_images: Literal["stop", "skip"]) -> tuple[str, ...]:
    """Ids of ``bad`` (id -> reason), the unreadable ones of ``rows``.

    Raises:
        ImageError: there are such images and ``bad_images`` is "stop".
    """
    if not bad:
        return ()
    listed = "\n  ".join(f"{row_id}: {reason}" for row_id, reason in bad.items())
    if bad_images == "stop":
        raise ImageError(
            f"{len(bad)} of {len(rows)} training images cannot be read. Replace them, or leave them out with "
            f"data.bad_images=skip:\n  {listed}"
        )
    logger.warning("%d of %d training images cannot be read and are left out:\n  %s", len(bad), len(rows), listed)
    return tuple(bad)


def _stamp(path: Path) -> list[int]:
    """What changes when a file is replaced; empty for a file that is not there."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _read(record: Path) -> dict[str, Mapping[str, Any]]:
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def training_pixels(
    workspace: Workspace,
    config: RunConfig,
    rows: Sequence[tuple[str, Path]],
    *,
    n_classes: int,
    n_folds: int,
    cache: CacheConfig | None,
) -> tuple[PixelSource | None, tuple[str, ...]]:
    """A store that holds ``rows`` (id, path), or None for the files; and the ids of images that cannot be read.

    Args:
        n_folds: folds that will be trained, each of which reads the images in every epoch.
        cache: none: no store.

    Raises:
        ImageError: there are unreadable images and ``data.bad_images`` is "stop"; lists them with their ids.
    """
    # A probe reads each image once, for all folds and views.
    reads = 1 if config.strategy == "probe" else n_folds * config.schedule.epochs
    if cache is not None and cache.enabled and reads > 1:
        size = image_spec(build_model(config.model, n_classes, image_size=config.data.image_size), config.data).prepare_size
        paths = [path for _, path in rows]
        if store_pays(paths, size, reads=reads):
            logger.info("images are decoded once, into the workspace's cache; `kk cache` shows it")
            source, reasons = pixel_source(workspace.cache_dir, rows, size, cache)
            return source, leave_out(reasons, rows, config.data.bad_images)
        logger.info("images are small enough to be read from their files each time; no store is made")
    return None, unreadable_images(workspace, rows, bad_images=config.data.bad_images, workers=config.data.workers)


def prediction_pixels(
    workspace: Workspace, competition: Competition, chosen: Sequence[Run], run: Run, cache: CacheConfig | None
) -> PixelSource | None:
    """A store that holds training and test images for ``run``, or None for the files.

    Test images join the store that training filled, so that their pixels come the same way. Where there is none, one is made
    when enough of the ``chosen`` runs will read it. A probe has no use for pixels: it has kept features.

    Raises:
        MissingFileError, DataError: ``run`` has no finished fold, or its model is damaged.
    """
    if cache is None or not cache.enabled or _is_probe(run):
        return None
    header = read_header(run.finished_folds()[0].path / runs.MODEL)
    size = ImageSpec.from_dict(header["spec"]).prepare_size
    train, test = ([row.path for row in rows] for rows in (competition.train, competition.test))
    reads = sum(not _is_probe(one) for one in chosen)
    if not (has_store(workspace.cache_dir, train, size) or store_pays(test, size, reads=reads)):
        return None
    # Images that cannot be read are reported by the pass that needs them.
    source, _ = pixel_source(workspace.cache_dir, [(path, path) for path in (*train, *test)], size, cache)
    return source


def _is_probe(run: Run) -> bool:
    return bool(run.record["config"].get("strategy") == "probe")
