"""The errors that kaggle_kit raises on purpose.

Each is a :class:`KaggleKitError` and also the kind that the ecosystem would raise, so that ``except ValueError`` works.
Messages say what was expected, what was found and what to do. ``exit_code`` is what ``kk`` ends with: 2 for a wrong call or
wrong data, 1 for work that failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class KaggleKitError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class ConfigError(KaggleKitError, ValueError):
    """A configuration key or value that cannot be used."""

    exit_code = 2


class DataError(KaggleKitError, ValueError):
    """Competition data, or a file that was made from it, that cannot be used."""

    exit_code = 2


class MissingFileError(DataError, FileNotFoundError):
    """A file or folder that should exist does not."""

    def __str__(self) -> str:  # FileNotFoundError would print the argument tuple
        return str(self.args[0]) if self.args else ""


class ClassMappingError(DataError):
    """Two lists of classes that should be the same are not, or a label that no class has."""


class FoldError(DataError):
    """Folds that cannot be made, or that belong to other data."""


class SubmissionError(DataError):
    """A submission that cannot be written, or that Kaggle would refuse."""


class ImageError(DataError):
    """An image that cannot be read."""


class AmbiguousDataError(DataError):
    """Data that can be read in two ways; the message lists them and how to choose.

    Args:
        questions: what is to be settled, each with key, text and options.
    """

    def __init__(self, message: str, questions: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.questions = tuple(questions)


class WeightsError(KaggleKitError, RuntimeError):
    """Pretrained weights that were not found or do not fit the model."""


class TrainingError(KaggleKitError, RuntimeError):
    """Training that cannot go on."""


class ExportError(KaggleKitError, RuntimeError):
    """A model that cannot be written in another format, or that says something else there."""


class DeviceMemoryError(TrainingError, MemoryError):
    """The accelerator's memory is too small for the configured batch."""


class LockedError(KaggleKitError, RuntimeError):
    """Another live process works on the same output."""


class StorageError(KaggleKitError, OSError):
    """A file that could not be written: disk full, read-only or no permission."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class DependencyError(KaggleKitError, ImportError):
    """An optional package is not installed; the message holds the install command."""

    exit_code = 2


class RemoteError(KaggleKitError, ConnectionError):
    """A server refused a request or could not be reached.

    Args:
        status: the HTTP status, or None when there was no answer.
        maybe_done: whether the request may have been carried out all the same, so that it must not simply be sent again.
    """

    def __init__(self, message: str, *, status: int | None = None, maybe_done: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.maybe_done = maybe_done
