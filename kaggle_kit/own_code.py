"""Functions that a person wrote for a workspace, such as a metric: named as ``file.py:function``.

The only way by which code from a workspace is run. A file is imported by its path and only when it is named; the module path of
Python is never changed, so that a ``yaml.py`` beside kk.yaml stays what it is.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from kaggle_kit.errors import ConfigError
from kaggle_kit.registry import shortened

_NAME = re.compile(r"(?P<file>[^:\0]+?)(?:\.py)?:(?P<function>[A-Za-z_]\w*)")
_EXPECTED = "Expected file.py:function, a file in the workspace."


def is_own(name: str) -> bool:
    """Return whether ``name`` stands for a function of a file rather than for an entry of a library."""
    return ":" in name


def require_form(name: str, kind: str) -> str:
    """Return ``name`` if it has the form ``file.py:function``, or ``module:function`` as version 0.1 wrote it.

    Raises:
        ConfigError: it has not, or leads out of the workspace; ``kind`` says what it names.
    """
    _parts(name, kind)
    return name


def load_function(name: str, kind: str, root: Path) -> Any:
    """Return what ``file.py:function`` names.

    Args:
        kind: what it is, for messages: "metric".
        root: the workspace.

    Raises:
        ConfigError: it lies outside, is not there, or the file cannot be imported.
    """
    file, function = _parts(name, kind)
    path = require_file(name, kind, root)
    try:
        return getattr(_module(path), function)
    except AttributeError:
        raise ConfigError(f"{kind} {shortened(name)}: {file} has no {function!r}. {_EXPECTED}") from None
    except Exception as error:  # whatever its code raises
        raise ConfigError(f"{kind} {shortened(name)}: {file} cannot be imported ({type(error).__name__}: {error}).") from error


def require_file(name: str, kind: str, root: Path) -> Path:
    """Return the path of the file in ``file.py:function``; nothing of it is run. Raises as :func:`load_function`."""
    path, (file, _) = own_path(name, kind, root), _parts(name, kind)
    if not path.is_file():
        raise ConfigError(f"{kind} {shortened(name)}: there is no {file} in {root.resolve()}. {_EXPECTED}")
    return path


def own_path(name: str, kind: str, root: Path) -> Path:
    """Return where the file in ``file.py:function`` lies, whether it is there or not.

    Raises:
        ConfigError: outside the workspace.
    """
    file, _ = _parts(name, kind)
    path = (root / file).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ConfigError(f"{kind} {shortened(name)}: {path} lies outside the workspace {root.resolve()}. {_EXPECTED}")
    return path


def _parts(name: str, kind: str) -> tuple[str, str]:
    """The file, as a path relative to the workspace, and the function; see :func:`require_form`."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"{kind} {shortened(name)} is none. {_EXPECTED}")
    file = Path(f"{match['file']}.py")
    if file.is_absolute() or ".." in file.parts:
        raise ConfigError(f"{kind} {shortened(name)} leads out of the workspace. {_EXPECTED}")
    return str(file), match["function"]


def _module(path: Path) -> ModuleType:
    """The module of a file, under a name that no other module has; imported once for each state of the file."""
    stat = path.stat()
    private = f"kaggle_kit_own_{abs(hash((path, stat.st_mtime_ns, stat.st_size))):x}_{path.stem}"
    if private in sys.modules:
        return sys.modules[private]
    spec = importlib.util.spec_from_file_location(private, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[private] = module  # so that what it defines can be found again by its name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[private]
        raise
    return module
