"""How a launcher and workers on other machines hear from each other: through files in shared storage."""

from __future__ import annotations

import contextlib
from pathlib import Path

from kaggle_kit.errors import MissingFileError
from kaggle_kit.events import Event, from_json, to_json

STOP = "stop"


class Mailbox:
    """A folder in shared storage through which workers on other machines send events, and are asked to stop.

    Each sender appends to its own file, so that nothing needs a lock; a launcher reads what is new.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, int] = {}

    def open(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def send(self, sender: str, event: Event) -> None:
        """Append an event.

        Raises:
            MissingFileError: the launcher has gone, and its folder with it.
        """
        try:
            with open(self.folder / f"{sender}.jsonl", "a", encoding="utf-8") as handle:
                handle.write(to_json(event) + "\n")
        except FileNotFoundError:
            raise MissingFileError(f"{self.folder} does not exist; the call that trains this run has ended.") from None

    def receive(self) -> list[Event]:
        """Events that came since the last call, each sender's in order."""
        found: list[Event] = []
        for path in sorted(self.folder.glob("*.jsonl")):
            with open(path, "rb") as handle:
                handle.seek(self._read.get(path, 0))
                content = handle.read()
            whole = content[: content.rfind(b"\n") + 1]  # the last line may still be growing
            self._read[path] = self._read.get(path, 0) + len(whole)
            found += [event for line in whole.splitlines() if (event := from_json(line)) is not None]
        return found

    def ask_to_stop(self, reason: str) -> None:
        """Leave word for all senders."""
        (self.folder / STOP).write_text(reason, encoding="utf-8")

    def asked(self) -> str | None:
        """Why to stop, or None; a mailbox that is gone is a launcher that has ended."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / STOP).read_text(encoding="utf-8") or "stop"
        return None if self.folder.is_dir() else "the launcher has ended"
