"""The store returns what the files would, builds once, and survives interruption, damage and a full budget."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from kaggle_kit.config import AugmentConfig, CacheConfig
from kaggle_kit.errors import ConfigError, ImageError, MissingFileError
from kaggle_kit.images import shards
from kaggle_kit.images.dataset import FileSource, ImageDataset
from kaggle_kit.images.loaders import TrainLoader, eval_batches
from kaggle_kit.images.samplers import make_sampler
from kaggle_kit.images.shards import CODECS
from kaggle_kit.images.store import ImageStore, drop_store, list_stores, open_store, pixel_source, verify_store
from kaggle_kit.images.transforms import ImageSpec, train_transform
from kaggle_kit.machine.host import free_budget
from kaggle_kit.units import parse_bytes

SPEC = ImageSpec(24, 24)
SIZE = SPEC.prepare_size
Rows = list[tuple[str, Path]]


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    rng = np.random.default_rng(0)
    result = []
    for number in range(12):
        path = tmp_path / "data" / f"{number}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(exist_ok=True)
        height, width = (int(side) for side in rng.integers(20, 300, 2))
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 255, (4, 5, 3), dtype=np.uint8), (width, height)))
        result.append((f"id{number}", path))
    return result


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def budget(value: str | int) -> CacheConfig:
    return CacheConfig(budget=value)


def is_whole(store: ImageStore, rows: Rows) -> bool:
    files = FileSource(SIZE)
    return all(path in store and np.array_equal(store(path), files(path)) for _, path in rows)


def test_raw_pixels_are_those_of_the_files(cache: Path, rows: Rows) -> None:
    store = open_store(cache, rows, SIZE, budget("1GB"))
    assert store.codec == "raw"
    assert is_whole(store, rows)
    assert len(store) == len(rows)
    assert store.unreadable == {}
    store(rows[0][1])[:] = 0  # a caller's own copy
    assert is_whole(store, rows)


def test_jpeg_pixels_are_close(cache: Path, rows: Rows) -> None:
    open_store(cache, rows, SIZE, budget("1GB"))
    raw_bytes = list_stores(cache)[0].bytes
    drop_store(list_stores(cache)[0].directory)
    store = open_store(cache, rows, SIZE, budget(int(raw_bytes * 0.9)))
    assert store.codec == "jpeg"
    assert len(store) == len(rows)
    files = FileSource(SIZE)
    for _, path in rows:
        assert np.abs(store(path).astype(int) - files(path)).mean() < 3


@pytest.mark.parametrize("codec", list(CODECS))
def test_every_codec_keeps_shape_and_nearly_the_pixels(codec: str, rows: Rows) -> None:
    image = FileSource(SIZE)(rows[0][1])
    data = np.frombuffer(CODECS[codec].encode(image), np.uint8)
    again = CODECS[codec].decode(data, *image.shape[:2])
    assert again.shape == image.shape
    assert np.abs(again.astype(int) - image).mean() < 3


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_with_and_without_the_store_are_the_same(cache: Path, rows: Rows, workers: int) -> None:
    paths = [path for _, path in rows]
    store = open_store(cache, rows, SIZE, budget("1GB"))
    sources = (store, FileSource(SIZE))
    first, second = ([b.images for b in eval_batches(rows, SPEC, batch_size=5, workers=workers, source=s)] for s in sources)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    transform = train_transform(SPEC, AugmentConfig(preset="medium"))
    sampler = make_sampler("shuffle", np.zeros(len(paths), np.int64), seed=0)
    loaders = [
        TrainLoader(ImageDataset(paths, transform, source=source), sampler, batch_size=5, seed=0, workers=workers)
        for source in sources
    ]
    first, second = ([batch.images for batch in loader.batches(0)] for loader in loaders)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_what_is_stored_is_not_decoded_again(cache: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(cache, rows[:8], SIZE, budget("1GB"))
    decoded: list[Path] = []
    original = shards._prepare_file

    def counting(path: Path, recipe: shards.Recipe) -> shards._Prepared:
        decoded.append(path)
        return original(path, recipe)

    monkeypatch.setattr(shards, "_prepare_file", counting)
    seen: list[tuple[int, int]] = []
    assert is_whole(open_store(cache, rows, SIZE, budget("1GB"), progress=lambda *at: seen.append(at)), rows)
    assert sorted(decoded) == sorted(path for _, path in rows[8:])
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    open_store(cache, rows[2:5], SIZE, budget("1GB"))
    assert len(decoded) == 4


def test_a_changed_file_is_decoded_again(cache: Path, rows: Rows) -> None:
    store = open_store(cache, rows, SIZE, budget("1GB"))
    key, path = rows[0]
    before = store(path)
    cv2.imwrite(str(path), np.full((90, 90, 3), 7, np.uint8))
    os.utime(path, ns=(1, 1))
    assert verify_store(store.directory) == [f"{path}: the file has changed; it is decoded again when needed."]
    again = open_store(cache, [(key, path)], SIZE, budget("1GB"))
    assert (again(path) == 7).all()
    assert not np.array_equal(before, again(path))
    assert verify_store(store.directory) == []


def test_an_interrupted_build_goes_on(cache: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_SHARD_BYTES", 4000)

    def interrupt(done: int, total: int) -> None:
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(cache, rows, SIZE, budget("1GB"), progress=interrupt)
    directory = list_stores(cache)[0].directory
    half = list_stores(cache)[0].images
    assert 0 < half < len(rows)
    (directory / "00000000000000000001.bin").write_bytes(b"an orphan")
    (directory / ".abc.tmp.bin").write_bytes(b"half a shard")
    seen: list[tuple[int, int]] = []
    store = open_store(cache, rows, SIZE, budget("1GB"), progress=lambda *at: seen.append(at))
    assert seen[0] == (1, len(rows) - half)
    assert is_whole(store, rows)
    assert not (directory / "00000000000000000001.bin").exists()
    assert not (directory / ".abc.tmp.bin").exists()


def test_two_builders_at_once(cache: Path, rows: Rows) -> None:
    """Two processes are started on an empty cache; neither fails, and nothing is stored twice."""
    script = (
        "import sys; from pathlib import Path; from kaggle_kit.images.store import open_store\n"
        "rows = [(path.stem, path) for path in sorted(Path(sys.argv[2]).iterdir())]\n"
        f"store = open_store(Path(sys.argv[1]), rows, {SIZE!r})\n"
        "print(len(store))"
    )
    command = [sys.executable, "-c", script, str(cache), str(rows[0][1].parent)]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [builder.communicate()[0].strip() for builder in builders] == ["12", "12"]
    (info,) = list_stores(cache)
    assert sum(len(entries) for _, entries in shards.read_listings(info.directory)) == len(rows)
    assert verify_store(info.directory) == []


def test_what_another_builder_is_writing_is_no_listing(cache: Path, rows: Rows) -> None:
    store = open_store(cache, rows, SIZE, budget("1GB"))
    assert store is not None
    (store.directory / f".{shards.META}.0123abcd.json").write_text('{"size": [8, 8]}')
    assert sum(len(entries) for _, entries in shards.read_listings(store.directory)) == len(rows)


def test_the_second_builder_waits_for_the_first(cache: Path, rows: Rows) -> None:
    started, go_on = threading.Event(), threading.Event()

    def hold(done: int, total: int) -> None:
        started.set()
        assert go_on.wait(20)

    first = threading.Thread(target=open_store, args=(cache, rows, SIZE, budget("1GB")), kwargs={"progress": hold})
    first.start()
    assert started.wait(20)
    seen: list[int] = []
    second = threading.Thread(
        target=open_store, args=(cache, rows, SIZE, budget("1GB")), kwargs={"progress": lambda *at: seen.append(at[0])}
    )
    second.start()
    second.join(0.3)
    assert second.is_alive()
    go_on.set()
    first.join()
    second.join()
    assert seen == []
    assert list_stores(cache)[0].images == len(rows)


def test_unreadable_images_are_reported_and_raised(cache: Path, rows: Rows) -> None:
    rows[3][1].write_bytes(rows[3][1].read_bytes()[:200])
    broken = [*rows, ("gone", rows[0][1].with_name("gone.png")), ("again", rows[3][1])]
    for enabled in (True, False):
        source, reasons = pixel_source(cache, broken, SIZE, CacheConfig(enabled=enabled))
        assert list(reasons) == ["id3", "gone", "again"]
        assert "no such file" in reasons["gone"]
        with pytest.raises(ImageError, match=rows[3][1].name):
            source(rows[3][1])
    cv2.imwrite(str(rows[3][1]), np.zeros((50, 50, 3), np.uint8))  # mended
    assert list(open_store(cache, broken, SIZE).unreadable) == ["gone"]


def test_a_spent_budget_leaves_the_rest_to_the_files(
    cache: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shards, "_SHARD_BYTES", 1)
    rows[11][1].write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        store = open_store(cache, rows, SIZE, budget(3000))
    assert 0 < len(store) < len(rows) - 1
    assert "cache.budget" in caplog.text
    assert list(store.unreadable) == ["id11"]
    assert all(store(path).size for _, path in rows[:11])


def test_a_read_only_workspace_slows_down_and_stops_nothing(cache: Path, rows: Rows, caplog: pytest.LogCaptureFixture) -> None:
    cache.write_bytes(b"a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        source, reasons = pixel_source(cache, rows, SIZE, CacheConfig())
    assert isinstance(source, FileSource)
    assert reasons == {}
    assert "read from their files" in caplog.text


def test_a_full_disk_keeps_what_was_stored(
    cache: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_store(cache, rows[:5], SIZE, budget("1GB"))

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards.files, "write_text", full)
    with caplog.at_level(logging.WARNING):
        store = open_store(cache, rows, SIZE, budget("1GB"))
    assert "No space left" in caplog.text
    assert len(store) == 5
    assert store.unreadable == {}
    np.testing.assert_array_equal(store(rows[7][1]), FileSource(SIZE)(rows[7][1]))


def test_the_codec_once_chosen_stays(cache: Path, rows: Rows) -> None:
    assert open_store(cache, rows, SIZE, budget("1GB")).codec == "raw"
    assert open_store(cache, rows, SIZE, budget(10)).codec == "raw"
    assert open_store(cache, rows, (200, 200), budget(10)).codec == "jpeg"
    assert [(info.size, info.codec) for info in list_stores(cache)] == [((200, 200), "jpeg"), (SIZE, "raw")]


def test_verify_finds_damage_and_drop_removes(cache: Path, rows: Rows) -> None:
    store = open_store(cache, rows, SIZE, budget("1GB"))
    assert verify_store(store.directory) == []
    (shard,) = store.directory.glob("*.bin")
    content = bytearray(shard.read_bytes())
    content[10] ^= 1
    shard.write_bytes(bytes(content))
    (problem,) = verify_store(store.directory, sources=False)
    assert "damaged" in problem
    rows[5][1].unlink()
    assert any("gone" in line for line in verify_store(store.directory))
    assert drop_store(store.directory) == len(content)
    assert list_stores(cache) == []
    assert not store.directory.exists()
    np.testing.assert_array_equal(store(rows[0][1]).shape, FileSource(SIZE)(rows[0][1]).shape)
    for function in (verify_store, drop_store):
        with pytest.raises(MissingFileError, match="is no image store"):
            function(store.directory)


def test_a_store_dropped_before_the_first_read_falls_back(cache: Path, rows: Rows) -> None:
    store = open_store(cache, rows, SIZE, budget("1GB"))
    assert len(store) == len(rows)
    drop_store(store.directory)
    np.testing.assert_array_equal(store(rows[0][1]), FileSource(SIZE)(rows[0][1]))


def test_budgets(tmp_path: Path) -> None:
    assert parse_bytes("8GB") == 8 * 1000**3
    assert parse_bytes("1.5 m") == 1_500_000
    assert parse_bytes(123) == 123
    for wrong in ("", "8 GiBB", "-3", "lots"):
        with pytest.raises(ConfigError, match=r"cache\.budget"):
            parse_bytes(wrong)
    assert 0 < free_budget(tmp_path / "not" / "yet", memory=True) <= free_budget(tmp_path, memory=False) + 10**9
