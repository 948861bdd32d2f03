"""A workspace on disk that other processes can open: three classes told by colour, 36 images of 32 pixels, 3 folds."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from kaggle_kit import runs
from kaggle_kit.competition import Competition, Setup, init_workspace, load_competition
from kaggle_kit.config import Config, load_config
from kaggle_kit.folds import create_folds
from kaggle_kit.runs.history import TIMINGS
from kaggle_kit.workspace import Workspace

COLOURS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}
BASE = (
    *("model=test_resnet", "pretrained=false", "image_size=32", "epochs=2", "batch_size=6", "lr=3e-3"),
    *("data.crop_pct=1.0", "hardware.accelerator=cpu"),
)


@dataclass(frozen=True)
class Small:
    workspace: Workspace
    competition: Competition

    def config(self, *overrides: str) -> Config:
        return load_config(self.workspace.config_path, [*BASE, *overrides])

    def setup(self, *overrides: str) -> Setup:
        return Setup(self.workspace, self.config(*overrides), self.competition)

    def outcome(self, run: str, *, folds: int = 3) -> list[object]:
        """All that must agree between two equal runs."""
        found: list[object] = []
        for fold in range(folds):
            folder = self.workspace.fold_dir(run, fold)
            history = pd.read_csv(folder / runs.HISTORY, dtype=str).drop(columns=list(TIMINGS))
            found += [history.to_csv()]
        oof = runs.read_oof(runs.read_run(self.workspace, run))
        return [*found, oof.ids, oof.probs.tobytes()]


def make_small(root: Path, *, images: int = 36) -> Small:
    rng = np.random.default_rng(0)
    names = list(COLOURS)
    for number in range(images):
        name = names[number % 3]
        pixels = np.clip(rng.normal(COLOURS[name], 40, (36, 40, 3)), 0, 255).astype(np.uint8)
        path = root / "data" / "train" / name / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), pixels[:, :, ::-1])
        if number < 9:
            (root / "data" / "test").mkdir(exist_ok=True)
            cv2.imwrite(str(root / "data" / "test" / f"t{number}.png"), np.flip(pixels))
    workspace = Workspace(root / "work")
    workspace.root.mkdir()
    init_workspace(root / "data", workspace.root, choices={}, name="small")
    config = load_config(workspace.config_path)
    competition = load_competition(workspace, config.competition)
    create_folds(workspace, competition, config.folds.model_copy(update={"n_folds": 3, "duplicates": "off"}))
    return Small(workspace, competition)
