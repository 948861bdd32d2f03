"""What is known of Kaggle's competitions beforehand: hints that the data must confirm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kaggle_kit.competition.questions import Asker
from kaggle_kit.competition.sample import Sample
from kaggle_kit.errors import ConfigError
from kaggle_kit.registry import suggest

_TABLE = Path(__file__).with_name("known.yaml")
_TELLING = frozenset(
    {"id", "label", "image", "image_id", "predicted", "target", "category", "class", "file", "img", "labels", "name", "tags"}
)
"""Columns that many competitions have, so that they tell nothing."""


@dataclass(frozen=True)
class Known:
    """A competition's entry.

    Attributes:
        metric: how its page scores.
        sample: the columns that its sample submission begins with.
        choose: answers to questions that the data leaves open.
        trap: what is easily got wrong; may be empty.
    """

    slug: str
    metric: str
    sample: tuple[str, ...]
    choose: Mapping[str, str] = field(default_factory=dict)
    trap: str = ""

    def confirmed_by(self, sample: Sample | None) -> bool:
        """Return whether a sample submission has these columns; true where there is none to look at."""
        return sample is None or (sample.id_column, *sample.targets)[: len(self.sample)] == self.sample


@cache
def known_competitions() -> Mapping[str, Known]:
    """Return all entries by their slug."""
    content: dict[str, dict[str, Any]] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return {
        slug: Known(slug, one["metric"], tuple(one["sample"]), one.get("choose", {}), one.get("trap", ""))
        for slug, one in content.items()
    }


def recognise(asker: Asker, slug: str | None, folder_name: str, sample: Sample | None) -> Known | None:
    """Return what is known of this competition, and give its hints to ``asker``.

    It is the one that was named; else that of the folder's name; else the only one with such a sample submission, where its
    columns tell something.

    Raises:
        ConfigError: the competition named is known, and the data is not its.
    """
    table = known_competitions()
    if slug is not None:
        if slug not in table:
            asker.find(f"nothing is known beforehand of the competition {slug!r}.{suggest(slug, table)}")
            return None
        if not table[slug].confirmed_by(sample):
            raise ConfigError(
                f"--competition {slug}: its sample submission has the columns {', '.join(table[slug].sample)}, and here they "
                f"are {_header(sample)}. Name the right competition, or leave the option out."
            )
        return _told(asker, table[slug], "as you say")
    named = table.get(folder_name)
    if named is not None and named.confirmed_by(sample):
        return _told(asker, named, "by the folder's name and the columns of the sample submission")
    fitting = [one for one in table.values() if sample is not None and _tells(one.sample) and one.confirmed_by(sample)]
    if len({one.metric for one in fitting}) == 1:
        return _told(asker, fitting[0], "by the columns of the sample submission")
    return None


def _tells(columns: Sequence[str]) -> bool:
    return len(columns) > 1 and any(name.lower() not in _TELLING for name in columns[1:])


def _header(sample: Sample | None) -> str:
    return "" if sample is None else ", ".join((sample.id_column, *sample.targets)[:6])


def _told(asker: Asker, one: Known, why: str) -> Known:
    trap = f"; {one.trap}" if one.trap else ""
    asker.find(f"this is {one.slug} ({why}), whose page scores by {one.metric}{trap}.")
    asker.hints.update(one.choose)
    asker.hinted_by = one.slug
    return one
