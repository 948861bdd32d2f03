"""Competitions that want one class of each image."""

from __future__ import annotations

import io

import cv2
import graders
import numpy as np
from form import form, hexadecimal, numbers
from pictures import Folder, digit, picture

LABEL = {"task": "multiclass", "metric": "accuracy", "submission.form": "label"}
TRAIN, TEST = 60, 24


def pair(
    folder: Folder, classes: int, places: tuple[str, str], suffix: str, start: str = ""
) -> tuple[dict[str, int], dict[str, int]]:
    """Write training and test pictures; returns id -> class of each."""
    found = []
    for seed, (place, count) in enumerate(zip(places, (TRAIN, TEST), strict=True)):
        rows = {f"{start}{hexadecimal(row + 500 * seed)}": kind for row, kind in enumerate(numbers(count, classes, seed))}
        for row, (row_id, kind) in enumerate(rows.items()):
            folder.image(f"{place}/{row_id}{suffix}", kind, number=row)
        found.append(rows)
    return found[0], found[1]


@form("aptos2019-blindness-detection", graders.quadratic_kappa, 0.5, {**LABEL, "metric": "quadratic_kappa", "classes": 5})
def aptos(folder: Folder) -> graders.Answers:
    train, test = pair(folder, 5, ("train_images", "test_images"), ".png")
    folder.table("train.csv", {"id_code": train, "diagnosis": train.values()})
    folder.table("test.csv", {"id_code": list(test)})
    folder.table("sample_submission.csv", {"id_code": test, "diagnosis": [0] * len(test)})
    return {row_id: str(kind) for row_id, kind in test.items()}


@form("cassava-leaf-disease-classification", graders.accuracy, 0.6, {**LABEL, "classes": 5})
def cassava(folder: Folder) -> graders.Answers:
    train, test = pair(folder, 5, ("train_images", "test_images"), ".jpg")
    train, test = ({f"{one}.jpg": kind for one, kind in rows.items()} for rows in (train, test))
    folder.table("train.csv", {"image_id": train, "label": train.values()})
    folder.json("label_num_to_disease_map.json", {str(kind): f"Cassava Disease {kind}" for kind in range(5)})
    for place in ("train", "test"):
        folder.bytes(f"{place}_tfrecords/ld_{place}00-1338.tfrec", b"\0")
    folder.table("sample_submission.csv", {"image_id": test, "label": [4] * len(test)})
    return {row_id: str(kind) for row_id, kind in test.items()}


@form("paddy-disease-classification", graders.accuracy, 0.6, {**LABEL, "classes": 4, "train.label_columns": ["label"]})
def paddy(folder: Folder) -> graders.Answers:
    """Both a folder per class and a table, with other columns that could be labels."""
    names = ("bacterial_leaf_blight", "blast", "hispa", "normal")
    kinds = numbers(TRAIN, 4)
    for row, kind in enumerate(kinds):
        folder.image(f"train_images/{names[kind]}/{100000 + row}.jpg", kind, number=row)
    about = {
        "image_id": [f"{100000 + row}.jpg" for row in range(TRAIN)],
        "label": [names[kind] for kind in kinds],
        "variety": [("ADT45", "KarnatakaPonni", "Ponni")[row % 3] for row in range(TRAIN)],
        "age": [45 + 5 * (row % 7) for row in range(TRAIN)],
    }
    folder.table("train.csv", about)
    answers = {}
    for row, kind in enumerate(numbers(TEST, 4, 1)):
        folder.image(f"test_images/{200001 + row}.jpg", kind, number=row)
        answers[f"{200001 + row}.jpg"] = names[kind]
    folder.table("sample_submission.csv", {"image_id": answers, "label": [""] * TEST})
    return answers


