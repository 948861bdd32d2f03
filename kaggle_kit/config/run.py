"""The section ``run`` of kk.yaml: how ``kk train`` trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from kaggle_kit import files
from kaggle_kit.choices import (
    AUGMENTATIONS,
    AVERAGES,
    BALANCES,
    CLASSIFIERS,
    CYCLES,
    EXACT_ENGINE_CHOICES,
    HEADS,
    LOSSES,
    POOL_CHOICES,
    PRECISION_CHOICES,
    SAMPLERS,
    SCHEDULES,
    STRATEGIES,
    TRACKERS,
)
from kaggle_kit.config.entries import ALIASES, resolve, with_entry
from kaggle_kit.config.explain import explain
from kaggle_kit.config.fields import (
    Count,
    Factor,
    FewCount,
    ImageSize,
    InnerShare,
    Later,
    Name,
    NotNegative,
    OneOf,
    Positive,
    PositiveShare,
    Rate,
    Section,
    Seed,
    Share,
    StopOrSkip,
    Whole,
    as_before,
    one_of,
)
from kaggle_kit.config.optimizers import optimizers, require_optimizer
from kaggle_kit.errors import ConfigError
from kaggle_kit.registry import shortened, suggest

SIDES = (8, 4096)
"""Smallest and largest side of an image, in pixels."""
STAGE_SECTIONS = ("schedule", "optimizer", "augment", "loss", "early_stopping")
STAGE_KEYS = (
    *("data.image_size", "data.batch_size", "data.sampler", "data.samples_per_epoch"),
    *("data.samples_per_class", "data.class_multiples"),
    *("model.freeze", "model.freeze_bn"),
)
"""What a stage may set: every key of the sections, and these keys."""


class HeadConfig(Section):
    """What stands between the backbone's feature map and the logits."""

    name: Annotated[str, one_of(HEADS)] = Field("linear", description="what gives the logits")
    pool: Annotated[str, one_of(POOL_CHOICES)] = Field("auto", description="how the feature map becomes features")
    grid: Annotated[int, Field(ge=1, le=16)] = Field(2, description="cells a side of the pooling grid")
    hidden: list[Annotated[int, Field(ge=1, le=65_536)]] = Field([], description="sizes of hidden layers, e.g. [64, 32]")
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh"] = Field("relu", description="of the hidden layers")
    batch_norm: Literal["none", "features", "all"] = Field("none", description="of the features, or of hidden layers as well")
    dropout: Rate = Field(0.0, description="dropout after each hidden layer; that of the features is model.drop_rate")
    samples: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="dropout masks a step before the last layer, whose losses are averaged (multi-sample dropout)"
    )
    scale: Positive = Field(16.0, description="what cosine multiplies cosines by")
    centres: Annotated[int, Field(ge=1, le=64)] = Field(1, description="centres a class of cosine; the nearest counts")
    margin: Annotated[float, Field(ge=0, le=1.5)] = Field(
        0.0, description="angle by which cosine makes the true class harder in training (ArcFace), e.g. 0.3; 0: none"
    )

    layer: Annotated[int, Field(ge=-20, le=-1), Later()] = Field(
        -1, description="which of the backbone's feature maps is pooled: -1 the last, -2 the one before, finer …"
    )
    joined: Annotated[list[Annotated[int, Field(ge=-20, le=-2)]], Later()] = Field(
        [], description="earlier feature maps whose features are joined to those of the last, e.g. [-2, -3]"
    )
    rows: Annotated[Whole, Later()] = Field(0, description="training rows that knn keeps; strategy probe sets it")
    neighbours: Annotated[Whole, Later()] = Field(0, description="rows that knn asks; strategy probe sets it")

    @model_validator(mode="after")
    def _sensible(self) -> HeadConfig:
        if self.name == "linear" and self.hidden:
            raise ValueError("hidden layers need name: mlp or cosine")
        if self.name == "mlp" and not self.hidden:
            raise ValueError("mlp needs hidden, the sizes of its layers, e.g. [256]")
        if self.name != "cosine" and (self.margin or self.centres > 1):
            raise ValueError("margin and centres need name: cosine")
        if self.joined and self.layer != -1:
            raise ValueError(
                "joined joins earlier feature maps to the last one, and layer ends the network before it; set one of them"
            )
        if len(set(self.joined)) < len(self.joined):
            raise ValueError(f"joined must name each feature map once, got {self.joined}")
        return self


