"""The others, as workers that take turns (see common.py): plain PyTorch, timm as its training script uses it, and fastai.

    python benchmarks/peers.py CONTESTANT JOB.json

Written as their users write them, with the augmentation, optimizer, batch and model that this package trains with. Imports
nothing of this package, so that fastai may live in an environment of its own. A training job holds lists ``train`` and
``valid`` of [path, class position]; a turn is an epoch with its validation. A prediction job holds ``models`` and ``images``; a
turn predicts all of them once, with 5 models and 5 views.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from common import Stage
from torch import nn
from torch.utils.data import DataLoader, Dataset

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # tf_efficientnet_lite0's
Job = dict[str, Any]


def make_model(job: Job) -> nn.Module:
    """timm's model with random values, which take the same time."""
    import timm

    torch.manual_seed(0)
    return timm.create_model(job["model"], num_classes=job["classes"])


def as_float(image: Any) -> torch.Tensor:
    """A PIL image to a normalised (3, H, W) tensor."""
    from torchvision.transforms import functional as tv

    return tv.normalize(tv.to_tensor(image), MEAN, STD)


class Files(Dataset[Any]):
    """Images opened with PIL, as ImageFolder does, and a transform."""

    def __init__(self, rows: list[list[Any]], transform: Callable[[Any], Any] | None = None) -> None:
        self.rows = rows
        self.transform = transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        from PIL import Image

        path, label = self.rows[row]
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        return (self.transform(image) if self.transform else image), label


def run_epochs(
    job: Job, stage: Stage, model: nn.Module, train: Iterable[Any], valid: Iterable[Any], channels_last: bool = False
) -> None:
    """The loop of many a notebook, and of timm's script but for its options: a turn an epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    loss_of = nn.CrossEntropyLoss()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for _ in range(job["epochs"]):
        model.train()
        started, images = time.perf_counter(), 0
        for batch, labels in train:
            loss = loss_of(model(batch.contiguous(memory_format=layout)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            images += len(labels)
        seconds = time.perf_counter() - started
        model.eval()
        right = 0
        with torch.inference_mode():
            for batch, labels in valid:
                right += int((model(batch.contiguous(memory_format=layout)).argmax(1) == labels).sum())
        stage.report(images=images, seconds=seconds)
    torch.save(model.state_dict(), Path(job["folder"]) / f"{id(model)}.pth")
    stage.report()


def train_plain(job: Job, stage: Stage) -> None:
    """torchvision's transforms, a DataLoader, a loop; eager and NCHW."""
    from torchvision import transforms as tv

    size, crop = job["size"], int(job["size"] / 0.875)
    augment = tv.Compose([tv.RandomResizedCrop(size, scale=(0.5, 1.0)), tv.RandomHorizontalFlip(), as_float])
    plain = tv.Compose([tv.Resize(crop), tv.CenterCrop(size), as_float])
    train = DataLoader(Files(job["train"], augment), job["batch"], shuffle=True, drop_last=True, num_workers=job["workers"])
    valid = DataLoader(Files(job["valid"], plain), job["batch"], num_workers=job["workers"])
    stage.report()
    run_epochs(job, stage, make_model(job), train, valid)


def train_timm(job: Job, stage: Stage, *, best: bool) -> None:
    """timm's own loaders; ``best``: with --channels-last and --torchcompile, else as the script runs without options."""
    from timm.data import create_loader

    common = {
        "input_size": (3, job["size"], job["size"]), "batch_size": job["batch"], "mean": MEAN, "std": STD,
        "num_workers": job["workers"], "device": torch.device("cpu"), "interpolation": "bicubic", "use_prefetcher": True,
    }  # fmt: skip
    train = create_loader(Files(job["train"]), is_training=True, scale=(0.5, 1.0), color_jitter=None, **common)
    valid = create_loader(Files(job["valid"]), is_training=False, crop_pct=0.875, **common)
    stage.report()
    model = make_model(job)
    if best:
        model = torch.compile(model.to(memory_format=torch.channels_last))
    run_epochs(job, stage, model, train, valid, channels_last=best)


