"""Five small competitions, drawn by code in the forms of five real ones, for notebooks 10 to 14 when the real data are not here.

Each function writes what Kaggle would give to ``folder/data`` and the private answers to ``folder/answers.csv``.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Rng = np.random.Generator
SMALL: dict[str, Any] = {"image_size": 64, "batch_size": 16, "workers": 0, "precision": "fp32"}
"""Entries of a run on such pictures."""
STAND_IN = {**SMALL, "model": "tf_efficientnet_lite0"}
"""The same, with a network whose pretrained weights come with a package."""
DISEASES = ("scab", "frog_eye_leaf_spot", "rust", "powdery_mildew")
LEAVES = {"healthy": 5, "scab": 5, "rust": 4, "frog_eye_leaf_spot": 4, "powdery_mildew": 3}
LEAVES |= {"scab frog_eye_leaf_spot": 2, "rust frog_eye_leaf_spot": 2, "complex": 2}
"""A cell of labels -> how frequent it is."""
SCENES = ("bedroom", "kitchen", "livingroom", "coast", "forest", "mountain", "street", "tallbuilding")
FLOWERS = ("bluebell", "crocus", "daffodil", "daisy", "iris", "snowdrop", "sunflower", "tulip")
SPECIES = 12


def plant_pathology(folder: Path | str, *, train: int = 135, test: int = 54) -> Path:
    """Leaves with several diseases: ``train.csv`` has the columns image and labels, names with blanks between them."""
    rng, data = np.random.default_rng(1), Path(folder) / "data"
    cells = [cell for cell, times in LEAVES.items() for _ in range(times)]
    rows: dict[str, dict[str, str]] = {"train": {}, "test": {}}
    for part, count in (("train", train), ("test", test)):
        for number in range(count):
            cell, name = cells[number % len(cells)], f"{rng.integers(16**8):08x}.jpg"
            found = DISEASES if cell == "complex" else [disease for disease in DISEASES if disease in cell]
            rows[part][name] = cell
            _write(data / f"{part}_images" / name, leaf(found, rng))
    _table(data / "train.csv", image=rows["train"], labels=rows["train"].values())
    _table(data / "sample_submission.csv", image=rows["test"], labels=["healthy"] * test)
    _table(Path(folder) / "answers.csv", image=rows["test"], labels=rows["test"].values())
    return data


def plantnet(folder: Path | str, *, largest: int = 45, test: int = 60) -> Path:
    """Plants in folders 1 to 12, of which the largest has many times the images of the smallest."""
    rng, names = np.random.default_rng(2), [str(number) for number in range(1, SPECIES + 1)]
    sizes = np.maximum(4, largest * 0.8 ** rng.permutation(SPECIES)).astype(int)
    return _folders(Path(folder), names, sizes, test, "jpg", lambda kind: flower(kind, SPECIES, rng), columns=("id", "class"))


def sushi(folder: Path | str, *, train: int = 40, test: int = 30) -> Path:
    """Two folders of pictures with a transparent ground, more in ``data/auxiliary``, and in ``folder/new`` some of a later day."""
    rng, names, folder = np.random.default_rng(3), ("sandwich", "sushi"), Path(folder)
    for place, count in (("data/auxiliary", train // 4), ("new", train // 2)):
        for kind, name in enumerate(names):
            for number in range(count):
                _write(folder / place / name / f"{place[-3:]}_{name}_{number:03d}.png", dish(kind, rng))
    return _folders(folder, names, [train] * 2, test, "png", lambda kind: dish(kind, rng))


def scenes(folder: Path | str, *, train: int = 16, test: int = 64) -> Path:
    """Grey pictures of rooms, nature and cities in a folder a class."""
    rng = np.random.default_rng(4)
    sizes = [train] * (len(SCENES) - 1) + [train // 2]
    return _folders(Path(folder), SCENES, sizes, test, "jpg", lambda kind: scene(SCENES[kind], rng))


def flowers(folder: Path | str, *, train: int = 128, test: int = 48) -> Path:
    """Flowers: ``train.csv`` has the columns image_id and species, the submission a column of probabilities a species."""
    rng, data = np.random.default_rng(5), Path(folder) / "data"
    truth = {part: rng.permutation(count) % len(FLOWERS) for part, count in (("Train", train), ("Test", test))}
    for part, kinds in truth.items():
        for number, kind in enumerate(kinds.tolist()):
            _write(data / "images" / f"{part}_{number}.jpg", flower(kind, len(FLOWERS), rng))
    ids = {part: [f"{part}_{number}" for number in range(len(kinds))] for part, kinds in truth.items()}
    _table(data / "train.csv", image_id=ids["Train"], species=[FLOWERS[kind] for kind in truth["Train"]])
    _table(data / "test.csv", image_id=ids["Test"])
    _table(data / "sample_submission.csv", image_id=ids["Test"], **dict.fromkeys(FLOWERS, [1 / len(FLOWERS)] * test))
    right = {name: (truth["Test"] == kind).astype(int) for kind, name in enumerate(FLOWERS)}
    _table(Path(folder) / "answers.csv", image_id=ids["Test"], **right)
    return data


def _folders(
    folder: Path,
    names: Sequence[str],
    sizes: Sequence[int],
    test: int,
    suffix: str,
    draw: Callable[[int], Pixels],
    *,
    columns: tuple[str, str] = ("id", "label"),
) -> Path:
    """Write a folder a class below ``train``, test pictures of all classes alike, and the sample submission."""
    for kind, (name, size) in enumerate(zip(names, sizes, strict=True)):
        for number in range(size):
            _write(folder / "data" / "train" / name / f"{kind:02d}{number:04d}.{suffix}", draw(kind))
    order = np.random.default_rng(test).permutation(test) % len(names)
    answers = {f"test_{number:04d}": names[kind] for number, kind in enumerate(order.tolist())}
    for row_id, name in answers.items():
        _write(folder / "data" / "test" / f"{row_id}.{suffix}", draw(names.index(name)))
    row_ids, label = columns
    _table(folder / "data" / "sample_submission.csv", **{row_ids: answers, label: [names[0]] * test})
    _table(folder / "answers.csv", **{row_ids: answers, label: answers.values()})
    return folder / "data"


def _write(path: Path, pixels: Pixels) -> None:
    """Write RGB, RGBA or grey pixels in the format that the name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    swapped = pixels if pixels.ndim == 2 else pixels[:, :, [2, 1, 0, *range(3, pixels.shape[2])]]
    path.write_bytes(cv2.imencode(path.suffix, swapped)[1].tobytes())


