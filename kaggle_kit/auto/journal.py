"""``auto/auto.jsonl``: what was measured, done and decided, a line each, from which an interrupted search goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kaggle_kit import files
from kaggle_kit.errors import DataError
from kaggle_kit.results import plain

_LARGEST = 100_000_000  # bytes


class Journal:
    """Lines of JSON, only ever appended to.

    Args:
        path: the file; it and its folder are made with the first entry.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._whole = path, False

    def read(self) -> list[dict[str, Any]]:
        """Return the entries; a last line that a kill cut off is left out.

        Raises:
            DataError: another line is no JSON object.
        """
        if not self.path.exists():
            return []
        lines = files.read_bytes(self.path, most=_LARGEST).decode(errors="replace").split("\n")
        entries = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if isinstance(entry, dict) and isinstance(entry.get("kind"), str):
                entries.append(entry)
            elif number < len(lines):  # only the last line has no line end
                raise DataError(
                    f"{self.path}, line {number}: expected a JSON object with a kind. Move the file away to begin anew."
                )
        return entries

    def add(self, kind: str, **facts: Any) -> Mapping[str, Any]:
        """Append an entry and return it; it is on the disk when this returns."""
        entry = {"kind": kind, "at": datetime.now(UTC).isoformat(timespec="seconds"), **plain(facts)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with files.storage_errors(self.path), self.path.open("ab+") as handle:
            if not self._whole:
                self._drop_cut_line(handle)
                self._whole = True
            handle.write(json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        return entry

    @staticmethod
    def _drop_cut_line(handle: Any) -> None:
        """Cut off what a kill left of a line."""
        handle.seek(0)
        content = handle.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            handle.truncate(whole)
            handle.seek(0, os.SEEK_END)
