"""The one way from image files to probabilities: validation, out-of-fold and test rows all come through here.

One decode of an image feeds every model and every view, and models that share a backbone run it once. Features that a probe has
kept are taken instead of computed again. Only probabilities are held, so a test set may be larger than memory.

What is said of an image travels with a hash of the pixels that the models saw, in one row of one array, from the batch on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from kaggle_kit import files
from kaggle_kit.choices import INT8
from kaggle_kit.errors import ConfigError, DataError, ImageError, StorageError
from kaggle_kit.images.dataset import PixelSource
from kaggle_kit.images.decode import Progress, check_images
from kaggle_kit.images.loaders import Batch, eval_batches
from kaggle_kit.images.pixels import batch_hashes
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.engines import Engine, EngineOptions, TorchEngine, choose_engine, graph_name, in_eight_bits
from kaggle_kit.inference.features import KEPT_VIEWS, MIRRORED, Extractor, FeatureCache, FeatureTable, ViewPlan
from kaggle_kit.inference.groups import GroupEngine, ModelGroup, group_models, make_group_engine
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.inference.tta import Change, ViewPass, merge_views, normalised, plan_views, to_probs
from kaggle_kit.machine.device import choose_device, half_dtype, memory_errors
from kaggle_kit.machine.host import give_back_memory, kept_heap
from kaggle_kit.models import LoadedModel, unwrap
from kaggle_kit.sparse import SparseRows, kept_columns, require_room, together
from kaggle_kit.tables import Classes, shown
from kaggle_kit.views import NO_VIEWS

Probs: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = Sequence[tuple[str, Path]]
Said: TypeAlias = npt.NDArray[np.void]
"""(M, N) rows of :func:`row_type`: what each of M models says of N images."""
Part: TypeAlias = tuple[npt.NDArray[np.int64], Said]
"""Row numbers (B,), and what is said of them, (M, B)."""
_LOG = logging.getLogger(__name__)
_CHUNK = 4096  # rows of features that are in memory at once
_GIVE_BACK = 1024  # rows after which freed memory is given back to the system
_LOGITS = 1 << 26  # logits that are computed of them at once: 256 MB of float32


def row_type(n_classes: int, task: str) -> np.dtype[np.void]:
    """Return the type of a row: ``probs`` (C,) float32, and the hash of the ``pixels`` that the model saw.

    Of many classes ``probs`` are those of ``columns`` and last that of each other class, see :class:`SparseRows`.
    """
    kept = kept_columns(n_classes, multilabel=task == "multilabel")
    columns = [("columns", "<i4", (kept,))] if kept else []
    return np.dtype([("probs", "<f4", (kept + 1 if kept else n_classes,)), *columns, ("pixels", "<u8")])


def probs_of(said: Said, n_classes: int) -> Probs:
    """Return the probabilities (N, C) of rows (N,) of :func:`row_type`."""
    if "columns" in (said.dtype.names or ()):
        return cast(Probs, SparseRows(said["columns"], said["probs"], n_classes))
    probs: Probs = said["probs"]
    return probs


@dataclass(frozen=True)
class Compute:
    """Where and how to predict; nothing here is meant to change what comes out.

    Attributes:
        workers: loader processes; None: from the CPUs.
        device: auto, cpu, cuda, mps, or a device such as cuda:1.
        precision: auto, bf16, fp16 or fp32; see :class:`EngineOptions`.
        engine: auto or an entry of ``ENGINES``.
        cache_dir: where exported models are kept.
        source: where pixels come from instead of the files, for instance a store of decoded images.
        features: where features of frozen backbones were kept for this kind of pass.
        calibration: training images, which engine int8 is calibrated on.
        graphs: models in 8-bit integers that need no calibration, see :class:`EngineOptions`.
    """

    batch_size: int = 64
    workers: int | None = None
    device: str = "auto"
    precision: str = "auto"
    engine: str = "auto"
    cache_dir: Path | None = None
    source: PixelSource | None = None
    features: FeatureCache | None = None
    calibration: Rows = ()
    graphs: Mapping[str, Path] = field(default_factory=dict)

    @property
    def rounding(self) -> str:
        """What the models compute in on this device: fp32, bf16, fp16 or int8."""
        return rounding_of(choose_device(self.device), self)


def rounding_of(device: torch.device, compute: Compute) -> str:
    """Return what models compute in on a device: fp32, bf16, fp16 or int8."""
    if compute.engine == INT8:
        return INT8
    return {None: "fp32", torch.bfloat16: "bf16"}.get(half_dtype(device, compute.precision), "fp16")


def predict_rows(
    models: Sequence[LoadedModel],
    rows: Rows,
    *,
    tta: str | Sequence[str] = NO_VIEWS,
    merge: str = "mean",
    compute: Compute | None = None,
    progress: Progress | None = None,
) -> Probs:
    """Predict image files with each of several models, in one pass for all models that want the same input.

    Args:
        rows: N pairs of id and file; the id serves messages alone.
        tta: the views, see :mod:`kaggle_kit.views`; one text for all models, or one for each.

    Returns:
        (M, N, C) float32 probabilities: M models, rows in the order given, classes in the models' order.

    Raises:
        ClassMappingError: the models' classes differ.
        ImageError: images cannot be read; lists all of them.
        ConfigError, DependencyError, DeviceMemoryError: see the engines.
        DataError: classes and rows are too many for a whole table.
    """
    require_room(len(models) * len(rows), len(models[0].classes) if models else 0)
    said = Predictor(models, rows, tta=tta, merge=merge, compute=compute).predict(progress=progress)
    return np.stack([np.asarray(probs_of(one, len(models[0].classes))) for one in said])


def predict_with_pixels(
    model: LoadedModel,
    rows: Rows,
    *,
    tta: str = "none",
    merge: str = "mean",
    compute: Compute | None = None,
    progress: Progress | None = None,
) -> tuple[Probs, npt.NDArray[np.uint64]]:
    """Predict image files with one model, as :func:`predict_rows` does.

    Returns:
        (N, C) probabilities, and the two pixel hashes (N, 2) of :class:`~kaggle_kit.tables.Predictions`.
    """
    predictor = Predictor([model], rows, tta=tta, merge=merge, compute=compute)
    said = predictor.predict(progress=progress)[0]
    pixels = with_origins(said["pixels"], predictor.origins, [path for _, path in rows])
    return probs_of(said, len(model.classes)), pixels


def with_origins(seen: npt.NDArray[np.uint64], origins: Mapping[str, int], paths: Sequence[Path]) -> npt.NDArray[np.uint64]:
    """Return (N, 2): the hashes (N,) of what the model saw beside those of what the files hold; 0 for a file never read."""
    return np.column_stack([seen, np.array([origins.get(str(path), 0) for path in paths], dtype=np.uint64)])


def prepared_as(spec: ImageSpec, source: PixelSource | None) -> str | None:
    """Return what images are prepared by, so that one image has one hash wherever this is the same; None where nothing says so,
    since the store keeps images as JPEG and those that it lacks are read from their files."""
    if getattr(source, "codec", "raw") != "raw":
        return None
    return files.fingerprint([spec.to_dict(), files.versions().get("opencv-python-headless")])


class Predictor:
    """Models and rows with all that is made ready once; rows may be predicted in parts.

    Attributes:
        passes: how often each image is decoded: once for all models that want the same input, in each size of their views.
        origins: file -> hash of the pixels that were read from it, of the rows predicted so far.

    Raises:
        ClassMappingError, DataError: the models' classes or tasks differ.
        ConfigError, DependencyError: there are no such views, or they need a package.
    """

    def __init__(
        self,
        models: Sequence[LoadedModel],
        rows: Rows,
        *,
        tta: str | Sequence[str] = NO_VIEWS,
        merge: str = "mean",
        compute: Compute | None = None,
    ) -> None:
        classes, task = common(models)
        compute = compute or Compute()
        self.origins: dict[str, int] = {}
        self._rows, self._n_models, self._n_classes = rows, len(models), len(classes)
        self._type = row_type(len(classes), task)
        self._how = _How(merge, task, choose_device(compute.device), compute)
        self._passes = _plan(models, rows, [tta] * len(models) if isinstance(tta, str) else tta, self._how)
        self._engines: dict[int, list[GroupEngine]] = {}
        if "columns" in (self._type.names or ()) and not all(one.alone for one in self._passes):
            raise ConfigError(
                f"views of images in several sizes are merged over all classes, of which {len(classes):,} are too many; take "
                "views of one size, such as hflip."
            )

    @property
    def passes(self) -> int:
        return len(self._passes)

    @property
    def rounding(self) -> str:
        """What the models compute in: fp32, bf16, fp16 or int8."""
        return rounding_of(self._how.device, self._how.compute)

    def graphs(self) -> Iterator[tuple[str, Any]]:
        """Yield :func:`graph_name` and OpenVINO's model of all that is computed, in 8-bit integers.

        Raises:
            ConfigError, DependencyError: see the engine.
        """
        for group in (group for one in self._passes for group in one.groups):
            model, fingerprint = group.network
            yield graph_name(group.spec, fingerprint), in_eight_bits(model, group.spec, fingerprint, self._how.options)

    def predict(self, part: range | None = None, *, progress: Progress | None = None) -> Said:
        """Return what the models say of the rows of ``part``, or of all: (M, n), in order.

        Raises:
            ImageError: images cannot be read; lists all unreadable ones of the part.
            DataError: a probability came out that is no number.
            DeviceMemoryError, ConfigError, DependencyError: see the engines.
        """
        part = range(len(self._rows)) if part is None else part
        result = np.zeros((self._n_models, len(part)), dtype=self._type)
        result["probs"] = np.nan
        sizes: dict[int, dict[int, _Sized]] = {}  # of models that see images in several: input -> size -> what was said
        for number, one in enumerate(self._passes):
            advance = _counter(progress, offset=number * len(part), total=len(self._passes) * len(part))
            probs, members = result["probs"], np.array(one.members)[:, None]
            if not one.alone:
                sized = sizes.setdefault(one.input, {}).setdefault(one.size, _Sized(np.full_like(probs, np.nan), {}))
                sized.share.update(zip(one.members, one.views.share.tolist(), strict=True))
                probs = sized.probs
            with kept_heap(self._how.device.type):
                for positions, said in _giving_back(self._said(number, one, part, advance)):
                    probs[members, positions - part.start] = said["probs"]
                    for field in self._type.names[1:] if one.size == 0 and self._type.names else ():
                        result[field][members, positions - part.start] = said[field]
        for of_input in sizes.values():
            models = sorted(of_input[0].share)
            result["probs"][models] = _over_sizes(list(of_input.values()), models, self._how)
        _require_every_row(result["probs"], self._rows, part)
        return result

    def _said(self, number: int, one: _Pass, part: range, advance: Callable[[int], None]) -> Iterator[Part]:
        """Yield what a pass says of the rows of ``part``: of those whose features are kept by these."""
        kept = one.kept[part.start : part.stop]
        known, lacking = part.start + np.flatnonzero(kept), part.start + np.flatnonzero(~kept)
        counted = len(known)
        if one.table is not None and len(lacking) and self._keep(number, one, one.table, lacking, advance):
            known, lacking = np.arange(part.start, part.stop), lacking[:0]
        if one.table is not None and len(known):
            yield from self._from_features(one, one.table, known)
            advance(counted)
        if len(lacking):
            yield from self._from_files(number, one, lacking, advance)

    def _keep(
        self, number: int, one: _Pass, table: FeatureTable, places: npt.NDArray[np.int64], advance: Callable[[int], None]
    ) -> bool:
        """Compute the features that are not kept, and keep them, so that the next head on the backbone takes seconds; return
        whether they could be kept."""
        engine, compute, spec = self._engines_of(number, one)[0].engine, self._how.compute, one.views.seen
        rows = [self._rows[position] for position in places.tolist()]
        how = self._how.device, compute.batch_size, compute.workers, compute.source
        plan = ViewPlan(mirrored=MIRRORED in _kept_views(one.views))
        try:
            Extractor(engine, spec, *how, on_batch=advance).add(table, rows, plan)
        except ImageError as error:
            raise _all_unreadable(rows, compute.workers, error) from error
        except StorageError as error:
            _LOG.warning("%s They are computed, but not kept.", error)
            return False
        one.kept[places] = True
        return True

    def _from_features(self, one: _Pass, table: FeatureTable, places: npt.NDArray[np.int64]) -> Iterator[Part]:
        """Yield rows whose features are kept."""
        heads, how = one.groups[0].heads(self._how.device), self._how
        rows = max(1, min(_CHUNK, _LOGITS // (self._n_classes * len(one.members))))
        for positions in np.array_split(places, -(-len(places) // rows)):
            paths = [self._rows[position][1] for position in positions.tolist()]
            with torch.inference_mode():
                features = [torch.from_numpy(table.read(paths, view)).to(how.device) for view in _kept_views(one.views)]
                probs = _merged([heads(of_view) for of_view in features], one, how)
            hashes = table.pixels(paths)
            self.origins |= zip(map(str, paths), hashes[:, 1].tolist(), strict=True)
            yield positions, _together(probs, hashes[:, 0], how.task)

    def _from_files(
        self, number: int, one: _Pass, places: npt.NDArray[np.int64], advance: Callable[[int], None]
    ) -> Iterator[Part]:
        """Yield rows that are predicted from their pixels."""
        engines, spec, compute = self._engines_of(number, one), one.views.spec, self._how.compute
        todo = [self._rows[position] for position in places.tolist()]
        source = compute.source
        if source is not None and not one.plain:
            source = source.at(spec.prepare_size)
        batches = eval_batches(
            todo, spec, batch_size=compute.batch_size, workers=compute.workers, source=source, origins=one.size == 0
        )
        try:
            for positions, said in _said_of_batches(engines, self._noting(batches), one, self._how):
                yield places[positions], said
                advance(len(positions))
        except ImageError as error:
            raise _all_unreadable(todo, compute.workers, error) from error

    def _engines_of(self, number: int, one: _Pass) -> list[GroupEngine]:
        """The engines of a pass, made when they are first needed."""
        if number not in self._engines:
            seen, how = one.views.seen, self._how
            pixels = int((~one.kept).sum()) * len(one.views.views) * seen.height * seen.width
            name = choose_engine(how.compute.engine, how.device, pixels)
            with memory_errors():
                self._engines[number] = [make_group_engine(group, name, how.options) for group in one.groups]
        return self._engines[number]

    def _noting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass the batches on, and remember which pixels each file holds."""
        for batch in batches:
            self.origins |= batch.origins or {}
            yield batch