def train_fastai(job: Job, stage: Stage) -> None:
    """DataBlock, Learner, fit; the library's defaults for all that is not named."""
    from fastai.vision import all as fa

    rows = job["train"] + job["valid"]
    block = fa.DataBlock(
        blocks=(fa.ImageBlock, fa.CategoryBlock),
        get_x=lambda row: row[0],
        get_y=lambda row: row[1],
        splitter=fa.IndexSplitter(range(len(job["train"]), len(rows))),
        item_tfms=fa.RandomResizedCrop(job["size"], min_scale=0.5),
        batch_tfms=[fa.Flip(), fa.Normalize.from_stats(MEAN, STD)],
    )
    loaders = block.dataloaders(rows, bs=job["batch"], num_workers=job["workers"])

    class Turns(fa.Callback):
        def before_train(self) -> None:
            self.started = time.perf_counter()

        def after_train(self) -> None:
            self.seconds = time.perf_counter() - self.started

        def after_epoch(self) -> None:
            images = len(self.learn.dls.train) * job["batch"]
            stage.report(images=images, seconds=self.seconds)

    stage.report()
    learn = fa.Learner(loaders, make_model(job), loss_func=fa.CrossEntropyLossFlat(), metrics=fa.accuracy)
    with learn.no_bar(), learn.no_logging():
        learn.fit(job["epochs"], 1e-3, wd=0.05, cbs=[Turns()])
    torch.save(learn.model.state_dict(), Path(job["folder"]) / "fastai.pth")
    stage.report()


def load_models(job: Job) -> Iterator[nn.Module]:
    """Each fold's model, ready to predict."""
    for path in job["models"]:
        model = make_model(job)
        model.load_state_dict(torch.load(path, weights_only=True))
        yield model.eval()


def five_views(job: Job) -> list[Callable[[Any], torch.Tensor]]:
    """The corners and the centre of an image, 7/8 of the side, brought back to the size."""
    from torchvision import transforms as tv
    from torchvision.transforms import functional as tvf

    size = job["size"]
    frame = tv.Compose([tv.Resize(int(size / 0.875)), tv.CenterCrop(size)])

    def view(image: Any, number: int) -> torch.Tensor:
        return as_float(tvf.resize(tvf.five_crop(frame(image), round(size * 7 / 8))[number], [size, size]))

    return [lambda image, number=number: view(image, number) for number in range(5)]


def predict_plain(job: Job, stage: Stage) -> None:
    """For each fold, for each view, a pass over the images: the way that most notebooks go."""
    models, views = list(load_models(job)), five_views(job)
    rows = [[path, 0] for path in job["images"]]
    stage.report()
    while True:
        started = time.perf_counter()
        total = torch.zeros(len(rows), job["classes"])
        for model in models:
            for view in views:
                loader = DataLoader(Files(rows, view), job["batch"], num_workers=job["workers"])
                with torch.inference_mode():
                    total += torch.cat([model(batch).softmax(1) for batch, _ in loader])
        stage.report(images=len(rows), seconds=time.perf_counter() - started)


def predict_fastai(job: Job, stage: Stage) -> None:
    """``Learner.tta`` with its four augmented views and the plain one, for each fold."""
    from fastai.vision import all as fa

    rows = [[path, number % 2] for number, path in enumerate(job["images"])]
    block = fa.DataBlock(
        blocks=(fa.ImageBlock, fa.CategoryBlock(vocab=list(range(job["classes"])))),
        get_x=lambda row: row[0],
        get_y=lambda row: row[1],
        splitter=fa.RandomSplitter(seed=0),
        item_tfms=fa.Resize(int(job["size"] / 0.875)),
        batch_tfms=[*fa.aug_transforms(size=job["size"], min_scale=0.75), fa.Normalize.from_stats(MEAN, STD)],
    )
    loaders = block.dataloaders(rows, bs=job["batch"], num_workers=job["workers"])
    learners = [fa.Learner(loaders, model, loss_func=fa.CrossEntropyLossFlat()) for model in load_models(job)]
    stage.report()
    while True:
        started = time.perf_counter()
        for learn in learners:
            with learn.no_bar(), learn.no_logging():
                learn.tta(dl=loaders.test_dl(rows), n=4)
        stage.report(images=len(rows), seconds=time.perf_counter() - started)


CONTESTANTS: dict[str, Callable[[Job, Stage], None]] = {
    "train-plain": train_plain,
    "train-timm": lambda job, stage: train_timm(job, stage, best=False),
    "train-timm-best": lambda job, stage: train_timm(job, stage, best=True),
    "train-fastai": train_fastai,
    "predict-plain": predict_plain,
    "predict-fastai": predict_fastai,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("job", type=Path, help="a JSON file, which the benchmark that starts this worker writes")
    arguments = parser.parse_args()
    CONTESTANTS[arguments.contestant](json.loads(arguments.job.read_text(encoding="utf-8")), Stage())


if __name__ == "__main__":
    main()
