"""Predict images with the model in this folder: python predict.py IMAGE...

Needs numpy, Pillow and onnxruntime. Images are read and resized as for training; see README.md for how nearly.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def shares(old, new, interpolation):
    """(new, old): the share of each of ``old`` pixels in each of ``new`` along one side; by area where they become fewer."""
    if new <= old:
        edges, left = np.arange(new + 1) * old / new, np.arange(old)
        return (np.minimum(edges[1:, None], left + 1) - np.maximum(edges[:-1, None], left)).clip(0) * new / old
    at = (np.arange(new) + 0.5) * old / new - 0.5
    taps = np.floor(at)[:, None] + np.arange(-1, 3)
    far = np.abs(at[:, None] - taps)
    near, wide = 1.25 * far**3 - 2.25 * far**2 + 1, -0.75 * (far**3 - 5 * far**2 + 8 * far - 4)  # cubic, a = -0.75
    found = np.zeros((new, old))
    weights = (1 - far).clip(0) if interpolation == "bilinear" else np.where(far <= 1, near, wide)
    np.add.at(found, (np.arange(new)[:, None], taps.clip(0, old - 1).astype(int)), weights)
    return found


def resize(pixels, size, interpolation):
    """(H, W, 3) uint8 to ``size``: first the sides that shrink, then those that grow."""
    for height, width in (np.minimum(size, pixels.shape[:2]), size):
        rows, columns = shares(pixels.shape[0], height, interpolation), shares(pixels.shape[1], width, interpolation)
        pixels = np.rint(columns @ np.tensordot(rows, pixels, 1)).clip(0, 255).astype(np.uint8)
    return pixels


def read(path, how):
    """(height, width, 3) uint8: an image file as a model wants it; ``how``: the model's entry of preprocessing.json."""
    image = Image.open(path)
    image.draft("RGB", how["prepare"][::-1])
    upright = ImageOps.exif_transpose(image).convert("RGBA")
    pixels = np.asarray(Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB"))
    scale = max(np.array(how["prepare"]) / pixels.shape[:2])
    if scale < 1:
        pixels = resize(pixels, [round(side * scale) for side in pixels.shape[:2]], how["interpolation"])
    wanted = np.array(how["resize"])
    if how["fit"] != "squash":
        pad = how["fit"] == "pad"
        scale = (min if pad else max)(wanted / pixels.shape[:2])
        fitted = [round(side * scale) for side in pixels.shape[:2]]
        wanted = np.clip(fitted, 1, wanted) if pad else np.maximum(fitted, wanted)
    pixels = resize(pixels, wanted, how["interpolation"])
    (top, left), (above, before) = (wanted - how["size"]).clip(0) // 2, (how["size"] - wanted).clip(0) // 2
    pixels = pixels[top : top + how["size"][0], left : left + how["size"][1]]
    framed = np.full((*how["size"], 3), how["fill"], np.uint8)
    framed[above : above + len(pixels), before : before + pixels.shape[1]] = pixels
    return framed


def load(folder):
    """A function from an image file to the probabilities (classes,) of the models in ``folder``."""
    models = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))["models"]
    sessions = [onnxruntime.InferenceSession(folder / how["file"], providers=["CPUExecutionProvider"]) for how in models]

    def predict(path):
        total = 0.0
        for how, session in zip(models, sessions, strict=True):
            images = read(path, how)[None]
            if not how["inside"]:
                images = ((images / 255 - how["mean"]) / how["std"]).transpose(0, 3, 1, 2).astype(np.float32)
            total += how["weight"] * session.run(None, {"images": images})[0][0]
        return total

    return predict


def main(folder, paths):
    """Print a line an image: its class with the probability, of several labels all that reach their thresholds."""
    about = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    predict = load(folder)
    for path in paths:
        probs = predict(path)
        least = probs.max() if about["thresholds"] is None else np.array(about["thresholds"])
        named = [f"{about['classes'][at]}\t{probs[at]:.4f}" for at in np.flatnonzero(probs >= least)]
        print("\t".join([path, *named]))


if __name__ == "__main__":
    main(Path(__file__).parent, sys.argv[1:])
