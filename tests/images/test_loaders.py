"""Batches: complete, in order, and the same however they are read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch

from kaggle_kit.config import AugmentConfig
from kaggle_kit.errors import ConfigError, ImageError, KaggleKitError
from kaggle_kit.images.dataset import ImageDataset, source_for
from kaggle_kit.images.loaders import Batch, EvalLoader, TrainLoader, default_workers, eval_batches
from kaggle_kit.images.samplers import make_sampler
from kaggle_kit.images.transforms import ImageSpec, train_transform

SPEC = ImageSpec(16, 16)
COUNT = 22


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    result = []
    for number in range(COUNT):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 255, (4, 5, 3), dtype=np.uint8), (50, 40)))
        result.append(path)
    return result


def train_loader(paths: list[Path], **options: int) -> TrainLoader:
    targets = np.arange(len(paths)) % 3
    dataset = ImageDataset(
        paths, train_transform(SPEC, AugmentConfig(preset="medium")), source=source_for(SPEC), targets=targets
    )
    sampler = make_sampler("shuffle", targets, seed=1)
    return TrainLoader(dataset, sampler, **{"batch_size": 4, "seed": 1, "workers": 0, **options})


def same(first: Iterable[Batch], second: Iterable[Batch]) -> bool:
    pairs = list(zip(first, second, strict=True))
    return bool(pairs) and all(torch.equal(a, b) for one, other in pairs for a, b in zip(parts(one), parts(other), strict=True))


def parts(batch: Batch) -> list[torch.Tensor]:
    """All tensors of a batch."""
    return [part for part in batch if part is not None]


def test_batches_are_complete(paths: list[Path]) -> None:
    loader = train_loader(paths)
    batches = list(loader.batches(0))
    assert len(batches) == len(loader) == 6
    assert sorted(torch.cat([batch.rows for batch in batches]).tolist()) == list(range(COUNT))
    for images, targets, rows, *_ in batches:
        assert images.dtype == torch.uint8
        assert images.shape == (len(rows), 3, 16, 16)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert targets is not None
        assert torch.equal(targets, rows % 3)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(paths: list[Path], workers: int) -> None:
    with train_loader(paths, workers=workers) as loader:
        for epoch in (0, 1):
            assert same(loader.batches(epoch), train_loader(paths).batches(epoch))


def test_augmentations_differ_between_workers_and_epochs_and_repeat_with_the_seed(paths: list[Path]) -> None:
    one_image = [paths[0]] * 8
    with train_loader(one_image, workers=2, batch_size=2) as loader:
        first = torch.cat([batch.images for batch in loader.batches(0)])
        later = torch.cat([batch.images for batch in loader.batches(1)])
        again = torch.cat([batch.images for batch in loader.batches(0)])
    assert len({image.numpy().tobytes() for image in torch.cat([first, later])}) == 16
    assert torch.equal(first, again)
    other = torch.cat([batch.images for batch in train_loader(one_image, batch_size=2, seed=2).batches(0)])
    assert not torch.equal(first, other)


def test_resume_within_an_epoch(paths: list[Path]) -> None:
    whole = list(train_loader(paths).batches(3))
    with train_loader(paths, workers=1) as loader:
        interrupted = loader.batches(3)
        next(interrupted)
        del interrupted
        assert same(loader.batches(3, start=2), whole[2:])
    assert list(train_loader(paths).batches(3, start=6)) == []


@pytest.mark.parametrize(("count", "batches"), [(4, [4]), (5, [4]), (6, [4, 2]), (1, [1])])
def test_only_a_last_batch_of_one_is_left_out(paths: list[Path], count: int, batches: list[int]) -> None:
    loader = train_loader(paths[:count])
    assert [len(batch.rows) for batch in loader.batches(0)] == batches
    assert len(loader) == len(batches)


def test_ranks_share_an_epoch(paths: list[Path]) -> None:
    shares = [list(train_loader(paths, batch_size=3, rank=rank, world_size=2).batches(0)) for rank in range(2)]
    rows = [torch.cat([batch.rows for batch in share]) for share in shares]
    assert len(rows[0]) == len(rows[1]) == COUNT // 2
    assert sorted(torch.cat(rows).tolist()) == list(range(COUNT))
    alone = {
        int(row): image for batch in train_loader(paths).batches(0) for row, image in zip(batch.rows, batch.images, strict=True)
    }
    for batch in shares[0] + shares[1]:
        for row, image in zip(batch.rows, batch.images, strict=True):
            assert torch.equal(image, alone[int(row)])


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_takes_every_row_once_and_in_order(paths: list[Path], workers: int) -> None:
    rows = [(path.stem, path) for path in paths]
    with EvalLoader(rows, SPEC, batch_size=5, workers=workers) as loader:
        for _ in range(2):
            batches = list(loader)
            assert len(batches) == len(loader) == 5
            assert torch.cat([batch.rows for batch in batches]).tolist() == list(range(COUNT))
            assert batches[0].targets is None
    assert torch.equal(batches[0].images, next(eval_batches(rows, SPEC, batch_size=5, workers=0)).images)
    assert list(eval_batches([], SPEC, batch_size=5)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_without_a_traceback(paths: list[Path], tmp_path: Path, workers: int) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    rows = [(path.name, path) for path in [*paths[:5], broken]]
    with pytest.raises(ImageError, match=r"broken\.jpg: not an image") as caught:
        list(eval_batches(rows, SPEC, batch_size=2, workers=workers))
    assert "Traceback" not in str(caught.value)


def test_workers_end_with_the_loader(paths: list[Path]) -> None:
    def workers() -> set[int]:
        return {child.pid for child in psutil.Process().children(recursive=True)}

    with train_loader(paths, workers=1) as loader:
        list(loader.batches(0))
        during = workers()
    with train_loader(paths, workers=1) as loader:
        next(loader.batches(0))
    assert len(workers()) < len(during)
    with pytest.raises(KaggleKitError, match="closed"):
        next(loader.batches(0))


def killed(path: Path) -> np.ndarray:
    """A pixel source whose process is ended from outside, as by the kernel when memory runs out."""
    os._exit(9)


def test_a_dead_worker_is_explained(paths: list[Path]) -> None:
    rows = [(path.name, path) for path in paths]
    with pytest.raises(KaggleKitError, match=r"lower data\.workers"):
        list(eval_batches(rows, SPEC, batch_size=4, workers=1, source=killed))


def test_few_rows_need_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaggle_kit.images.loaders.available_cpus", lambda: 4)
    assert default_workers(100) == 0
    assert default_workers(100_000) == 3


def test_wrong_arguments(paths: list[Path]) -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        train_loader(paths, batch_size=0)
    with pytest.raises(ConfigError, match="world_size"):
        train_loader(paths, rank=2, world_size=2)
