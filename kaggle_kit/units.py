"""Durations and sizes as people write them: ``90s``, ``8h30m``; ``8GB``, ``500 MB``."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

from kaggle_kit.errors import ConfigError

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_PATTERN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def parse_duration(text: str) -> float:
    """Seconds of ``8h30m``, ``45m``, ``90s``; a bare number is seconds.

    >>> parse_duration("8h30m"), parse_duration("90")
    (30600.0, 90.0)

    Raises:
        ConfigError: it is none of these, or it is not positive.
    """
    text = text.strip().lower()
    match = _PATTERN.fullmatch(text)
    if text.isdigit():
        seconds = float(text)
    elif match and text:
        seconds = float(sum(int(part or 0) * size for part, size in zip(match.groups(), _UNITS.values(), strict=True)))
    else:
        seconds = 0.0
    if seconds <= 0:
        raise ConfigError(f"expected a duration such as 8h30m, 45m or 90s, got {text!r}.")
    return seconds


def as_seconds(duration: str | float | None) -> float | None:
    """Return seconds of a duration as people write it, or of one in seconds; None stays None: no limit.

    Raises:
        ConfigError: see :func:`parse_duration`.
    """
    return None if duration is None else parse_duration(duration) if isinstance(duration, str) else float(duration)


def format_duration(seconds: float) -> str:
    """Seconds as ``h:mm:ss`` or ``m:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_clock(seconds: float, now: datetime | None = None) -> str:
    """The local time in so many seconds: ``18:20``, with the day when that is another one, ``Tue 24 Nov 04:10``."""
    now = now or datetime.now()
    then = now + timedelta(seconds=seconds)
    return then.strftime("%H:%M" if then.date() == now.date() else "%a %d %b %H:%M")


_BYTES = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}


def parse_count(value: str | int, key: str) -> int:
    """``50M``, ``1.5M``, ``900k`` or a plain number, as parameters of a model are counted; ``key``: what has this value.

    Raises:
        ConfigError: it is none of these.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*([KMG]?)", str(value).strip(), re.IGNORECASE)
    if match is None:
        raise ConfigError(f"{key} must be a number such as 50M, got {value!r}.")
    return round(float(match[1]) * _BYTES[match[2].upper()])


def parse_bytes(value: str | int, key: str = "cache.budget") -> int:
    """``8GB``, ``500 MB``, ``1.5G`` or a plain number, in units of 1000.

    Args:
        key: what has this value, for the message.

    Raises:
        ConfigError: it is none of these.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", str(value), re.IGNORECASE)
    if match is None:
        raise ConfigError(f"{key} must be a number of bytes such as 8GB, got {value!r}.")
    size = float(match[1]) * _BYTES[match[2].upper()]
    if math.isinf(size):
        raise ConfigError(f"{key} must be a number of bytes such as 8GB, got one of {len(match[1]):,} digits.")
    return int(size)
