"""Seconds and megabytes of the pages, for a workspace and for made images.

    python benchmarks/pages.py look WORKSPACE [--network]      # the page about the data
    python benchmarks/pages.py made 100000 FOLDER               # makes a competition of so many images, then the same

Each page is measured in a process of its own, imports included, with its peak memory. Another page is another entry of PAGES.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import hardware

SIDE = 64
_CLASSES, _TEST_SHARE = 100, 0.2


def look(root: Path, *, network: bool = True) -> dict[str, Any]:
    """Write the page about the data; return its size and what it found."""
    from kaggle_kit.competition.setup import open_setup
    from kaggle_kit.report.data_page import Wishes
    from kaggle_kit.report.look import look_at_data
    from kaggle_kit.workspace import Workspace

    made = look_at_data(open_setup(Workspace(root)), Wishes(network=network))
    return {"images": made.n_train + made.n_test, "page MB": made.path.stat().st_size / 1e6, "in all MB": made.n_bytes / 1e6}


PAGES: dict[str, Callable[..., dict[str, Any]]] = {"look": look}


def make_competition(root: Path, count: int) -> None:
    """Make ``count`` small JPEG files of smooth noise, a folder a class, and a workspace of them."""
    import cv2
    import numpy as np

    from kaggle_kit import Project

    rng = np.random.default_rng(0)
    for number in range(count):
        test = number % round(1 / _TEST_SHARE) == 0
        folder = root / "data" / ("test" if test else f"train/class_{number % _CLASSES:03}")
        folder.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pixels = cv2.resize(small, (SIDE + number % 40, SIDE), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number:06}.jpg"), pixels)
    Project.init(root / "data", root, force=True)


def measure(page: str, root: Path, *, network: bool) -> dict[str, Any]:
    """Run one page in a process of its own; return seconds, peak megabytes and what the page says of itself."""
    begin = time.perf_counter()
    command = [sys.executable, __file__, "one", page, str(root), *(["--network"] if network else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    return {"page": page, "seconds": round(seconds, 1), **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    """Measure what the arguments name, and print it with the hardware."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=[*PAGES, "made", "one"])
    parser.add_argument("arguments", nargs="+")
    parser.add_argument("--network", action="store_true", help="compare training and test images by a network")
    given = parser.parse_args()
    if given.what == "one":
        page, root = given.arguments
        found = PAGES[page](Path(root), network=given.network)
        found["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        found["cpu seconds"] = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        print(json.dumps({key: round(value, 2) for key, value in found.items()}))
        return
    if given.what == "made":
        count, root = int(given.arguments[0]), Path(given.arguments[1])
        if not (root / "kk.yaml").is_file():
            make_competition(root, count)
        rows = [measure(page, root, network=given.network) for page in PAGES]
    else:
        rows = [measure(given.what, Path(given.arguments[0]), network=given.network)]
    print(json.dumps({"hardware": hardware(), "pages": rows}, indent=2))


if __name__ == "__main__":
    main()
