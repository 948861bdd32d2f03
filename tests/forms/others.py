"""Made-up competitions whose files stand otherwise than in any of the 32: the same rules must read them."""

from __future__ import annotations

import io
import zipfile

import graders
import numpy as np
import pandas as pd
from form import hexadecimal, numbers, other
from pictures import Folder, digit, picture

LABEL = {"task": "multiclass", "metric": "accuracy", "submission.form": "label"}
TRAIN, TEST = 60, 24


def auc_of_rows(frame: pd.DataFrame, answers: graders.Answers) -> float:
    """Mean over findings, of rows whose ids are an image and a finding."""
    rows = pd.DataFrame([row_id.rsplit("-", 1) for row_id in frame.index], columns=["image", "finding"])
    wide = rows.assign(value=frame.iloc[:, 0].to_numpy()).pivot(index="image", columns="finding", values="value")
    return graders.column_auc(wide, {row_id: "|".join(text.split()) for row_id, text in answers.items()})


def _kinds(classes: int) -> tuple[list[int], list[int]]:
    return numbers(TRAIN, classes), numbers(TEST, classes, 1)


def _pictures(kinds: list[int], start: int = 0) -> np.ndarray:
    return np.stack([picture([kind], start + row) for row, kind in enumerate(kinds)])


@other("stained-cells", graders.accuracy, 0.6, {**LABEL, "classes": 4}, needs=("h5py",))
def cells(folder: Folder) -> graders.Answers:
    """HDF5, one file for both parts, in groups."""
    import h5py

    train, test = _kinds(4)
    with h5py.File(folder.root / "cells.h5", "w") as handle:
        handle["train/pixels"], handle["train/stain"] = _pictures(train), np.array(train)
        handle["test/pixels"], handle["test/cell_id"] = _pictures(test, 900), [f"c{row:03}" for row in range(TEST)]
    answers = {f"c{row:03}": str(kind) for row, kind in enumerate(test)}
    folder.table("example.csv", {"cell_id": answers, "stain": [0] * TEST})
    return answers


@other("plankton-in-hdf5", graders.accuracy, 0.6, {**LABEL, "classes": 4, "train.label_columns": ["species"]}, needs=("h5py",))
def plankton(folder: Folder) -> graders.Answers:
    """HDF5 of pictures and their ids, channels first; the labels in a table."""
    import h5py

    names = ("copepod", "diatom", "krill", "salp")
    answers: dict[str, str] = {}
    for part, kinds in zip(("train", "test"), _kinds(4), strict=True):
        ids = [f"{part[:2]}-{hexadecimal(row, 6)}" for row in range(len(kinds))]
        with h5py.File(folder.root / f"{part}.hdf5", "w") as handle:
            handle["image"], handle["roi_id"] = _pictures(kinds, 900 * (part == "test")).transpose(0, 3, 1, 2), ids
        answers = {row_id: names[kind] for row_id, kind in zip(ids, kinds, strict=True)}
        if part == "train":
            folder.table("labels.csv", {"roi_id": answers, "species": answers.values()})
    folder.table("sample_submission.csv", {"roi_id": answers, "species": ["krill"] * TEST})
    return answers


@other("letters-in-npz", graders.accuracy, 0.6, {**LABEL, "classes": 10})
def letters(folder: Folder) -> graders.Answers:
    """Four arrays in one file, as frameworks ship data."""
    train, test = numbers(200, 10), numbers(40, 10, 1)
    both = [np.stack([(digit(kind, row) * 255).astype(np.uint8) for row, kind in enumerate(kinds)]) for kinds in (train, test)]
    content = io.BytesIO()
    np.savez(content, x_train=both[0], y_train=np.array(train), x_test=both[1])
    folder.bytes("letters.npz", content.getvalue())
    answers = {str(row): str(kind) for row, kind in enumerate(test)}
    folder.table("sample_submission.csv", {"Id": answers, "Letter": [0] * len(test)})
    return answers


@other("radar-tiles", graders.accuracy, 0.6, {**LABEL, "classes": 3, "channels.names": ["vh", "vv"]})
def radar(folder: Folder) -> graders.Answers:
    """A folder an image, a file a channel."""
    answers: dict[str, str] = {}
    for part, kinds in zip(("train", "test"), _kinds(3), strict=True):
        ids = [f"tile{hexadecimal(row + 700 * (part == 'test'), 5)}" for row in range(len(kinds))]
        for row, (row_id, kind) in enumerate(zip(ids, kinds, strict=True)):
            for channel, name in enumerate(("vv", "vh")):
                folder.pixels(f"{part}/{row_id}/{name}.png", picture([kind], row)[:, :, channel])
        answers = {row_id: ("bare", "crop", "water")[kind] for row_id, kind in zip(ids, kinds, strict=True)}
        if part == "train":
            folder.table("train_labels.csv", {"tile": answers, "cover": answers.values()})
    folder.table("sample_submission.csv", {"tile": answers, "cover": ["bare"] * TEST})
    return answers