class ModelConfig(Section):
    """The network: a timm model, or an own one."""

    name: str = Field(
        "tf_efficientnet_lite0",
        description="any timm model, with or without tag; also alexnet and others of ours; or an own file.py:function",
    )
    pretrained: bool | str = Field(True, description="true: find weights; false: none; a path: that file, or a fetched folder")
    drop_rate: Rate = Field(0.0, description="dropout before the head")
    drop_path_rate: Rate = Field(0.0, description="share of residual branches dropped (stochastic depth)")
    head: Annotated[HeadConfig, Later()] = Field(HeadConfig(), description="pooling and classifier")
    freeze: Annotated[int, Field(ge=-1, le=10_000)] = Field(
        0, description="leading parameter groups of the backbone to freeze; -1: all of it"
    )
    freeze_bn: bool = Field(False, description="batch norm keeps its pretrained statistics")
    grad_checkpointing: bool = Field(False, description="compute activations twice, to keep fewer: less memory, slower")
    channels_last: bool = Field(True, description="memory layout of the images; faster for convolutions")
    compile: bool | Literal["auto"] = Field(
        "auto", description="torch.compile; auto: where there is enough to train, and on CPUs only if steps are faster with it"
    )
    options: dict[str, Any] = Field({}, description="arguments of timm.create_model, or of an own function")

    @model_validator(mode="after")
    def _sensible(self) -> ModelConfig:
        if self.head.name == "knn":
            raise ValueError("head.name knn holds training rows; use strategy probe with probe.classifier=knn")
        rate, key = (self.head.dropout, "head.dropout") if self.head.hidden else (self.drop_rate, "drop_rate")
        if self.head.samples > 1 and not rate:
            raise ValueError(f"head.samples draws several dropout masks, so {key} must be above 0, e.g. 0.5")
        return self


class DataConfig(Section):
    """How images become batches."""

    image_size: ImageSize | None = Field(None, description="pixels: side, or [height, width]; null: the model's own")
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = Field(32, description="images a batch")
    eval_batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        None, description="images a batch without training; null: twice batch_size"
    )
    workers: Annotated[int, Field(ge=0, le=256)] | None = Field(None, description="loader processes; null: from the CPUs")
    fit: Literal["crop", "squash", "pad"] = Field("crop", description="how an image of another shape comes to the size")
    crop_pct: PositiveShare | None = Field(
        None, description="share of the side that the centre crop of evaluation keeps; null: the model's own"
    )
    sampler: Annotated[str, one_of(SAMPLERS)] = Field("shuffle", description="which images an epoch sees")
    samples_per_epoch: Count | Factor | None = Field(
        None, description="images an epoch, or a multiple of their number, e.g. 2x; null: as many as there are"
    )
    samples_per_class: Annotated[Count | None, Later()] = Field(
        None, description="most images of a class an epoch, others in each; null: all of them"
    )
    class_multiples: Annotated[dict[str, NotNegative], Later()] = Field(
        {}, description="class -> how often an epoch sees each of its images, e.g. {rare: 3}; 1 for those not named"
    )
    labels: Annotated[Name | None, Later()] = Field(
        None, description="train with the labels as reviewed in labels/<name>.csv (see `kk labels`); null: as given"
    )
    several: Annotated[Literal["mean", "max", "best"], Later()] = Field(
        "best", description="how predictions of an id's several images become one; best: what scores better out of fold"
    )
    bad_images: StopOrSkip = Field(
        "stop", description="at an unreadable training image stop, or skip it; test images always stop"
    )

    @property
    def evaluated_at_once(self) -> int:
        """Images a batch without training, which takes less than half the memory of a step."""
        return self.eval_batch_size or 2 * self.batch_size

    @model_validator(mode="after")
    def _one_way_to_draw(self) -> DataConfig:
        by_class = self.samples_per_class is not None or self.class_multiples
        if by_class and (self.sampler != "shuffle" or self.samples_per_epoch is not None):
            raise ValueError(
                "samples_per_class and class_multiples say what an epoch is made of, so they need sampler: shuffle and no "
                "samples_per_epoch"
            )
        return self

    @field_validator("image_size")
    @classmethod
    def _sensible(cls, value: ImageSize | None) -> ImageSize | None:
        sides = () if value is None else value if isinstance(value, tuple) else (value,)
        if any(side < SIDES[0] for side in sides):
            raise ValueError(f"image_size must be at least {SIDES[0]} pixels")
        if any(side > SIDES[1] for side in sides):
            raise ValueError(f"image_size must be at most {SIDES[1]} pixels")
        return value