@form("plant-seedlings-classification", graders.accuracy, 0.6, {**LABEL, "metric": "f1_micro", "classes": 4})
def seedlings(folder: Folder) -> graders.Answers:
    names = ("Black-grass", "Common wheat", "Small-flowered Cranesbill", "Sugar beet")
    for row, kind in enumerate(numbers(TRAIN, 4)):
        folder.image(f"train/{names[kind]}/{hexadecimal(row, 9)}.png", kind, number=row)
    answers = {}
    for row, kind in enumerate(numbers(TEST, 4, 1)):
        answers[f"{hexadecimal(900 + row, 9)}.png"] = names[kind]
        folder.image(f"test/{hexadecimal(900 + row, 9)}.png", kind, number=row)
    folder.table("sample_submission.csv", {"file": answers, "species": ["Sugar beet"] * TEST})
    return answers


@form("cifar-10", graders.accuracy_of_known, 0.6, {**LABEL, "classes": 4}, needs=("py7zr",))
def cifar(folder: Folder) -> graders.Answers:
    """Archives, and many test images that do not count."""
    import py7zr

    names = ("airplane", "bird", "cat", "truck")
    answers: dict[str, str] = {}
    for place, count in (("train", TRAIN), ("test", TEST)):
        kinds = numbers(count, 4, int(place == "test"))
        with py7zr.SevenZipFile(folder.root / f"{place}.7z", "w") as archive:
            for row, kind in enumerate(kinds, 1):
                content = cv2.imencode(".png", picture([kind], row)[:, :, ::-1])[1].tobytes()
                archive.writef(io.BytesIO(content), f"{place}/{row}.png")
        labels = {str(row): names[kind] for row, kind in enumerate(kinds, 1)}
        if place == "train":
            folder.table("trainLabels.csv", {"id": labels, "label": labels.values()})
        else:
            folder.table("sampleSubmission.csv", {"id": labels, "label": ["cat"] * count})
            answers = {row_id: name if int(row_id) % 2 else "" for row_id, name in labels.items()}
    return answers


@form("digit-recognizer", graders.accuracy, 0.6, {**LABEL, "classes": 10})
def digits(folder: Folder) -> graders.Answers:
    """Pixels in the columns of the two tables; ids are the numbers of the rows."""
    answers: dict[str, str] = {}
    for place, count in (("train", 200), ("test", 40)):
        kinds = numbers(count, 10, int(place == "test"))
        pixels = np.stack([np.round(digit(kind, row, 28) * 255).astype(int).ravel() for row, kind in enumerate(kinds)])
        columns = {"label": kinds} if place == "train" else {}
        folder.table(f"{place}.csv", columns | {f"pixel{at}": pixels[:, at] for at in range(784)})
        answers = {str(row): str(kind) for row, kind in enumerate(kinds, 1)}
    folder.table("sample_submission.csv", {"ImageId": answers, "Label": [0] * len(answers)})
    return answers


GAPS = [3, 4, 17, 105, 2001]
"""Ids of categories, as herbaria have them: with gaps, and none is 0."""
SPECIES = {"task": "multiclass", "metric": "f1_macro", "submission.form": "label", "classes": 5, "train.layout": "coco"}


def coco(rows: dict[int, tuple[str, int]], *, labelled: bool = True, **about: list) -> dict:
    """Return images and annotations in COCO's form; ``about`` holds a value an image."""
    images = [
        {"id": one, "file_name": name, "height": 32, "width": 32, **{key: cells[at] for key, cells in about.items()}}
        for at, (one, (name, _)) in enumerate(rows.items())
    ]
    found = {"info": {"year": 2020}, "images": images, "licenses": [{"id": 1, "name": "none"}]}
    if labelled:
        found["annotations"] = [
            {"id": 7000 + at, "image_id": one, "category_id": GAPS[kind]} for at, (one, (_, kind)) in enumerate(rows.items())
        ]
        found["categories"] = [{"id": one, "name": f"Species {one}", "supercategory": "Plantae"} for one in GAPS]
    return found


