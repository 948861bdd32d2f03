"""Strategies that fit a head on features of the frozen backbone: ``probe``, and ``probe-then-finetune``.

Features of all images are computed once for all folds, runs and `kk predict`; a fold then takes seconds. What a probe leaves
behind is an ordinary run: the head becomes the model's classifier.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import nn

from kaggle_kit.choices import BALANCES, CLASSIFIERS
from kaggle_kit.config import HeadConfig, RunConfig
from kaggle_kit.errors import ConfigError, DataError, ImageError, MissingFileError
from kaggle_kit.events import EpochEnded, FoldEnded, FoldStarted, Phase, Reporter, log_lines, phase, tee
from kaggle_kit.images.dataset import in_small_class
from kaggle_kit.images.samplers import row_weights, sampler_for
from kaggle_kit.images.transforms import ImageSpec, train_transform
from kaggle_kit.inference.engines import EngineOptions, choose_engine
from kaggle_kit.inference.features import PLAIN, Extractor, FeatureCache, FeatureTable, Rows, ViewPlan
from kaggle_kit.inference.groups import backbone_engine
from kaggle_kit.machine.device import device_name, make_fabric, precision_of
from kaggle_kit.metrics import METRICS
from kaggle_kit.models import Parts, backbone_fingerprint, build_model, image_spec, model_name, split_model
from kaggle_kit.models.build import attach_record, record_of, unwrap
from kaggle_kit.models.heads import put_head
from kaggle_kit.runs import HISTORY
from kaggle_kit.runs.history import EpochRow, write_history
from kaggle_kit.runs.record import FoldRecord, FoldRecorder
from kaggle_kit.seeds import derive_seed, generator
from kaggle_kit.sparse import kept_columns
from kaggle_kit.stop import Stop
from kaggle_kit.training.checkpoint import load_checkpoint, save_checkpoint
from kaggle_kit.training.classifiers import FOR_MANY, Fitted, Task
from kaggle_kit.training.fold import compute_of_job, facts_of, noted_in, random_state_kept, save_outputs, train_fold
from kaggle_kit.training.heads import AnySamples, Samples, loss_and_accuracy
from kaggle_kit.training.job import FoldJob
from kaggle_kit.training.job import Rows as FoldRows
from kaggle_kit.training.losses import build_loss
from kaggle_kit.training.trackers import trackers

logger = logging.getLogger(__name__)

START = "probe.ckpt"
_ROWS = 2  # purpose of a seed
_MIRRORING = ("HorizontalFlip(", "D4(", "SquareSymmetry(")
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Probe:
    """A model with a fitted head.

    Attributes:
        fitted: the head, and what was chosen for it.
        samples: rows times views that the head was fitted to.
    """

    model: nn.Module
    spec: ImageSpec
    fitted: Fitted
    samples: int
    row: EpochRow


def train_probe(
    job: FoldJob,
    *,
    fabric: Fabric | None = None,
    reporter: Reporter | None = None,
    stop: Stop | None = None,
) -> FoldRecord:
    """Fit a head for one fold and write the files of a trained fold; arguments and errors as in :func:`train_fold`.

    Of several processes the first does everything.

    Raises:
        ConfigError: the model does not end with a linear layer on pooled features.
    """
    fabric = fabric or make_fabric(job.config.hardware)
    recorder = FoldRecorder(job.folder, job.fold, job.inputs, contents=job.keep_contents(), writes=fabric.is_global_zero)
    with random_state_kept(fabric), recorder.follow():
        if fabric.is_global_zero:
            _run_probe(job, fabric, reporter or log_lines(), stop or Stop(), recorder)
        fabric.barrier()
    return recorder.record


def train_probe_then_finetune(
    job: FoldJob,
    *,
    fabric: Fabric | None = None,
    reporter: Reporter | None = None,
    stop: Stop | None = None,
) -> FoldRecord:
    """:func:`train_fold`, starting from a fitted head. Epoch 0 of its history is what the probe scores."""
    fabric = fabric or make_fabric(job.config.hardware)
    reporter, stop = reporter or log_lines(), stop or Stop()
    start = job.folder / START
    if fabric.is_global_zero and _read_start(job) is None:
        with random_state_kept(fabric):
            probe = fit_probe(replace(job, config=job.config.last_stage), fabric, reporter, stop)
        save_checkpoint(start, {"inputs": job.inputs, "model": probe.model.state_dict()})
    fabric.barrier()
    job = replace(job, initial=_read_start(job))
    result = train_fold(job, fabric=fabric, reporter=reporter, stop=stop)
    if fabric.is_global_zero:
        start.unlink(missing_ok=True)
    return result


def _read_start(job: FoldJob) -> dict[str, Any] | None:
    """The weights to start from, of an earlier call or of the first process."""
    try:
        saved = load_checkpoint(job.folder / START)
    except (MissingFileError, DataError):
        return None
    return saved["model"] if saved["inputs"] == job.inputs else None


def _run_probe(job: FoldJob, fabric: Fabric, reporter: Reporter, stop: Stop, recorder: FoldRecorder) -> None:
    metric = job.scorer
    probe = fit_probe(job, fabric, reporter, stop)
    write_history(job.folder / HISTORY, [probe.row], metric.name)
    with trackers(job, epochs=0) as track:
        tee(noted_in(recorder), track, reporter)(EpochEnded(job.fold, probe.row, metric.name, 1, best=True))
        outcome = save_outputs(job, fabric, probe.model, probe.spec, epoch=1, stop=stop, reporter=reporter)
        facts = facts_of(job, fabric, probe.model, probe.spec, [probe.row])
        fitted = probe.fitted
        tried = [vars(one) for one in fitted.tried] or None
        recorder.update(**outcome, **facts, strength=fitted.strength, strengths_tried=tried)
        text = recorder.text if len(job.valid) else "fitted to all data, so that it has no score of its own"
        text = f"{text}, {job.config.probe.classifier} with {fitted.chosen}"
        tee(track, reporter)(FoldEnded(job.fold, "finished", text))


def fit_probe(job: FoldJob, fabric: Fabric, reporter: Reporter, stop: Stop) -> Probe:
    """The pretrained model of ``job`` with a head fitted to the fold's training rows.

    Raises:
        ConfigError: the model cannot be probed.
        StopRequested: ``stop`` asked for it while features were computed; those of other passes are kept.
    """
    _say_what_is_ignored(job)
    model, spec = _make_model(job)
    parts = split_model(model, spec.size)
    if parts is None or not isinstance(parts.head, nn.Linear) or parts.head.bias is None:
        raise ConfigError(
            f"{model_name(model)} does not end with one linear layer on pooled features, so there is no head to fit; "
            "use strategy finetune, a linear model.head, or another model."
        )
    plan = view_plan(job.config, spec)
    table = _features(job, fabric, parts, spec, plan, on_features=_counter(job, reporter, stop))
    n_train, n_valid = len(job.train), len(job.valid)
    text = f"{model_name(model)}: head for {n_train:,} images in {len(plan.names)} views, {n_valid:,} to validate on"
    reporter(FoldStarted(job.fold, f"{text}; {device_name(fabric)}"))
    reporter(Phase(job.fold, "fitting the head"))
    started = time.monotonic()
    fitted, samples, fit_scores = _fit_head(job, table, plan, fabric.device)
    row = _score(job, fitted.head, table, fabric.device, fit_scores, time.monotonic() - started, samples)
    _install(model, parts, fitted)
    return Probe(model, spec, fitted, samples, row)


def _install(model: nn.Module, parts: Parts, fitted: Fitted) -> None:
    """Let the fitted head be the model's classifier, and let its record say so."""
    if isinstance(fitted.head, nn.Linear) and isinstance(parts.head, nn.Linear):
        with torch.no_grad():
            parts.head.weight.copy_(fitted.head.weight)
            parts.head.bias.copy_(fitted.head.bias)
        return
    record = record_of(model)
    features = parts.head.in_features
    put_head(unwrap(model), fitted.head.to(next(model.parameters()).device))
    head = HeadConfig.model_validate({**record.head.model_dump(), **fitted.changes})
    attach_record(unwrap(model), replace(record, head=head, features=features))


