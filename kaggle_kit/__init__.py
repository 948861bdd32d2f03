"""kaggle_kit: from a folder of images to a checked submission.csv.

from kaggle_kit import Project

project = Project.init("../my-competition")
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaggle_kit.errors import KaggleKitError
    from kaggle_kit.project import Project

__version__ = "0.2.0"
__all__ = ["KaggleKitError", "Project", "__version__"]

# Threads of GNU's OpenMP spin for milliseconds before they sleep, and so take the CPUs from another process that computes: of
# two that train at 224 pixels each gets a third to a tenth of what one gets alone. 3,000 rounds instead of 300,000 make it a
# half, and cost one that is alone next to nothing (benchmarks/waiting.py). PyTorch reads it when it is loaded; child processes
# inherit it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: ``import kaggle_kit`` must answer at once."""
    from importlib import import_module

    homes = {"KaggleKitError": "kaggle_kit.errors", "Project": "kaggle_kit.project"}
    if name not in homes:
        raise AttributeError(f"module 'kaggle_kit' has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)
