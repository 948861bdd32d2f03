"""What a search works with: the commands, the journal with what it leads to, and the clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kaggle_kit.auto.journal import Journal
from kaggle_kit.auto.state import State
from kaggle_kit.auto.steps import Commands, Step
from kaggle_kit.competition import Setup
from kaggle_kit.fold_names import fold_folders
from kaggle_kit.folds import folds_for
from kaggle_kit.runs import MODEL, RUN_RECORD
from kaggle_kit.tables import FoldTable

FOLDER, NAME = "auto", "auto"


@dataclass(frozen=True)
class AutoOptions:
    """How to search.

    Attributes:
        limit: seconds of all sessions together.
        session: seconds of this one at most; None: no limit of its own.
        goal: an entry of GOALS.
        only: shell patterns of backbones; none: all whose weights are here.
        max_bytes: of the models of the blend, all folds together.
        internet: whether weights of further backbones may be downloaded.
        where: options of training that say where: launcher, devices, address.
    """

    limit: float
    goal: str = "balanced"
    only: tuple[str, ...] = ()
    max_bytes: int | None = None
    internet: bool = True
    where: Mapping[str, Any] = field(default_factory=dict)
    session: float | None = None


class Ended(Exception):
    """The search is over; the text says why."""


class Desk:
    """What a search works with.

    Attributes:
        say: shows a line to who is watching.
        now: a clock in seconds.
        session: seconds of this session at most.
        tail: seconds to keep free behind prediction, for judgement and blend.
        setup: set as soon as there is a fold table.
    """

    setup: Setup

    def __init__(self, project: Commands, options: AutoOptions, say: Callable[[str], None], now: Callable[[], float]) -> None:
        self.project, self.options, self.say, self.now = project, options, say, now
        self.journal = Journal(project.workspace.root / FOLDER / f"{NAME}.jsonl")
        self.entries = self.journal.read()
        self.state = State.of(self.entries)
        self._before, self._start = self.state.used, now()
        self.session = math.inf if options.session is None else options.session
        limit = min(options.limit, self.session)
        self.tail, self._least = min(60.0, 0.2 * limit), min(15.0, 0.05 * limit)

    @property
    def used(self) -> float:
        """Seconds so far, over all sessions."""
        return self._before + self.now() - self._start

    @property
    def left(self) -> float:
        """Seconds until the limit, or until this session's."""
        return min(self.options.limit - self.used, self.session - (self.now() - self._start))

    def keep_free(self, seconds: float) -> None:
        """Set ``tail`` by what it took this time; after a quick head it does not fall to nothing, a network takes longer."""
        self.tail = max(self._least, self.tail / 2, 1.5 * seconds)

    @property
    def has_tests(self) -> bool:
        """Whether there are test images; without them nothing is predicted."""
        return bool(self.setup.competition.test)

    def is_begun(self, run: str) -> bool:
        """Whether a run was begun; an end before that may have left its folder."""
        return (self.project.workspace.run_dir(run) / RUN_RECORD).is_file()

    def folds(self) -> FoldTable:
        """The fold table that all runs are of."""
        return folds_for(self.setup.workspace, self.setup.competition, self.setup.config.run.folds)

    def bytes_of(self, names: Sequence[str]) -> int:
        """Bytes of the models of runs."""
        runs = [self.project.workspace.run_dir(run) for run in names]
        models = [folder / MODEL for run in runs for folder in fold_folders(run).values()]
        return sum(model.stat().st_size for model in models if model.is_file())

    def note(self, kind: str, **facts: Any) -> None:
        """Write an entry into the journal, and take it in."""
        entry = self.journal.add(kind, used=round(self.used, 1), **facts)
        self.entries.append(dict(entry))
        self.state.take(entry)

    def texts(self, *steps: Step) -> list[str]:
        """What a person types for steps."""
        return [step.text for step in steps if self.has_tests or step.command != "predict"]