@form("herbarium-2020-fgvc7", graders.macro_f1, 0.5, SPECIES)
def herbarium_2020(folder: Folder) -> graders.Answers:
    """COCO with gaps in the ids of categories; folders of their digits that are no classes."""
    train = {}
    for row, kind in enumerate(numbers(TRAIN, 5)):
        name = f"images/{GAPS[kind] // 100:03}/{GAPS[kind] % 100:02}/{437000 + row}.jpg"
        train[437000 + row] = (name, kind)
        folder.image(f"nybg2020/train/{name}", kind, number=row)
    folder.json("nybg2020/train/metadata.json", coco(train))
    kinds = numbers(TEST, 5, 1)
    test = {row: (f"images/{row // 1000:03}/{row}.jpg", kind) for row, kind in enumerate(kinds)}
    for row, (name, kind) in test.items():
        folder.image(f"nybg2020/test/{name}", kind, number=row)
    folder.json("nybg2020/test/metadata.json", coco(test, labelled=False))
    folder.table("sample_submission.csv", {"Id": list(test), "Predicted": [0] * TEST})
    return {str(row): str(GAPS[kind]) for row, kind in enumerate(kinds)}


@form("herbarium-2022-fgvc9", graders.macro_f1, 0.5, SPECIES)
def herbarium_2022(folder: Folder) -> graders.Answers:
    """Other names of the keys, and test ids that are no names of files."""
    images, annotations = [], []
    for row, kind in enumerate(numbers(TRAIN, 5)):
        name = f"{GAPS[kind] // 100:03}/{GAPS[kind] % 100:02}/{GAPS[kind]:05}__{row:03}.jpg"
        folder.image(f"train_images/{name}", kind, number=row)
        one = f"{GAPS[kind]:05}__{row:03}"
        images.append({"image_id": one, "file_name": name, "license": 0})
        annotations.append({"genus_id": kind % 2, "institution_id": row % 5, "category_id": GAPS[kind], "image_id": one})
    categories = [{"category_id": one, "scientificName": f"Abies {one}", "family": "Pinaceae"} for one in GAPS]
    folder.json("train_metadata.json", {"annotations": annotations, "images": images, "categories": categories, "genera": []})
    kinds, test = numbers(TEST, 5, 1), []
    for row, kind in enumerate(kinds):
        test.append({"image_id": str(row), "file_name": f"{row // 1000:03}/test-{row:06}.jpg", "license": 0})
        folder.image(f"test_images/{test[-1]['file_name']}", kind, number=row)
    folder.json("test_metadata.json", test)
    folder.table("sample_submission.csv", {"Id": range(TEST), "Predicted": [42] * TEST})
    return {str(row): str(GAPS[kind]) for row, kind in enumerate(kinds)}


@form(
    "inaturalist-2019-fgvc6",
    graders.top_1_error,
    0.5,
    {"task": "multiclass", "metric": "top_1_error", "submission.form": "label", "train.layout": "coco"},
    lower=True,
)
def inaturalist(folder: Folder) -> graders.Answers:
    """COCO with a validation part beside the training part."""
    for part, count, seed in (("train", TRAIN, 0), ("val", 20, 2)):
        rows = {}
        for row, kind in enumerate(numbers(count, 5, seed)):
            name = f"train_val2019/Plants/{GAPS[kind]}/{hexadecimal(row + 1000 * seed)}.jpg"
            rows[row + 1000 * seed] = (name, kind)
            folder.image(name, kind, number=row + seed)
        folder.json(f"{part}2019.json", coco(rows))
    kinds = numbers(TEST, 5, 1)
    test = {268243 + row: (f"test2019/{hexadecimal(700 + row)}.jpg", kind) for row, kind in enumerate(kinds)}
    for row, (name, kind) in enumerate(test.values()):
        folder.image(name, kind, number=row)
    folder.json("test2019.json", coco(test, labelled=False))
    folder.table("kaggle_sample_submission.csv", {"id": list(test), "predicted": [0] * TEST})
    return {str(one): str(GAPS[kind]) for one, (_, kind) in test.items()}