def _table(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({name: list(cells) for name, cells in columns.items()}).to_csv(path, index=False)


def _noisy(canvas: np.ndarray[Any, Any], rng: Rng, amount: float = 3) -> Pixels:
    """Return uint8 pixels of a canvas, smoothed a little and with the noise of a camera."""
    smooth = cv2.GaussianBlur(canvas.astype(np.float32), (3, 3), 0)
    return (smooth + rng.normal(0, amount, canvas.shape)).clip(0, 255).round().astype(np.uint8)


def _colour(hue: float, saturation: float, value: float) -> tuple[float, ...]:
    return tuple(255 * part for part in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def leaf(diseases: Sequence[str], rng: Rng, size: tuple[int, int] = (108, 72)) -> Pixels:
    """Return (72, 108, 3): a leaf, and on it the spots of each disease."""
    width, height = size
    canvas = np.full((height, width, 3), _colour(rng.uniform(0.05, 0.2), 0.3, rng.uniform(0.35, 0.55)))
    centre, angle = (width // 2, height // 2), rng.uniform(0, 180)
    axes = (int(rng.uniform(40, 48)), int(rng.uniform(20, 26)))
    green = _colour(rng.uniform(0.27, 0.33), 0.65, rng.uniform(0.45, 0.65))
    cv2.ellipse(canvas, centre, axes, angle, 0, 360, green, -1)
    along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    across = np.array([-along[1], along[0]])
    ends = [tuple(int(value) for value in np.array(centre) + sign * axes[0] * along) for sign in (-1, 1)]
    cv2.line(canvas, *ends, _colour(0.3, 0.4, 0.75), 1)
    for disease in diseases:
        for _ in range(int(rng.integers(4, 9))):
            place = np.array(centre) + rng.uniform(-0.7, 0.7) * axes[0] * along + rng.uniform(-0.6, 0.6) * axes[1] * across
            _spot(canvas, disease, (int(place[0]), int(place[1])), rng)
    return _noisy(canvas, rng)


def _spot(canvas: np.ndarray[Any, Any], disease: str, place: tuple[int, int], rng: Rng) -> None:
    if disease == "scab":
        cv2.ellipse(canvas, place, (int(rng.integers(4, 7)), 3), rng.uniform(0, 180), 0, 360, _colour(0.13, 0.8, 0.2), -1)
    elif disease == "rust":
        cv2.circle(canvas, place, int(rng.integers(2, 4)), _colour(0.07, 0.95, 0.95), -1)
    elif disease == "powdery_mildew":
        cv2.circle(canvas, place, int(rng.integers(5, 9)), _colour(0.25, 0.1, 0.9), -1)
    else:  # a frog's eye: a dark ring around a pale middle
        cv2.circle(canvas, place, 4, _colour(0.03, 0.8, 0.35), -1)
        cv2.circle(canvas, place, 2, _colour(0.1, 0.3, 0.8), -1)


def flower(kind: int, kinds: int, rng: Rng, side: int = 72) -> Pixels:
    """Return about (72, 72, 3): petals whose number, form and colour tell the kind."""
    height, width = (int(side * rng.uniform(0.85, 1.15)) for _ in range(2))
    canvas = np.full((height, width, 3), _colour(rng.uniform(0.25, 0.4), 0.5, rng.uniform(0.25, 0.45)))
    for _ in range(12):  # grass
        x, lean = int(rng.integers(width)), int(rng.integers(-12, 12))
        cv2.line(canvas, (x, height), (x + lean, int(rng.integers(height))), _colour(0.3, 0.6, rng.uniform(0.3, 0.6)), 1)
    petals, slim = (4, 5, 6, 8, 12)[kind % 5], (0.28, 0.45)[kind % 2]
    hue, turn = (kind + rng.normal(0, 0.4)) / kinds, rng.uniform(0, 360)
    radius = side * rng.uniform(0.2, 0.3)
    centre = np.array([width, height]) * rng.uniform(0.38, 0.62, 2)
    for petal in range(petals):
        angle = turn + 360 * petal / petals
        middle = centre + 0.6 * radius * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        shape = (int(0.6 * radius), max(2, int(slim * radius)))
        shade = _colour(hue, 0.55 + 0.2 * (kind % 3), rng.uniform(0.8, 1))
        cv2.ellipse(canvas, (int(middle[0]), int(middle[1])), shape, angle, 0, 360, shade, -1)
    cv2.circle(canvas, (int(centre[0]), int(centre[1])), int(0.3 * radius), _colour(0.13, 0.9, 0.8), -1)
    return _noisy(canvas, rng)


def dish(kind: int, rng: Rng, side: int = 96) -> Pixels:
    """Return (96, 96, 4) with a transparent ground: a sandwich (0) or sushi (1), each seen from above or from the side."""
    canvas, seen = np.full((side, side, 3), 255.0), np.zeros((side, side), np.uint8)
    x, y = (int(side / 2 + rng.uniform(-12, 12)) for _ in range(2))
    size, fish = rng.uniform(0.6, 1.1), _colour(rng.uniform(0.0, 0.1), 0.7, 0.95)
    salad, bread = _colour(rng.uniform(0.2, 0.4), 0.6, rng.uniform(0.4, 0.7)), _colour(0.1, 0.5, rng.uniform(0.6, 0.9))
    rice, seaweed = _colour(0.1, 0.05, 0.95), _colour(0.4, 0.5, rng.uniform(0.1, 0.3))
    layers: list[tuple[float, float, float, tuple[float, ...]]]  # half the width and the height, below the middle, colour
    if rng.random() < 0.5:
        outer, ring, middle = (
            (seaweed, rice, (fish, salad)[rng.integers(2)]) if kind else (bread, (fish, rice)[rng.integers(2)], salad)
        )
        layers = [(26, 26, 0, outer), (21, 21, 0, ring), (9, 9, 0, middle)]
    elif kind:
        layers = [(32, 12, 8, rice), (36, 10, -4, (fish, salad)[rng.integers(2)])]
    else:
        layers = [(34, 8, 14, bread), (37, 4, 5, salad), (35, 4, -1, fish), (34, 8, -10, bread)]
    for wide, high, below, colour in layers:
        place, shape = (x, int(y + below * size)), (int(wide * size), int(high * size))
        cv2.ellipse(canvas, place, shape, 0, 0, 360, colour, -1)
        cv2.ellipse(seen, place, shape, 0, 0, 360, 255, -1)
    turned = cv2.getRotationMatrix2D((x, y), rng.uniform(-60, 60), 1)
    canvas = cv2.warpAffine(canvas, turned, (side, side), borderValue=(255, 255, 255))
    seen = cv2.warpAffine(seen, turned, (side, side))
    return np.dstack([_noisy(canvas, rng), seen]).astype(np.uint8)


def scene(name: str, rng: Rng, size: tuple[int, int] = (96, 72)) -> Pixels:
    """Return (72, 96) grey: ``name`` in a few strokes; rooms are much alike, and so are nature and cities among themselves."""
    width, height = size
    canvas = np.full((height, width), rng.uniform(150, 200))
    _STROKES[name](canvas, rng)
    return _noisy(canvas * rng.uniform(0.6, 1.2), rng, 12)


def _room(canvas: Any, rng: Rng, *, furniture: Sequence[tuple[float, float, float, int]]) -> None:
    """A wall, a floor, a window, and furniture as (left, width and height in parts of the picture, grey)."""
    height, width = canvas.shape
    floor = int(0.75 * height)
    canvas[floor:] = rng.uniform(80, 120)
    left = int(rng.uniform(0.1, 0.7) * width)
    cv2.rectangle(canvas, (left, 8), (left + 18, 26), 235, -1)
    for start, wide, high, grey in furniture:
        x = int((start + rng.normal(0, 0.08)) * width)
        top = floor + 6 - int(high * height * rng.uniform(0.7, 1.3))
        cv2.rectangle(canvas, (x, top), (x + int(wide * width), floor + 6), grey + rng.normal(0, 25), -1)


def _nature(canvas: Any, rng: Rng, *, peaks: int = 0, trunks: int = 0, waves: bool = False) -> None:
    height, width = canvas.shape
    horizon = int(height * rng.uniform(0.4, 0.6))
    canvas[:horizon] = np.linspace(230, 170, horizon)[:, None]
    canvas[horizon:] = rng.uniform(90, 130)
    for _ in range(peaks):
        x, reach = int(rng.integers(width)), int(rng.integers(18, 40))
        cv2.fillPoly(
            canvas, [np.array([[x - reach, horizon], [x, horizon - reach], [x + reach, horizon]])], rng.uniform(60, 110)
        )
    for _ in range(trunks):
        x = int(rng.integers(width))
        cv2.line(canvas, (x, 0), (x + int(rng.integers(-4, 4)), height), rng.uniform(20, 90), int(rng.integers(1, 5)))
    for row in range(horizon, height, 5) if waves else ():
        canvas[row : row + 2] += 40


def _city(canvas: Any, rng: Rng, *, towers: int, road: bool) -> None:
    height, width = canvas.shape
    horizon = int(height * rng.uniform(0.4, 0.6))
    for _ in range(towers):
        left, wide, top = int(rng.integers(-10, width - 10)), int(rng.integers(16, 34)), int(rng.integers(0, 22))
        bottom = horizon + 10 if road else height
        cv2.rectangle(canvas, (left, top), (left + wide, bottom), rng.uniform(70, 130), -1)
        for y in range(top + 4, bottom - 4, 7):
            for x in range(max(left + 3, 0), left + wide - 3, 6):
                canvas[y : y + 3, x : x + 3] = 215
    if road:
        end = int(width * rng.uniform(0.4, 0.6))
        cv2.fillPoly(canvas, [np.array([[end, horizon], [0, height], [width, height]])], 60)
        cv2.line(canvas, (end, horizon), (width // 2, height), 220, 1)


_STROKES: dict[str, Callable[[Any, Rng], None]] = {
    "bedroom": lambda *at: _room(*at, furniture=[(0.2, 0.6, 0.22, 210), (0.2, 0.12, 0.38, 90)]),
    "livingroom": lambda *at: _room(*at, furniture=[(0.15, 0.6, 0.22, 120), (0.15, 0.6, 0.36, 90), (0.35, 0.25, 0.1, 50)]),
    "kitchen": lambda *at: _room(*at, furniture=[(0.0, 0.9, 0.3, 160), (0.1, 0.16, 0.55, 70), (0.55, 0.16, 0.55, 70)]),
    "coast": lambda *at: _nature(*at, waves=True),
    "forest": lambda *at: _nature(*at, trunks=16),
    "mountain": lambda *at: _nature(*at, peaks=5),
    "street": lambda *at: _city(*at, towers=4, road=True),
    "tallbuilding": lambda *at: _city(*at, towers=2, road=False),
}
