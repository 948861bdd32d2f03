"""Competitions that want a probability a class, several labels, several guesses, or a number."""

from __future__ import annotations

import graders
import numpy as np
from form import form, hexadecimal, numbers
from one_label import TEST, TRAIN, pair
from pictures import Folder, picture

COLUMNS = {"task": "multiclass", "metric": "log_loss", "submission.form": "probability"}


@form("dog-breed-identification", graders.log_loss_of_columns, 1.2, {**COLUMNS, "classes": 5}, lower=True)
def dog_breed(folder: Folder) -> graders.Answers:
    names = ("affenpinscher", "beagle", "borzoi", "chow", "whippet")
    train, test = pair(folder, 5, ("train", "test"), ".jpg")
    folder.table("labels.csv", {"id": train, "breed": [names[kind] for kind in train.values()]})
    folder.table("sample_submission.csv", {"id": test, **{name: [0.2] * TEST for name in names}})
    return {row_id: names[kind] for row_id, kind in test.items()}


@form("leaf-classification", graders.log_loss_of_columns, 1.2, {**COLUMNS, "classes": 4}, lower=True)
def leaf(folder: Folder) -> graders.Answers:
    """All images in one folder, and 192 columns of numbers beside the label."""
    names = ("Acer_Capillipes", "Alnus_Cordata", "Quercus_Ilex", "Tilia_Oliveri")
    kinds = numbers(TRAIN + TEST, 4)
    for row, kind in enumerate(kinds, 1):
        folder.image(f"images/{row}.jpg", kind, number=row)
    places = np.random.default_rng(1).permutation(np.arange(1, TRAIN + TEST + 1))
    train, test = sorted(places[:TRAIN].tolist()), sorted(places[TRAIN:].tolist())
    draw = np.random.default_rng(2)
    for place, ids in (("train", train), ("test", test)):
        columns: dict = {"id": ids}
        if place == "train":
            columns["species"] = [names[kinds[one - 1]] for one in ids]
        for kind in ("margin", "shape", "texture"):
            columns |= {f"{kind}{at}": draw.random(len(ids)).round(6) for at in range(1, 65)}
        folder.table(f"{place}.csv", columns)
    folder.table("sample_submission.csv", {"id": test, **{name: [0.25] * TEST for name in names}})
    return {str(one): names[kinds[one - 1]] for one in test}


@form("plant-pathology-2020-fgvc7", graders.column_auc, 0.8, {**COLUMNS, "metric": "roc_auc_columns", "classes": 4})
def plant_pathology_2020(folder: Folder) -> graders.Answers:
    names = ("healthy", "multiple_diseases", "rust", "scab")
    answers: dict[str, str] = {}
    for place, count in (("Train", TRAIN), ("Test", TEST)):
        kinds = numbers(count, 4, int(place == "Test"))
        for row, kind in enumerate(kinds):
            folder.image(f"images/{place}_{row}.jpg", kind, number=row)
        hot = {name: [int(names[kind] == name) for kind in kinds] for name in names} if place == "Train" else {}
        folder.table(f"{place.lower()}.csv", {"image_id": [f"{place}_{row}" for row in range(count)], **hot})
        answers = {f"{place}_{row}": names[kind] for row, kind in enumerate(kinds)}
    folder.table("sample_submission.csv", {"image_id": answers, **{name: [0.25] * TEST for name in names}})
    return answers


@form(
    "state-farm-distracted-driver-detection",
    graders.log_loss_of_columns,
    1.2,
    {**COLUMNS, "classes": 5, "train.group_column": "subject"},
    lower=True,
)
def state_farm(folder: Folder) -> graders.Answers:
    names = tuple(f"c{number}" for number in range(5))
    kinds = numbers(TRAIN, 5)
    for row, kind in enumerate(kinds):
        folder.image(f"imgs/train/{names[kind]}/img_{1000 + row}.jpg", kind, number=row)
    about = {
        "subject": [f"p{row // 6:03}" for row in range(TRAIN)],
        "classname": [names[kind] for kind in kinds],
        "img": [f"img_{1000 + row}.jpg" for row in range(TRAIN)],
    }
    folder.table("driver_imgs_list.csv", about)
    answers = {}
    for row, kind in enumerate(numbers(TEST, 5, 1)):
        folder.image(f"imgs/test/img_{row + 1}.jpg", kind, number=row)
        answers[f"img_{row + 1}.jpg"] = names[kind]
    folder.table("sample_submission.csv", {"img": answers, **{name: [0.2] * TEST for name in names}})
    return answers