def view_plan(config: RunConfig, spec: ImageSpec) -> ViewPlan:
    """The views of training images. Without augmentation there are no augmented ones, and without mirroring no mirrored one."""
    steps = train_transform(spec, config.augment).describe()[1:]
    mirrors = any(step.startswith(_MIRRORING) for step in steps) if config.probe.mirror is None else config.probe.mirror
    return ViewPlan(mirrors, config.augment, config.probe.views if steps else 0, config.seed)


def _make_model(job: FoldJob) -> tuple[nn.Module, ImageSpec]:
    """The pretrained model; without weights the same random one for all folds, since they share its features."""
    torch.manual_seed(derive_seed(job.config.seed))
    config = job.config
    model = build_model(
        *(config.model, len(job.classes)),
        weights=job.weights,
        image_size=config.data.image_size,
        root=job.root,
        channels=job.channels,
    ).eval()
    return model, image_spec(model, config.data, job.channels)


def _say_what_is_ignored(job: FoldJob) -> None:
    augment = job.config.augment
    if augment.mixup or augment.cutmix:
        logger.warning("mixup and cutmix mix pixels in training; a probe has features, and leaves them out")


def _features(
    job: FoldJob,
    fabric: Fabric,
    parts: Parts,
    spec: ImageSpec,
    plan: ViewPlan,
    *,
    on_features: Callable[[int, int], None],
) -> FeatureTable:
    """Features of all training images of the run, and for `kk predict` those of its test pass, computed where they lack.

    ``on_features(images, total)`` is called with the images of a batch that were passed over or computed.
    """
    compute, device, fingerprint = compute_of_job(job, fabric), fabric.device, backbone_fingerprint(parts.backbone.model)
    tables = {
        role: FeatureCache(job.cache_dir, role).table(fingerprint, spec, device, precision_of(fabric))
        for role in ("train", "test")
    }
    train, test = job.all_images, job.test_images
    as_predicted = replace(plan, count=0)
    lacking = tables["train"].lacking(train, plan) + tables["test"].lacking(test, as_predicted)
    if not lacking:
        return tables["train"]
    pixels = lacking * spec.height * spec.width
    options = EngineOptions(device, compute.precision, compute.cache_dir)
    engine = backbone_engine(parts, fingerprint, spec, choose_engine(compute.engine, device, pixels), options)
    logger.info("computing %d features with %s, once for all folds and for kk predict", lacking, engine.name)
    total = _rows_lacking(tables["train"], train, plan) + _rows_lacking(tables["test"], test, as_predicted)
    extractor = Extractor(
        engine,
        spec,
        device,
        batch_size=compute.batch_size,
        workers=compute.workers,
        source=compute.source,
        on_batch=lambda images: on_features(images, total),
    )
    extractor.complete(tables["train"], train, plan)
    try:
        extractor.complete(tables["test"], test, as_predicted)
    except ImageError as error:
        logger.warning("features of test images are left to kk predict: %s", error)
    return tables["train"]


