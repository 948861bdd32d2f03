"""A virtual environment that holds only what Kaggle's image names.

Nothing is installed: the listed distributions that are installed here, and what they require, are linked into an otherwise
empty environment. A package that the image lacks is then really missing, until the notebook installs it from its dataset.
"""

from __future__ import annotations

import contextlib
import csv
import sysconfig
import venv
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from kaggle_kit.kernel.image import ImageList, canonical, names_of

_RUNS_NOTEBOOKS = ("ipykernel", "pip")
"""In every image, though a user's list may not name them."""

_NO_NETWORK = '''\
"""Refuses connections beyond this machine, as a Kaggle session without internet does."""
import socket

_connect, _connect_ex, _lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo
_LOCAL = ("127.", "::1", "localhost")


def _refuse(address):
    if isinstance(address, tuple) and not str(address[0]).startswith(_LOCAL):
        raise OSError(101, "Network is unreachable")


def connect(self, address):
    _refuse(address)
    return _connect(self, address)


def connect_ex(self, address):
    _refuse(address)
    return _connect_ex(self, address)


def getaddrinfo(host, *args, **kwargs):
    if host and not str(host).startswith(_LOCAL):
        raise socket.gaierror(-3, "Temporary failure in name resolution")
    return _lookup(host, *args, **kwargs)


socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = connect, connect_ex, getaddrinfo
'''


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        packages: distribution -> version, of what is in it.
        differing: those whose version is not the image's, as ``numpy 2.4.6 (image: 2.0.2)``.
    """

    python: Path
    site_packages: Path
    packages: Mapping[str, str]
    differing: tuple[str, ...]


def make_environment(
    folder: Path, image: ImageList, *, without: Collection[str] = (), beside: Collection[str] = (), block_network: bool
) -> Environment:
    """Make the environment in ``folder``.

    Args:
        without: canonical names that are left out although the image has them: what the dataset brings is installed over
            nothing, since pip would otherwise remove the linked files from the environment that they belong to.
        beside: canonical names that are put in although the image lacks them.
        block_network: refuse connections from within Python, where the system offers nothing better.
    """
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}, scheme="venv"))
    site_packages.mkdir(parents=True, exist_ok=True)
    installed = {canonical(one.metadata["Name"]): one for one in metadata.distributions() if one.metadata["Name"]}
    exposed = {name: installed[name] for name in _closure(image, installed, beside) if name not in without}
    _link(site_packages, exposed, installed)
    if block_network:
        (site_packages / "sitecustomize.py").write_text(_NO_NETWORK, encoding="utf-8")
    differing = tuple(
        f"{name} {one.version} (image: {image.version(name)})"
        for name, one in sorted(exposed.items())
        if image.version(name) not in (None, one.version)
    )
    versions = {name: one.version for name, one in sorted(exposed.items())}
    return Environment(folder / "bin" / "python", site_packages, versions, differing)


def _closure(image: ImageList, installed: Mapping[str, metadata.Distribution], beside: Collection[str]) -> list[str]:
    """Installed distributions that the image lists and those of ``beside``, and what they require."""
    found: dict[str, None] = {}
    named = {one for name in image.packages for one in (name, *_twins(name))}
    pending = [name for name in (*_RUNS_NOTEBOOKS, *beside, *sorted(named)) if name in installed]
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = None
            pending += [one for one in _required(installed[name]) if one in installed]
    return list(found)


def _twins(name: str) -> Iterable[str]:
    """Distributions under another name that the image's one stands for."""
    return [one for one in ("opencv-python-headless",) if name in names_of(one)]


def _required(distribution: metadata.Distribution) -> list[str]:
    names = []
    for text in distribution.requires or ():
        with contextlib.suppress(InvalidRequirement):
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                names.append(canonical(requirement.name))
    return names


def _link(target: Path, exposed: Mapping[str, metadata.Distribution], installed: Mapping[str, metadata.Distribution]) -> None:
    """Link the files of ``exposed``: whole folders where nobody else has files in them, else file by file."""
    members = {name: _members(distribution) for name, distribution in installed.items()}
    hidden = {folder for name in installed if name not in exposed for path in members[name] for folder in _folders(path)}
    done: set[str] = set()
    for name, distribution in exposed.items():
        for path in members[name]:
            # The outermost folder that nobody else has files in, else the file itself.
            entry = next((folder for folder in _folders(path) if folder not in hidden), path)
            if entry in done:
                continue
            done.add(entry)
            source = Path(str(distribution.locate_file(entry)))
            (target / entry).parent.mkdir(parents=True, exist_ok=True)
            if source.exists() and not (target / entry).exists():
                (target / entry).symlink_to(source.resolve())


def _folders(path: str) -> Iterator[str]:
    """The folders around a path, the outermost first."""
    at = path.find("/")
    while at > 0:
        yield path[:at]
        at = path.find("/", at + 1)


def _members(distribution: metadata.Distribution) -> list[str]:
    """Files below site-packages; scripts and caches are not needed. RECORD is read as text, since there are many."""
    record = distribution.read_text("RECORD") or ""
    paths = (row[0] for row in csv.reader(record.splitlines()) if row)
    return [path for path in paths if not path.startswith(("/", "..")) and "__pycache__" not in path]
