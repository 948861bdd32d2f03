"""What an entry of the suite of forms says of a competition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import graders
import numpy as np
from pictures import Folder


@dataclass(frozen=True)
class Form:
    """A competition's form.

    Attributes:
        slug: the last part of its address, which is also what its folder is called.
        write: lays the competition out in a folder; returns the answers, as the grader knows them.
        concludes: dotted key below ``competition`` -> what `kk init` must find; of classes their number.
        grade: the page's formula.
        better: how a score compares with chance: the tiny model must reach it (or stay below it, of a loss).
        lower: whether less is better.
        typed: what must be typed after ``kk init DATA``.
        rows_per_id: rows of the submission for each id.
        refused: what `kk init` must say, of a competition that is none of images with classes.
    """

    slug: str
    write: Callable[[Folder], graders.Answers]
    concludes: Mapping[str, Any]
    grade: graders.Grader
    better: float
    lower: bool = False
    typed: tuple[str, ...] = ()
    rows_per_id: int = 1
    refused: str = ""
    needs: tuple[str, ...] = field(default=())


FORMS: dict[str, Form] = {}
"""Kaggle's own."""
OTHERS: dict[str, Form] = {}
"""Nobody's: the same rules under other names."""


def form(
    slug: str, grade: graders.Grader, better: float, concludes: Mapping[str, Any], **options: Any
) -> Callable[[Callable[[Folder], graders.Answers]], Callable[[Folder], graders.Answers]]:
    """Return a decorator that adds a writer's competition to the suite."""

    def add(write: Callable[[Folder], graders.Answers]) -> Callable[[Folder], graders.Answers]:
        assert slug not in FORMS
        FORMS[slug] = Form(slug, write, concludes, grade, better, **options)
        return write

    return add


def other(
    slug: str, grade: graders.Grader, better: float, concludes: Mapping[str, Any], **options: Any
) -> Callable[[Callable[[Folder], graders.Answers]], Callable[[Folder], graders.Answers]]:
    """Return a decorator that adds a writer's made-up competition."""

    def add(write: Callable[[Folder], graders.Answers]) -> Callable[[Folder], graders.Answers]:
        assert slug not in OTHERS
        OTHERS[slug] = Form(slug, write, concludes, grade, better, **options)
        return write

    return add


def numbers(count: int, classes: int, seed: int = 0) -> list[int]:
    """Return a class for each of ``count`` rows, all about equally often, in a random order."""
    return [int(kind) for kind in np.random.default_rng(seed).permutation(count) % classes]


def hexadecimal(number: int, width: int = 12) -> str:
    """Return an id as many competitions have them."""
    return f"{(number * 2654435761 + 97) % 16**width:0{width}x}"
