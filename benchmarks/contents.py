"""How fast are images fingerprinted: every byte the first time, size and time after that.

    python benchmarks/contents.py [--images 3000] [--bytes 100000] [--folder DIR]

Files of random bytes stand for images: only bytes are read. They have just been written, so that the disk is not measured.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from common import cpu_name

from kaggle_kit.competition import ImageRow
from kaggle_kit.competition.contents import contents_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--bytes", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        rows = []
        for number in range(options.images):
            path = Path(scratch) / f"{number}.jpg"
            path.write_bytes(rng.bytes(options.bytes))
            rows.append(ImageRow(path.name, path))
        for what in ("first", "again"):
            start = perf_counter()
            found = contents_of(rows, Path(scratch) / "cache")
            seconds = perf_counter() - start
            print(f"{what}: {len(found.hashes) / seconds:,.0f} images a second")
    machine = f"{cpu_name()} ({os.cpu_count()} CPUs), load {os.getloadavg()[0]:.1f}"
    print(f"{options.images:,} files of {options.bytes:,} bytes, {machine}")


if __name__ == "__main__":
    main()