def _rows_lacking(table: FeatureTable, rows: Rows, plan: ViewPlan) -> int:
    """Return how many of the images lack a feature in any view."""
    return int((~table.has([path for _, path in rows], plan.names)).any(axis=0).sum())


def _counter(job: FoldJob, reporter: Reporter, stop: Stop) -> Callable[[int, int], None]:
    """Return a function of (images of a batch, all images) that reports how far it is; it ends when somebody asks."""
    report, done = phase(reporter, job.fold, "features"), 0

    def count(more: int, total: int) -> None:
        nonlocal done
        done += more
        report(min(done, total), total)
        stop.check()

    return count


def _fit_head(
    job: FoldJob, table: FeatureTable, plan: ViewPlan, device: torch.device
) -> tuple[Fitted, int, tuple[float, float]]:
    """The classifier, the number of samples that it was fitted to, and loss and accuracy on them."""
    rows, truth = job.train.images, job.train.truth
    config = job.config.probe
    if kept_columns(len(job.classes), multilabel=job.task == "multilabel") and config.classifier not in FOR_MANY:
        raise ConfigError(
            f"probe.classifier={config.classifier} needs all samples times {len(job.classes):,} classes in memory; use one of: "
            f"{', '.join(FOR_MANY)}."
        )
    loss = build_loss(job.config.loss, job.task, job.classes, truth)
    below = job.config.augment.only_below
    augmented = np.ones(len(rows), dtype=bool) if below is None else in_small_class(truth, below)
    seed = derive_seed(job.config.seed, job.fold, _ROWS)
    balance = BALANCES.lookup(config.balance)

    def samples(positions: Positions, views: Sequence[str]) -> AnySamples:
        # Each view is an epoch: the sampler decides which rows it is made of.
        sampler = sampler_for(job.config.data, truth[positions], job.classes, seed=seed)
        drawn = [(view, positions[sampler.rows(number)]) for number, view in enumerate(views, 1)]
        picks = [(view, some if view == PLAIN else some[augmented[some]]) for view, some in drawn]
        balanced: AnySamples = balance(Samples(table, rows, picks, job.train.targets), seed)
        return balanced

    train, inner = inner_split(job.train, config.inner, job.config.seed)
    chosen = bool(len(train) and len(inner))
    if not chosen:
        logger.warning("too few groups of rows to choose by; taking the middle of probe.strengths, or the like")
    multilabel = job.task == "multilabel"
    task = Task(
        part=samples(train, plan.names) if chosen else None,
        inner=Samples(table, rows, [(PLAIN, inner)], truth) if chosen else None,
        whole=samples(np.arange(len(rows)), plan.names),
        loss=loss,
        n_classes=len(job.classes),
        device=device,
        config=config,
        seed=seed % 2**63,
        multilabel=multilabel,
    )
    fitted: Fitted = CLASSIFIERS.lookup(config.classifier)(task)
    return fitted, task.whole.size, loss_and_accuracy(fitted.head, task.whole, loss, device, multilabel=multilabel)


