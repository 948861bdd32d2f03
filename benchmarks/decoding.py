"""Which library decodes JPEG fastest? Each decodes the same bytes, in turns, on one core.

    python benchmarks/decoding.py FOLDER [FOLDER ...] [--images 200] [--side 224]

For each folder of photographs, and for made ones of 4000 x 2672 pixels: milliseconds an image (median of the turns) to RGB of
the whole image, and to one that is reduced while it is decoded but no smaller than --side on any side, where the library can.
The last column is the furthest that a pixel is from OpenCV's. `kaggle_kit` is the package's one decoder, with its checks.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import RESULTS, describe, hardware, photographs, print_table, say, write_results

from kaggle_kit.images.decode import decode_bytes

ROUNDS = 5
Decoder = Callable[[bytes, int | None], Any]


_OPENCV = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}
"""Scale -> how OpenCV is asked for it in the order of RGB: its flags of reduced colour images say BGR."""


def by_opencv(data: bytes, side: int | None) -> Any:
    from PIL import Image

    scale = 1
    if side is not None:
        with Image.open(BytesIO(data)) as image:  # OpenCV does not tell the size
            scale = max((one for one in _OPENCV if min(image.size) // one >= side), default=1)
    return cv2.imdecode(np.frombuffer(data, np.uint8), _OPENCV[scale])


def by_pillow(data: bytes, side: int | None) -> Any:
    from PIL import Image

    with Image.open(BytesIO(data)) as image:
        if side is not None:
            image.draft("RGB", (side, side))
        return np.asarray(image.convert("RGB"))


def by_simplejpeg(data: bytes, side: int | None) -> Any:
    import simplejpeg

    least = {} if side is None else {"min_height": side, "min_width": side, "min_factor": 1}
    return simplejpeg.decode_jpeg(data, "RGB", **least)


def by_torchvision(data: bytes, side: int | None) -> Any:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    if side is not None:
        return None
    return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB).permute(1, 2, 0).numpy()


def by_us(data: bytes, side: int | None) -> Any:
    return decode_bytes(data, "image", min_size=None if side is None else (side, side))


DECODERS: dict[str, Decoder] = {
    "opencv": by_opencv,
    "simplejpeg": by_simplejpeg,
    "pillow": by_pillow,
    "torchvision": by_torchvision,
    "kaggle_kit": by_us,
}


def made(count: int) -> list[bytes]:
    """JPEG files of 4000 x 2672 pixels: smooth shapes with some grain, of about 2 MB each."""
    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        small = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        image = cv2.resize(small, (4000, 2672), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        image += rng.normal(0, 6, image.shape).astype(np.int16)
        found.append(cv2.imencode(".jpg", image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return found


def measure(name: str, images: Sequence[bytes], side: int) -> list[dict[str, Any]]:
    """All decoders on the same images, in turns."""
    taken: dict[tuple[str, int | None], list[float]] = {}
    for _ in range(ROUNDS):
        for decoder, decode in DECODERS.items():
            for least in (None, side):
                if decode(images[0], least) is None:
                    continue
                start = time.perf_counter()
                for data in images:
                    decode(data, least)
                taken.setdefault((decoder, least), []).append((time.perf_counter() - start) / len(images))
    rows = []
    for decoder, decode in DECODERS.items():
        far = max(int(np.abs(decode(data, None).astype(int) - by_opencv(data, None).astype(int)).max()) for data in images[:20])
        row: dict[str, Any] = {"images": name, "decoder": decoder}
        for least, column in ((None, "whole, ms"), (side, f"at least {side}, ms")):
            found = taken.get((decoder, least))
            row[column] = None if found is None else round(1000 * statistics.median(found), 3)
        rows.append({**row, "furthest pixel": far})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", help="folders of JPEG photographs")
    parser.add_argument("--images", type=int, default=200, help="of each folder")
    parser.add_argument("--side", type=int, default=224, help="shortest side that a reduced image must have")
    parser.add_argument("--out", type=Path, default=RESULTS / "decoding.json")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    sets = {folder.name: [path.read_bytes() for path in photographs(folder, arguments.images)] for folder in arguments.folders}
    sets["made, 4000 x 2672"] = made(6)
    facts, rows = hardware(), []
    for name, images in sets.items():
        say(f"{name}: {len(images)} images, {statistics.mean(map(len, images)) / 1e3:.0f} kB each")
        rows += measure(name, images, arguments.side)
    print_table(rows)
    print(describe(facts))
    write_results(arguments.out, rows, facts, side=arguments.side)


if __name__ == "__main__":
    main()