def _giving_back(parts: Iterable[Part]) -> Iterator[Part]:
    """Pass parts on; memory stays flat."""
    done = 0
    for positions, said in parts:
        yield positions, said
        done += len(positions)
        if done >= _GIVE_BACK:
            give_back_memory()
            done = 0


@dataclass(frozen=True)
class _How:
    """What is the same for all passes of a call."""

    merge: str
    task: str
    device: torch.device
    compute: Compute

    @property
    def options(self) -> EngineOptions:
        compute = self.compute
        return EngineOptions(self.device, compute.precision, compute.cache_dir, compute.calibration, compute.graphs)


@dataclass(frozen=True)
class _Pass:
    """Groups that want the same input, their views of it, and where the features of rows (N,) that are ``kept`` lie.

    Attributes:
        input: number of the input that the models want, and ``size`` of the size that it is prepared in, both from 0.
        alone: whether the models see images in this size only.
        plain: whether images are prepared as for training.
    """

    groups: tuple[ModelGroup, ...]
    views: ViewPass
    kept: npt.NDArray[np.bool_]
    table: FeatureTable | None = None
    input: int = 0
    size: int = 0
    alone: bool = True
    plain: bool = True

    @property
    def members(self) -> list[int]:
        """Positions of the models among the caller's, in the order in which they are computed."""
        return [member for group in self.groups for member in group.members]


