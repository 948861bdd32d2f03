"""How long it takes to unpack 42,000 digits from a table of pixels, and with how much memory. Prints one line.

python benchmarks/unpacking.py [ROWS]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from kaggle_kit.choices import CONTAINERS
from kaggle_kit.competition.containers import unpack
from kaggle_kit.config import ContainerConfig
from kaggle_kit.machine.host import available_cpus


def write_table(path: Path, rows: int) -> None:
    """Write digits of 28 x 28 pixels as Digit Recognizer has them."""
    images, target = load_digits(return_X_y=True)
    small = np.kron(images.reshape(-1, 8, 8), np.ones((4, 4)))[:, 2:30, 2:30] * (255 / 16)  # (1797, 28, 28)
    for start in range(0, rows, 6000):
        which = np.arange(start, min(start + 6000, rows)) % len(small)
        frame = pd.DataFrame(small[which].reshape(len(which), -1).astype(int), columns=[f"pixel{at}" for at in range(784)])
        frame.insert(0, "label", target[which])
        frame.to_csv(path, index=False, mode="a", header=start == 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="?", default=42_000, help="digits in the table")
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        write_table(data / "train.csv", rows)
        began, worked = time.perf_counter(), time.process_time()
        options = CONTAINERS["pixel-table"].recognise(data / "train.csv")
        found = time.perf_counter() - began
        one = ContainerConfig(path="train.csv", kind="pixel-table", to="train", options={**options, "shape": [28, 28, 1]})
        unpack(Path(folder), data, [one])
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
        again = time.perf_counter()
        unpack(Path(folder), data, [one])
        again = time.perf_counter() - again
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{rows:,} digits unpacked in {seconds:.1f} s ({found:.1f} s of it to look at them; {worked:.1f} s of CPUs), "
        f"nothing to do in {again:.2f} s; largest memory {memory:.0f} MB; {available_cpus()} CPUs"
    )


if __name__ == "__main__":
    main()
