"""Where training images come from: the store of decoded images where that pays, else their files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from kaggle_kit.config import CacheConfig, RunConfig
from kaggle_kit.images.dataset import PixelSource
from kaggle_kit.images.store import pixel_source, store_pays
from kaggle_kit.models import build_model, image_spec
from kaggle_kit.training.readable import leave_out, unreadable_images
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)


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