@form(
    "ranzcr-clip-catheter-line-classification",
    graders.column_auc,
    0.7,
    {
        "task": "multilabel",
        "metric": "roc_auc_columns",
        "submission.form": "probability",
        "classes": 4,
        "train.group_column": "PatientID",
        "train.csv": "train.csv",
        "test.csv": None,
    },
)
def ranzcr(folder: Folder) -> graders.Answers:
    """A second table with the training ids, which is no list of test images."""
    names = ("ETT - Abnormal", "NGT - Normal", "CVC - Normal", "Swan Ganz Catheter Present")
    train, test = several(folder, ("train", "test"), ".jpg", "1.2.826.0.1.", 4)
    hot = {name: [int(at in kinds) for kinds in train.values()] for at, name in enumerate(names)}
    patients = [hexadecimal(row // 3, 9) for row in range(TRAIN)]
    folder.table("train.csv", {"StudyInstanceUID": train, **hot, "PatientID": patients})
    rows = [(one, names[kind]) for one, kinds in train.items() for kind in kinds]
    marks = {
        "StudyInstanceUID": [one for one, _ in rows],
        "label": [name for _, name in rows],
        "data": ["[[1, 2]]"] * len(rows),
    }
    folder.table("train_annotations.csv", marks)
    folder.table("sample_submission.csv", {"StudyInstanceUID": test, **{name: [0] * TEST for name in names}})
    return {one: "|".join(names[kind] for kind in kinds) for one, kinds in test.items()}


def several(
    folder: Folder, places: tuple[str, str], suffix: str, start: str, classes: int
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Write pictures of one or two classes each; returns id -> classes."""
    found = []
    for seed, (place, count) in enumerate(zip(places, (TRAIN, TEST), strict=True)):
        rows = {}
        for row, kind in enumerate(numbers(count, classes, seed)):
            kinds = [kind] if row % 3 else sorted({kind, (kind + 1) % classes})
            rows[f"{start}{hexadecimal(row + 500 * seed)}"] = kinds
        for row, (row_id, kinds) in enumerate(rows.items()):
            folder.image(f"{place}/{row_id}{suffix}", *kinds, number=row)
        found.append(rows)
    return found[0], found[1]


LABELS = {"task": "multilabel", "submission.form": "labels", "submission.separator": " "}


@form("imet-2020-fgvc7", graders.micro_f1, 0.5, {**LABELS, "metric": "f1_micro", "classes": 4})
def imet(folder: Folder) -> graders.Answers:
    attributes = ("147", "616", "813", "1092")
    train, test = several(folder, ("train", "test"), ".png", "", 4)
    cells = [{one: " ".join(attributes[kind] for kind in kinds) for one, kinds in rows.items()} for rows in (train, test)]
    folder.table("train.csv", {"id": train, "attribute_ids": cells[0].values()})
    folder.table("labels.csv", {"attribute_id": attributes, "attribute_name": [f"culture::{one}" for one in attributes]})
    folder.table("sample_submission.csv", {"id": test, "attribute_ids": ["147 616 813"] * TEST})
    return cells[1]


@form("plant-pathology-2021-fgvc8", graders.mean_f(1), 0.5, {**LABELS, "metric": "f1_samples", "classes": 4})
def plant_pathology_2021(folder: Folder) -> graders.Answers:
    names = ("complex", "frog_eye_leaf_spot", "healthy", "scab")
    train, test = several(folder, ("train_images", "test_images"), ".jpg", "", 4)
    cells = [{f"{one}.jpg": " ".join(names[kind] for kind in kinds) for one, kinds in rows.items()} for rows in (train, test)]
    folder.table("train.csv", {"image": cells[0], "labels": cells[0].values()})
    folder.table("sample_submission.csv", {"image": cells[1], "labels": ["healthy"] * TEST})
    return cells[1]


@form(
    "planet-understanding-the-amazon-from-space",
    graders.mean_f(2),
    0.5,
    {**LABELS, "metric": "f2_samples", "classes": 4, "train.dirs": ["train-jpg"], "test.csv": None},
)
def planet(folder: Folder) -> graders.Answers:
    """The same ids as JPEG and as TIFF, test images in two folders, and a mapping table that lists no test images."""
    names = ("agriculture", "clear", "primary", "water")
    train, test = {}, {}
    for row, kind in enumerate(numbers(TRAIN + TEST, 4)):
        kinds = [kind] if row % 3 else sorted({kind, (kind + 1) % 4})
        rows, places = (train, ("train-jpg", "train-tif-v2")) if row < TRAIN else (test, ("test-jpg",))
        name = f"train_{row}" if row < TRAIN else f"test_{row}" if row < TRAIN + 16 else f"file_{row}"
        places = ("test-jpg-additional",) if name.startswith("file") else places
        rows[name] = " ".join(names[one] for one in kinds)
        for place in places:
            folder.image(f"{place}/{name}{'.tif' if 'tif' in place else '.jpg'}", *kinds, number=row)
    folder.table("train_v2.csv", {"image_name": train, "tags": train.values()})
    renamed = [one for one in test if one.startswith("file")]
    about = {"old": [f"{one}.tif" for one in renamed], "new": [f"{one}.jpg" for one in renamed[::-1]]}
    folder.table("test_v2_file_mapping.csv", about)
    folder.table("sample_submission_v2.csv", {"image_name": test, "tags": ["primary clear agriculture"] * TEST})
    return test


@form("human-protein-atlas-image-classification", graders.macro_f1_of_sets, 0.4, {**LABELS, "metric": "f1_macro", "classes": 4})
def protein_atlas(folder: Folder) -> graders.Answers:
    """An image is four grey files."""
    answers: dict[str, str] = {}
    for place, count, seed in (("train", TRAIN, 0), ("test", TEST, 1)):
        cells = {}
        for row, kind in enumerate(numbers(count, 4, seed)):
            kinds = [kind] if row % 3 else sorted({kind, (kind + 1) % 4})
            one = f"{hexadecimal(row + 500 * seed, 8)}-bbac-11e8-b2ba-ac1f6b6435d0"
            cells[one] = " ".join(map(str, kinds[::-1]))
            pixels = picture(kinds, row)
            for channel, name in enumerate(("red", "green", "blue")):
                folder.pixels(f"{place}/{one}_{name}.png", pixels[:, :, channel])
            folder.pixels(f"{place}/{one}_yellow.png", 255 - pixels[:, :, 0])
        if place == "train":
            folder.table("train.csv", {"Id": cells, "Target": cells.values()})
        answers = cells
    folder.table("sample_submission.csv", {"Id": answers, "Predicted": [0] * TEST})
    return answers


RANKED = {"task": "multiclass", "metric": "map_5", "submission.form": "ranked", "submission.guesses": 5}


@form("hotel-id-2021-fgvc8", graders.map_at(5), 0.5, {**RANKED, "classes": 8, "train.label_columns": ["hotel_id"]})
def hotel(folder: Folder) -> graders.Answers:
    hotels, chains = (36363, 53586, 18807, 64314, 60181, 3168, 9300, 49), (0, 6, 6, 18, 18, 4, 4, 0)
    kinds = numbers(2 * TRAIN, 8)
    for row, kind in enumerate(kinds):
        folder.image(f"train_images/{chains[kind]}/{hexadecimal(row, 16)}.jpg", kind, number=row)
    about = {
        "image": [f"{hexadecimal(row, 16)}.jpg" for row in range(len(kinds))],
        "chain": [chains[kind] for kind in kinds],
        "hotel_id": [hotels[kind] for kind in kinds],
        "timestamp": [f"2018-04-{1 + row % 28:02} {row % 24:02}:08:59" for row in range(len(kinds))],
    }
    folder.table("train.csv", about)
    answers = {}
    for row, kind in enumerate(numbers(TEST, 8, 1)):
        answers[f"{hexadecimal(900 + row, 16)}.jpg"] = str(hotels[kind])
        folder.image(f"test_images/{hexadecimal(900 + row, 16)}.jpg", kind, number=row)
    folder.table("sample_submission.csv", {"image": answers, "hotel_id": ["36363 53586 18807 64314 60181"] * TEST})
    return answers


@form("whale-categorization-playground", graders.map_at(5), 0.6, {**RANKED, "classes": 13, "open_class": "new_whale"})
def whale(folder: Folder) -> graders.Answers:
    """Classes of one picture, and one that means none of the others."""
    kinds = [*numbers(TRAIN, 8), *range(8, 12), *([12] * 12)]
    names = [f"w_{hexadecimal(kind, 7)}" for kind in range(12)] + ["new_whale"]
    for row, kind in enumerate(kinds):
        folder.image(f"train/{hexadecimal(row, 8)}.jpg", kind + (row % 5 if kind == 12 else 0), number=row)
    about = {"Image": [f"{hexadecimal(row, 8)}.jpg" for row in range(len(kinds))], "Id": [names[kind] for kind in kinds]}
    folder.table("train.csv", about)
    answers = {}
    for row, kind in enumerate(numbers(TEST, 10, 1)):  # two of ten are whales that nobody has seen
        answers[f"{hexadecimal(900 + row, 8)}.jpg"] = names[kind if kind < 8 else 12]
        folder.image(f"test/{hexadecimal(900 + row, 8)}.jpg", kind if kind < 8 else 20 + row, number=row)
    guess = " ".join(["new_whale", *names[:4]])
    folder.table("sample_submission.csv", {"Image": answers, "Id": [guess] * TEST})
    return answers


@form("petfinder-pawpularity-score", graders.accuracy, 0, {}, refused="regression")
def petfinder(folder: Folder) -> graders.Answers:
    """A number is wanted: no classes."""
    train, test = pair(folder, 5, ("train", "test"), ".jpg")
    flags = {name: [int(row % (at + 2) == 0) for row in range(TRAIN)] for at, name in enumerate(("Focus", "Eyes", "Face"))}
    folder.table("train.csv", {"Id": train, **flags, "Pawpularity": [1 + (37 * row) % 100 for row in range(TRAIN)]})
    folder.table("test.csv", {"Id": test, **{name: cells[:TEST] for name, cells in flags.items()}})
    folder.table("sample_submission.csv", {"Id": test, "Pawpularity": [48.57 + row for row in range(TEST)]})
    return dict.fromkeys(test, "0")
