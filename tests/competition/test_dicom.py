"""Pictures of DICOM files: compressed or not, with every transform that lies between what is stored and what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kaggle_kit.competition.containers.dicom import shades
from kaggle_kit.errors import DataError

pydicom = pytest.importorskip("pydicom")

SIDE = 64
RAMP = (np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 7) % 4096
"""12 bits."""
IMPLEMENTED = {
    "RLELossless": "pydicom",
    "JPEGLSLossless": "jpeg_ls",
    "JPEG2000Lossless": "openjpeg",
}


def made(path: Path, pixels: np.ndarray = RAMP, *, bits: int = 12, compression: str | None = None, **tags: Any) -> Path:
    """Write a DICOM file of one channel; ``tags`` replace what it says of itself."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    found = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    found.SOPClassUID, found.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    found.Rows, found.Columns, found.SamplesPerPixel = pixels.shape[0], pixels.shape[1], 1
    found.BitsAllocated, found.BitsStored, found.HighBit = 8 * pixels.dtype.itemsize, bits, bits - 1
    found.PixelRepresentation, found.PhotometricInterpretation = int(pixels.dtype.kind == "i"), "MONOCHROME2"
    for name, value in tags.items():
        setattr(found, name, value)
    found.PixelData = pixels.tobytes()
    if compression is not None:
        found.compress(getattr(pydicom.uid, compression), generate_instance_uid=False)
    found.save_as(path)
    return path


@pytest.mark.parametrize("compression", [None, *IMPLEMENTED])
def test_compressed_pictures_are_those_that_were_stored(tmp_path: Path, compression: str | None) -> None:
    if compression is not None:
        pytest.importorskip(IMPLEMENTED[compression])
    found = shades(made(tmp_path / "a.dcm", compression=compression))
    np.testing.assert_allclose(found, RAMP / 4095, atol=1e-9)


def test_where_less_is_lighter_the_picture_is_inverted(tmp_path: Path) -> None:
    found = shades(made(tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_allclose(found, 1 - RAMP / 4095, atol=1e-9)


def test_signed_values_after_rescaling_lie_in_their_range(tmp_path: Path) -> None:
    """Hounsfield units: stored with a slope and an intercept."""
    pixels = RAMP.astype(np.int16) - 2048
    found = shades(made(tmp_path / "a.dcm", pixels, RescaleSlope="2", RescaleIntercept="-100"))
    np.testing.assert_allclose(found, (pixels.astype(float) + 2048) / 4095, atol=1e-9)


def test_a_window_spreads_what_it_spans(tmp_path: Path) -> None:
    """Values below it are black and those above white, by the standard's own formula (PS3.3 C.11.2.1.2)."""
    center, width = 1000.0, 400.0
    found = shades(made(tmp_path / "a.dcm", WindowCenter=center, WindowWidth=width))
    expected = ((RAMP - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_table_of_values_is_looked_up(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    lut = (65535 * np.sqrt(np.arange(4096) / 4095)).astype(np.uint16)
    one = Dataset()
    one.LUTDescriptor, one.LUTData = [4096, 0, 16], lut.tobytes()
    found = shades(made(tmp_path / "a.dcm", VOILUTSequence=[one]))
    np.testing.assert_allclose(found, lut[RAMP] / 65535, atol=1e-6)


@pytest.mark.filterwarnings("ignore:End of file reached")
def test_files_without_a_picture_are_named(tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(DataError, match=r"report\.dcm: no picture"):
        shades(path)
    cut = made(tmp_path / "cut.dcm", compression="RLELossless")
    cut.write_bytes(cut.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cut\.dcm"):
        shades(cut)
