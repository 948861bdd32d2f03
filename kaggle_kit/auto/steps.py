"""One command as a value: it can be run on a project, and written down so that a person can type it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kaggle_kit.workspace import Workspace


class Commands(Protocol):
    """What steps are run on: a :class:`~kaggle_kit.project.Project`, whose methods are the commands."""

    @property
    def workspace(self) -> Workspace: ...


@dataclass(frozen=True)
class Step:
    """A command with its entries (``key=value``) and its options, named as the method of ``Project`` names them."""

    command: str
    entries: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(self, project: Commands, **further: Any) -> Any:
        """Call the method; ``further`` options are those that belong to this moment, such as the time that is left."""
        return getattr(project, self.command)(*self.entries, **self.options, **further)

    @property
    def text(self) -> str:
        """The command as it is typed."""
        words = ["kk", self.command, *self.entries]
        for name, value in self.options.items():
            words.append(f"--{name.replace('_', '-')}")
            words.append(",".join(value) if isinstance(value, list | tuple) else str(value))
        return shlex.join(words)
