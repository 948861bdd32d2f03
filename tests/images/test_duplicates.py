"""Which images count as the same picture, and which do not."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from kaggle_kit.competition import Competition, ImageRow
from kaggle_kit.config import FoldsConfig, SubmissionConfig
from kaggle_kit.folds import Duplicates, Key
from kaggle_kit.images import duplicates as search
from kaggle_kit.images.duplicates import find_competition_duplicates, find_duplicates
from kaggle_kit.tables import Classes

Rows = list[tuple[Key, Path]]


def picture(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A smooth random picture with some structure, as photographs have, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.uniform(0, 255, (6, 8, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.uniform(-30, 30, (24, 32, 3)), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(coarse + fine, 0, 255).astype(np.uint8)


def save(folder: Path, name: str, pixels: np.ndarray, *options: int) -> tuple[Key, Path]:
    path = folder / name
    assert cv2.imwrite(str(path), pixels, options)
    return ("train", name), path


def names_of(found: Duplicates) -> set[frozenset[str]]:
    return {frozenset(name for _, name in group) for group in found.groups}


def test_equal_pixels_are_exact_duplicates_whatever_the_file(tmp_path: Path) -> None:
    rows = [
        save(tmp_path, "a.png", picture(1)),
        save(tmp_path, "a.bmp", picture(1)),
        save(tmp_path, "a_packed.png", picture(1), cv2.IMWRITE_PNG_COMPRESSION, 9),
        save(tmp_path, "b.png", picture(2)),
    ]
    found = find_duplicates(rows, near_distance=None)
    assert found.search == "exact"
    assert names_of(found) == {frozenset({"a.png", "a.bmp", "a_packed.png"})}
    assert found.exact == found.groups
    assert found.near == ()


def test_one_pixel_apart_is_near_and_not_exact(tmp_path: Path) -> None:
    changed = picture(1)
    changed[0, 0] ^= 1
    rows = [save(tmp_path, "a.png", picture(1)), save(tmp_path, "b.png", changed)]
    assert find_duplicates(rows, near_distance=None).groups == ()
    found = find_duplicates(rows, near_distance=4)
    assert found.near == ((("train", "a.png"), ("train", "b.png")),)
    assert found.exact == ()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "change",
    [
        lambda image: cv2.resize(image, (90, 70), interpolation=cv2.INTER_AREA),
        lambda image: cv2.convertScaleAbs(image, alpha=0.7, beta=20),
        lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR),
        lambda image: cv2.GaussianBlur(image, (3, 3), 0),
        lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[:, :, None], 3, axis=2),
    ],
    ids=["smaller", "contrast", "jpeg", "blur", "grey"],
)
def test_the_same_picture_changed_is_a_near_duplicate(tmp_path: Path, change, seed: int) -> None:
    rows = [save(tmp_path, f"{other}.png", picture(other)) for other in range(6)]
    rows.append(save(tmp_path, "changed.png", change(picture(seed))))
    assert names_of(find_duplicates(rows, near_distance=6)) == {frozenset({f"{seed}.png", "changed.png"})}


def test_different_pictures_are_no_duplicates(tmp_path: Path) -> None:
    rows = [save(tmp_path, f"{seed}.png", picture(seed)) for seed in range(40)]
    assert find_duplicates(rows, near_distance=4).groups == ()


def test_a_large_jpeg_read_at_reduced_size_still_matches_its_pixels(tmp_path: Path) -> None:
    jpeg = save(tmp_path, "a.jpg", picture(3, 800, 1000))
    copy = save(tmp_path, "a.png", cv2.imread(str(jpeg[1])))
    assert find_duplicates([jpeg, copy], near_distance=None).exact == ((("train", "a.jpg"), ("train", "a.png")),)


def test_flat_images_are_duplicates_only_when_exact(tmp_path: Path) -> None:
    def flat(level: int) -> np.ndarray:
        return np.full((64, 64, 3), level, np.uint8)

    rows = [
        save(tmp_path, "black.png", flat(0)),
        save(tmp_path, "black2.png", flat(0)),
        save(tmp_path, "white.png", flat(255)),
        save(tmp_path, "almost.png", flat(254)),
    ]
    assert names_of(find_duplicates(rows, near_distance=8)) == {frozenset({"black.png", "black2.png"})}


def test_digits_are_not_glued_together(tmp_path: Path) -> None:
    """8 x 8 images of ten kinds: many look alike, none is the same."""
    from sklearn.datasets import load_digits

    rows = [save(tmp_path, f"{row}.png", np.uint8(image * 15)) for row, image in enumerate(load_digits().images[:300])]
    assert find_duplicates(rows, near_distance=4).groups == ()


def test_enlarged_digits_are_rarely_glued_together(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    images = [cv2.resize(np.uint8(image * 15), (48, 48), interpolation=cv2.INTER_CUBIC) for image in load_digits().images[:600]]
    rows = [save(tmp_path, f"{row}.png", image) for row, image in enumerate(images)]
    assert sum(map(len, find_duplicates(rows, near_distance=4).groups)) < 0.05 * len(rows)


def test_a_chain_of_look_alikes_falls_back_to_exact_duplicates(tmp_path: Path) -> None:
    """Frames of a slow pan: each is like the next one, the first and the last are not alike."""
    wide = picture(5, 96, 400)
    rows = [save(tmp_path, f"{frame:02d}.png", wide[:, frame : frame + 128]) for frame in range(30)]
    rows.append(save(tmp_path, "copy.png", wide[:, 0:128]))
    found = find_duplicates(rows, near_distance=6)
    assert names_of(found) == {frozenset({"00.png", "copy.png"})}
    assert found.near == ()
    assert "look alike in a chain" in found.warnings[0]
    assert "group column" in found.warnings[0]


def test_many_copies_of_one_picture_stay_together(tmp_path: Path) -> None:
    rows = [save(tmp_path, f"{copy}.png", picture(1)) for copy in range(25)]
    found = find_duplicates(rows, near_distance=4)
    assert [len(group) for group in found.groups] == [25]
    assert found.warnings == ()


def test_result_does_not_depend_on_the_order(tmp_path: Path) -> None:
    rows = [save(tmp_path, f"{row}.png", picture(row % 5)) for row in range(12)]
    expected = find_duplicates(rows, near_distance=4)
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        assert find_duplicates(rows, near_distance=4, workers=1 + seed) == expected


def test_unreadable_images_are_listed_and_the_rest_compared(tmp_path: Path) -> None:
    rows = [save(tmp_path, "a.png", picture(1)), save(tmp_path, "b.png", picture(1))]
    (tmp_path / "bad.png").write_bytes(b"not an image")
    rows += [(("test", "bad"), tmp_path / "bad.png"), (("test", "gone"), tmp_path / "gone.png")]
    found = find_duplicates(rows, near_distance=4)
    assert set(found.unreadable) == {("test", "bad"), ("test", "gone")}
    assert names_of(found) == {frozenset({"a.png", "b.png"})}


def test_progress_counts_every_image(tmp_path: Path) -> None:
    rows = [save(tmp_path, f"{row}.png", picture(row)) for row in range(4)]
    seen: list[tuple[int, int]] = []
    find_duplicates(rows, near_distance=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("rows", [[], [(("train", "a"), Path("missing.png"))]])
def test_nothing_to_compare(rows: Rows) -> None:
    assert find_duplicates(rows, near_distance=4).groups == ()


def test_a_competition_is_searched_as_configured(tmp_path: Path) -> None:
    changed = cv2.GaussianBlur(picture(1), (3, 3), 0)
    train = [save(tmp_path, "a.png", picture(1)), save(tmp_path, "b.png", changed)]
    test = save(tmp_path, "t.png", picture(1))
    competition = Competition(
        "zoo",
        "multiclass",
        "accuracy",
        Classes(("x",)),
        tuple(ImageRow(key[1], path, ("x",)) for key, path in train),
        (ImageRow("t", test[1]),),
        SubmissionConfig(),
        None,
        "f00d",
    )
    near, exact, off = (
        find_competition_duplicates(competition, FoldsConfig(duplicates=kind)) for kind in ("near", "exact", "off")
    )
    assert off is None
    assert exact.groups == ((("test", "t"), ("train", "a.png")),)
    assert near.groups == ((("test", "t"), ("train", "a.png"), ("train", "b.png")),)
    assert near.in_test() == [(("a.png", "b.png"), ("t",))]


@pytest.mark.parametrize("distance", [0, 1, 4, 7, 8, 9, 20])
def test_close_pairs_are_those_of_comparing_all(distance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_PAIRS_AT_ONCE", 64)  # so that buckets are cut into several blocks
    rng = np.random.default_rng(distance)
    values = rng.integers(0, 2**64, 60, dtype=np.uint64)
    flips = rng.integers(0, 64, (60, distance + 2))
    values[30:] = [int(value) ^ sum({1 << int(bit) for bit in row}) for value, row in zip(values[:30], flips[:30], strict=True)]
    values[5] = values[6]
    expected = {
        (first, second)
        for first, second in itertools.combinations(range(60), 2)
        if (int(values[first]) ^ int(values[second])).bit_count() <= distance
    }
    assert {tuple(pair) for pairs in search._close_pairs(values, distance) for pair in pairs.tolist()} == expected


def test_popcount_without_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 2**64, 100, dtype=np.uint64)
    values[:2] = 0, 2**64 - 1
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert search._popcount(values).tolist() == [int(value).bit_count() for value in values]


def test_search_of_many_hashes_is_not_quadratic() -> None:
    """100,000 hashes take about half a second; comparing all would take half a minute."""
    values = np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64)
    start = time.perf_counter()
    assert sum(len(pairs) for pairs in search._close_pairs(values, 4)) == 0
    assert time.perf_counter() - start < 10
