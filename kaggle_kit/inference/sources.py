"""Where pixels come from, for training and prediction alike: image files, or the store of images that were decoded once."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from kaggle_kit import files, runs
from kaggle_kit.competition.records import Competition
from kaggle_kit.config import CacheConfig, ChannelsConfig, RunConfig
from kaggle_kit.errors import ImageError
from kaggle_kit.images.dataset import PixelSource
from kaggle_kit.images.decode import check_images
from kaggle_kit.images.shards import file_state
from kaggle_kit.images.store import has_store, pixel_source, store_pays
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.models import build_model, image_spec, read_header
from kaggle_kit.runs import Run
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

BadImages = Literal["stop", "skip"]
Rows = Sequence[tuple[str, Path]]
"""Id and file of some images; of an id with several images each."""
_SLOW = 2000  # images that take long enough for a word


def training_pixels(
    workspace: Workspace,
    config: RunConfig,
    rows: Rows,
    *,
    n_classes: int,
    n_folds: int,
    channels: ChannelsConfig | None,
    cache: CacheConfig | None,
) -> tuple[PixelSource | None, tuple[str, ...]]:
    """Return a store that holds ``rows``, or None for the files; and the ids of images that cannot be read.

    Args:
        n_folds: folds that will be trained, each of which reads the images in every epoch.
        cache: none: no store.

    Raises:
        ImageError: there are unreadable images and ``data.bad_images`` is "stop"; lists them with their ids.
    """
    # A probe reads each image once, for all folds and views.
    reads = 1 if config.strategy == "probe" else n_folds * config.total_epochs
    if cache is not None and cache.enabled and reads > 1:
        last = config.last_stage.data
        model = build_model(config.model, n_classes, image_size=last.image_size, root=workspace.root, channels=channels)
        specs = [image_spec(model, stage.data, channels) for stage in config.stage_configs]
        sizes, spec = [one.prepare_size for one in specs], specs[-1]
        size = spec.prepare_size  # test images are prepared for it as well, so a store of larger ones would not serve them
        if all(one[0] <= size[0] and one[1] <= size[1] for one in sizes) and store_pays(
            [path for _, path in rows], size, reads=reads
        ):
            logger.info("images are decoded once, into the workspace's cache; `kk cache` shows it")
            source, reasons = pixel_source(workspace.cache_dir, rows, size, cache, channels=spec.channels)
            return source, leave_out(reasons, rows, config.data.bad_images)
        logger.info("images are small enough to be read from their files each time; no store is made")
    return None, unreadable_images(workspace, rows, bad_images=config.data.bad_images, workers=config.data.workers)


def prediction_pixels(
    workspace: Workspace, competition: Competition, chosen: Sequence[Run], cache: CacheConfig | None
) -> dict[tuple[int, int], PixelSource]:
    """Return the stores that hold training and test images for ``chosen`` runs, by the size that images are prepared for.

    Test images join the store that training filled, so that their pixels come the same way. Where there is none, one is made
    when enough runs will read it. A probe has no use for pixels: it has kept features.

    Raises:
        MissingFileError, DataError: a run has no finished fold, or its model is damaged.
    """
    if cache is None or not cache.enabled:
        return {}
    readers = [run for run in chosen if run.record.config.strategy != "probe"]
    if not readers:
        return {}
    sizes = [prepare_size(run) for run in readers]
    train, test = ([path for row in rows for path in row.paths] for rows in (competition.train, competition.test))
    stores = {}
    channels = 3 if competition.channels is None else len(competition.channels.names)
    for size in dict.fromkeys(sizes):
        if has_store(workspace.cache_dir, train, size, channels=channels) or store_pays(test, size, reads=sizes.count(size)):
            # Images that cannot be read are reported by the pass that needs them.
            everything = [(path, path) for path in (*train, *test)]
            stores[size], _ = pixel_source(workspace.cache_dir, everything, size, cache, channels=channels)
    return stores


def prepare_size(run: Run) -> tuple[int, int]:
    """Return the height and width that a run's images are prepared for."""
    header = read_header(run.finished_models()[0].path / runs.MODEL)
    return ImageSpec.from_dict(header["spec"]).prepare_size


def unreadable_images(
    workspace: Workspace, rows: Rows, *, bad_images: BadImages, workers: int | None = None
) -> tuple[str, ...]:
    """Return the ids of ``rows`` whose images cannot be read and are to be left out.

    Each file is decoded once; its size and time of change are kept in the workspace's cache with what came out.

    Raises:
        ImageError: there are such images and ``bad_images`` is "stop"; lists them with their ids.
    """
    record = workspace.cache_dir / "checked_images.json"
    known = _read(record)
    stamps = {path: list(file_state(path) or ()) for _, path in rows}
    new = [(path, path) for path, stamp in stamps.items() if known.get(str(path), {}).get("stamp") != stamp]
    if len(new) >= _SLOW:
        logger.info("reading %d images once, to find damaged ones", len(new))
    reasons = check_images(new, workers=workers or None)
    known |= {str(path): {"stamp": stamps[path], "reason": reasons.get(path)} for path, _ in new}
    if new:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            files.write_json(record, known)
    return leave_out({row_id: reason for row_id, path in rows if (reason := known[str(path)]["reason"])}, rows, bad_images)


def leave_out(bad: Mapping[str, str], rows: Rows, bad_images: BadImages) -> tuple[str, ...]:
    """Return the ids of ``bad`` (id -> reason), the unreadable ones of ``rows``, and warn of them.

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


def _read(record: Path) -> dict[str, Mapping[str, Any]]:
    """Return what was found out about files before; nothing where the record is missing or damaged."""
    try:
        known = json.loads(files.read_bytes(record))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}
