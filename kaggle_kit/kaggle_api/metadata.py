"""The two metadata files that ``kk kernel build`` writes: read, and judged before anything is uploaded."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaggle_kit import files
from kaggle_kit.errors import ConfigError, MissingFileError
from kaggle_kit.tables import shown

log = logging.getLogger(__name__)

DATASET_FILE, KERNEL_FILE = "dataset-metadata.json", "kernel-metadata.json"
LARGEST_DATASET = 200 * 10**9
"""Bytes; what Kaggle's documentation allows a dataset."""
LARGEST_SOURCE = 10**6
"""Bytes; what Kaggle's editor allows the source of a notebook."""
_LANGUAGES, _KINDS = ("python", "r", "rmarkdown"), ("script", "notebook")
_REF = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)*")


@dataclass(frozen=True)
class Metadata:
    """A folder that can be pushed.

    Attributes:
        ref: ``owner/slug``.
        members: what belongs to it, relative to ``folder``, sorted.
        content: the metadata file.
    """

    folder: Path
    ref: str
    members: tuple[Path, ...]
    content: dict[str, Any]

    @property
    def owner(self) -> str:
        return self.ref.split("/")[0]

    def fingerprint(self, *also: str) -> str:
        """sha256 of all names and contents, and of the strings ``also``."""
        return files.fingerprint(
            [[path.as_posix(), files.file_fingerprint(self.folder / path)] for path in self.members] + [list(also)]
        )


