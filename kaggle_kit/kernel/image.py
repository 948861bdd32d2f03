"""What Kaggle's notebook image has installed, as far as is known, or as a user's ``pip freeze`` says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from kaggle_kit import files
from kaggle_kit.errors import DataError, MissingFileError

_PINNED = re.compile(r"([A-Za-z0-9][\w.-]*)\s*===?\s*([^\s;#]+)")
_DIRECT = re.compile(r"([A-Za-z0-9][\w.-]*)\s*@\s*(\S+)")
_ALIASES = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
"""Distributions that hold the same import package: any of them will do."""


def canonical(name: str) -> str:
    """A distribution's name as comparable text (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class ImageList:
    """The distributions of an image.

    Attributes:
        date: of the list; "" for a user's.
        partial: whether the image may hold more than is listed.
        python: its version, such as "3.12".
        packages: canonical name -> version, or None where it is not stated.
    """

    date: str
    source: str
    partial: bool
    python: str
    packages: Mapping[str, str | None] = field(default_factory=dict)

    def provides(self, name: str) -> bool:
        """Whether the distribution, or one that holds the same, is in the list."""
        return any(candidate in self.packages for candidate in names_of(name))

    def version(self, name: str) -> str | None:
        """Its version where that is known."""
        return next((self.packages[one] for one in names_of(name) if self.packages.get(one)), None)


def names_of(name: str) -> tuple[str, ...]:
    """A distribution and those that hold the same import package."""
    return canonical(name), *_ALIASES.get(canonical(name), ())


def load_image(path: Path | None = None) -> ImageList:
    """The list that comes with the package, or one read from ``pip freeze`` of a Kaggle session.

    Raises:
        MissingFileError, DataError: the file is not there, or has no line such as ``numpy==2.0.2``.
    """
    known = _read_known()
    if path is None:
        return known
    if not Path(path).is_file():
        raise MissingFileError(f"{path} does not exist. Run `pip freeze > freeze.txt` in a Kaggle notebook and give that file.")
    packages = parse_freeze(Path(path).read_text(encoding="utf-8"))
    if not packages:
        raise DataError(f"{path} holds no line such as numpy==2.0.2; expected the output of `pip freeze`.")
    # Installers are left out of a freeze.
    packages = {"pip": None, "setuptools": None, **packages}
    return ImageList("", str(path), False, known.python, packages)


def parse_freeze(text: str) -> dict[str, str | None]:
    """Canonical name -> version of the lines of ``pip freeze``; of ``name @ url`` the version is not known."""
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        pinned = _PINNED.match(line.strip())
        direct = _DIRECT.match(line.strip())
        if pinned:
            found[canonical(pinned[1])] = pinned[2].partition("+")[0]
        elif direct:
            found[canonical(direct[1])] = None
    return found


def _read_known() -> ImageList:
    with resources.as_file(resources.files(__package__) / "image.json") as path:
        content = files.read_json(path, made_by="pip install kaggle-kit")
    return ImageList(
        str(content["date"]), str(content["source"]), bool(content["partial"]), str(content["python"]), content["packages"]
    )
