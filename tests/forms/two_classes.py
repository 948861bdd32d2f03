"""Competitions of two classes, the probability of one of which is wanted."""

from __future__ import annotations

import io
import zipfile

import graders
import numpy as np
from form import form, hexadecimal, numbers
from pictures import Folder, digit, picture

POSITIVE = {"task": "binary", "metric": "roc_auc", "submission.form": "positive", "classes": 2}
TRAIN, TEST = 60, 24


def two_folders(folder: Folder, name: str, suffix: str, places: tuple[str, str] = ("train", "test")) -> tuple[dict, dict]:
    """Write both sets of pictures; returns id -> class of each."""
    train = {hexadecimal(row): kind for row, kind in enumerate(numbers(TRAIN, 2))}
    test = {hexadecimal(500 + row): kind for row, kind in enumerate(numbers(TEST, 2, 1))}
    for place, rows in zip(places, (train, test), strict=True):
        for row, (row_id, kind) in enumerate(rows.items()):
            folder.image(f"{place}/{name}{row_id}{suffix}", kind, number=row)
    return train, test


def text(rows: dict) -> graders.Answers:
    return {row_id: str(kind) for row_id, kind in rows.items()}


@form("aerial-cactus-identification", graders.auc, 0.8, POSITIVE)
def cactus(folder: Folder) -> graders.Answers:
    train, test = two_folders(folder, "", ".jpg")
    folder.table("train.csv", {"id": [f"{one}.jpg" for one in train], "has_cactus": train.values()})
    test = {f"{one}.jpg": kind for one, kind in test.items()}
    folder.table("sample_submission.csv", {"id": test, "has_cactus": [0.5] * len(test)})
    return text(test)


@form("invasive-species-monitoring", graders.auc, 0.8, POSITIVE, needs=("py7zr",))
def invasive(folder: Folder) -> graders.Answers:
    """All of it in archives, and the same names in train and test."""
    import py7zr

    answers = {}
    for place, count, seed in (("train", TRAIN, 0), ("test", TEST, 1)):
        kinds = numbers(count, 2, seed)
        with py7zr.SevenZipFile(folder.root / f"{place}.7z", "w") as archive:
            for row, kind in enumerate(kinds, 1):
                archive.writef(io.BytesIO(_jpeg(picture([kind], row))), f"{place}/{row}.jpg")
        answers = {str(row): str(kind) for row, kind in enumerate(kinds, 1)}
        name = "train_labels.csv" if place == "train" else "sample_submission.csv"
        cells = answers.values() if place == "train" else ["0.5"] * count
        lines = "".join(f"{row},{cell}\n" for row, cell in zip(answers, cells, strict=True))
        with zipfile.ZipFile(folder.root / f"{name}.zip", "w") as archive:
            archive.writestr(name, "name,invasive\n" + lines)
    return answers


def _jpeg(pixels: np.ndarray) -> bytes:
    import cv2

    return bytes(cv2.imencode(".jpg", pixels[:, :, ::-1])[1].tobytes())


@form("histopathologic-cancer-detection", graders.auc, 0.8, POSITIVE)
def histopathologic(folder: Folder) -> graders.Answers:
    train, test = two_folders(folder, "", ".tif")
    folder.table("train_labels.csv", {"id": train, "label": train.values()})
    folder.table("sample_submission.csv", {"id": test, "label": [0] * len(test)})
    return text(test)


@form("siim-isic-melanoma-classification", graders.auc, 0.8, {**POSITIVE, "train.group_column": "patient_id"})
def melanoma(folder: Folder) -> graders.Answers:
    train, test = two_folders(folder, "ISIC_", ".jpg", ("jpeg/train", "jpeg/test"))
    for place, rows in (("train", train), ("test", test)):
        ids = [f"ISIC_{one}" for one in rows]
        for one in ids:
            folder.bytes(f"{place}/{one}.dcm", b"\0" * 128 + b"DICM")
        folder.bytes(f"tfrecords/{place}00-{len(ids)}.tfrec", b"\0")
        about = {
            "image_name": ids,
            "patient_id": [f"IP_{row // 3:07}" for row in range(len(ids))],
            "sex": ["male" if row % 2 else "female" for row in range(len(ids))],
            "age_approx": [float(30 + 5 * (row % 9)) for row in range(len(ids))],
            "anatom_site_general_challenge": [("torso", "head/neck", "palms/soles")[row % 3] for row in range(len(ids))],
        }
        if place == "train":
            about["diagnosis"] = [
                "melanoma" if kind else ("unknown", "nevus")[row % 2] for row, kind in enumerate(rows.values())
            ]
            about["benign_malignant"] = ["malignant" if kind else "benign" for kind in rows.values()]
            about["target"] = list(rows.values())
        folder.table(f"{place}.csv", about)
    answers = {f"ISIC_{one}": str(kind) for one, kind in test.items()}
    folder.table("sample_submission.csv", {"image_name": answers, "target": [0] * len(answers)})
    return answers


LOSS = {"task": "binary", "metric": "log_loss", "submission.form": "positive", "classes": 2}