def _plan(models: Sequence[LoadedModel], rows: Rows, texts: Sequence[str], how: _How) -> list[_Pass]:
    """For all models that want the same input, one pass for each size that they see; a group whose features are kept has one of
    its own."""
    passes: list[_Pass] = []
    nothing = np.zeros(len(rows), dtype=bool)
    for number, (spec, members) in enumerate(by_spec(models).items()):
        planned = plan_views([texts[member] for member in members], spec)
        for size, views in enumerate(planned):
            sized = [replace(models[member], spec=views.seen) for member in members]
            if views.seen != spec:
                _require_size(sized)
            empty = _Pass((), views, nothing, None, number, size, len(planned) == 1, views.spec == spec)
            passes += _passes_of(sized, members, rows, empty, how)
    return passes


def _passes_of(models: Sequence[LoadedModel], members: Sequence[int], rows: Rows, empty: _Pass, how: _How) -> Iterator[_Pass]:
    """Yield ``empty`` with the groups of ``models``, whose positions among the caller's are ``members``."""
    tables: dict[str, tuple[FeatureTable, npt.NDArray[np.bool_]]] = {}
    names = _kept_views(empty.views) if empty.plain else ()
    cache = how.compute.features if names else None

    def known(fingerprint: str, spec: ImageSpec) -> bool:
        table = cache.table(fingerprint, spec, how.device, how.compute.precision) if cache is not None else None
        if not table:
            return False
        kept = np.asarray(table.has([path for _, path in rows], names).all(axis=0))
        tables[fingerprint] = table, kept
        return True

    def placed(some: Iterable[ModelGroup]) -> tuple[tuple[ModelGroup, ...], ViewPass]:
        """Groups with the caller's positions, and the weights of their models alone."""
        some = tuple(some)
        at = [member for group in some for member in group.members]
        views = replace(empty.views, weights=empty.views.weights[:, at], share=empty.views.share[at])
        return tuple(replace(group, members=tuple(members[at] for at in group.members)) for group in some), views

    groups = group_models(models, range(len(models)), known=None if cache is None else known, engine=how.compute.engine)
    with_features = [group for group in groups if group.parts is not None and group.fingerprint in tables]
    for group in with_features:
        own, views = placed([group])
        table, kept = tables[group.fingerprint]
        yield replace(empty, groups=own, views=views, kept=kept, table=table)
    if len(with_features) < len(groups):
        others, views = placed(group for group in groups if group not in with_features)
        yield replace(empty, groups=others, views=views)