def inner_split(rows: FoldRows, share: float, seed: int) -> tuple[Positions, Positions]:
    """Positions among ``rows`` to fit to and to choose by; groups stay whole, and rows that are only trained on are fitted to.

    Groups are sorted by class and every ``1 / share``-th is taken, so that each class gives its share. With a single fold, as
    under holdout, no row to train on is ever validated on; then any of them may be chosen by.
    """
    key = rows.truth if rows.truth.ndim == 1 else row_weights(rows.truth)
    groups, first, unit = np.unique(rows.groups, return_index=True, return_inverse=True)
    order = np.lexsort((generator(seed, "inner validation").permutation(len(groups)), key[first]))
    only_trained = np.unique(unit[~rows.validated])
    others = order[~np.isin(order, only_trained)]
    order = others if len(others) else order  # with a single fold, all rows to train on are of no other
    picks = np.unique((np.arange(0.5 / share, len(order), 1 / share)).astype(np.int64))
    held_out = np.isin(unit, order[picks])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _score(
    job: FoldJob,
    head: nn.Module,
    table: FeatureTable,
    device: torch.device,
    fitted: tuple[float, float],
    seconds: float,
    samples: int,
) -> EpochRow:
    """The probe as an epoch: its scores on the validation rows, plain view; NaN where there are none."""
    truth, valid_loss, score = job.valid.truth, math.nan, math.nan
    if len(truth):
        features = torch.from_numpy(table.read(job.valid.paths, PLAIN)).to(device)
        with torch.inference_mode():
            logits = head(features)
        probs = job.merger((logits.sigmoid() if job.task == "multilabel" else logits.softmax(dim=1)).cpu().numpy())
        valid_loss, score = METRICS["log_loss"](truth, probs), job.scorer(truth, probs)
    return EpochRow(
        epoch=1,
        train_loss=fitted[0],
        valid_loss=valid_loss,
        score=score,
        lr=float("nan"),
        seconds=seconds,
        images_per_second=samples / max(seconds, 1e-9),
        train_accuracy=fitted[1],
    )
