"""What ``kk.yaml`` may say: frozen models whose errors name the key, and ``key=value`` overrides.

Sections: ``competition`` (what the data looks like; written by ``kk init``), ``folds``, ``run`` (how to train) and ``cache``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kaggle_kit import files

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
S = TypeVar("S", bound="Section")
ImageSize = int | tuple[int, int]


class Section(BaseModel):
    """A frozen part of the configuration that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TrainDataConfig(Section):
    """Where the training images and labels are. Paths are relative to ``data_dir``."""

    layout: Literal["folders", "csv"]
    dirs: list[str] = Field(description="folders layout: the folders that hold a folder per class; csv: where images lie")
    class_level: Literal["first", "last", "path"] = Field(
        "first", description="folders layout, nested: the folder below dirs, the one around the image, or all between them"
    )
    val_dirs: list[str] = Field([], description="those of dirs that are validated on, as fold 0 of `kk folds --scheme column`")
    csv: str | None = None
    val_csv: str | None = Field(None, description="a second CSV with the same columns, whose rows have fold 0")
    image_column: str | None = None
    label_columns: list[str] = Field([], description="one column of labels, or one 0/1 column per class")
    label_separator: str | None = Field(None, description="several labels in one cell, separated by this")
    group_column: str | None = Field(None, description="rows of one group stay in one fold")
    fold_column: str | None = Field(None, description="for `kk folds --scheme column`")
    train_only_dirs: list[str] = Field([], description="folders of extra images, trained on but never validated on")
    train_only_column: str | None = Field(None, description="a 0/1 column that marks such rows")
    label_map: dict[str, str | None] = Field(
        {}, description="label cell or class folder -> the label to read instead; null leaves the row out"
    )


class TestDataConfig(Section):
    """Where the test images are. Without ``csv`` the ids come from the sample submission, or else from the files."""

    __test__ = False

    dirs: list[str]
    csv: str | None = None
    image_column: str | None = None


class SubmissionConfig(Section):
    """The form of ``sample_submission.csv``."""

    sample: str | None = Field(None, description="the file; without one, ids and class names are written")
    id_column: str = "id"
    form: Literal["label", "index", "labels", "probability", "positive"] = "label"
    columns: dict[str, str] = Field({}, description="target column -> class, in the sample's order; a single column maps to ''")
    indices: dict[str, int] = Field({}, description="form index: class -> the integer that the grader expects")
    separator: str = Field(" ", description="form labels: between the labels of a cell")
    threshold: Share = Field(0.5, description="form labels: a class is written when its probability reaches this")
    empty_label: str | None = Field(None, description="form labels: what stands for no label; None writes the most probable")


class CompetitionConfig(Section):
    """The competition: its data, task, metric and classes."""

    name: str
    data_dir: str = Field(description="relative to kk.yaml, or absolute")
    task: Literal["binary", "multiclass", "multilabel"]
    metric: str = "accuracy"
    classes: list[str] = Field(min_length=1, description="the order of columns everywhere; binary: the positive class last")
    train: TrainDataConfig
    test: TestDataConfig | None = None
    submission: SubmissionConfig = SubmissionConfig()

    @field_validator("classes", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """YAML reads an unquoted 1, no or 2020-01-01 as something else than the text that names the class."""
        if isinstance(value, list) and any(not isinstance(name, str) for name in value):
            wrong = [repr(name) for name in value if not isinstance(name, str)]
            raise ValueError(f"class names must be quoted text, found {', '.join(wrong[:5])}")
        return value

    @model_validator(mode="after")
    def _fits_task(self) -> CompetitionConfig:
        if self.task == "binary" and len(self.classes) != 2:
            raise ValueError(f"task binary needs 2 classes, got {len(self.classes)}")
        return self


class FoldsConfig(Section):
    """Defaults of ``kk folds``."""

    scheme: str = Field("auto", description="auto: multilabel, stratified-group or stratified, as the data asks for")
    n_folds: Annotated[int, Field(ge=1)] = 5
    repeats: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0
    holdout: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="scheme holdout: the share validated on")
    duplicates: Literal["exact", "near", "off"] = "near"
    near_distance: Annotated[int, Field(ge=0, le=32)] = Field(
        4, description="bits of 64 that two perceptual hashes may differ in"
    )


class ModelConfig(Section):
    """A timm model. ``options`` go to ``timm.create_model``, e.g. ``{aa_layer: blurpool}``."""

    name: str = "tf_efficientnet_lite0"
    pretrained: bool | str = Field(True, description="true: find weights; false: none; a path: that file")
    drop_rate: Rate = 0.0
    drop_path_rate: Rate = 0.0
    freeze: Annotated[int, Field(ge=-1)] = Field(
        0, description="leading parameter groups of the backbone to freeze; -1: all of it"
    )
    freeze_bn: bool = Field(False, description="batch norm keeps its pretrained statistics")
    grad_checkpointing: bool = False
    channels_last: bool = True
    compile: bool | Literal["auto"] = Field(
        "auto", description="torch.compile; auto: when there is enough to train for it to pay, and a compiler"
    )
    options: dict[str, Any] = {}


