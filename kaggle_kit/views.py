"""What ``--tta`` takes, as text. No PyTorch here.

hflip                   views by a name of VIEWS
hflip+stretched         the mean of two
0.7*none+0.3*larger     a weighted mean
auto                    chosen for each run out of fold, from POOL; auto:hflip,d4: from these
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from kaggle_kit.choices import INT8, VIEWS
from kaggle_kit.errors import ConfigError

NO_VIEWS = "none"
AUTO = "auto"
POOL = (NO_VIEWS, "hflip", "five-crop", "multiscale", "larger", "stretched")
"""What ``auto`` chooses from."""
_LEAST = 0.02
"""A weight below this is not worth its passes."""


def parse_views(text: str) -> dict[str, float]:
    """Return the names in ``text`` with their weights, which sum to 1.

    >>> parse_views("hflip+stretched")
    {'hflip': 0.5, 'stretched': 0.5}
    >>> parse_views("3*none+larger")
    {'none': 0.75, 'larger': 0.25}

    Raises:
        ConfigError: a name is not known, or a weight is no positive number.
    """
    weights: dict[str, float] = {}
    for part in text.split("+"):
        factor, star, name = part.strip().rpartition("*")
        try:
            weight = float(factor) if star else 1.0
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf:
            raise ConfigError(f"views {text!r}: a weight must be a number above 0, got {factor.strip()!r}.")
        name = VIEWS.require(name.strip())
        weights[name] = weights.get(name, 0.0) + weight
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def mix_text(weights: Mapping[str, float]) -> str:
    """Return the text of views with their weights, to two digits and without those that hardly count."""
    kept = {name: weight for name, weight in weights.items() if weight >= _LEAST}
    total = sum(kept.values())
    if len(kept) == 1:
        return next(iter(kept))
    return "+".join(f"{weight / total:.2f}*{name}" for name, weight in kept.items())


def as_seen(text: str, engine: str) -> str:
    """Return what files call rows that were predicted with views ``text`` by an engine.

    Rows in 8-bit integers are compared with such rows alone, as rows with views are with those of the same views.

    >>> as_seen("hflip", "int8"), as_seen("hflip", "auto")
    ('hflip, int8', 'hflip')
    """
    return f"{text}, {INT8}" if engine == INT8 else text


def in_int8(seen: str) -> bool:
    """Return whether rows that a file calls so, see :func:`as_seen`, were computed in 8-bit integers."""
    return seen.endswith(f", {INT8}")


def views_of(seen: str) -> str:
    """Return the views of rows that a file calls so, see :func:`as_seen`."""
    return seen.removesuffix(f", {INT8}")


def is_auto(text: str) -> bool:
    """Return whether the views are to be chosen."""
    return text == AUTO or text.startswith(f"{AUTO}:")


def pool_of(text: str) -> tuple[str, ...]:
    """Return the names that ``auto`` or ``auto:a,b`` chooses from, the plain image first.

    Raises:
        ConfigError: a name is not known.
    """
    _, colon, listed = text.partition(":")
    named = [VIEWS.require(name.strip()) for name in listed.split(",")] if colon else POOL
    return tuple(dict.fromkeys((NO_VIEWS, *named)))


def require_views(text: str, merge: str = "mean", *, auto: bool = True) -> str:
    """Return ``text`` if it can be used as it stands.

    Args:
        auto: whether views may be left to be chosen.

    Raises:
        ConfigError: it cannot; says why.
    """
    if not is_auto(text):
        parse_views(text)
    elif not auto:
        raise ConfigError(f"views {text!r} are chosen by `kk predict`; name the views here.")
    else:
        pool_of(text)
        if merge != "mean":
            raise ConfigError(f"views {text!r} weighs a mean; leave --merge at mean, or name the views.")
    return text
