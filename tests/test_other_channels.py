"""Images of four channels from `kk init` to the check, where only the fourth tells the class."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from kaggle_kit import Project
from kaggle_kit.errors import DataError
from kaggle_kit.images.decode import decode_image

TINY = {
    "model": "test_resnet",
    "pretrained": False,
    "image_size": 32,
    "epochs": 4,
    "batch_size": 8,
    "lr": 3e-3,
    "augment": "medium",
    "data.workers": 0,
    "data.crop_pct": 1.0,
}
NAMES = ("red", "green", "blue", "nir")


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    """Fields that are photographed in four bands, a file each; what grows there shows in the near infrared."""
    data = tmp_path / "fields"
    rng = np.random.default_rng(0)
    for place, count in (("train", 40), ("test", 20)):
        (data / place).mkdir(parents=True)
        kinds = [number % 2 for number in range(count)]
        for number, kind in enumerate(kinds):
            for at, name in enumerate(NAMES):
                band = rng.integers(0, 60, (32, 32)) + (150 if at == 3 and kind else 20 * at)
                cv2.imwrite(str(data / place / f"{place[0]}{number:03}_{name}.png"), band.astype(np.uint8))
        ids = [f"{place[0]}{number:03}" for number in range(count)]
        crops = [("fallow", "wheat")[kind] for kind in kinds]
        name = "train.csv" if place == "train" else "sample_submission.csv"
        pd.DataFrame({"field": ids, "crop": crops if place == "train" else "fallow"}).to_csv(data / name, index=False)
    return data


def test_the_fourth_channel_is_seen(fields: Path, tmp_path: Path):
    project = Project.init(fields, tmp_path / "work", metric="accuracy")
    channels = project.config.competition.channels
    assert channels is not None
    assert tuple(channels.names) == NAMES
    assert channels.mean[3] > channels.mean[0] + 0.1
    row = project.competition.train[0]
    assert decode_image(row.path, channels=4).shape == (32, 32, 4)
    project.folds(n_folds=2, duplicates="off")
    run = project.train(**TINY)
    assert run.results[0].score > 0.9
    project.predict(tta="d4")
    blend = project.blend()
    assert blend.path is not None
    assert blend.report is not None
    assert not [check for check in blend.report.checks if check.status == "failed"]
    sent = pd.read_csv(blend.path)["crop"]
    assert (sent == [("fallow", "wheat")[number % 2] for number in range(20)]).mean() > 0.9
    assert project.report(blend.path.stem) is not None


def test_images_that_lack_a_channel_are_named(fields: Path, tmp_path: Path):
    (fields / "train" / "t007_nir.png").unlink()
    with pytest.raises(DataError, match="t007 lacks the channel 'nir'"):
        Project.init(fields, tmp_path / "work", metric="accuracy")