class AugmentConfig(Section):
    """Augmentation of training images, and mixing of training batches."""

    preset: Annotated[str, one_of(AUGMENTATIONS)] = Field("light", description="how training images are changed")
    transforms: list[dict[str, Any]] = Field([], description="albumentations after the preset, e.g. [{name: CLAHE, p: 0.3}]")
    only_below: Annotated[Count | None, Later()] = Field(
        None, description="change only images of classes with fewer training images than this; null: all"
    )
    mixup: NotNegative = Field(0.0, description="alpha of the beta distribution of mixup; 0: off")
    cutmix: NotNegative = Field(0.0, description="alpha of the beta distribution of CutMix; 0: off")
    mix_prob: Share = Field(1.0, description="share of the batches that are mixed")
    mix_off_epochs: Whole = Field(0, description="last epochs without mixing")


class OptimizerConfig(Section):
    """The optimizer, one of timm's. Weight decay does not touch 1-D parameters."""

    name: Annotated[str, OneOf(optimizers, require_optimizer)] = Field(
        "adamw", description="any of timm's optimizers; lookahead_ before the name looks ahead"
    )
    lr: Positive = Field(1e-3, description="learning rate of the whole model, or of the backbone")
    head_lr: Positive | None = Field(None, description="learning rate of the head; null: the same as lr")
    weight_decay: NotNegative = Field(0.05, description="how much weights are pulled towards 0")
    layer_decay: PositiveShare | None = Field(
        None, description="factor of the rate from each layer to the one below, e.g. 0.75"
    )
    momentum: Rate = Field(0.9, description="momentum of the optimizers that have one")
    accumulate: FewCount = Field(1, description="batches per optimizer step")
    clip_norm: Positive | None = Field(None, description="largest norm of the gradients; null: not clipped")
    clip_value: Positive | None = Field(None, description="largest value of a gradient; null: not clipped")
    options: dict[str, Any] = Field({}, description="further arguments of the optimizer")


class ScheduleConfig(Section):
    """The learning-rate schedule."""

    name: Annotated[str, one_of(SCHEDULES)] = Field("cosine", description="how the learning rate changes")
    epochs: Annotated[int, Field(ge=1, le=100_000)] = Field(10, description="passes over the training images")
    warmup_epochs: NotNegative = Field(0.0, description="epochs in which the rate rises from near 0; may be a fraction")
    min_lr: NotNegative = Field(0.0, description="the rate at the end")
    options: dict[str, Any] = Field({}, description="further arguments of the schedule, e.g. {cycles: 4}")


class LossConfig(Section):
    """The training loss."""

    name: Annotated[str, one_of(LOSSES)] = Field("auto", description="what is made small")
    label_smoothing: Rate = Field(0.0, description="share of a label that is spread over all classes")
    class_weights: Literal["balanced", "effective"] | dict[str, Positive] | None = Field(
        None,
        description="balanced: by inverse frequency; effective: milder; or class -> weight, 1 for those not named; null: none",
    )
    effective_beta: Annotated[Rate, Later()] = Field(
        0.999, description="of effective class weights: 0 is none, near 1 is balanced"
    )
    logit_adjustment: Annotated[NotNegative, Later()] = Field(
        0.0, description="how much training logits lean towards frequent classes, so that rare ones gain; 1: in full, 0: off"
    )
    focal_gamma: NotNegative = Field(2.0, description="how much the loss focal turns to hard rows")
    asymmetric_gamma: Annotated[NotNegative, Later()] = Field(
        4.0, description="how much the loss asymmetric leaves out easy negatives"
    )
    asymmetric_shift: Annotated[Rate, Later()] = Field(
        0.05, description="probability up to which a negative of asymmetric does not count at all"
    )


