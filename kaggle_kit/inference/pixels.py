"""Where images to predict come from: the store of decoded images where there is one or it pays, else their files."""

from __future__ import annotations

from collections.abc import Sequence

from kaggle_kit import runs
from kaggle_kit.competition.records import Competition
from kaggle_kit.config import CacheConfig
from kaggle_kit.images.dataset import PixelSource
from kaggle_kit.images.store import has_store, pixel_source, store_pays
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.models import read_header
from kaggle_kit.runs import Run
from kaggle_kit.workspace import Workspace


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
