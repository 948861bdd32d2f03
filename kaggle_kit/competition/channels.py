"""Images of another number of channels than three: how many they are, what they are called, and what their values are like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kaggle_kit import files
from kaggle_kit.competition.questions import Asker
from kaggle_kit.competition.scan import is_below, suffix_of
from kaggle_kit.config import ChannelsConfig, ContainerConfig
from kaggle_kit.errors import DataError, ImageError
from kaggle_kit.stacks import channels_in, read_channels
from kaggle_kit.tables import shown

_LOOKED_AT = 64
"""Training images whose values are looked at."""
_DIGITS = 4
_LEAST_SPREAD = 0.01
"""A channel that hardly varies is not blown up beyond this."""


def infer_channels(
    asker: Asker, folder: Path, images: Sequence[str], containers: Sequence[ContainerConfig]
) -> ChannelsConfig | None:
    """Look at some training images, where their kind of file can have other channels than colours; None where they have none.

    Args:
        folder: where the data lies as files.
        images: training images, relative to it.

    Raises:
        DataError: they have different numbers of channels, or cannot be read.
    """
    some = [path for path in images[:: max(1, len(images) // _LOOKED_AT)] if suffix_of(path) in (".tif", ".tiff")][:_LOOKED_AT]
    if not some or channels_in(files.read_bytes(folder / some[0])) == 3:
        return None
    try:
        contents = [files.read_bytes(folder / path) for path in some]
        count = channels_in(contents[0])
        found = [read_channels(content, count) for content in contents]
    except ImageError as error:
        raise DataError(f"the training images have several channels, and {some[0]} or one like it is unlike: {error}") from None
    values = np.concatenate([one.reshape(-1, count) / np.iinfo(one.dtype).max for one in found])  # (pixels, C)
    names = _names(some[0], containers, count)
    asker.find(
        f"images have {count} channels ({shown(names)}): models are built for them (in_chans), pretrained weights are adapted, "
        f"and mean and std are those of {len(some)} training images."
    )
    mean, std = values.mean(axis=0), values.std(axis=0).clip(_LEAST_SPREAD)
    return ChannelsConfig(names=names, mean=mean.round(_DIGITS).tolist(), std=std.round(_DIGITS).tolist())


def _names(path: str, containers: Sequence[ContainerConfig], count: int) -> list[str]:
    """The channels as the container of an image calls them, else their numbers."""
    for one in containers:
        names = [str(name) for name in one.options.get("channels", ())]
        if len(names) == count and is_below(path, one.to):
            return names
    return [str(number) for number in range(1, count + 1)]