class DataConfig(Section):
    """How images become batches."""

    image_size: ImageSize | None = Field(None, description="pixels: side, or height and width; none: the model's own")
    batch_size: Count = 32
    eval_batch_size: Count | None = Field(None, description="none: twice batch_size")
    workers: Annotated[int, Field(ge=0)] | None = Field(None, description="loader processes; none: from the CPUs")
    fit: Literal["crop", "squash", "pad"] = Field("crop", description="how an image of another shape comes to the size")
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = Field(None, description="none: the model's own")
    sampler: str = "shuffle"
    samples_per_epoch: Count | None = None
    bad_images: Literal["stop", "skip"] = Field("stop", description="unreadable training images; test images always stop")

    @field_validator("image_size")
    @classmethod
    def _positive(cls, value: ImageSize | None) -> ImageSize | None:
        if value is not None and min(value if isinstance(value, tuple) else (value,)) < 8:
            raise ValueError("image_size must be at least 8 pixels")
        return value


class AugmentConfig(Section):
    """Augmentation of training images, and mixing of training batches."""

    preset: str = "light"
    transforms: list[dict[str, Any]] = Field([], description="albumentations after the preset, e.g. [{name: CLAHE, p: 0.3}]")
    mixup: Annotated[float, Field(ge=0)] = Field(0.0, description="alpha of the beta distribution; 0: off")
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    mix_prob: Share = 1.0
    mix_off_epochs: Annotated[int, Field(ge=0)] = Field(0, description="last epochs without mixing")


class OptimizerConfig(Section):
    """An optimizer of timm's factory. Weight decay does not touch 1-D parameters."""

    name: str = "adamw"
    lr: Positive = 1e-3
    head_lr: Positive | None = Field(None, description="none: the same as lr")
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    momentum: Rate = 0.9
    accumulate: Count = Field(1, description="batches per optimizer step")
    clip_norm: Positive | None = None
    clip_value: Positive | None = None
    options: dict[str, Any] = {}


class ScheduleConfig(Section):
    """A learning-rate schedule of timm's factory."""

    name: str = "cosine"
    epochs: Count = 10
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    options: dict[str, Any] = {}


class LossConfig(Section):
    """``auto``: cross entropy, or binary cross entropy for multi-label."""

    name: str = "auto"
    label_smoothing: Rate = 0.0
    class_weights: Literal["balanced"] | dict[str, Positive] | None = None
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0


class EarlyStoppingConfig(Section):
    """Stop when the metric has not improved by ``min_delta`` for ``patience`` epochs; 0: never."""

    patience: Annotated[int, Field(ge=0)] = 0
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class ProbeConfig(Section):
    """Strategies ``probe`` and ``probe-then-finetune``: a linear head on features of the frozen backbone."""

    views: Annotated[int, Field(ge=0)] = Field(1, description="augmented views of each training image, beside the plain one")
    mirror: bool | None = Field(None, description="a mirrored view as well; none: where the augmentation mirrors")
    strengths: list[Positive] = Field(
        [3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 1e-3, 3e-4, 1e-4],
        min_length=1,
        description="regularisation: half of this times the squared weights of the scaled features",
    )
    inner: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="share of the training rows that chooses the strength")


class HardwareConfig(Section):
    """Where to run; nothing here is meant to change what is learnt."""

    accelerator: str = "auto"
    devices: Count = 1
    strategy: str = "auto"
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    engine: str = Field("auto", description="inference engine")


class RunConfig(Section):
    """Everything that one training run depends on."""

    seed: Annotated[int, Field(ge=0)] = 0
    folds: str = Field("folds", description="the fold table, folds/<name>.csv")
    strategy: str = Field("finetune", description="finetune, probe or probe-then-finetune")
    ema: Rate = Field(0.0, description="decay of the averaged weights; 0: off")
    keep: Literal["best", "last"] = Field("best", description="which epoch's weights become model.safetensors")
    nan: Literal["stop", "skip"] = Field("stop", description="a loss that is not finite: stop the fold, or skip the batch")
    checkpoint_minutes: Positive = Field(10.0, description="time between checkpoints within an epoch")
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    probe: ProbeConfig = ProbeConfig()
    hardware: HardwareConfig = HardwareConfig()

    @property
    def fingerprint(self) -> str:
        """sha256 of :meth:`shaping`."""
        return files.fingerprint(self.shaping())

    def shaping(self) -> dict[str, Any]:
        """Plain values of all that may change the result; hardware, loader processes and eval batch size are left out."""
        left_out: Any = {
            "hardware": True,
            "checkpoint_minutes": True,
            "data": {"workers", "eval_batch_size"},
        }
        return self.model_dump(mode="json", exclude=left_out)


class CacheConfig(Section):
    """The store of decoded images."""

    enabled: bool = True
    budget: str | int | None = Field(None, description="bytes, or e.g. 8GB; none: from free disk and memory")


class Config(Section):
    """A whole ``kk.yaml``."""

    competition: CompetitionConfig
    folds: FoldsConfig = FoldsConfig()
    run: RunConfig = RunConfig()
    cache: CacheConfig = CacheConfig()
