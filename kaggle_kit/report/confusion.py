"""The confusion matrix of a page: the most confused classes as a table, the whole as a picture, each cell with its images."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from kaggle_kit import diagnosis
from kaggle_kit.report.blocks import Confusion
from kaggle_kit.report.pages import island
from kaggle_kit.report.pictures import Pictures

MOST = 20
"""Classes that the table shows; more could not be read."""
_PAIRS = 30


def confusion_block(pictures: Pictures) -> Confusion:
    """Return the block of a subject whose rows have one label each."""
    scored = pictures.subject.scored
    counts, classes = scored.counts, scored.classes
    many = len(classes) > MOST
    chosen = diagnosis.most_confused(counts, MOST) if many else np.arange(len(classes))
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    off = share[np.ix_(chosen, chosen)].copy()
    np.fill_diagonal(off, 0)
    largest = max(float(off.max()) if off.size else 0.0, 1e-9)
    rows = []
    for truth in chosen.tolist():
        cells = []
        for taken in chosen.tolist():
            shade = share[truth, taken] / (1.0 if truth == taken else largest)
            cells.append((f"{truth}-{taken}", int(counts[truth, taken]), float(shade), truth == taken))
        rows.append((classes.names[truth], cells))
    pairs = [
        (f"{truth}-{taken}", classes.names[truth], classes.names[taken], count)
        for truth, taken, count in diagnosis.confused_pairs(counts, _PAIRS)
    ]
    lines = [f"The {len(chosen)} most confused of {len(classes)} classes, partners side by side."] if many else []
    if not pairs:
        lines.append("No class is taken for another.")
    head = [classes.names[position] for position in chosen.tolist()]
    heat = _heat(counts) if many else ""
    return Confusion(head, rows, pairs, heat, len(classes), island(_cells(pictures)), lines)


def _cells(pictures: Pictures) -> dict[str, Any]:
    """Return what confusion.js needs: class names, the number of each cell, and images of cells."""
    scored = pictures.subject.scored
    _, sure = scored.sureness
    cells: dict[str, list[Any]] = {}
    order = np.argsort(-sure, kind="stable")
    for row in order.tolist():
        if row in pictures.album.sources or row in pictures.album.unreadable:
            key = f"{scored.truth[row]}-{scored.labels[row]}"
            src, width, height = pictures.album.sources.get(row, ("", 0, 0))
            cells.setdefault(key, []).append([scored.ids[row], src, width, height, round(float(sure[row]), 4)])
    counts = {f"{truth}-{taken}": int(scored.counts[truth, taken]) for truth, taken in np.argwhere(scored.counts)}
    return {"classes": list(scored.classes), "counts": counts, "cells": cells}


def _heat(counts: npt.NDArray[np.int64]) -> str:
    """Return the matrix as a PNG in an address, a pixel a cell: green where right, red where wrong, by the class's share."""
    share = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    picture = np.zeros((*counts.shape, 4), dtype=np.uint8)  # blue, green, red, alpha
    picture[..., :3] = (46, 34, 207)
    picture[np.arange(len(counts)), np.arange(len(counts)), :3] = (55, 127, 26)
    picture[..., 3] = np.where(counts > 0, 60 + 195 * share, 0).astype(np.uint8)
    _, data = cv2.imencode(".png", picture)
    return f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}"