class EarlyStoppingConfig(Section):
    """Stopping when the score no longer improves; of a run in stages, going on with the next one."""

    monitor: Annotated[Literal["metric", "valid_loss"], Later()] = Field("metric", description="what has to improve")
    patience: Whole = Field(0, description="epochs without a better score after which training stops; 0: never")
    min_delta: NotNegative = Field(0.0, description="what counts as better")


class AverageConfig(Section):
    """Averaging the weights of several epochs at the end; the average is one more candidate beside them."""

    name: Annotated[str, one_of(AVERAGES)] = Field("none", description="what is averaged")
    share: PositiveShare = Field(0.25, description="of swa: the part of the epochs, from the end, whose weights are averaged")
    candidates: Annotated[int, Field(ge=2, le=50)] = Field(5, description="of soup: the best epochs, which are tried in turn")


class ProbeConfig(Section):
    """The head of strategies ``probe`` and ``probe-then-finetune``."""

    classifier: Annotated[str, one_of(CLASSIFIERS), Later()] = Field("logistic", description="what is fitted to the features")
    balance: Annotated[str, one_of(BALANCES), Later()] = Field(
        "none", description="made-up rows of small classes, in the training part only"
    )
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=65_536)]], Later()] = Field(
        [256], min_length=1, description="sizes of the hidden layers of mlp"
    )
    views: Annotated[int, Field(ge=0, le=100)] = Field(
        1, description="augmented views of each training image, beside the plain one"
    )
    mirror: bool | None = Field(None, description="a mirrored view as well; null: where the augmentation mirrors")
    strengths: list[Positive] = Field(
        [3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 1e-3, 3e-4, 1e-4],
        min_length=1,
        description="strengths of regularisation to choose from: half of this times the squared weights",
    )
    inner: InnerShare = Field(0.2, description="share of the training rows that chooses the strength")


