"""What the page about the data shows by means of a network and of PyTorch: imported only where it is asked for."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kaggle_kit.competition import Competition, ImageRow
from kaggle_kit.config import ChannelsConfig, DataConfig, ModelConfig, RunConfig
from kaggle_kit.errors import ConfigError, DataError, WeightsError
from kaggle_kit.images.dataset import ImageDataset, source_for, training_dataset
from kaggle_kit.images.decode import Pixels, decode_image
from kaggle_kit.images.loaders import TrainLoader, eval_batches
from kaggle_kit.images.mixing import make_mixer
from kaggle_kit.images.samplers import sampler_for
from kaggle_kit.images.transforms import ImageSpec, describe, eval_transform, prepare, resize, train_transform
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.models import Backbone, build_model, find_local_weights, find_weights, image_spec
from kaggle_kit.models.weights import PACKAGES
from kaggle_kit.report.survey import sample_rows
from kaggle_kit.seeds import derive_seed, generator

logger = logging.getLogger(__name__)

DRAWS = 16
"""Draws of one image, and images of a batch that are shown."""
SHOWN_BY_MODEL = 8
_TOP = 3
_EMBEDDED_SIDE = 96
_CLASSES_OF_IMAGENET = 1000


@dataclass(frozen=True)
class Draws:
    """An image as the model gets it in training, several times.

    Attributes:
        row_id: of the training image.
        original: as it is evaluated.
        images: one for each draw.
        steps: what is done to it, in order.
    """

    row_id: str
    original: Pixels
    images: list[Pixels]
    steps: list[str]


@dataclass(frozen=True)
class MixedBatch:
    """The first images of a training batch, with their labels and weights after mixing.

    Attributes:
        labels: for each image, class and weight, the largest first.
        note: how the batch was mixed, in words.
    """

    ids: list[str]
    images: list[Pixels]
    labels: list[list[tuple[str, float]]]
    note: str


@dataclass(frozen=True)
class Opinion:
    """What a pretrained model says of an image.

    Attributes:
        raw: the image squashed to the model's size; ``prepared``: as its preprocessing leaves it.
        said_raw, said_prepared: the model's own labels with probabilities.
    """

    row_id: str
    label: str
    raw: Pixels
    prepared: Pixels
    said_raw: list[tuple[str, float]]
    said_prepared: list[tuple[str, float]]


def spec_of(config: RunConfig, root: Path, channels: ChannelsConfig | None = None) -> ImageSpec:
    """Return how images must look for the configured model, without its weights. Raises ConfigError."""
    data = config.last_stage.data
    return image_spec(build_model(config.model, 2, image_size=data.image_size, root=root, channels=channels), data, channels)


def draw_augmented(config: RunConfig, spec: ImageSpec, row: ImageRow, *, draws: int = DRAWS) -> Draws:
    """Draw one training image as the model gets it, by the transform and the source of pixels that training uses.

    Raises:
        ImageError: it cannot be read.
        ConfigError: the augmentation is not possible.
    """
    transform = train_transform(spec, config.augment)
    dataset = ImageDataset([row.path], transform, source=source_for(spec))
    images = [dataset.pixels(0, derive_seed(config.seed, draw)) for draw in range(draws)]
    original = eval_transform(spec)(source_for(spec)(row.path))
    return Draws(row.id, original, images, describe(config.augment, spec, transform))


def draw_batch(config: RunConfig, spec: ImageSpec, competition: Competition, *, shown: int = DRAWS) -> MixedBatch:
    """Return the first batch of an epoch over all training images, mixed as training mixes it.

    Raises:
        ImageError: an image of it cannot be read.
        DataError: there are no training images.
    """
    rows = competition.train
    if not rows:
        raise DataError("there are no training images to make a batch of.")
    classes = competition.classes
    labels = [row.labels for row in rows]
    truth: Any = classes.encode_rows(labels) if competition.multilabel else classes.encode(one[0] for one in labels)
    dataset = training_dataset([row.path for row in rows], spec, config.augment, truth, source_for(spec))
    sampler = sampler_for(config.data, truth, classes, seed=config.seed)
    size = min(config.data.batch_size, max(len(rows), 1))
    with TrainLoader(dataset, sampler, batch_size=size, seed=config.seed, workers=0) as loader:
        batch = next(loader.batches(0))
    if batch.targets is None:
        raise DataError("a training batch has no targets.")
    images, targets, mixer = batch.images, batch.targets, make_mixer(config.augment, epoch=0, epochs=config.schedule.epochs)
    note = "mixing is off (augment.mixup and augment.cutmix are 0)"
    if mixer is not None:
        rng = generator(config.seed, "mixing", 0)
        images, targets = mixer(images, targets, n_classes=len(classes), rng=rng)
        note = f"mixup alpha {mixer.mixup:g}, cutmix alpha {mixer.cutmix:g}, for {mixer.prob:.0%} of the batches"
    soft = targets if targets.ndim == 2 else torch.nn.functional.one_hot(targets, len(classes))
    pixels = [image.permute(1, 2, 0).numpy() for image in images[:shown]]
    return MixedBatch(
        [rows[row].id for row in batch.rows[:shown].tolist()],
        pixels,
        [_weights(row, classes.names) for row in soft[:shown]],
        note,
    )


def _weights(target: torch.Tensor, names: Sequence[str]) -> list[tuple[str, float]]:
    order = torch.argsort(target, descending=True, stable=True)
    return [(names[place], float(target[place])) for place in order.tolist() if target[place] > 0]


def ask_pretrained(
    config: RunConfig, competition: Competition, *, count: int = SHOWN_BY_MODEL, seed: int = 0
) -> tuple[str, list[Opinion]]:
    """Let the pretrained model name some training images in its own classes, before and after its preprocessing.

    Before means: squashed to the model's size, values 0 to 1. After: resized, cropped and normalised as timm says.

    Returns:
        The model's name, and what it says.

    Raises:
        WeightsError: its weights are not on this machine, or are not of ImageNet's 1,000 classes.
        ImageError: an image cannot be read.
    """
    given = config.model.pretrained
    weights = find_weights(config.model.name, given) if isinstance(given, str) else find_local_weights(config.model.name)
    if weights is None:
        raise WeightsError(
            f"the pretrained weights of {config.model.name} are not on this machine. `kk train` fetches them; or give a file "
            "with pretrained=PATH."
        )
    model = build_model(_plain_model(config.model.name), _CLASSES_OF_IMAGENET, weights=weights).eval()
    cfg = dict(getattr(model, "pretrained_cfg", None) or {})
    if cfg.get("num_classes") != _CLASSES_OF_IMAGENET:
        raise WeightsError(f"{config.model.name} was trained for {cfg.get('num_classes')} classes, expected ImageNet's 1,000.")
    spec, names = image_spec(model, DataConfig()), imagenet_names()
    rows = sample_rows(competition.train, count, "imagenet", seed)
    decoded = [decode_image(row.path) for row in rows]
    raw = [resize(pixels, spec.size) for pixels in decoded]
    prepared = [eval_transform(spec)(prepare(pixels, spec.prepare_size)) for pixels in decoded]
    unscaled = ImageSpec(spec.height, spec.width, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    said = [_top(_probabilities(model, images, how), names) for images, how in ((raw, unscaled), (prepared, spec))]
    everything = zip(rows, raw, prepared, *said, strict=True)
    opinions = [Opinion(row.id, ", ".join(row.labels), *rest) for row, *rest in everything]
    return config.model.name, opinions


def _probabilities(model: torch.nn.Module, images: Sequence[Pixels], spec: ImageSpec) -> torch.Tensor:
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        found: torch.Tensor = model(to_input(batch, spec, torch.device("cpu"), channels_last=True)).softmax(dim=1)
    return found


def _top(probs: torch.Tensor, names: Sequence[str]) -> list[list[tuple[str, float]]]:
    values, places = probs.sort(dim=1, descending=True, stable=True)
    pairs = zip(values[:, :_TOP].tolist(), places[:, :_TOP].tolist(), strict=True)
    return [[(names[place], value) for value, place in zip(row, where, strict=True)] for row, where in pairs]


def imagenet_names() -> list[str]:
    """Return the 1,000 classes of ImageNet in words, as timm lists them."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return [info.index_to_description(place).split(",")[0] for place in range(_CLASSES_OF_IMAGENET)]


