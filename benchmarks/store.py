"""The image store against decoding each file: cold builds, and warm reads.

    python benchmarks/store.py FOLDER [--images 1000] [--repeats 5] [--threads N]

Photographs of FOLDER are enlarged to three sizes and written as JPEG of quality 90 to a temporary folder. For each size the
store is built from nothing (A), and the same files are decoded in full and area-resized by as many threads without storing
anything (B); A B A B, medians. Then one thread reads stored images in random order, raw ones and JPEG ones. "Cold" is the
store: the files themselves are in the page cache for A and B alike. Prints a table and writes it as JSON.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
from common import hardware, write_results

from kaggle_kit.config import CacheConfig
from kaggle_kit.images.decode import decode_image
from kaggle_kit.images.store import ImageStore, open_store
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.machine.host import available_cpus

SIZES = {"500x750": (500, 750), "2048x1365": (1365, 2048), "4000x2672": (2672, 4000)}
"""Name -> (height, width)."""
SHARE = {"500x750": 1.0, "2048x1365": 0.25, "4000x2672": 0.125}
WANTED = {"500x750": 0.95, "2048x1365": 0.95, "4000x2672": 4.0}
READS_WANTED = 3000
SIDE = ImageSpec(224, 224).prepare_size[0]


def enlarge(photographs: list[Path], size: tuple[int, int], folder: Path) -> list[Path]:
    """Write each photograph at ``size``, turned on its side where that fits better."""
    folder.mkdir()
    written = []
    for number, path in enumerate(photographs):
        image = decode_image(path)
        if (image.shape[0] > image.shape[1]) != (size[0] > size[1]):
            image = image.transpose(1, 0, 2)
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)
        target = folder / f"{number}.jpg"
        cv2.imwrite(str(target), image[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, 90))
        written.append(target)
    return written


def decode_fully(path: Path) -> int:
    """What is done without the store: decode the whole image, bring its short side to the size by averaging areas."""
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    scale = SIDE / min(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return int(cv2.resize(image, size, interpolation=cv2.INTER_AREA)[0, 0, 0])


class Clock:
    """Seconds that passed, and seconds that the CPUs worked for this process, per image."""

    def __init__(self, images: int) -> None:
        self._images = images
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return (time.perf_counter() - self._wall) / self._images, (time.process_time() - self._cpu) / self._images


def time_baseline(paths: list[Path], threads: int) -> tuple[float, float]:
    cv2.setNumThreads(1)  # as in the store: the pool keeps the CPUs busy
    clock = Clock(len(paths))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode_fully, paths))
    return clock.read()


def build(paths: list[Path], threads: int, cache: Path, codec: str) -> ImageStore:
    raw_bytes = len(paths) * 3 * SIDE * SIDE * 2
    budget = 2 * raw_bytes if codec == "raw" else raw_bytes // 3
    store = open_store(cache, list(enumerate(paths)), (SIDE, SIDE), CacheConfig(budget=budget), workers=threads)
    if len(store) != len(paths) or store.codec != codec:
        raise SystemExit(f"the store holds {len(store)} of {len(paths)} images as {store.codec}; the timing means nothing")
    return store


def time_build(paths: list[Path], threads: int, cache: Path) -> tuple[float, float]:
    shutil.rmtree(cache, ignore_errors=True)
    clock = Clock(len(paths))
    build(paths, threads, cache, "raw")
    return clock.read()


def time_reads(paths: list[Path], cache: Path, codec: str) -> float:
    """Reads per second of one thread, after every page was touched once."""
    store = build(paths, 1, cache, codec)
    for path in paths:
        store(path)
    reads = 6000 if codec == "raw" else 1000
    order = random.Random(0).choices(paths, k=reads)
    start = time.perf_counter()
    for path in order:
        store(path)
    return reads / (time.perf_counter() - start)


def measure(name: str, photographs: list[Path], folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    paths = enlarge(photographs[: int(len(photographs) * SHARE[name])], SIZES[name], folder / name)
    cache = folder / "cache"
    builds, baselines = [], []
    time_baseline(paths, arguments.threads)  # fills the page cache
    for _ in range(arguments.repeats):
        builds.append(time_build(paths, arguments.threads, cache))
        baselines.append(time_baseline(paths, arguments.threads))
    raw_reads = [time_reads(paths, cache, "raw") for _ in range(arguments.repeats)]
    jpeg_reads = [time_reads(paths, folder / name / "cache-jpeg", "jpeg") for _ in range(arguments.repeats)]
    (cold, cold_cpu), (full, full_cpu) = (map(statistics.median, zip(*times, strict=True)) for times in (builds, baselines))
    return {
        "size": name,
        "images": len(paths),
        "store_ms": round(1000 * cold, 2),
        "full_decode_ms": round(1000 * full, 2),
        "speedup": round(full / cold, 2),
        "speedup_of_cpu_time": round(full_cpu / cold_cpu, 2),
        "speedup_wanted": WANTED[name],
        "speedups": [round(b[0] / a[0], 2) for a, b in zip(builds, baselines, strict=True)],
        "warm_reads_per_second": round(statistics.median(raw_reads)),
        "warm_reads_per_second_jpeg": round(statistics.median(jpeg_reads)),
        "warm_reads_wanted": READS_WANTED,
    }


def print_table(results: list[dict[str, object]]) -> None:
    titles = ("size", "store_ms", "full_decode_ms", "speedup", "speedup_of_cpu_time", "speedup_wanted")
    titles += ("warm_reads_per_second", "warm_reads_per_second_jpeg")
    print(" | ".join(titles))
    for row in results:
        print(" | ".join(f"{row[title]!s:>{len(title)}}" for title in titles))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="photographs")
    parser.add_argument("--images", type=int, default=1000, help="of the smallest size; fewer of the larger ones")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=available_cpus())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "store.json")
    arguments = parser.parse_args()
    photographs = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    photographs = photographs[:: max(1, len(photographs) // arguments.images)][: arguments.images]
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(name, photographs, Path(folder), arguments) for name in SIZES]
    print_table(results)
    write_results(arguments.out, results, hardware(threads=arguments.threads), repeats=arguments.repeats)


if __name__ == "__main__":
    main()
