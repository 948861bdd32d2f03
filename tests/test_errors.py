"""Every error is one of kaggle_kit and one of the ecosystem, says what it was given and has an exit code."""

from __future__ import annotations

import inspect

import pytest

from kaggle_kit import errors
from kaggle_kit.errors import KaggleKitError

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, KaggleKitError) and kind is not KaggleKitError
]
ECOSYSTEM = (ValueError, FileNotFoundError, RuntimeError, MemoryError, OSError, ImportError)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind(kind: type[KaggleKitError]) -> None:
    assert issubclass(kind, ECOSYSTEM)
    assert kind.exit_code in (1, 2)
    assert kind.__doc__
    error = kind("what happened.")
    assert str(error) == "what happened."
    with pytest.raises(KaggleKitError, match=r"what happened\."):
        raise error


@pytest.mark.parametrize(
    ("kind", "base", "exit_code"),
    [
        (errors.ConfigError, ValueError, 2),
        (errors.DataError, ValueError, 2),
        (errors.MissingFileError, FileNotFoundError, 2),
        (errors.ClassMappingError, errors.DataError, 2),
        (errors.FoldError, errors.DataError, 2),
        (errors.TrainingError, RuntimeError, 1),
        (errors.DeviceMemoryError, MemoryError, 1),
        (errors.StorageError, OSError, 1),
        (errors.DependencyError, ImportError, 2),
    ],
)
def test_wrong_input_ends_with_2_and_failed_work_with_1(kind: type[KaggleKitError], base: type, exit_code: int) -> None:
    assert issubclass(kind, base)
    assert kind.exit_code == exit_code