def _kept_views(views: ViewPass) -> tuple[str, ...]:
    """Return what the views are called where features are kept; nothing where they are not kept."""
    if not set(views.names) <= set(KEPT_VIEWS):
        return ()
    return max((KEPT_VIEWS[name] for name in views.names), key=len)


def _require_size(models: Sequence[LoadedModel]) -> None:
    """Refuse models that cannot see images of the size of their spec, which is larger than that of training.

    Raises:
        ConfigError: names the model.
    """
    for loaded in {id(loaded.model): loaded for loaded in models}.values():
        if not sees(loaded, loaded.spec.size):
            height, width = loaded.spec.size
            raise ConfigError(f"{loaded.name} cannot see images of {height}x{width} pixels; leave out views of larger images.")


def sees(loaded: LoadedModel, size: tuple[int, int]) -> bool:
    """Return whether a model gives logits for images of (height, width)."""
    inner = unwrap(loaded.model).eval()
    device = next((parameter.device for parameter in inner.parameters()), torch.device("cpu"))
    try:
        with torch.inference_mode():
            logits = inner(torch.zeros(1, loaded.spec.channels, *size, device=device))
    except (RuntimeError, AssertionError, ValueError):  # what architectures of a fixed size raise
        return False
    return bool(logits.shape == (1, len(loaded.classes)))


