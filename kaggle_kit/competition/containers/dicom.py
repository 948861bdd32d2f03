"""A folder of DICOM files: modality and display transforms applied, in 16 bits, light where the patient is dense."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_kit.competition.containers.base import Array, Container, Item, Options, needs, opened
from kaggle_kit.errors import DataError, DependencyError

SUFFIXES = (".dcm", ".dicom")


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            yield from _files(path)
        elif path.suffix.lower() in SUFFIXES:
            yield path


def _recognise(folder: Path) -> Options | None:
    return {"low": 0.0, "high": 1.0} if next(_files(folder), None) is not None else None


def _read(folder: Path, options: Options) -> Iterator[Item]:  # noqa: ARG001
    needs("pydicom", "pydicom")
    for path in _files(folder):
        yield Item(path.relative_to(folder).with_suffix("").as_posix(), shades(path))


def shades(path: Path) -> Array:
    """Return the picture of a DICOM file in 0..1, (H, W) or (H, W, 3), the first frame of several.

    Rescale slope and intercept are applied, then the window or table of values that the file names, else its range of bits;
    MONOCHROME1 is inverted.

    Raises:
        DataError: it holds no picture.
        DependencyError: its compression needs a plug-in that is not installed.
    """
    pydicom = needs("pydicom", "pydicom")
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    try:
        with opened(path) as handle:
            found = pydicom.dcmread(io.BytesIO(handle.read()))  # of a descriptor pydicom would name the file by its number
        pixels = found.pixel_array
    except (AttributeError, pydicom.errors.InvalidDicomError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"{path}: no picture can be read from it: {error}.") from None
    except (RuntimeError, NotImplementedError) as error:
        raise DependencyError(
            f"{path}: its compression needs a plug-in: pip install 'kaggle-kit[forms]' ({' '.join(str(error).split())})."
        ) from None
    if int(getattr(found, "NumberOfFrames", 1) or 1) > 1:
        pixels = pixels[0]
    if int(found.SamplesPerPixel) == 3:
        if "YBR" in str(found.PhotometricInterpretation):
            pixels = pydicom.pixels.convert_color_space(pixels, found.PhotometricInterpretation, "RGB")
        return np.asarray(np.asarray(pixels, np.float64) / (2 ** int(found.BitsStored) - 1))
    values = apply_modality_lut(pixels, found)
    stated = "WindowCenter" in found or "VOILUTSequence" in found
    shown = apply_voi_lut(values, found) if stated else values
    low, high = _window(found, np.asarray(shown, np.float64), stated=stated)
    scaled = (np.asarray(shown, np.float64) - low) / max(high - low, 1e-30)
    scaled = scaled.clip(0, 1)
    return np.asarray(1 - scaled if found.PhotometricInterpretation == "MONOCHROME1" else scaled)


def _window(found: Any, shown: Array, *, stated: bool) -> tuple[float, float]:
    """The values that become 0 and 1: what the display transform spans, else what the stored bits can hold after rescaling."""
    bits = int(found.BitsStored)
    signed = int(found.PixelRepresentation) == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = float(getattr(found, "RescaleSlope", 1) or 1), float(getattr(found, "RescaleIntercept", 0) or 0)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    if stated and "VOILUTSequence" in found:
        depth = int(found.VOILUTSequence[0].LUTDescriptor[2])
        return 0.0, float(2**depth - 1)
    if not ends[0] <= shown.min() <= shown.max() <= ends[1]:  # as where the range of a modality table is another
        return float(shown.min()), float(shown.max())
    return float(ends[0]), float(ends[1])


def _names(folder: Path, options: Options) -> Iterator[str]:  # noqa: ARG001
    yield from (path.stem for path in _files(folder))


DICOM = Container(SUFFIXES, _recognise, _read, folder=True, names=_names)
