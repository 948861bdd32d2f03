"""What commands return: a line of text, a small table, and plain values with stable keys.

A terminal, a notebook and ``--json`` show the same value; no command decides by itself how.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_HTML_ROWS = 20


class Result:
    """Base of the dataclasses that commands return; decorate them with ``repr=False``, so that they print as one line."""

    def describe(self) -> str:
        """Return what there is to say, on one line or more; the first is the most important."""
        raise NotImplementedError

    def table(self) -> pd.DataFrame | None:
        """Return a few rows for a reader; None where a sentence says it all."""
        return None

    @property
    def parts(self) -> tuple[Result, ...]:
        """Results of its own that belong to this one and are shown after it."""
        return ()

    @property
    def exit_code(self) -> int:
        """What the command ends with: 0 unless something is wrong."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """Return the public fields as plain values, for ``--json``: docs/cli.md lists the keys."""
        return {
            one.name: plain(getattr(self, one.name))
            for one in dataclasses.fields(self)  # type: ignore[arg-type]
            if not one.name.startswith("_")
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.describe().partition(chr(10))[0]}"

    def _repr_html_(self) -> str:
        table = self.table()
        below = "" if table is None else table.to_html(index=False, border=0, max_rows=_HTML_ROWS)
        return f"<p>{escape(self.describe()).replace(chr(10), '<br>')}</p>{below}"


@dataclasses.dataclass(frozen=True, repr=False)
class Done(Result):
    """What a command did, where a sentence says it all; ``facts`` are the same as values."""

    text: str
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def describe(self) -> str:
        """Return the sentence."""
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Return the facts."""
        return {key: plain(value) for key, value in self.facts.items()}


def plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: NaN is None, a path is its text, a table is its rows."""
    if isinstance(value, Result):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return _foreign(value)


def _foreign(value: Any) -> Any:
    """Return what is of pandas or numpy, neither of which this module imports, as JSON can hold it."""
    if hasattr(value, "to_dict"):  # a table of pandas
        return plain(value.to_dict("records"))
    if hasattr(value, "tolist"):  # an array or a number of numpy
        return plain(value.tolist())
    if hasattr(value, "isoformat"):
        return None if value != value else value.isoformat()  # a time, which may be missing
    return str(value)