def slug_of(title: str) -> str:
    """The last part of the address that Kaggle makes of a title: Latin letters and digits, lower-cased, dashes for the rest."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def read_dataset(folder: Path) -> Metadata:
    """Read and judge a dataset's folder.

    Raises:
        MissingFileError: no folder or no metadata file.
        ConfigError: lists everything that Kaggle would refuse or silently change.
    """
    return _read(folder, DATASET_FILE, _dataset_objections)


def read_kernel(folder: Path) -> Metadata:
    """Read and judge a notebook's folder.

    Raises:
        MissingFileError: no folder or no metadata file.
        ConfigError: lists everything that Kaggle would refuse or silently change.
    """
    metadata = _read(folder, KERNEL_FILE, _kernel_objections)
    if metadata.content.get("machine_shape") == "NvidiaTeslaP100":
        log.warning("%s: Kaggle's image has no kernels for the P100; machine_shape NvidiaTeslaT4 works", folder / KERNEL_FILE)
    return metadata


def _read(folder: Path, name: str, objections: Callable[[Metadata], list[str]]) -> Metadata:
    folder = Path(folder)
    if not (folder / name).is_file():
        raise MissingFileError(f"{folder / name} does not exist. Run `kk kernel build` first.")
    content = files.read_json(folder / name, made_by="kk kernel build")
    inside = sorted(path for path in folder.rglob("*") if not path.is_dir() and not path.name.startswith(".kk-"))
    metadata = Metadata(folder, str(content.get("id", "")), tuple(path.relative_to(folder) for path in inside), content)
    found = _title_objections(metadata) + objections(metadata)
    found += [f"{path}: a link leads nowhere or out of the folder" for path in inside if not _lies_in(path, folder)]
    if found:
        raise ConfigError(f"{folder / name} would not work at Kaggle:\n- " + "\n- ".join(found))
    return metadata


def _lies_in(path: Path, folder: Path) -> bool:
    return path.exists() and path.resolve().is_relative_to(folder.resolve())


def _title_objections(metadata: Metadata) -> list[str]:
    """Title, id and their agreement: Kaggle makes the address of the title, whatever the id says."""
    title, ref = str(metadata.content.get("title", "")), metadata.ref
    if ref.count("/") != 1 or not _REF.fullmatch(ref):
        return [f"id: expected user/slug, found {ref!r}"]
    slug = ref.split("/")[1]
    found = []
    if not 5 <= len(title) <= 50:
        found.append(f"title: expected 5 to 50 characters, found {len(title)}")
    if slug_of(title) != slug:
        found.append(f"title {title!r} becomes {slug_of(title)!r} in the address, and id says {slug!r}; make them agree")
    if "INSERT" in title or "INSERT" in ref:
        found.append("title or id is still the template's")
    return found


def _dataset_objections(metadata: Metadata) -> list[str]:
    content, found = metadata.content, []
    slug = metadata.ref.rpartition("/")[2]
    if not 6 <= len(slug) <= 50 or len(str(content.get("title", ""))) < 6:
        found.append(f"title and slug: expected 6 to 50 characters for a dataset, found {slug!r}")
    licenses = content.get("licenses")
    if not isinstance(licenses, list) or len(licenses) != 1 or not isinstance(licenses[0], dict) or not licenses[0].get("name"):
        found.append('licenses: expected exactly one, like [{"name": "CC0-1.0"}]')
    subtitle = content.get("subtitle")
    if subtitle and not 20 <= len(str(subtitle)) <= 80:
        found.append(f"subtitle: expected 20 to 80 characters, found {len(str(subtitle))}")
    listed = [str(item.get("path")) for item in content.get("resources") or [] if isinstance(item, dict)]
    absent = [name for name in listed if not (metadata.folder / name).is_file()]
    if absent:
        found.append(f"resources: there is no {shown(absent)}")
    payload = [path for path in metadata.members if path.name != DATASET_FILE]
    size = sum((metadata.folder / path).stat().st_size for path in payload if (metadata.folder / path).exists())
    if not payload:
        found.append("the folder holds no file to upload")
    if size > LARGEST_DATASET:
        found.append(f"the files have {size:,} bytes together, Kaggle takes {LARGEST_DATASET:,}")
    return found


def _kernel_objections(metadata: Metadata) -> list[str]:
    content, found = metadata.content, []
    if content.get("language") not in _LANGUAGES:
        found.append(f"language: expected one of {', '.join(_LANGUAGES)}, found {content.get('language')!r}")
    if content.get("kernel_type") not in _KINDS:
        found.append(f"kernel_type: expected one of {', '.join(_KINDS)}, found {content.get('kernel_type')!r}")
    if _yes(content.get("enable_gpu")) and not content.get("machine_shape"):
        found.append('machine_shape: missing, and Kaggle then takes a P100, which its image cannot use; write "NvidiaTeslaT4"')
    for key in ("dataset_sources", "kernel_sources"):
        wrong = [name for name in _names(content, key) if not _REF.fullmatch(name)]
        if wrong:
            found.append(f"{key}: expected user/slug, found {shown(wrong)}")
    wrong = [name for name in _names(content, "competition_sources") if "/" in name]
    if wrong:
        found.append(f"competition_sources: expected the name in the competition's address, found {shown(wrong)}")
    return found + _source_objections(metadata)


def _source_objections(metadata: Metadata) -> list[str]:
    """The code file: there, inside the folder, small enough, and a notebook that Kaggle can run."""
    name = str(metadata.content.get("code_file") or "")
    path = metadata.folder / name
    if not name or not path.is_file() or not _lies_in(path, metadata.folder):
        return [f"code_file: there is no {name!r} in the folder"]
    found = []
    if path.stat().st_size > LARGEST_SOURCE:
        found.append(f"{name} has {path.stat().st_size:,} bytes, Kaggle takes {LARGEST_SOURCE:,}; clear the notebook's outputs")
    if metadata.content.get("kernel_type") == "notebook":
        notebook = files.read_json(path, made_by="kk kernel build")
        about = notebook.get("metadata")
        spec = about.get("kernelspec") if isinstance(about, dict) else None
        if not isinstance(spec, dict) or not spec.get("name"):
            found.append(f"{name} has no kernelspec, without which Kaggle refuses a notebook")
        if not isinstance(notebook.get("cells"), list) or not notebook["cells"] or notebook.get("nbformat") != 4:
            found.append(f"{name} is not a notebook of format 4 with cells")
    return found


def _names(content: dict[str, Any], key: str) -> list[str]:
    return [str(name) for name in content.get(key) or []]


def _yes(value: object) -> bool:
    return str(value).lower() == "true"