@form(
    "iwildcam-2019-fgvc6",
    graders.macro_f1,
    0.5,
    {**SPECIES, "train.layout": "csv", "train.group_column": "location", "train.label_columns": ["category_id"]},
)
def iwildcam_2019(folder: Folder) -> graders.Answers:
    """Many columns; pictures of one place are alike; a sample with an index column."""
    answers: dict[str, str] = {}
    for place, count, seed in (("train", TRAIN, 0), ("test", TEST, 1)):
        kinds = numbers(count, 5, seed)
        ids = [f"58{hexadecimal(row + 500 * seed)}" for row in range(count)]
        for row, (one, kind) in enumerate(zip(ids, kinds, strict=True)):
            folder.image(f"{place}_images/{one}.jpg", kind, number=row)
        about = {
            "date_captured": [f"2011-05-{1 + row // 3:02} 10:{row % 60:02}:00" for row in range(count)],
            "file_name": [f"{one}.jpg" for one in ids],
            "frame_num": [1 + row % 3 for row in range(count)],
            "id": ids,
            "location": [row // 6 for row in range(count)],
            "rights_holder": ["Justin Brown"] * count,
            "seq_id": [hexadecimal(row // 3, 10) for row in range(count)],
            "seq_num_frames": [3] * count,
            "width": [1024] * count,
        }
        labels = {"category_id": [GAPS[kind] for kind in kinds]} if place == "train" else {}
        folder.table(f"{place}.csv", labels | about)
        answers = {one: str(GAPS[kind]) for one, kind in zip(ids, kinds, strict=True)}
    folder.table("sample_submission.csv", {"": range(TEST), "Id": answers, "Category": [0] * TEST})
    return answers


@form("iwildcam-2020-fgvc7", graders.accuracy, 0.5, {**SPECIES, "metric": "accuracy", "train.group_column": "location"})
def iwildcam_2020(folder: Folder) -> graders.Answers:
    kinds = numbers(TRAIN, 5)
    train = {f"a{hexadecimal(row)}": (f"a{hexadecimal(row)}.jpg", kind) for row, kind in enumerate(kinds)}
    test = {f"b{hexadecimal(row)}": (f"b{hexadecimal(row)}.jpg", kind) for row, kind in enumerate(numbers(TEST, 5, 1))}
    for place, rows in (("train", train), ("test", test)):
        for row, (name, kind) in enumerate(rows.values()):
            folder.image(f"{place}/{name}", kind, number=row)
        about = {"location": [row // 5 for row in range(len(rows))], "seq_id": [f"s{row // 2}" for row in range(len(rows))]}
        name = "train_annotations" if place == "train" else "test_information"
        folder.json(f"iwildcam2020_{name}.json", coco(rows, labelled=place == "train", **about))
    folder.table("sample_submission.csv", {"Id": test, "Category": [0] * TEST})
    return {one: str(GAPS[kind]) for one, (_, kind) in test.items()}


@form("cdiscount-image-classification-challenge", graders.accuracy, 0.6, {**LABEL, "classes": 4}, needs=("bson",))
def cdiscount(folder: Folder) -> graders.Answers:
    """Products of one to four photographs each, in BSON."""
    import bson

    categories = (1000010653, 1000004079, 1000018290, 1000012755)
    for place, count, seed in (("train", TRAIN, 0), ("test", TEST, 1)):
        parts, answers = [], {}
        for row, kind in enumerate(numbers(count, 4, seed)):
            photos = [
                {"picture": cv2.imencode(".jpg", picture([kind], row + 100 * at)[:, :, ::-1])[1].tobytes()}
                for at in range(1 + row % 4)
            ]
            one = {"_id": 10 * row + seed, "imgs": photos}
            answers[str(one["_id"])] = str(categories[kind])
            parts.append(bson.encode(one | ({"category_id": categories[kind]} if place == "train" else {})))
        folder.bytes(f"{place}.bson", b"".join(parts))
    folder.bytes("train_example.bson", parts[0])
    names = {"category_id": categories, "category_level1": ["A", "A", "B", "B"], "category_level2": ["x", "y", "z", "w"]}
    folder.table("category_names.csv", names)
    folder.table("sample_submission.csv", {"_id": answers, "category_id": [1000010653] * TEST})
    return answers
