"""Does it change the score how pixels come to the model: decoded in full, at reduced scale, or out of the image store?

    python benchmarks/store_scores.py WORKSPACE [WORKSPACE ...] [--sizes 224,96]

Fits a probe (frozen tf_efficientnet_lite0, one head a fold) to the same folds with each way of reading, and prints the
out-of-fold score, the share of rows whose class differs from that of full decoding, and how far pixels are from it. Workspaces
need kk.yaml and folds; they are left as they are.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, describe, hardware, print_table, say, write_results

from kaggle_kit import runs
from kaggle_kit.competition import Setup, load_competition
from kaggle_kit.config import CacheConfig, load_config
from kaggle_kit.folds import folds_for
from kaggle_kit.images.dataset import FileSource, PixelSource
from kaggle_kit.images.decode import Pixels, decode_image
from kaggle_kit.images.store import open_store
from kaggle_kit.images.transforms import eval_transform, prepare
from kaggle_kit.metrics import get_metric
from kaggle_kit.models import build_model, image_spec
from kaggle_kit.tables import read_predictions
from kaggle_kit.training import prepare_run
from kaggle_kit.training.probe import train_probe
from kaggle_kit.workspace import Workspace

MODEL = "tf_efficientnet_lite0"
Rows = list[tuple[str, Path]]
Size = tuple[int, int]


@dataclass(frozen=True)
class FullDecode:
    """Each file decoded in full, then prepared: what reduced decoding and the store are measured against."""

    size: Size

    def __call__(self, path: Path) -> Pixels:
        return prepare(decode_image(path), self.size)


def _store(codec: str) -> Callable[[Path, Rows, Size], PixelSource]:
    def make(cache: Path, rows: Rows, size: Size) -> PixelSource:
        raw = len(rows) * 3 * size[0] * size[1] * 4
        store = open_store(cache, rows, size, CacheConfig(budget=raw if codec == "raw" else raw // 6))
        if store.codec != codec or len(store) < len(rows):
            raise SystemExit(f"the store holds {len(store)} of {len(rows)} images as {store.codec}, wanted {codec}")
        return store

    return make


WAYS: dict[str, Callable[[Path, Rows, Size], PixelSource]] = {
    "files, decoded in full": lambda _cache, _rows, size: FullDecode(size),
    "files, reduced decoding": lambda _cache, _rows, size: FileSource(size),
    "store, raw": _store("raw"),
    "store, JPEG": _store("jpeg"),
}


def measure(original: Path, side: int, scratch: Path) -> Iterator[dict[str, Any]]:
    """A row for each way of reading."""
    full: Any = None
    pixels: dict[Path, Pixels] = {}
    for way, make in WAYS.items():
        root = scratch / f"{original.name}-{side}-{len(way)}"
        root.mkdir()
        shutil.copytree(original / "folds", root / "folds")
        workspace = Workspace(root)
        config = load_config(original / "kk.yaml", [f"model={MODEL}", f"image_size={side}", "probe.views=1", "strategy=probe"])
        competition = load_competition(Workspace(original), config.competition)
        folds = folds_for(workspace, competition, config.run.folds)
        spec = image_spec(build_model(config.run.model, len(folds.classes), image_size=side), config.run.data)
        jobs = prepare_run(Setup(workspace, config, competition), folds, run="probe", fold_list=range(folds.n_splits))
        rows = jobs[0].all_images
        source, view = make(root / ".kk_cache", rows, spec.prepare_size), eval_transform(spec)
        for job in jobs:
            train_probe(replace(job, source=source))
        tables = [read_predictions(workspace.fold_dir("probe", fold) / runs.OOF) for fold in range(folds.n_splits)]
        probs, truth = (
            np.concatenate([table.probs for table in tables]),
            np.concatenate([folds.truth(folds.split(fold)[1]) for fold in range(folds.n_splits)]),
        )
        full = probs if full is None else full
        sample = [path for _, path in rows[:: max(1, len(rows) // 200)]]
        pixels = pixels or {path: view(source(path)) for path in sample}
        apart = [np.abs(view(source(path)).astype(np.int16) - pixels[path]).mean() for path in sample]
        yield {
            "competition": competition.name,
            "size": side,
            "pixels from": way,
            "accuracy": float(get_metric("accuracy")(truth, probs)),
            "log_loss": float(get_metric("log_loss")(truth, probs)),
            "other class": f"{(probs.argmax(1) != full.argmax(1)).mean():.2%}",
            "pixels apart": f"{np.mean(apart):.2f}, at most {np.max(apart):.2f}",
        }
        shutil.rmtree(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspaces", type=Path, nargs="+")
    parser.add_argument("--sizes", default="224,96", help="sides in pixels, separated by commas")
    parser.add_argument("--out", type=Path, default=RESULTS / "store_scores.json")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for workspace in arguments.workspaces:
            for side in map(int, arguments.sizes.split(",")):
                for row in measure(workspace.resolve(), side, Path(scratch)):
                    say(str(row))
                    rows.append(row)
    facts = hardware()
    print_table([{key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row.items()} for row in rows])
    print("\npixels apart: mean over an image of the difference to full decoding, in 0..255; over 200 images.")
    print(describe(facts))
    write_results(arguments.out, rows, facts, model=MODEL)


if __name__ == "__main__":
    main()
