"""How fast networks were on this machine: in prediction by ``kk latency``, kept for ``kk models``, and in steps of training."""

from __future__ import annotations

import contextlib
import platform
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from kaggle_kit import files
from kaggle_kit.errors import DataError, LockedError, StorageError
from kaggle_kit.machine.host import user_cache

_OF_ONE = ["machine", "device", "network", "size", "engine", "batch"]
"""Columns that tell measurements apart; a new one takes the place of the one before."""


def keep_speeds(device: str, rows: pd.DataFrame) -> None:
    """Keep what was measured on ``device`` of this machine, where the user's cache can be written.

    Args:
        rows: columns model, size ("224x224"), engine, batch and img/s, a row a measurement.
    """
    networks = rows["model"].map(network_of)
    measured = pd.DataFrame(
        {"machine": platform.node(), "device": device, "network": networks, **rows[["size", "engine", "batch", "img/s"]]}
    )
    measured["date"] = datetime.now(UTC).date().isoformat()
    path = _path()
    with contextlib.suppress(LockedError, StorageError), files.lock_beside(path):
        kept = pd.concat([_read(), measured.astype(str)]).drop_duplicates(_OF_ONE, keep="last")
        files.write_table(path, kept)


def known_speeds(device: str) -> pd.DataFrame:
    """Return a row for each network that was measured on ``device`` of this machine, by its name: columns img/s and measured.

    Of several sizes that is the largest one, of several engines and batches the fastest.
    """
    known = _read()
    known = known[(known["machine"] == platform.node()) & (known["device"] == device)]
    pixels = known["size"].str.extract(r"^(\d+)x(\d+)$").astype(float).prod(axis=1)
    known = known.assign(**{"img/s": pd.to_numeric(known["img/s"]), "pixels": pixels}).sort_values(["pixels", "img/s"])
    best = known.drop_duplicates("network", keep="last").set_index("network")
    return pd.DataFrame({"img/s": best["img/s"], "measured": best["size"] + " " + best["engine"] + " " + best["date"]})


def known_speed(device: str, model: str, size: str, engine: str) -> float | None:
    """Return the images a second of one measurement that was kept, None where there is none."""
    known = _read()
    of_one = {"machine": platform.node(), "device": device, "network": network_of(model), "size": size, "engine": engine}
    for column, value in of_one.items():
        known = known[known[column] == value]
    return float(known["img/s"].iloc[-1]) if len(known) else None


def network_of(model: str) -> str:
    """Return a timm model's name without the tag of its weights, which do not change how fast it is."""
    return model.partition(".")[0]


def _path() -> Path:
    return user_cache() / "speeds.csv"


def _read() -> pd.DataFrame:
    """Return what is kept; nothing where that is damaged, for it can be measured again."""
    columns = [*_OF_ONE, "img/s", "date"]
    try:
        found = files.read_table(_path())
    except DataError:
        found = pd.DataFrame()
    return found if list(found) == columns else pd.DataFrame(columns=columns, dtype=str)