class TeacherConfig(Section):
    """Earlier runs to learn from beside the labels; a fold asks only models that have not seen what it is validated on."""

    runs: list[Name] = Field([], description="runs whose mean predictions are learnt from; none: labels alone")
    predictions: Literal["out-of-fold", "in-sample"] = Field(
        "out-of-fold",
        description="of images that the model has not seen, from a run on `kk folds --pairs-of`; or that it was trained on",
    )
    mix: Share = Field(0.0, description="share of the predictions in the targets, the rest is the label; e.g. 0.3")
    noise: Literal["keep", "drop", "flip"] = Field("keep", description="what becomes of labels that cleanlab takes for wrong")
    noise_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.1, description="at most this share of the training images is dropped or flipped"
    )
    pseudo: Literal["none", "hard", "soft"] = Field(
        "none", description="test images are trained on as well, with the predicted class (hard) or the probabilities (soft)"
    )
    pseudo_confidence: Share = Field(0.9, description="test images that are predicted less surely are left out")

    @field_validator("runs", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _sensible(self) -> TeacherConfig:
        used = bool(self.mix) or self.noise != "keep" or self.pseudo != "none"
        if used and not self.runs:
            raise ValueError("runs must name the run to learn from")
        if self.runs and not used:
            raise ValueError("say what to learn from the runs: mix, noise or pseudo")
        if self.noise != "keep" and self.predictions == "in-sample":
            raise ValueError("noise is judged by out-of-fold predictions: a model believes the labels that it was trained on")
        return self


class SpecialistsConfig(Section):
    """Strategy ``specialists``: models of groups of confused classes, begun from those of the run ``init_from``."""

    groups: list[Annotated[list[str], Field(min_length=2)]] = Field(
        [], description="groups of classes, e.g. [[bedroom, livingroom], [coast, opencountry]]; none: as confused_by tells"
    )
    confused_by: Name | None = Field(
        None, description="a run on `kk folds --pairs-of`, by whose confusions each fold finds its groups"
    )
    count: FewCount = Field(3, description="groups that are found, at most")
    largest: Annotated[int, Field(ge=2, le=1000)] = Field(4, description="classes of a group that is found, at most")
    least: InnerShare = Field(
        0.02, description="share of their probability that classes must give each other to be put into one group"
    )

    @field_validator("groups", mode="before")
    @classmethod
    def _names_of_numbers(cls, value: Any) -> Any:
        """YAML reads the class 3 as a number."""
        if not isinstance(value, list) or not all(isinstance(group, list) for group in value):
            return value
        return [[str(name) if type(name) is int else name for name in group] for group in value]

    @field_validator("groups")
    @classmethod
    def _no_class_twice(cls, value: list[list[str]]) -> list[list[str]]:
        named = [name for group in value for name in group]
        twice = [name for name in dict.fromkeys(named) if named.count(name) > 1]
        if twice:
            raise ValueError(f"a class may stand in one group only, found twice: {', '.join(twice)}")
        return value


class HardwareConfig(Section):
    """Where to run; nothing here is meant to change what is learnt."""

    accelerator: str = Field("auto", description="cpu, cuda, mps … as Lightning Fabric names them; auto: the best there is")
    devices: FewCount = Field(1, description="devices that train one fold together")
    strategy: str = Field("auto", description="how several devices work together, as Lightning Fabric names it, e.g. ddp")
    precision: Annotated[str, one_of(PRECISION_CHOICES)] = Field("auto", description="of the arithmetic")
    engine: Annotated[str, one_of(EXACT_ENGINE_CHOICES)] = Field(
        "auto", description="what computes predictions (kk predict --engine int8 alone: 8-bit integers)"
    )


class RunConfig(Section):
    """Everything that one training run depends on."""

    seed: Seed = Field(0, description="seed of all that is random in training")
    folds: Name = Field("folds", description="the fold table, folds/<name>.csv")
    strategy: Annotated[str, one_of(STRATEGIES)] = Field("finetune", description="what is trained")
    init_from: Annotated[Name | None, Later()] = Field(
        None, description="a run; fold k begins from the weights of its fold k instead of model.pretrained; null: none"
    )
    snapshots: Annotated[Annotated[int, Field(ge=0, le=50)], Later()] = Field(
        0, description="models to keep of a cyclic schedule, from its last cycles; each becomes a run; 0: none"
    )
    ema: Rate = Field(0.0, description="decay of the averaged weights, e.g. 0.999; 0: off")
    keep: Literal["best", "last"] = Field("best", description="which epoch's weights become model.safetensors")
    validate_every: Annotated[Whole, Later()] = Field(
        1, description="epochs from one validation to the next; the last epoch always is; 0: not before training is over"
    )
    nan: StopOrSkip = Field("stop", description="at a loss that is not finite: stop the fold, or skip the batch")
    checkpoint_minutes: Positive = Field(10.0, description="time between checkpoints within an epoch")
    track: Annotated[str, one_of(TRACKERS)] = Field("tensorboard", description="what keeps curves and outcomes for other tools")
    model: ModelConfig = Field(ModelConfig(), description="the network")
    data: DataConfig = Field(DataConfig(), description="how images become batches")
    augment: AugmentConfig = Field(AugmentConfig(), description="augmentation of images and mixing of batches")
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="the optimizer")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="the learning-rate schedule")
    loss: LossConfig = Field(LossConfig(), description="the training loss")
    average: Annotated[AverageConfig, Later()] = Field(AverageConfig(), description="averaging the weights of epochs")
    early_stopping: EarlyStoppingConfig = Field(EarlyStoppingConfig(), description="when to stop early")
    probe: ProbeConfig = Field(ProbeConfig(), description="the head of the probe strategies")
    teacher: Annotated[TeacherConfig, Later()] = Field(TeacherConfig(), description="earlier runs to learn from")
    specialists: Annotated[SpecialistsConfig, Later()] = Field(
        SpecialistsConfig(), description="models of groups of classes, with strategy specialists"
    )
    hardware: HardwareConfig = Field(HardwareConfig(), description="where to run")
    # The last field, since a stage takes from the others what it does not say.
    stages: Annotated[list[dict[str, Any]], Later()] = Field(
        [], description="parts of the training with entries of their own, e.g. [{epochs: 2, freeze: -1}, {image_size: 224}]"
    )

    @field_validator("stages", mode="before")
    @classmethod
    def _by_full_names(cls, value: Any) -> Any:
        return [_stage_entries(number, stage) for number, stage in enumerate(value, 1)] if isinstance(value, list) else value

    @field_validator("stages")
    @classmethod
    def _each_sound(cls, value: list[dict[str, Any]], info: ValidationInfo) -> list[dict[str, Any]]:
        if len(info.data) < len(cls.model_fields) - 1:  # what is wrong with another key is said anyway
            return value
        if value and info.data["strategy"] == "probe":
            raise ConfigError("a probe is fitted at once and has no stages; leave them out, or use strategy finetune.")
        content = {key: one.model_dump(mode="json") if isinstance(one, Section) else one for key, one in info.data.items()}
        for number, stage in enumerate(value, 1):
            try:
                _staged(content, stage)
            except ValidationError as error:
                problems = dict.fromkeys(explain(cls, problem, {cls: ALIASES}) for problem in error.errors())
                raise ConfigError(f"stage {number}: {'; '.join(problems)}") from error
        return value

    @model_validator(mode="after")
    def _whole_training(self) -> RunConfig:
        to_the_end = self.snapshots or self.average.name == "swa"
        if to_the_end and any(stage.early_stopping.patience for stage in self.stage_configs):
            raise ConfigError(
                "snapshots and swa are of the last epochs, so training must not stop early: leave early_stopping out."
            )
        if self.validate_every != 1:
            self._require_no_scores()
        if self.average.name != "none" and self.strategy == "probe":
            raise ConfigError("a probe has no epochs whose weights could be averaged: leave average out.")
        self.snapshot_epochs()
        return self

    def _require_no_scores(self) -> None:
        """Raise ConfigError where the score of each epoch is needed, or of any."""
        stages = self.stage_configs
        needs = {
            "early_stopping": any(stage.early_stopping.patience for stage in stages),
            "schedule plateau": any(stage.schedule.name == "plateau" for stage in stages),
            "average soup": self.average.name == "soup",
        }
        if wanting := [name for name, wants in needs.items() if wants]:
            raise ConfigError(f"{wanting[0]} looks at the score of each epoch: leave validate_every at 1.")
        if self.validate_every == 0 and self.keep == "best":
            raise ConfigError("validate_every=0 leaves no epoch to be the best: set keep=last.")

    @model_validator(mode="after")
    def _earlier_runs(self) -> RunConfig:
        settings, wanted = self.specialists, self.strategy == "specialists"
        if settings != SpecialistsConfig() and not wanted:
            raise ConfigError(f"the section specialists is for strategy: specialists, and the strategy is {self.strategy}.")
        if wanted and self.init_from is None:
            raise ConfigError("strategy specialists needs init_from, the run whose models they begin from and are joined with.")
        if wanted and bool(settings.groups) == (settings.confused_by is not None):
            raise ConfigError("strategy specialists needs specialists.groups or specialists.confused_by, one of the two.")
        if wanted and self.snapshots:
            raise ConfigError("specialists are joined with one model, and keep no snapshots: leave snapshots out.")
        soft = self.teacher.mix or self.teacher.pseudo == "soft"
        if soft and "probe" in self.strategy and (self.probe.balance != "none" or self.probe.classifier in ("lda", "knn")):
            raise ConfigError(
                "teacher.mix and soft pseudo-labels give images a share of several classes; probe.balance and the classifiers "
                "lda and knn want one class an image. Take another classifier, or teacher.pseudo=hard."
            )
        return self

    def snapshot_epochs(self) -> dict[int, int]:
        """Return cycle -> the epoch that ends it and whose weights are kept: the last ``snapshots`` cycles of the last stage.

        Raises:
            ConfigError: its schedule has no cycles, fewer, or they end within epochs.
        """
        if self.snapshots == 0:
            return {}
        last = self.last_stage
        schedule, before = last.schedule, self.total_epochs - last.schedule.epochs
        cycles = schedule.options.get("cycles", CYCLES.get(schedule.name, 0))
        if self.strategy == "probe" or schedule.name not in CYCLES:
            named = " or ".join(CYCLES)
            raise ConfigError(f"snapshots need schedule {named}, got {schedule.name} with strategy {self.strategy}.")
        if not isinstance(cycles, int) or not self.snapshots <= cycles or schedule.epochs % cycles:
            raise ConfigError(
                f"snapshots={self.snapshots} need as many cycles, each ending with an epoch; there are {cycles} in "
                f"{schedule.epochs} epochs. Set epochs to a multiple of schedule.options: {{cycles: …}}."
            )
        each = schedule.epochs // cycles
        return {cycle: before + each * cycle for cycle in range(cycles - self.snapshots + 1, cycles + 1)}

    @property
    def stage_configs(self) -> tuple[RunConfig, ...]:
        """What each stage is trained with; of a run without stages the run itself."""
        if not self.stages:
            return (self,)
        content = self.model_dump(mode="json", exclude={"stages"})
        return tuple(_staged(content, stage) for stage in self.stages)

    @property
    def last_stage(self) -> RunConfig:
        """What the last stage is trained with: its image size is that of validation and prediction."""
        return self.stage_configs[-1]

    def is_shadowed(self, key: str) -> bool:
        """Return whether every stage sets the dotted ``key`` itself, so that its value outside of them counts nowhere."""
        return bool(self.stages) and all(key in stage for stage in self.stages)

    @property
    def total_epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.schedule.epochs for stage in self.stage_configs)

    @property
    def fingerprint(self) -> str:
        """sha256 of :meth:`shaping`."""
        return files.fingerprint(self.shaping())

    def shaping(self) -> dict[str, Any]:
        """Return plain values of what may change the result: no hardware, trackers, loader processes or eval batch size.

        A key that is marked as :class:`~kaggle_kit.config.fields.Later` is left out while it stands at its default.
        """
        left_out: Any = {
            "hardware": True,
            "checkpoint_minutes": True,
            "track": True,
            "data": {"workers", "eval_batch_size"},
        }
        return as_before(self, self.model_dump(mode="json", exclude=left_out))