def _plain_model(name: str) -> ModelConfig:
    return ModelConfig(name=name, compile=False)


def small_backbone() -> str | None:
    """Return the name of a small model whose weights are on this machine, or None; nothing is downloaded."""
    return next((name for name in PACKAGES if find_local_weights(name) is not None), None)


def embed(name: str, paths: Sequence[tuple[str, Path]], *, batch_size: int = 32) -> npt.NDArray[np.float32]:
    """Return features (N, F) of images by the pretrained backbone ``name``, at a small size, in the order of ``paths``.

    Raises:
        WeightsError: its weights are not here.
        ImageError: an image cannot be read.
    """
    weights = find_local_weights(name)
    if weights is None:
        raise WeightsError(f"the pretrained weights of {name} are not on this machine.")
    model = build_model(_plain_model(name), _CLASSES_OF_IMAGENET, weights=weights).eval()
    try:
        spec = image_spec(model, DataConfig(image_size=_EMBEDDED_SIDE))
    except ConfigError:  # built for one size
        spec = image_spec(model, DataConfig())
    backbone, found = Backbone(model).eval(), []
    with torch.inference_mode(), _one_thread():
        for batch in eval_batches(paths, spec, batch_size=batch_size, workers=0):
            found.append(backbone(to_input(batch.images, spec, torch.device("cpu"), channels_last=True)).float().numpy())
    return np.concatenate(found)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread. On images as small as these two of them wait for each other more than they work.

    Measured beside other work on two CPUs: 240 images at 96 pixels take 1.0 s of one thread, 4.8 CPU seconds of two.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