@form("dogs-vs-cats-redux-kernels-edition", graders.log_loss_of_positive, 0.6, {**LOSS, "train.layout": "names"}, lower=True)
def dogs_vs_cats(folder: Folder) -> graders.Answers:
    """No table of labels: they are in the names of the files."""
    for kind, name in enumerate(("cat", "dog")):
        for number in range(TRAIN // 2):
            folder.image(f"train/{name}.{number}.jpg", kind, number=number)
    kinds = numbers(TEST, 2, 1)
    for row, kind in enumerate(kinds, 1):
        folder.image(f"test/{row}.jpg", kind, number=row)
    answers = {str(row): str(kind) for row, kind in enumerate(kinds, 1)}
    folder.table("sample_submission.csv", {"id": answers, "label": [0.5] * len(answers)})
    return answers


@form("statoil-iceberg-classifier-challenge", graders.log_loss_of_positive, 0.6, LOSS, lower=True)
def statoil(folder: Folder) -> graders.Answers:
    """Two bands of 75 x 75 decibels as lists in JSON, no image file."""
    answers = {}
    for place, count, seed in (("train", TRAIN, 0), ("test", TEST, 1)):
        rows = []
        for row, kind in enumerate(numbers(count, 2, seed)):
            noise = np.random.default_rng(row + 1000 * seed).normal(0, 2, (2, 75, 75))
            bands = -30 + 40 * digit(1 if kind else 8, row, 75) + noise + np.array([0, -4])[:, None, None]
            one = {
                "id": hexadecimal(row + 500 * seed, 8),
                "band_1": bands[0].ravel().round(6).tolist(),
                "band_2": bands[1].ravel().round(6).tolist(),
                "inc_angle": "na" if row % 11 == 0 else round(30 + row / 10, 4),
            }
            if place == "train":
                one["is_iceberg"] = kind
            else:
                answers[one["id"]] = str(kind)
            rows.append(one)
        folder.json(f"data/processed/{place}.json", rows)
    folder.table("sample_submission.csv", {"id": answers, "is_iceberg": [0.5] * len(answers)})
    return answers


@form(
    "rsna-breast-cancer-detection",
    graders.probabilistic_f1,
    0.5,
    {"task": "binary", "metric": "pf1", "submission.form": "positive", "train.group_column": "patient_id"},
    needs=("pydicom",),
)
def rsna(folder: Folder) -> graders.Answers:
    """DICOM of 12 of 16 bits, in both photometric interpretations, and several images an id."""
    answers: dict[str, str] = {}
    for place, patients, seed in (("train", 20, 0), ("test", 8, 1)):
        rows: dict[str, list] = {}
        for patient in range(patients):
            for side, kind in zip("LR", numbers(2, 2, patient + 100 * seed), strict=True):
                for number, view in enumerate(("CC", "MLO")):
                    image = 10_000 * (seed + 1) + 100 * patient + 10 * (side == "R") + number
                    one = {"site_id": 1 + patient % 2, "patient_id": 100 + patient + 50 * seed, "image_id": image}
                    one |= {"laterality": side, "view": view, "age": 50 + patient % 20, "implant": 0, "machine_id": 29}
                    if place == "train":
                        one |= {
                            "cancer": kind,
                            "biopsy": kind,
                            "invasive": 0,
                            "BIRADS": "",
                            "density": "",
                            "difficult_negative_case": False,
                        }
                    else:
                        one["prediction_id"] = f"{one['patient_id']}_{side}"
                        answers[one["prediction_id"]] = str(kind)
                    path = f"{place}_images/{one['patient_id']}/{image}.dcm"
                    folder.bytes(path, dicom(digit(1 if kind else 8, image, 64), inverted=patient % 2 == 1))
                    for key, value in one.items():
                        rows.setdefault(key, []).append(value)
        folder.table(f"{place}.csv", rows)
    folder.table("sample_submission.csv", {"prediction_id": answers, "cancer": [0.021] * len(answers)})
    return answers


def dicom(shades: np.ndarray, *, inverted: bool) -> bytes:
    """Return a picture of 0..1 as a DICOM file of 12 bits."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.2", generate_uid()
    found = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    stored = np.round((1 - shades if inverted else shades) * 4095).astype(np.uint16)
    found.Rows, found.Columns = stored.shape
    found.SamplesPerPixel, found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 1, 16, 12, 11, 0
    found.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    found.WindowCenter, found.WindowWidth = 2048, 4096
    found.PixelData = stored.tobytes()
    buffer = io.BytesIO()
    found.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@form(
    "alaska2-image-steganalysis",
    graders.weighted_auc,
    0.8,
    {"task": "binary", "metric": "weighted_auc", "submission.form": "positive", "classes": 2},
)
def alaska(folder: Folder) -> graders.Answers:
    """Four folders of the same names, and the probability of any but the first is wanted."""
    for place, name in enumerate(("Cover", "JMiPOD", "JUNIWARD", "UERD")):
        for row in range(TRAIN // 4 if place else TRAIN // 2):
            folder.image(f"{name}/{row + 1:05}.jpg", int(place > 0), number=row + 40 * place)
    kinds = numbers(TEST, 2, 1)
    for row, kind in enumerate(kinds, 1):
        folder.image(f"Test/{row:04}.jpg", kind, number=row)
    answers = {f"{row:04}.jpg": str(kind) for row, kind in enumerate(kinds, 1)}
    folder.table("sample_submission.csv", {"Id": answers, "Label": [0] * len(answers)})
    return answers
