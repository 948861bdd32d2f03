"""Every kind of image becomes upright 8-bit RGB, and damaged ones an ImageError."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from kaggle_kit.errors import ImageError
from kaggle_kit.images.decode import check_images, decode_image, image_size

HEIGHT, WIDTH = 48, 80


@pytest.fixture
def picture() -> np.ndarray:
    """(48, 80, 3) smooth and without symmetry, so that JPEG keeps it and any flip shows."""
    corners = np.random.default_rng(5).integers(20, 235, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(corners, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def encode(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def distance(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels a camera stores so that this orientation shows ``upright``; written from the EXIF table, not from the code."""
    turned = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 1, 7: 3, 8: 3}[orientation]  # quarter turns anticlockwise to store
    mirrored = orientation in (2, 4, 5, 7)
    return np.ascontiguousarray(np.rot90(upright[:, ::-1] if mirrored else upright, turned))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(picture: np.ndarray, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(as_stored(picture, orientation), kind, exif=exif, quality=95)
    assert distance(decode_image(data), picture) < 4
    assert image_size(data) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_formats(tmp_path: Path, picture: np.ndarray, kind: str) -> None:
    path = tmp_path / "no_extension"
    path.write_bytes(encode(picture, kind))
    decoded = decode_image(path)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert distance(decoded, picture) < 6
    assert image_size(path) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_16_bit_grey(picture: np.ndarray, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = as_stored(picture[:, :, 0], orientation).astype(np.uint16) * 257 + 100
    decoded = decode_image(encode(stored, kind, exif=exif))
    np.testing.assert_array_equal(decoded, np.repeat(picture[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("extension", [".png", ".tiff"])
def test_16_bit_colour(picture: np.ndarray, extension: str) -> None:
    data = cv2.imencode(extension, picture[:, :, ::-1].astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(decode_image(data), picture)


def test_16_bit_scale_does_not_depend_on_the_image() -> None:
    dark = np.full((8, 8), 2570, np.uint16)
    assert decode_image(encode(dark, "PNG")).max() == 10


def test_grey_one_bit_and_palette(picture: np.ndarray) -> None:
    grey = Image.fromarray(picture).convert("L")
    np.testing.assert_array_equal(decode_image(encode(grey, "PNG"))[:, :, 1], np.asarray(grey))
    assert set(np.unique(decode_image(encode(grey.convert("1"), "PNG")))) == {0, 255}
    palette = Image.fromarray(picture).quantize(16)
    np.testing.assert_array_equal(decode_image(encode(palette, "PNG")), np.asarray(palette.convert("RGB")))


def test_transparency_is_laid_over_white(picture: np.ndarray) -> None:
    rgba = np.dstack([picture, np.full((HEIGHT, WIDTH), 255, np.uint8)])
    rgba[:10, :, 3] = 0
    rgba[10:20, :, 3] = 51
    for kind in ("PNG", "WEBP", "TIFF"):
        decoded = decode_image(encode(rgba, kind, **({"lossless": True} if kind == "WEBP" else {})))
        assert (decoded[:10] == 255).all()
        assert distance(decoded[10:20], np.rint(picture[10:20] * 0.2 + 255 * 0.8)) < 1
        np.testing.assert_array_equal(decoded[20:], picture[20:])
    la = Image.fromarray(rgba).convert("LA")
    assert (decode_image(encode(la, "PNG"))[:10] == 255).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    assert (decode_image(encode(palette, "PNG", transparency=1)) == 255).all()
    assert (decode_image(encode(palette, "PNG", transparency=0)) == [200, 0, 0]).all()


def test_16_bit_transparency_is_laid_over_white(picture: np.ndarray) -> None:
    deep = np.dstack([picture[:, :, ::-1].astype(np.uint16) * 257, np.full((HEIGHT, WIDTH), 65535, np.uint16)])
    deep[:10, :, 3] = 0
    decoded = decode_image(cv2.imencode(".png", deep)[1].tobytes())
    assert (decoded[:10] == 255).all()
    np.testing.assert_array_equal(decoded[10:], picture[10:])


def test_cmyk(picture: np.ndarray) -> None:
    for kind in ("JPEG", "TIFF"):
        assert distance(decode_image(encode(Image.fromarray(picture).convert("CMYK"), kind)), picture) < 8


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(picture: np.ndarray, kind: str) -> None:
    later = [Image.fromarray(255 - picture)]
    data = encode(picture, kind, save_all=True, append_images=later, duration=50)
    assert distance(decode_image(data), picture) < 8


@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_decoding_keeps_the_minimum_size(orientation: int) -> None:
    big = cv2.resize(np.random.default_rng(1).integers(0, 255, (5, 7, 3), dtype=np.uint8), (413, 270))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(as_stored(big, orientation), "JPEG", exif=exif, quality=95)
    full = decode_image(data)
    assert full.shape == (270, 413, 3)
    shapes = set()
    for height in (1, 33, 34, 60, 67, 68, 135, 136, 270):
        for width in (1, 51, 52, 103, 104, 206, 207, 413):
            reduced = decode_image(data, min_size=(height, width))
            assert reduced.shape[0] >= height
            assert reduced.shape[1] >= width
            shapes.add(reduced.shape[:2])
            again = cv2.resize(full, reduced.shape[1::-1], interpolation=cv2.INTER_AREA)
            assert distance(reduced, again) < 3
    assert len(shapes) == 4
    assert decode_image(data, min_size=(1000, 1000)).shape == full.shape


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.03, 0.3, 0.9, 0.99])
def test_truncated(tmp_path: Path, kind: str, share: float) -> None:
    noise = np.random.default_rng(2).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    data = encode(noise, kind)
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=r"cut\.jpg: .+"):
        decode_image(path)


def test_truncated_behind_an_embedded_thumbnail() -> None:
    noise = np.random.default_rng(2).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    data = encode(noise, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + encode(noise[:16, :16], "JPEG"))
    assert decode_image(data).shape == (120, 160, 3)
    with pytest.raises(ImageError, match="truncated"):
        decode_image(data[: len(data) // 2])


def test_truncated_16_bit_colour(picture: np.ndarray) -> None:
    data = cv2.imencode(".png", picture.astype(np.uint16) * 257)[1].tobytes()
    with pytest.raises(ImageError):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 100, b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"])
def test_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"x\.png: "):
        decode_image(path)
    with pytest.raises(ImageError, match=r"x\.png: "):
        image_size(path)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        decode_image(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        decode_image(tmp_path)


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="convert the image to 8 or 16 bits"):
        decode_image(encode(np.ones((4, 4), np.float32), "TIFF"))


def test_check_images_lists_the_bad_ones(tmp_path: Path, picture: np.ndarray) -> None:
    rows = []
    for key in ("a", "b", "c", "d"):
        path = tmp_path / f"{key}.jpg"
        data = encode(picture, "JPEG")
        path.write_bytes({"b": data[:-40], "d": b""}.get(key, data))
        rows.append((key, path))
    seen: list[tuple[int, int]] = []
    reasons = check_images(rows, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert list(reasons) == ["b", "d"]
    assert "b.jpg" in reasons["b"]
    assert "empty" in reasons["d"]
    assert seen[-1] == (4, 4)
