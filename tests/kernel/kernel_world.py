"""A whole workspace with real, untrained models: what `kk blend` leaves, small enough to build kernels of in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from kaggle_kit import files, kernel, runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.competition import Competition, Setup, init_workspace, load_competition
from kaggle_kit.config import Config, DataConfig, FoldsConfig, ModelConfig, load_config
from kaggle_kit.folds import create_folds
from kaggle_kit.inference import PredictOptions, predict_rows, predict_runs
from kaggle_kit.models import build_model, image_spec, load_model, save_model
from kaggle_kit.runs.record import VERSION
from kaggle_kit.tables import FoldTable, Predictions
from kaggle_kit.workspace import Workspace

NAMES = ("red", "green", "blue")
N_TRAIN, N_TEST = 24, 14


@dataclass
class World:
    workspace: Workspace
    config: Config
    competition: Competition

    @property
    def setup(self) -> Setup:
        return Setup(self.workspace, self.config, self.competition)

    @property
    def data(self) -> Path:
        return self.workspace.root / "data"


def make_world(root: Path, *, form: str = "probability") -> World:
    """Two runs of two folds each, run `a` predicted with views; blended by weights."""
    torch.set_num_threads(1)
    data = root / "data"
    for row in range(N_TRAIN):
        write_image(data / "train" / NAMES[row % 3] / f"t{row:03}.png", row)
    for row in range(N_TEST):
        write_image(data / "test" / f"{row:04}.png", 100 + row)
    columns = dict.fromkeys(NAMES[::-1], 0.3) if form == "probability" else {"label": "red"}
    sample = pd.DataFrame({"id": [f"{row:04}" for row in range(N_TEST)], **columns})
    files.write_table(data / "sample_submission.csv", sample)
    init_workspace(data, root, choices={}, name="colours")
    workspace = Workspace(root)
    config = load_config(workspace.config_path, ["workers=0", "image_size=32", "batch_size=4", "hardware.engine=torch"])
    competition = load_competition(workspace, config.competition)
    folds = create_folds(workspace, competition, FoldsConfig(n_folds=2, duplicates="off"))
    world = World(workspace, config, competition)
    for number, name in enumerate(("a", "b")):
        write_run(world, folds, name, seed=10 * number)
    predict_runs(world.setup, ["a"], PredictOptions("hflip", control=4))
    predict_runs(world.setup, ["b"], PredictOptions(control=4))
    blend(world.setup, name="blend", method="weights")
    return world


def write_run(world: World, folds: FoldTable, name: str, *, seed: int) -> None:
    """What training leaves behind, of untrained models with a wide classifier."""
    competition, workspace = world.competition, world.workspace
    content = world.config.run.model_dump(mode="json")
    content["model"]["pretrained"] = "/home/somebody/weights.safetensors"
    about = {
        "competition": competition.name,
        "competition_fingerprint": competition.fingerprint,
        "folds_fingerprint": folds.fingerprint,
    }
    record = {"name": name, **about, "task": competition.task, "metric": competition.metric, "folds": "folds"}
    record |= {"classes": list(competition.classes), "n_splits": folds.n_splits, "config": content, "config_fingerprint": "x"}
    files.write_json(workspace.run_dir(name) / runs.RUN_RECORD, {**record, "version": VERSION})
    for fold in range(folds.n_splits):
        path = workspace.fold_dir(name, fold)
        torch.manual_seed(seed + fold)
        model = build_model(ModelConfig(name="test_efficientnet"), 3, image_size=32)
        torch.nn.init.normal_(model.get_classifier().weight, std=3.0)
        meta = {**about, "run": name, "fold": fold, "config": content}
        spec = image_spec(model, DataConfig(image_size=32))
        sha = save_model(path / runs.MODEL, model, classes=competition.classes, spec=spec, task=competition.task, meta=meta)
        _, valid = folds.split(fold)
        where = {row.id: row.path for row in competition.train}
        rows = [(folds.ids[row], where[folds.ids[row]]) for row in valid]
        probs = predict_rows([load_model(path / runs.MODEL)], rows)[0]
        oof = Predictions(tuple(row_id for row_id, _ in rows), probs, competition.classes, {**about, "views": "none"})
        oof.write(path / runs.OOF)
        files.write_json(path / runs.FOLD_RECORD, {"fold": fold, "state": "finished", "score": 0.5, "model_fingerprint": sha})


def write_image(path: Path, seed: int) -> None:
    """Smooth random colours, so that resizing keeps what tells one image from another."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    small.resize((40, 36), Image.Resampling.BICUBIC).save(path)


@dataclass
class Mounted:
    """Inputs as Kaggle mounts them."""

    inputs: Path
    working: Path

    @property
    def dataset(self) -> Path:
        return self.inputs / "colours-inference-data"

    @property
    def data(self) -> Path:
        return self.inputs / "colours"

    def run(self, **options):
        self.lines: list[str] = []
        return kernel.run_inference_kernel(self.inputs, self.working, say=self.lines.append, **options)

    def said(self, *words: str) -> bool:
        return any(all(word in line for word in words) for line in self.lines)
