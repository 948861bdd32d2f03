"""Wheels for a machine without a network: this package's own, and those of what the image lacks.

Wheels of pure Python are written from what is installed here (PEP 427), so that they are the very versions that trained the
models and no network is needed. The same files give the same bytes. Compiled packages are fetched for the image's Python.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import io
import logging
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement

import kaggle_kit
from kaggle_kit import files
from kaggle_kit.errors import DependencyError
from kaggle_kit.kernel.image import ImageList, canonical

logger = logging.getLogger(__name__)

INFERENCE_NEEDS = (
    "numpy", "pandas", "scipy", "pillow", "opencv-python-headless", "torch", "torchvision", "timm", "ttach", "safetensors",
    "pyarrow", "pydantic", "PyYAML", "scikit-learn", "psutil", "threadpoolctl",
)  # fmt: skip
"""What predicting, blending and checking import; the rest of the package's requirements are for other commands."""
TRAINING_NEEDS = (*INFERENCE_NEEDS, "albumentations", "lightning-fabric", "filelock", "tensorboard", "rich")
NEEDS = {"inference": INFERENCE_NEEDS, "training": TRAINING_NEEDS, "auto": (*TRAINING_NEEDS, "matplotlib")}
"""Kind of a kernel -> the packages that it imports."""
CPU_NEEDS = ("openvino",)
"""What a kernel for a session without a GPU imports as well."""
OWN = "kaggle-kit"

_PURE_TAGS = ("py3-none-any", "py2.py3-none-any")
_NOT_SHIPPED = ("INSTALLER", "REQUESTED", "RECORD", "RECORD.jws", "RECORD.p7s", "direct_url.json")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64")


@dataclass(frozen=True)
class Wheel:
    """A wheel: the distribution, its version and its file."""

    name: str
    version: str
    path: Path


def missing_from(image: ImageList, needs: Iterable[str]) -> list[str]:
    """The distributions to ship: those of ``needs``, and what they require, that the image lacks; canonical names.

    Raises:
        DependencyError: one of them is not installed here, so that its own requirements are not known.
    """
    ship: list[str] = []
    pending: list[tuple[str, frozenset[str]]] = [(canonical(name), frozenset()) for name in needs]
    seen = set(pending)
    while pending:
        name, extras = pending.pop(0)
        provided = image.provides(name)
        if not provided and name not in ship:
            ship.append(name)
        for requirement in _requirements(name, image, extras, base=not provided):
            node = (canonical(requirement.name), frozenset(requirement.extras))
            if node not in seen:
                seen.add(node)
                pending.append(node)
    return ship


def unlike(image: ImageList, needs: Iterable[str]) -> list[str]:
    """Packages whose version in the image does not fit what this package asks for, as ``numpy 1.20 (needs >=1.26)``."""
    wanted = {canonical(name) for name in needs}
    found = []
    for requirement in _requirements(OWN, image, frozenset(), base=True):
        version = image.version(requirement.name)
        if canonical(requirement.name) in wanted and version and not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement.name} {version} (needs {requirement.specifier})")
    return found


def collect_wheels(names: Sequence[str], target: Path, image: ImageList, *, wheels_dir: Path | None = None) -> list[Wheel]:
    """Write or fetch a wheel for each of ``names`` into ``target``.

    Args:
        wheels_dir: wheels that the user has brought; they come first.

    Raises:
        DependencyError: a package is neither there, nor pure Python and installed, nor could it be downloaded.
    """
    target.mkdir(parents=True, exist_ok=True)
    return [_one_wheel(name, target, image, wheels_dir) for name in names]


def own_wheel(target: Path) -> Wheel:
    """Write this package's wheel from its own files, however it was installed."""
    try:
        about = metadata.distribution(OWN)
        text, version = about.read_text("METADATA") or "", about.version
        extra = {name: content for name, content in _metadata_files(about) if name != "WHEEL"}
    except metadata.PackageNotFoundError:  # run from its sources
        version = kaggle_kit.__version__
        text, extra = f"Metadata-Version: 2.1\nName: {OWN}\nVersion: {version}\n", {}
    package = Path(kaggle_kit.__file__).parent
    members = {
        f"{package.name}/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".") and path.suffix != ".pyc"
    }
    extra.setdefault("METADATA", text.encode())
    return _write_wheel(target, OWN, version, members, extra)