def _stage_entries(number: int, stage: Any) -> dict[str, Any]:
    """Return a stage's entries by their dotted keys; raises ConfigError for what a stage cannot set."""
    if not isinstance(stage, Mapping):
        raise ConfigError(f"stage {number} should hold entries such as {{epochs: 3, image_size: 128}}, got {shortened(stage)}.")
    entries: dict[str, Any] = {}
    for key, value in stage.items():
        inside = isinstance(value, Mapping) and key in (*STAGE_SECTIONS, "data", "model")
        entries |= {f"{key}.{name}": one for name, one in value.items()} if inside else {resolve(str(key)): value}
    for key in entries:
        if not _in_stage(key):
            near = suggest(key, [*(name for name, full in ALIASES.items() if _in_stage(full)), *STAGE_KEYS, *STAGE_SECTIONS])
            raise ConfigError(
                f"stage {number} cannot set {shortened(key)}.{near} A stage may set {', '.join(STAGE_KEYS)} and the keys of "
                f"{', '.join(STAGE_SECTIONS)}."
            )
    return entries


def _in_stage(key: str) -> bool:
    """Whether a stage may set a dotted key."""
    return key in STAGE_KEYS or key.partition(".")[0] in STAGE_SECTIONS


def _staged(content: Mapping[str, Any], stage: Mapping[str, Any]) -> RunConfig:
    """Return the plain values ``content`` of a run with the entries of a stage."""
    values = {**content, "snapshots": 0}  # those are of the whole run
    for key, value in stage.items():
        values = with_entry(values, key.split("."), value, key)
    return RunConfig.model_validate(values)