def predict_model(
    model: nn.Module,
    batches: Iterable[Batch],
    spec: ImageSpec,
    task: str,
    *,
    n_classes: int,
    options: EngineOptions,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[npt.NDArray[np.int64], Probs]:
    """Predict the batches of a loader with a live model, as training does for validation; no views.

    The model is left in evaluation mode.

    Returns:
        The row numbers that the loader gave, (N,), and their probabilities (N, C) float32, both in its order.
    """
    # Without what training wraps around it: a compiled or autocast forward would differ from `kk predict` by rounding.
    engine = TorchEngine(unwrap(model), options)
    return predict_with_engine(engine, batches, spec, task, options.device, n_classes=n_classes, on_batch=on_batch)


def predict_with_engine(
    engine: Engine,
    batches: Iterable[Batch],
    spec: ImageSpec,
    task: str,
    device: torch.device,
    *,
    n_classes: int,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[npt.NDArray[np.int64], Probs]:
    """Do what :func:`predict_model` does with an engine on its device."""
    how = _How("mean", task, device, Compute())
    plain = _Pass((), plan_views([NO_VIEWS], spec)[0], np.zeros(0, dtype=bool))
    rows: list[npt.NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    probs: list[Probs] = []
    for positions, part in _said_of_batches([GroupEngine(engine)], batches, plain, how, hashed=False):
        rows.append(positions)
        probs.append(probs_of(part[0], n_classes))
        if on_batch is not None:
            on_batch(len(positions))
    return np.concatenate(rows), together(probs) if probs else np.empty((0, 0), dtype=np.float32)


def _said_of_batches(
    engines: Sequence[GroupEngine], batches: Iterable[Batch], one: _Pass, how: _How, *, hashed: bool = True
) -> Iterator[Part]:
    """Yield for each batch its row numbers (B,) and what the engines' models say, (M, B)."""
    channels_last = any(isinstance(engine.engine, TorchEngine) for engine in engines)
    spec = one.views.seen  # of its mean and std
    for batch in batches:
        inputs: dict[Change | None, torch.Tensor] = {}
        with torch.inference_mode(), memory_errors():
            by_view = []
            for view in one.views.views:
                if view.change not in inputs:
                    pixels = _changed(batch.images, view.change)
                    inputs[view.change] = to_input(pixels, spec, how.device, channels_last=channels_last)  # (B, 3, H, W)
                seen = view.look(inputs[view.change])
                by_view.append(torch.cat([engine.logits(seen) for engine in engines]))
            # Of the very tensor; a GPU is still computing meanwhile.
            hashes = batch_hashes(batch.images) if hashed else np.zeros(len(batch.rows), dtype=np.uint64)
            merged = _merged(by_view, one, how)
        yield batch.rows.numpy(), _together(merged, hashes, how.task)


def _changed(images: torch.Tensor, change: Change | None) -> torch.Tensor:
    """Return a batch (B, 3, H, W) uint8 with each image changed."""
    if change is None:
        return images
    changed = np.stack([change(image) for image in images.permute(0, 2, 3, 1).contiguous().numpy()])
    return torch.from_numpy(changed).permute(0, 3, 1, 2)


def _together(probs: Probs, hashes: npt.NDArray[np.uint64], task: str) -> Said:
    """Return probabilities (M, B, C) and pixel hashes (B,) as rows (M, B) of :func:`row_type`."""
    said = np.empty(probs.shape[:2], dtype=row_type(probs.shape[2], task))
    said["pixels"] = hashes
    if "columns" not in (said.dtype.names or ()):
        said["probs"] = probs
        return said
    for of_model, whole in zip(said, probs, strict=True):
        kept = SparseRows.largest(whole, of_model["columns"].shape[1])
        of_model["probs"], of_model["columns"] = kept.cells, kept.columns
    return said


def _merged(by_view: Sequence[torch.Tensor], one: _Pass, how: _How) -> Probs:
    """Logits (M, B, C) of each of V views to probabilities (M, B, C)."""
    # Views are merged for each model alone; rows of all models lie side by side meanwhile.
    side_by_side = torch.stack([to_probs(logits.flatten(0, 1), how.task) for logits in by_view])  # (V, M * B, C)
    weights = one.views.weights.to(side_by_side.device).repeat_interleave(by_view[0].shape[1], dim=1)[:, :, None]
    merged = merge_views(side_by_side, how.merge, weights)
    if len(by_view) > 1 and one.alone:
        merged = normalised(merged, how.task)
    probs: Probs = merged.view(by_view[0].shape).float().cpu().numpy()
    return probs


@dataclass(frozen=True)
class _Sized:
    """What models say of images in one size, (M, N, C), not normalised yet; and model -> the size's share in what it says."""

    probs: Probs
    share: dict[int, float]


def _over_sizes(sizes: Sequence[_Sized], members: Sequence[int], how: _How) -> Probs:
    """Probabilities (M, N, C) of ``members`` from those of each size that they see."""
    weights = [[sized.share[member] for member in members] for sized in sizes]
    stacked = torch.from_numpy(np.stack([sized.probs[list(members)] for sized in sizes]))  # (S, M, N, C)
    merged = merge_views(stacked, how.merge, torch.tensor(weights)[:, :, None, None])
    result: Probs = normalised(merged, how.task).numpy()
    return result


def common(models: Sequence[LoadedModel]) -> tuple[Classes, str]:
    """Return classes and task; raises ClassMappingError or DataError where models do not share them, or there are none."""
    if not models:
        raise DataError("expected at least one model, got none.")
    first = models[0]
    for other in models[1:]:
        first.classes.require_same(other.classes, here=str(first.path), there=str(other.path))
        if other.task != first.task:
            raise DataError(f"{first.path} is for task {first.task}, {other.path} for {other.task}; predict them apart.")
    return first.classes, first.task


def by_spec(models: Sequence[LoadedModel]) -> dict[ImageSpec, list[int]]:
    """Return the positions of the models that want the same input."""
    groups: dict[ImageSpec, list[int]] = {}
    for position, loaded in enumerate(models):
        groups.setdefault(loaded.spec, []).append(position)
    return groups


def _counter(progress: Progress | None, *, offset: int, total: int) -> Callable[[int], None]:
    done = offset

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return advance


def _all_unreadable(rows: Rows, workers: int | None, first: ImageError) -> ImageError:
    """The pass stops at one bad image; whoever must mend them wants all at once."""
    reasons = check_images(rows, workers=workers or None)
    if not reasons:
        return first
    listed = "\n  ".join(f"{row_id}: {reason}" for row_id, reason in reasons.items())
    return ImageError(
        f"{len(reasons)} of {len(rows)} images to predict cannot be read; none may be left out, so nothing was written. "
        f"Replace these files and run again:\n  {listed}"
    )


def _require_every_row(result: Probs, rows: Rows, part: range) -> None:
    missing = [rows[part[at]][0] for at in np.flatnonzero(~np.all(np.isfinite(result), axis=(0, 2))).tolist()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(part)} rows came out without a finite probability: {shown(missing)}. The model's weights "
            "are damaged or overflow; try precision fp32, or train it again."
        )