def _requirements(name: str, image: ImageList, extras: frozenset[str], *, base: bool) -> Iterator[Requirement]:
    """Requirements that hold in the image: the plain ones (``base``) and those of ``extras``."""
    try:
        stated = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        if base and name != OWN:
            raise DependencyError(f"{name} is not installed here; run `pip install {name}` and build again.") from None
        return
    environment = {
        "python_version": image.python,
        "python_full_version": f"{image.python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_machine": "x86_64",
    }
    for text in stated:
        with contextlib.suppress(InvalidRequirement):
            requirement = Requirement(text)
            marker = requirement.marker
            plain = marker is None or marker.evaluate({**environment, "extra": ""})
            extra = marker is not None and any(marker.evaluate({**environment, "extra": name}) for name in extras)
            if (plain and base) or (extra and not plain):
                yield requirement


def _one_wheel(name: str, target: Path, image: ImageList, wheels_dir: Path | None) -> Wheel:
    for path in sorted(wheels_dir.glob("*.whl")) if wheels_dir else ():
        given, version = path.name.split("-")[:2]
        if canonical(given) == name:
            files.write_bytes(target / path.name, path.read_bytes())
            return Wheel(name, version, target / path.name)
    try:
        about = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise DependencyError(f"{name} is not installed here; run `pip install {name}` and build again.") from None
    if _is_pure(about):
        return _repack(about, target)
    return _download(name, about.version, target, image)


def _is_pure(about: metadata.Distribution) -> bool:
    parsed = HeaderParser().parsestr(about.read_text("WHEEL") or "")
    tags = parsed.get_all("Tag") or []
    return bool(about.files) and parsed.get("Root-Is-Purelib", "").lower() == "true" and any(tag in _PURE_TAGS for tag in tags)


def _repack(about: metadata.Distribution, target: Path) -> Wheel:
    """The wheel that an installed distribution came from, licences included."""
    members = {}
    for member in about.files or ():
        path = PurePosixPath(member.as_posix())
        outside = path.is_absolute() or ".." in path.parts or "__pycache__" in path.parts
        if outside or any(part.endswith(".dist-info") for part in path.parts[:1]):
            continue
        members[str(path)] = Path(str(about.locate_file(member))).read_bytes()
    return _write_wheel(target, about.metadata["Name"], about.version, members, dict(_metadata_files(about)))


def _metadata_files(about: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    """Name below ``.dist-info`` and content of what belongs into a wheel."""
    for member in about.files or ():
        parts = PurePosixPath(member.as_posix()).parts
        if len(parts) > 1 and parts[0].endswith(".dist-info") and parts[-1] not in _NOT_SHIPPED and "__pycache__" not in parts:
            yield "/".join(parts[1:]), Path(str(about.locate_file(member))).read_bytes()


def _write_wheel(target: Path, name: str, version: str, members: dict[str, bytes], about: dict[str, bytes]) -> Wheel:
    """Zip the members with a RECORD (PEP 427, PEP 376); fixed times and order, so that equal contents give equal bytes."""
    plain = canonical(name).replace("-", "_")
    folder = f"{plain}-{version}.dist-info"
    header = f"Wheel-Version: 1.0\nGenerator: kaggle_kit {kaggle_kit.__version__}\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    everything = dict(sorted(members.items()))
    everything |= {f"{folder}/{key}": value for key, value in sorted({**about, "WHEEL": header.encode()}.items())}
    record = io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    for path, content in everything.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.writerow([path, f"sha256={digest}", len(content)])
    lines.writerow([f"{folder}/RECORD", "", ""])
    everything[f"{folder}/RECORD"] = record.getvalue().encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in everything.items():
            entry = zipfile.ZipInfo(path, date_time=_EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    wheel = target / f"{plain}-{version}-py3-none-any.whl"
    files.write_bytes(wheel, packed.getvalue())
    return Wheel(canonical(name), version, wheel)


def _download(name: str, version: str, target: Path, image: ImageList) -> Wheel:
    """Fetch a compiled wheel for the image's Python by pip."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(target),
    ]
    command += ["--implementation", "cp", "--python-version", image.python]
    for platform in _PLATFORMS:
        command += ["--platform", platform]
    before = set(target.glob("*.whl"))
    done = subprocess.run([*command, f"{name}=={version}"], capture_output=True, text=True, check=False)
    fetched = sorted(set(target.glob("*.whl")) - before)
    if done.returncode or not fetched:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise DependencyError(
            f"Kaggle's image lacks {name}, which is compiled, and {name}=={version} for Python {image.python} could not be "
            f"downloaded ({reason}). Download it elsewhere and give its folder as wheels_dir."
        )
    logger.info("downloaded %s", fetched[0].name)
    return Wheel(name, version, fetched[0])
