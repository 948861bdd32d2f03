"""The terminal: its width, plain lines, errors and log lines."""

from __future__ import annotations

import logging
import os
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_WIDTH = 120
QUIET, NORMAL, VERBOSE = logging.WARNING, logging.INFO, logging.DEBUG
"""Levels of ``set_up_logging``."""


@lru_cache(maxsize=1)
def console() -> Console:
    """Return the terminal, or plain text of a fixed width (``COLUMNS``, else 120) when the output goes to a file or a pipe."""
    from rich.console import Console

    plain = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PLAIN_WIDTH
    return Console(highlight=False, soft_wrap=False, width=plain)


def set_up_logging(level: int = NORMAL) -> None:
    """Send the package's log lines to the error stream as plain text; ``VERBOSE`` says which module each comes from."""
    handler = logging.StreamHandler(ErrorStream())
    handler.setFormatter(_Formatter(verbose=level <= VERBOSE))
    logger = logging.getLogger("kaggle_kit")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


class ErrorStream:
    """Whatever ``sys.stderr`` is when something is written: a live screen puts itself in its place, and lines come above it."""

    def write(self, text: str) -> int:
        """Write text."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flush what was written."""
        sys.stderr.flush()


class _Formatter(logging.Formatter):
    def __init__(self, *, verbose: bool) -> None:
        super().__init__()
        self.verbose = verbose

    def format(self, record: logging.LogRecord) -> str:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        origin = f"{self.formatTime(record, '%H:%M:%S')} {record.name.removeprefix('kaggle_kit.')}: " if self.verbose else ""
        return origin + prefix + record.getMessage()


def quiet() -> bool:
    """Return whether ``-q`` asked for warnings and results only."""
    return logging.getLogger("kaggle_kit").level >= QUIET


def line(text: str = "") -> None:
    """Print some text, lines as they are."""
    console().print(text, markup=False, soft_wrap=True)


def error(text: str) -> None:
    """Print what went wrong, on the error stream."""
    sys.stdout.flush()
    sys.stderr.write(f"error: {text}\n")
