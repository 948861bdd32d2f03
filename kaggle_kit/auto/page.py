"""``report/auto.html``: score against time, every decision with what it rests on, and the commands that repeat it by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kaggle_kit.figures import plot_progress
from kaggle_kit.report import svg_of, write_page
from kaggle_kit.units import format_duration

Entries = Sequence[Mapping[str, Any]]


def write_auto_page(path: Path, entries: Entries, *, metric: str) -> None:
    """Write the page about a journal's entries.

    Raises:
        StorageError: the page cannot be written.
    """
    blends = [entry for entry in entries if entry["kind"] == "blended"]
    figure = None
    if blends:
        times, scores = [entry["used"] / 60 for entry in blends], [entry["score"] for entry in blends]
        figure = svg_of(plot_progress(times, scores, metric, end=entries[-1]["used"] / 60))
    ended = entries[-1]
    best = f"{metric} {blends[-1]['score']:.4f} out of fold, cross-fitted" if blends else ""
    if blends and blends[-1]["blend"]:
        best += f"; check {blends[-1]['verdict']}"
    write_page(
        path,
        "auto.html",
        title="kk auto",
        best=best,
        ended=ended.get("why", ""),
        more=ended.get("more", []),
        svg=figure,
        decisions=decisions(entries),
        commands="\n".join(commands(entries)),
    )


def decisions(entries: Entries) -> pd.DataFrame:
    """Return a row for each thing that was found out: when, what, and why."""
    rows = [
        {"time": format_duration(entry["used"]), "what": _WORDS[entry["kind"]](entry), "why": entry.get("why", "")}
        for entry in entries
        if entry["kind"] in _WORDS
    ]
    return pd.DataFrame(rows, columns=["time", "what", "why"])


def commands(entries: Entries) -> list[str]:
    """Return the commands that lead to the best submission when they are typed one after another."""
    blends = [entry for entry in entries if entry["kind"] == "blended"]
    kept = _with_bases(set(blends[-1]["runs"]) if blends else set(), entries)
    folds = [entry["command"] for entry in entries if entry["kind"] == "folds"]
    trained = [text for entry in entries if entry["kind"] == "trained" and entry["run"] in kept for text in entry["commands"]]
    mirrored = [
        entry["command"] for entry in entries if entry["kind"] == "mirrors" and entry.get("better") and entry["run"] in kept
    ]
    viewed = [entry["command"] for entry in entries if entry["kind"] == "viewed" and entry["better"] and entry["of"] in kept]
    full = [text for entry in entries if entry["kind"] == "completed" and entry["of"] in kept for text in entry["commands"]]
    return list(dict.fromkeys([*folds, *trained, *mirrored, *viewed, *full, *(entry["command"] for entry in blends[-1:])]))


def _with_bases(runs: set[str], entries: Entries) -> set[str]:
    """Return runs with those whose weights they begin from."""
    told = {entry["run"]: entry.get("entries", ()) for entry in entries if entry["kind"] == "trained"}
    bases = {word.removeprefix("init_from=") for run in runs for word in told.get(run, ()) if word.startswith("init_from=")}
    return runs if bases <= runs else _with_bases(runs | bases, entries)


_WORDS = {
    "mirrors": lambda entry: f"mirrored images mean {'the same' if entry['mirrors'] else 'something else'}",
    "measured": lambda entry: f"{entry['model']}: {entry['rates']['train']:.1f} images a second in training at {entry['side']}",
    "viewed": lambda entry: f"{entry['run']} are {'taken' if entry['better'] else 'left as they were'}",
    "completed": lambda entry: f"{entry['of']} has one more model, of all labelled images",
    "fetched": lambda entry: f"weights fetched: {', '.join(entry['models']) or 'none'}",
    "raced": lambda entry: f"{entry['run']} on fold 0 alone",
    "judged": lambda entry: f"{entry['run']} {'joins' if entry['better'] else 'is left out'}",
    "dropped": lambda entry: f"{entry['run']} is left out again",
    "blended": lambda entry: (
        f"{entry['blend'] or 'no test images'}: {entry['method']} of {', '.join(entry['runs'])}, {entry['score']:.4f}"
    ),
    "failed": lambda entry: f"{entry['run']} failed",
    "gone": lambda entry: f"the folder of {entry['run']} is gone",
}
"""Kinds of entries that the page tells -> what it says."""
