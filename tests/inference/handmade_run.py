"""A run made by hand: tiny images, an untrained tiny model a fold, and the out-of-fold rows that training would write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kaggle_kit import files, runs
from kaggle_kit.competition import Setup
from kaggle_kit.competition.records import Competition, ImageRow
from kaggle_kit.config import CacheConfig, CompetitionConfig, Config, DataConfig, ModelConfig, RunConfig, SubmissionConfig
from kaggle_kit.config.competition import TrainDataConfig
from kaggle_kit.images.loaders import eval_batches
from kaggle_kit.inference import predict_model
from kaggle_kit.inference.engines import EngineOptions
from kaggle_kit.models import LoadedModel, build_model, image_spec, load_model, save_model
from kaggle_kit.tables import Classes, FoldTable, Predictions
from kaggle_kit.workspace import Workspace

CLASSES = Classes(("10", "2", "ä b"))
N_TRAIN, N_TEST, N_FOLDS = 30, 14, 2


@dataclass
class World:
    workspace: Workspace
    competition: Competition
    folds: FoldTable

    @property
    def setup(self) -> Setup:
        """With a configuration whose images are read from their files."""
        section = CompetitionConfig(
            name="c",
            data_dir=".",
            task=self.competition.task,
            classes=list(CLASSES),
            train=TrainDataConfig(layout="folders", dirs=["."]),
        )
        config = Config(competition=section, cache=CacheConfig(enabled=False))
        return Setup(self.workspace, config, self.competition)

    @property
    def run(self):
        return runs.read_run(self.workspace, "r")

    def fold(self, number) -> Path:
        return self.workspace.fold_dir("r", number)


def write_image(path: Path, seed: int, size=(24, 40)) -> Path:
    """Smooth random colours, so that resizing keeps what tells one image from another."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    small.resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def save_fresh(
    path: Path, *, seed=0, name="test_efficientnet", size=(32, 32), classes=CLASSES, task="multiclass", joined=(), **meta
) -> LoadedModel:
    torch.manual_seed(seed)
    model = build_model(ModelConfig(name=name, head={"joined": joined}), len(classes), image_size=size)
    # An untrained classifier answers the same to every image; a wide one does not.
    torch.nn.init.normal_(model.get_classifier().weight, std=3.0)
    save_model(path, model, classes=classes, spec=image_spec(model, DataConfig(image_size=size)), task=task, meta=meta)
    return load_model(path)


def make_world(root: Path, task: str = "multiclass") -> World:
    multilabel = task == "multilabel"
    labels = [(CLASSES.names[row % 3], CLASSES.names[(row + 1) % 3])[: 1 + multilabel] for row in range(N_TRAIN)]
    train = tuple(
        ImageRow(f"{label[0]}/{row:03}.png", write_image(root / "train" / f"{row:03}.png", row), label)
        for row, label in enumerate(labels)
    )
    test = tuple(ImageRow(f"{row:04}", write_image(root / "test" / f"{row:04}.png", 1000 + row)) for row in range(N_TEST))
    competition = Competition("c", task, "accuracy", CLASSES, train, test, SubmissionConfig(), None, "c" * 64)
    assignments = np.arange(N_TRAIN) // 3 % N_FOLDS
    folds = FoldTable(
        *(tuple(row.id for row in train), tuple(labels), np.arange(N_TRAIN), assignments, N_FOLDS, CLASSES, multilabel),
        meta={"competition": "c"},
    )
    workspace = Workspace(root / "work")
    folds.write(workspace.folds_path("folds"))
    config = RunConfig(data=DataConfig(batch_size=4, workers=0, image_size=32))
    record = {
        "name": "r", "competition": "c", "competition_fingerprint": competition.fingerprint, "task": task, "metric": "accuracy",
        "classes": list(CLASSES.names), "folds": "folds", "folds_fingerprint": folds.fingerprint, "n_splits": N_FOLDS,
        "config": config.model_dump(mode="json"),
    }  # fmt: skip
    files.write_json(workspace.run_dir("r") / runs.RUN_RECORD, record)
    made = World(workspace, competition, folds)
    for fold in range(N_FOLDS):
        write_fold(made, fold)
    return made


def write_fold(world: World, fold: int) -> None:
    """What training leaves behind: the model, and its validation rows through :func:`predict_model`."""
    path = world.fold(fold)
    about = {"competition": "c", "run": "r", "fold": fold, "folds_fingerprint": world.folds.fingerprint}
    loaded = save_fresh(path / runs.MODEL, seed=fold, task=world.competition.task, **about)
    _, valid = world.folds.split(fold)
    rows = [(row.id, row.path) for row in np.array(world.competition.train, dtype=object)[valid]]
    batches = eval_batches(rows, loaded.spec, batch_size=5, workers=0)
    order, probs = predict_model(
        loaded.model, batches, loaded.spec, loaded.task, n_classes=len(loaded.classes), options=EngineOptions()
    )
    Predictions(tuple(rows[row][0] for row in order), probs, CLASSES, {"views": "none"}).write(path / runs.OOF)
    files.write_json(path / runs.FOLD_RECORD, {"state": "finished", "model_fingerprint": loaded.fingerprint})
