"""Is anything lost, doubled or different when a machine dies while a cluster predicts a large set of images?

    python benchmarks/lost_node.py [--images 1000000] [--shard 2500] [--out FILE]

Two Ray nodes with a CPU each, both on this machine, predict made images (16 x 16 pixels, drawn from their number when they are
read) with a tiny network: a task a shard, which writes its file whole or not at all, by `kaggle_kit.launch.run_tasks` and the
package's own prediction. When a third of the shards is done, one node is killed; the other does what is left. Then the same
without a loss, and both are compared: each id once, and the same numbers, byte for byte.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, describe, hardware, print_table, say, write_results

SIDE, CLASSES = 16, 10
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}
FAST = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 8}
"""A dead node is noticed in seconds."""


@dataclass(frozen=True)
class Made:
    """Pixels of an image that no file holds, from its number."""

    def __call__(self, path: Path) -> Any:
        return np.random.default_rng(int(path.name)).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)

    def at(self, size: tuple[int, int]) -> Made:  # noqa: ARG002 - there is one size
        return self


def predict_shard(folder: str, start: int, stop: int) -> str:
    """Runs on a node: predict the images of a shard, unless that is done; returns the node."""
    import ray
    import torch

    from kaggle_kit.inference.predict import Compute, predict_rows
    from kaggle_kit.models import load_model
    from kaggle_kit.tables import Predictions

    node, path = ray.get_runtime_context().get_node_id(), Path(folder, f"{start:09}.parquet")
    Path(folder, f"{start:09}-{uuid.uuid4().hex[:8]}.begun").touch()
    if not path.exists():
        torch.set_num_threads(1)
        model = load_model(Path(folder).parent / "model.safetensors")
        rows = [(f"{number:09}", Path(str(number))) for number in range(start, stop)]
        compute = Compute(batch_size=250, workers=0, engine="torch", device="cpu", source=Made())
        probs = predict_rows([model], rows, compute=compute)[0]
        Predictions(tuple(row_id for row_id, _ in rows), probs, model.classes, {"node": node}).write(path)
    return node


@contextlib.contextmanager
def cluster() -> Iterator[tuple[Any, Any]]:
    """Two nodes, and the one that may be lost."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", OMP_NUM_THREADS="1")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "_system_config": FAST})
    try:
        yield made, made.add_node(**NODE)
    finally:
        made.shutdown()


def predict(folder: Path, images: int, shard: int, *, lose: bool) -> dict[str, Any]:
    """Predict all shards on a cluster of its own; says how long it took, and what was begun twice."""
    from kaggle_kit.launch import connected, run_tasks

    folder.mkdir()
    shards = [(str(folder), start, min(start + shard, images)) for start in range(0, images, shard)]
    nodes: list[str] = []
    with cluster() as (made, other), connected(made.address):
        start, lost = time.perf_counter(), False
        for _, node in run_tasks(predict_shard, shards):
            if isinstance(node, Exception):
                raise node
            nodes.append(node)
            if lose and not lost and 3 * len(nodes) >= len(shards) and len(set(nodes)) > 1:
                say(f"{len(nodes)} of {len(shards)} shards are done: killing a node")
                made.remove_node(other, allow_graceful=False)
                lost = True
        seconds = time.perf_counter() - start
    begun = len(list(folder.glob("*.begun")))
    facts = {"shards": len(shards), "begun again": begun - len(shards), "by each node": sorted(map(nodes.count, set(nodes)))}
    return {"a node": "killed" if lost else "kept", **facts, "seconds": round(seconds, 1), "img/s": round(images / seconds)}


def require_same(found: Path, expected: Path, images: int) -> None:
    """End the script unless both hold each id once, with the same numbers."""
    from kaggle_kit.tables import read_predictions

    seen = 0
    for path in sorted(expected.glob("*.parquet")):
        mine, theirs = read_predictions(found / path.name), read_predictions(path)
        if mine.ids != theirs.ids or mine.ids != tuple(f"{number:09}" for number in range(seen, seen + len(mine))):
            raise SystemExit(f"{path.name}: ids are lost, doubled or in another order")
        if mine.probs.tobytes() != theirs.probs.tobytes():
            raise SystemExit(f"{path.name}: other numbers")
        seen += len(mine)
    if seen != images or len(list(found.glob("*.parquet"))) != len(list(expected.glob("*.parquet"))):
        raise SystemExit(f"{seen:,} of {images:,} ids came out")
    print(f"\n{seen:,} ids, each once, with the same numbers as without the loss.")


def main() -> None:
    """Predict with and without a loss, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--shard", type=int, default=2_500)
    parser.add_argument("--out", type=Path, default=RESULTS / "lost_node.json")
    given = parser.parse_args()

    import torch

    from kaggle_kit.config import DataConfig, ModelConfig
    from kaggle_kit.models import build_model, image_spec, save_model
    from kaggle_kit.tables import Classes

    with tempfile.TemporaryDirectory() as name:
        folder, size = Path(name), (SIDE, SIDE)
        torch.manual_seed(0)
        model = build_model(ModelConfig(name="test_resnet"), CLASSES, image_size=size)
        spec = image_spec(model, DataConfig(image_size=size, crop_pct=1.0))
        classes = Classes(tuple(f"class {number}" for number in range(CLASSES)))
        save_model(folder / "model.safetensors", model, classes=classes, spec=spec, task="multiclass", meta={})
        rows = [predict(folder / f"lose-{lose}", given.images, given.shard, lose=lose) for lose in (True, False)]
        print_table(rows)
        require_same(folder / "lose-True", folder / "lose-False", given.images)
    facts = hardware()
    print(describe(facts))
    write_results(given.out, rows, facts, images=given.images, shard=given.shard)


if __name__ == "__main__":
    main()
