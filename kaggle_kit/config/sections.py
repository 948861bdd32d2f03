"""A whole ``kk.yaml``: ``competition``, ``folds``, ``run`` and ``cache``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kaggle_kit.choices import SCHEME_CHOICES
from kaggle_kit.config.competition import CompetitionConfig
from kaggle_kit.config.fields import FewCount, InnerShare, Section, Seed, When, one_of
from kaggle_kit.config.run import RunConfig


class FoldsConfig(Section):
    """Defaults of ``kk folds``."""

    scheme: Annotated[str, one_of(SCHEME_CHOICES)] = Field("auto", description="how rows are divided")
    n_folds: FewCount = Field(5, description="number of folds")
    repeats: Annotated[int, Field(ge=1, le=100)] = Field(1, description="how often to divide again, each with another seed")
    seed: Seed = Field(0, description="seed of the division")
    holdout: Annotated[InnerShare, When("scheme", "holdout")] = Field(0.2, description="the share that is validated on")
    duplicates: Literal["exact", "near", "off"] = Field("near", description="which alike images stay in one fold")
    near_distance: Annotated[int, Field(ge=0, le=32)] = Field(
        4, description="bits of 64 in which the perceptual hashes of near duplicates may differ"
    )


class CacheConfig(Section):
    """The store of decoded images."""

    enabled: bool = Field(True, description="whether decoded images are kept in the workspace")
    budget: str | int | None = Field(None, description="bytes, or e.g. 8GB; null: from free disk and memory")


class Config(Section):
    """A whole ``kk.yaml``."""

    competition: CompetitionConfig = Field(description="what the data looks like; `kk init` writes it")
    folds: FoldsConfig = Field(FoldsConfig(), description="defaults of `kk folds`")
    run: RunConfig = Field(RunConfig(), description="how `kk train` trains; `kk train key=value` changes a key for one run")
    cache: CacheConfig = Field(CacheConfig(), description="the store of decoded images")
