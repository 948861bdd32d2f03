"""The command ``kk``: arguments become a call of :class:`~kaggle_kit.project.Project`, whose result is shown.

Nothing heavy is imported before a command needs it: ``kk --help`` must answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from kaggle_kit import show
from kaggle_kit.cli import cache, config, deploy, job, kaggle, models, pages, search  # noqa: F401  each adds its commands to the app
from kaggle_kit.cli.common import app
from kaggle_kit.errors import KaggleKitError

__all__ = ["app", "main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C. 0: fine; 1: work that failed, or a submission that did; 2: a wrong call or wrong data."""
# Where it lives depends on the version: in click, or in typer itself.
UsageError: Any = typer.BadParameter.__bases__[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``kk``: errors raised on purpose become one message and an exit code, never a traceback.

    Args:
        arguments: by default those of the process.
    """
    show.set_up_logging()
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    """Run one command and return the exit code."""
    try:
        code = int(app(arguments, prog_name="kk", standalone_mode=False) or 0)
        if code == INTERRUPTED:  # what newer versions of typer make of Ctrl-C
            raise KeyboardInterrupt
        return code
    except UsageError as error:
        error.show()
        return int(error.exit_code)
    except KaggleKitError as error:
        show.error(str(error))
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        show.error("stopped by Ctrl-C. Finished work and the last checkpoint are kept; the same command goes on from there.")
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    except OSError as error:  # a file system that is full, read-only or locked, wherever a command meets it
        from kaggle_kit.files import storage_error

        show.error(str(storage_error(error)))
        return 1
    except Exception as error:
        if os.environ.get("KK_DEBUG"):
            raise
        show.error(
            f"unexpected {type(error).__name__}: {error}\n"
            "This is a defect of kaggle_kit. KK_DEBUG=1 kk … shows where; please report it."
        )
        return 1
