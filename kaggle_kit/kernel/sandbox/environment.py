"""A virtual environment that holds only what Kaggle's image names.

Nothing is installed: the listed distributions that are installed here, and what they require, are linked into an otherwise
empty environment. A package that the image lacks is then really missing, until the notebook installs it from its dataset.
"""

from __future__ import annotations

import contextlib
import sysconfig
import venv
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

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


def make_environment(folder: Path, image: ImageList, *, without: Collection[str] = (), block_network: bool) -> Environment:
    """Make the environment in ``folder``.

    Args:
        without: canonical names that are left out although the image has them: what the dataset brings is installed over
            nothing, since pip would otherwise remove the linked files from the environment that they belong to.
        block_network: refuse connections from within Python, where the system offers nothing better.
    """
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}, scheme="venv"))
    site_packages.mkdir(parents=True, exist_ok=True)
    installed = {canonical(one.metadata["Name"]): one for one in metadata.distributions() if one.metadata["Name"]}
    exposed = {name: installed[name] for name in _closure(image, installed) if name not in without}
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


def _closure(image: ImageList, installed: Mapping[str, metadata.Distribution]) -> list[str]:
    """Installed distributions that the image lists, and what they require."""
    found: dict[str, None] = {}
    named = {one for name in image.packages for one in (name, *_twins(name))}
    pending = [name for name in (*_RUNS_NOTEBOOKS, *sorted(named)) if name in installed]
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
    owners: dict[PurePosixPath, set[str]] = defaultdict(set)
    for name, distribution in installed.items():
        for path in _members(distribution):
            for folder in path.parents:
                owners[folder].add(name)
    shown = set(exposed)
    done: set[PurePosixPath] = set()
    for distribution in exposed.values():
        for path in _members(distribution):
            # The outermost folder that is all theirs, else the file itself.
            whole = [folder for folder in list(path.parents)[-2::-1] if owners[folder] <= shown]
            entry = whole[0] if whole else path
            source = Path(str(distribution.locate_file(entry.as_posix())))
            if entry in done or not source.exists():
                continue
            done.add(entry)
            (target / entry).parent.mkdir(parents=True, exist_ok=True)
            if not (target / entry).exists():
                (target / entry).symlink_to(source.resolve())


def _members(distribution: metadata.Distribution) -> Iterable[PurePosixPath]:
    """Files below site-packages; scripts and caches are not needed."""
    for file in distribution.files or ():
        path = PurePosixPath(file.as_posix())
        if not path.is_absolute() and ".." not in path.parts and "__pycache__" not in path.parts:
            yield path