@other("field-in-bands", graders.accuracy, 0.6, {**LABEL, "classes": 3, "channels.names": ["b02", "b03", "b04", "b08"]})
def bands(folder: Folder) -> graders.Answers:
    """Four files an image, in a zip, called by their bands."""
    answers: dict[str, str] = {}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        inner = Folder(folder.root)
        for part, kinds in zip(("train", "test"), _kinds(3), strict=True):
            ids = [f"f{hexadecimal(row + 700 * (part == 'test'), 5)}" for row in range(len(kinds))]
            for row, (row_id, kind) in enumerate(zip(ids, kinds, strict=True)):
                pixels = picture([kind], row)
                planes = [*pixels.transpose(2, 0, 1), pixels.mean(axis=2).astype(np.uint8)]
                for plane, band in zip(planes, ("B02", "B03", "B04", "B08"), strict=True):
                    archive.writestr(f"fields/{part}/{row_id}_{band}.png", inner.encoded(plane))
            answers = {row_id: str(kind) for row_id, kind in zip(ids, kinds, strict=True)}
            if part == "train":
                folder.table("train.csv", {"field": answers, "crop": answers.values()})
    folder.bytes("fields.zip", content.getvalue())
    folder.table("sample_submission.csv", {"field": answers, "crop": [0] * TEST})
    return answers


@other(
    "findings-by-row",
    auc_of_rows,
    0.7,
    {"task": "multilabel", "submission.form": "long", "classes": 3},
    rows_per_id=3,
    typed=("metric=roc_auc_columns",),
)
def findings(folder: Folder) -> graders.Answers:
    """Long form: a row for each image and finding, probabilities wanted."""
    names = ("edema", "mass", "nodule")
    answers: dict[str, str] = {}
    rng = np.random.default_rng(3)
    for part, count in (("train", TRAIN), ("test", TEST)):
        rows = {f"x{hexadecimal(row + 400 * (part == 'test'), 6)}": rng.random(3) < 0.5 for row in range(count)}
        for row, (row_id, there) in enumerate(rows.items()):
            folder.image(f"{part}_images/{row_id}.png", *(np.flatnonzero(there).tolist() or [9]), number=row)
        long = {f"{row_id}-{name}": int(yes) for row_id, flags in rows.items() for name, yes in zip(names, flags, strict=True)}
        if part == "train":
            folder.table("train.csv", {"row": long, "present": long.values()})
        else:
            folder.table("sample_submission.csv", {"row": long, "present": [0.5] * len(long)})
            answers = {
                row_id: " ".join(name for name, yes in zip(names, flags, strict=True) if yes) for row_id, flags in rows.items()
            }
    return answers


@other(
    "coins-from-both-sides",
    graders.accuracy,
    0.6,
    {**LABEL, "classes": 4, "train.id_columns": ["coin"], "test.id_column": "coin"},
)
def coins(folder: Folder) -> graders.Answers:
    """Two or three photographs a coin; an answer a coin."""
    answers: dict[str, str] = {}
    for part, kinds in zip(("train", "test"), _kinds(4), strict=True):
        columns: dict[str, list[str]] = {"photo": [], "coin": [], "mint": []}
        for row, kind in enumerate(kinds):
            coin = f"{'TE' if part == 'test' else 'TR'}{row:04}"
            answers[coin] = f"mint-{kind}"
            for side in range(2 + row % 2):
                columns["photo"].append(f"{hexadecimal(10 * row + side + 5000 * (part == 'test'), 8)}.jpg")
                columns["coin"].append(coin)
                columns["mint"].append(f"mint-{kind}")
                folder.image(f"{part}/{columns['photo'][-1]}", kind, number=10 * row + side)
        if part == "test":
            del columns["mint"]
        folder.table(f"{part}.csv", columns)
    answers = {coin: mint for coin, mint in answers.items() if coin.startswith("TE")}
    folder.table("sample_submission.csv", {"coin": answers, "mint": ["mint-0"] * TEST})
    return answers
