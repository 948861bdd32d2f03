"""Seconds, memory and bytes of `kk look` and `kk report`, of workspaces and of 100,000 made images.

    python benchmarks/pages.py WORKSPACE ... [--rounds 3]      # workspaces with a finished run
    python benchmarks/pages.py --made 100000 FOLDER            # makes a competition of so many images, and a run, first

Each page is written in a process of its own, imports included, with its peak memory; medians of the rounds, in turns. `network`
compares training and test images by the features of tf_efficientnet_lite0, as `kk look` does where its weights are, `pixels` by
statistics. `report` is of the newest run; its map of features, kept from one report to the next, is made anew. What the
made run has predicted is made up, and its model files hold no network: no features, and no latency, are computed for its page.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from common import HERE, describe, hardware, median, print_table, say

SIDE = 64
_CLASSES, _TEST_SHARE = 100, 0.2


def look(root: Path, *, network: bool) -> dict[str, Any]:
    """Write the page about the data; return its bytes and the images that it is about."""
    from kaggle_kit.competition import open_setup
    from kaggle_kit.report.data_page import Wishes
    from kaggle_kit.report.look import look_at_data
    from kaggle_kit.workspace import Workspace

    made = look_at_data(open_setup(Workspace(root)), Wishes(network=network))
    return {"images": made.n_train + made.n_test, "page": made.path}


def report(root: Path) -> dict[str, Any]:
    """Write the page about the newest run; return its bytes and the rows that it is about."""
    from kaggle_kit.competition import open_setup
    from kaggle_kit.report.make import make_report
    from kaggle_kit.runs import list_runs
    from kaggle_kit.workspace import Workspace

    workspace = Workspace(root)
    shutil.rmtree(workspace.cache_dir / "maps", ignore_errors=True)
    setup = open_setup(workspace)
    made = make_report(setup, list_runs(workspace)[-1:])
    return {"images": len(setup.competition.train), "page": made.path}


PAGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "look, pixels": lambda root: look(root, network=False),
    "look, network": lambda root: look(root, network=True),
    "report": report,
}


def make_workspace(root: Path, count: int) -> None:
    """Make ``count`` small PNG files of noise in 100 classes, a fifth of them for testing, folds, and what a run leaves."""
    import cv2
    import numpy as np
    from factories import make_workspace

    n_test = round(_TEST_SHARE * count)
    made = make_workspace(root, n_train=count - n_test, n_test=n_test, n_classes=_CLASSES, n_runs=1, accuracy=0.8)
    rng = np.random.default_rng(0)
    for number, row in enumerate((*made.competition.train, *made.competition.test)):
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pixels = cv2.resize(small, (SIDE + number % 40, SIDE), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(row.path), pixels)


def measure(page: str, root: Path) -> dict[str, Any]:
    """Write one page in a process of its own; return wall-clock and CPU seconds, bytes and peak memory."""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, "--one", page, str(root)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds = time.perf_counter() - begin
    return {"wall s": seconds, "load": os.getloadavg()[0], **json.loads(done.stdout.splitlines()[-1])}


def _one(page: str, root: Path) -> None:
    """Write a page in this process, and print what it took as JSON."""
    found = PAGES[page](root)
    path = found.pop("page")
    beside = path.with_name(f"{path.stem}_images")
    used = resource.getrusage(resource.RUSAGE_SELF)
    sizes = {
        "page MB": path.stat().st_size / 1e6,
        "beside MB": sum(one.stat().st_size for one in beside.glob("*")) / 1e6,
        "peak MB": used.ru_maxrss / 1000,
    }
    print(json.dumps({**found, "CPU s": used.ru_utime + used.ru_stime, **sizes}))


def table(roots: Iterable[Path], rounds: int) -> list[dict[str, Any]]:
    """Return a row for each page of each workspace: medians of ``rounds``, in turns."""
    rows = []
    for root in roots:
        taken: dict[str, list[dict[str, Any]]] = {page: [] for page in PAGES}
        for number in range(rounds):
            for page, found in taken.items():
                found.append(measure(page, root))
                say(f"{root.name}, {page}, round {number + 1}: {found[-1]['wall s']:.1f} s, {found[-1]['CPU s']:.1f} CPU s")
        for page, found in taken.items():
            values = {key: median(one[key] for one in found) for key in found[0]}
            rows.append({"page": page, **values, "images": f"{values['images']:,.0f} of {root.name}"})
    return rows


def main(arguments: Sequence[str]) -> None:
    """Measure what the arguments name, and print it with the hardware."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", type=Path, metavar="WORKSPACE")
    parser.add_argument("--made", type=int, default=0, metavar="N", help="make a workspace of N images in the folder first")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--one", choices=PAGES, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        _one(given.one, given.roots[0])
        return
    if given.made and not (given.roots[0] / "runs").is_dir():
        make_workspace(given.roots[0], given.made)
    print_table(table(given.roots, given.rounds))
    print(f"\n{describe(hardware())}")


if __name__ == "__main__":
    sys.path += [str(HERE), str(HERE.parent / "tests")]
    main(sys.argv[1:])
