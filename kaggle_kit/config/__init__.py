"""The configuration: the sections of ``kk.yaml``, how it is read, and how it is written."""

from kaggle_kit.config.competition import (
    ChannelsConfig,
    CompetitionConfig,
    ContainerConfig,
    SubmissionConfig,
    TestDataConfig,
    TrainDataConfig,
)
from kaggle_kit.config.entries import ALIASES
from kaggle_kit.config.fields import ImageSize, Section
from kaggle_kit.config.load import as_overrides, build_config, build_run_config, changed, derive, load_config, override
from kaggle_kit.config.run import (
    AugmentConfig,
    AverageConfig,
    DataConfig,
    EarlyStoppingConfig,
    HardwareConfig,
    HeadConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ProbeConfig,
    RunConfig,
    ScheduleConfig,
    SpecialistsConfig,
    TeacherConfig,
)
from kaggle_kit.config.sections import CacheConfig, Config, FoldsConfig

__all__ = [
    "ALIASES",
    "AugmentConfig",
    "AverageConfig",
    "CacheConfig",
    "ChannelsConfig",
    "CompetitionConfig",
    "Config",
    "ContainerConfig",
    "DataConfig",
    "EarlyStoppingConfig",
    "FoldsConfig",
    "HardwareConfig",
    "HeadConfig",
    "ImageSize",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ProbeConfig",
    "RunConfig",
    "ScheduleConfig",
    "Section",
    "SpecialistsConfig",
    "SubmissionConfig",
    "TeacherConfig",
    "TestDataConfig",
    "TrainDataConfig",
    "as_overrides",
    "build_config",
    "build_run_config",
    "changed",
    "derive",
    "load_config",
    "override",
]
