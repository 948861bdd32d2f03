"""How many bytes the image store may take."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

import psutil

from kaggle_kit.errors import ConfigError

_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}


def parse_bytes(value: str | int) -> int:
    """``8GB``, ``500 MB``, ``1.5G`` or a plain number, in units of 1000.

    Raises:
        ConfigError: it is none of these.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", str(value), re.IGNORECASE)
    if match is None:
        raise ConfigError(f"cache.budget must be a number of bytes such as 8GB, got {value!r}.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def free_budget(folder: Path, *, memory: bool) -> int:
    """Half of the free disk; with ``memory`` at most half of the available memory as well, so that raw pixels stay in the page
    cache and are not read from the disk in every epoch."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = shutil.disk_usage(folder).free // 2
    return min(disk, available_memory() // 2) if memory else disk


def available_memory() -> int:
    """Bytes that programs may still take, of the machine or of the container."""
    available = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # "max" stands for no limit
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        stat = Path("/sys/fs/cgroup/memory.stat").read_text()
        cached = re.search(r"^file (\d+)$", stat, re.MULTILINE)
        available = min(available, limit - used + (int(cached[1]) if cached else 0))
    return max(available, 0)
