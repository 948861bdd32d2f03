"""Pictures for pages: thumbnails with what there is to say of each."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Picture:
    """One picture of a gallery, as ``gallery`` of parts.html shows it.

    Attributes:
        src: address of the thumbnail: a data URI, or a file beside the page; "" where the image could not be read.
        width, height: of the thumbnail in pixels.
        label: its class, several with commas; None: not shown.
        predicted, probability: what a model says, and how surely.
        mark: frames it in the colour of right or wrong.
    """

    id: str
    src: str = ""
    width: int = 0
    height: int = 0
    label: str | None = None
    predicted: str | None = None
    probability: float | None = None
    note: str = ""
    mark: Literal["", "right", "wrong"] = ""

    @property
    def alt(self) -> str:
        """What a screen reader says in its place."""
        return " ".join(filter(None, ["image", self.id, f"of class {self.label}" if self.label else ""]))


@dataclass(frozen=True)
class Album(Generic[K]):
    """The thumbnails of one page, by key, where the page finds them.

    Attributes:
        sources: key -> address, width and height.
        unreadable: key -> why there is none.
        size: bytes of all thumbnails.
        beside: whether they lie in a folder beside the page; then the page wants ``allowed=BESIDE_PAGE``.
    """

    sources: Mapping[K, tuple[str, int, int]]
    unreadable: Mapping[K, str]
    size: int = 0
    beside: bool = False

    def picture(self, key: K, row_id: str, **said: Any) -> Picture:
        """Return the picture of ``key``; ``said`` are further fields of :class:`Picture`."""
        src, width, height = self.sources.get(key, ("", 0, 0))
        if not src:
            said.setdefault("note", self.unreadable.get(key, ""))
        return Picture(row_id, src, width, height, **said)
