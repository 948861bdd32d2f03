"""Made-up competitions: files by name, images as a few bytes, since neither init nor load opens them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kaggle_kit.competition import Competition, Inference, init_workspace, load_competition
from kaggle_kit.config import load_config
from kaggle_kit.workspace import open_workspace

Files = Mapping[str, str | None]


class Made:
    """A data folder with a workspace beside it."""

    def __init__(self, root: Path) -> None:
        self.data, self.root = root / "data", root / "work"
        self.data.mkdir()
        self.root.mkdir()

    def add(self, files: Files) -> Made:
        for name, text in files.items():
            path = self.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("image" if text is None else text, encoding="utf-8")
        return self

    def init(self, metric: str | None = None, force: bool = False, **choices: str) -> Inference:
        return init_workspace(self.data, self.root, choices=choices, metric=metric, force=force)

    def load(self) -> Competition:
        return load_competition(open_workspace(self.root), load_config(self.root / "kk.yaml").competition)

    def both(self, metric: str | None = None, **choices: str) -> Competition:
        self.init(metric, force=True, **choices)
        return self.load()


@pytest.fixture
def made(tmp_path: Path) -> Callable[[Files], Made]:
    return lambda files: Made(tmp_path).add(files)


def images(*names: str) -> dict[str, None]:
    return dict.fromkeys(names)


@pytest.fixture
def two_folders() -> dict[str, str | None]:
    """Two classes of two images with the same names, two test images and a sample submission."""
    train = images("train/cat/1.jpg", "train/cat/2.jpg", "train/dog/1.jpg", "train/dog/2.jpg")
    return {**train, **images("test/7.jpg", "test/8.jpg"), "sample_submission.csv": "id,label\n8,cat\n7,dog\n"}
