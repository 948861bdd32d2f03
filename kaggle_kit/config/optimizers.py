"""The names of timm's optimizers, read from its source text: importing timm would import PyTorch, which takes seconds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from kaggle_kit.registry import Entry, Registry

LOOKAHEAD = "lookahead_"


@cache
def optimizers() -> Registry[None]:
    """Return timm's optimizers with timm's descriptions; empty where timm is not installed or keeps them in another way."""
    spec = find_spec("timm")
    folders = (spec.submodule_search_locations if spec else None) or []
    paths = [Path(folder, "optim", "_optim_factory.py") for folder in folders]
    found = dict(pair for path in paths if path.is_file() for pair in _declared(path.read_text(encoding="utf-8")))
    return Registry("optimizer", [Entry(name, found[name], None) for name in sorted(found)])


def require_optimizer(name: str) -> str:
    """Return ``name`` if timm has such an optimizer, or one to look ahead with; raises ConfigError that lists them."""
    if optimizers():
        optimizers().require(name.removeprefix(LOOKAHEAD))
    return name


def _declared(source: str) -> Iterator[tuple[str, str]]:
    """Name and description of each ``OptimInfo(name, class, description)`` and ``register_alias(name, of)`` in ``source``."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        texts = [argument.value if isinstance(argument, ast.Constant) else None for argument in node.args]
        named = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if called == "OptimInfo" and (named.get("name") or texts):
            yield str(named.get("name") or texts[0]), str(named.get("description") or (texts[2:] or [""])[0])
        elif called == "register_alias" and len(texts) == 2:
            yield str(texts[0]), f"another name of {texts[1]!s}"
