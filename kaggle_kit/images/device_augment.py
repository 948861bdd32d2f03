"""The presets of augmentation as one operation on a batch, where the model trains.

The work is divided. A loader process brings each image to one fixed canvas and lets albumentations draw, from the sample's
seed, what :class:`~kaggle_kit.images.transforms.TrainTransform` would draw; that travels with the batch as a few small arrays
(:class:`Moves`). The device samples the canvas once, through all crops, flips and rotations composed into one matrix, and
applies the changes of colour, composed into another. So both ways see the same crops, flips and colours for the same seed, and
their pixels differ in four points:

- Crops are sampled from the canvas, to which the image was squashed whole. Their boxes are drawn in the image's own shape, so
  that the geometry is right; along the longer side of the image a crop has fewer pixels than it could.
- What a rotation after a crop brings into view is the image around the crop, and its reflection only beyond the image.
- Hue and saturation are turned and scaled by an affine map of the colours instead of in HSV.
- Values are cut off to 0..255 after all changes of colour together, and not rounded.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from kaggle_kit.config import AugmentConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.images.decode import Pixels
from kaggle_kit.images.transforms import INTERPOLATIONS, ImageSpec, TrainTransform, resize

Array = npt.NDArray[Any]
_MODES = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "bicubic", "area": "bilinear"}
"""Interpolation of an image spec -> that of ``grid_sample``."""
_BORDERS = {cv2.BORDER_REPLICATE: "border", cv2.BORDER_REFLECT_101: "reflection"}
_USUAL_SATURATION = 100.0  # of 255, about the median in photographs; a shift by 10 becomes a factor of 1.1


class Moves(NamedTuple):
    """What was drawn for the images of a batch.

    view: (B, 2, 3), from places of the model's input to places of the canvas, both in -1..1. colour: (B, 3, 4), of values in
    0..255. kernel: (B, K), the odd blur along each axis. holes: (B, N, 4), left, top, right, bottom in pixels. All float32.
    """

    view: Tensor
    colour: Tensor
    kernel: Tensor
    holes: Tensor


@dataclass
class Drawing:
    """What was drawn for one image so far.

    Attributes:
        shape: (height, width) that the image has at this point.
        view: (3, 3), from places of the image as it is now to places of the canvas, both in -1..1, homogeneous.
        colour: (4, 4), of values in 0..255, homogeneous.
        kernel: (K,) or None.
        holes: (N, 4) or None.
    """

    shape: tuple[int, int]
    view: Array = field(default_factory=lambda: np.eye(3))
    colour: Array = field(default_factory=lambda: np.eye(4))
    kernel: Array | None = None
    holes: Array | None = None

    def look(self, matrix: Array) -> None:
        """``matrix`` (3, 3): places after the step to places before it."""
        self.view = self.view @ matrix

    def tint(self, matrix: Array) -> None:
        """``matrix`` (4, 4): colours before the step to colours after it."""
        self.colour = matrix @ self.colour


Step = Callable[[Drawing, Any, dict[str, Any]], None]
"""(drawing, the albumentations transform, what it drew): enters that into the drawing."""


def _crop(drawing: Drawing, step: Any, drawn: dict[str, Any]) -> None:
    (height, width), (left, top, right, bottom) = drawing.shape, drawn["crop_coords"]
    x, y = (right + left) / width - 1, (bottom + top) / height - 1
    drawing.look(np.array([[(right - left) / width, 0, x], [0, (bottom - top) / height, y], [0, 0, 1]]))
    drawing.shape = step.size


def _mirror(drawing: Drawing, step: Any, drawn: dict[str, Any]) -> None:  # noqa: ARG001
    drawing.look(np.diag([-1, 1, 1]))


def _turn_over(drawing: Drawing, step: Any, drawn: dict[str, Any]) -> None:  # noqa: ARG001
    drawing.look(np.diag([1, -1, 1]))


def _quarter_turns(drawing: Drawing, step: Any, drawn: dict[str, Any]) -> None:  # noqa: ARG001
    drawing.look(np.linalg.matrix_power(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]), drawn["factor"]))
    if drawn["factor"] % 2:
        drawing.shape = drawing.shape[::-1]


def _affine(drawing: Drawing, step: Any, drawn: dict[str, Any]) -> None:  # noqa: ARG001
    """The matrix is given in pixels, whose centres have whole numbers, from the image before to the one after."""
    height, width = drawing.shape
    to_pixels = np.array([[width / 2, 0, (width - 1) / 2], [0, height / 2, (height - 1) / 2], [0, 0, 1]])
    drawing.look(np.linalg.inv(drawn["matrix"] @ to_pixels) @ to_pixels)
    # inv(A T) T = inv(T) inv(A) T: out in -1..1, to pixels, back through the matrix, to -1..1.


def _brightness_contrast(drawing: Drawing, step: Any, drawn: dict[str, Any]) -> None:  # noqa: ARG001
    matrix = np.diag([drawn["alpha"]] * 3 + [1.0])
    matrix[:3, 3] = drawn["beta"]
    drawing.tint(matrix)


def _hue_saturation(drawing: Drawing, step: Any, drawn: dict[str, Any]) -> None:  # noqa: ARG001
    """A rotation about the axis of greys, and a scaling of the distance from it.

    OpenCV's hue has 180 steps for the circle. Shifts of the value are left to brightness.
    """
    angle = np.deg2rad(2 * drawn["hue_shift"])
    grey = np.full((3, 3), 1 / 3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    factor = max(0.0, 1 + drawn["sat_shift"] / _USUAL_SATURATION)
    matrix = np.eye(4)
    matrix[:3, :3] = grey + factor * (np.cos(angle) * (np.eye(3) - grey) + np.sin(angle) * cross)  # Rodrigues' formula
    drawing.tint(matrix)


def _blur(drawing: Drawing, step: Any, drawn: dict[str, Any]) -> None:  # noqa: ARG001
    drawing.kernel = drawn["kernel"]


def _drop(drawing: Drawing, step: Any, drawn: dict[str, Any]) -> None:  # noqa: ARG001
    drawing.holes = drawn["holes"]


DEVICE_STEPS: dict[str, Step] = {
    "RandomResizedCrop": _crop,
    "HorizontalFlip": _mirror,
    "VerticalFlip": _turn_over,
    "RandomRotate90": _quarter_turns,
    "Affine": _affine,
    "RandomBrightnessContrast": _brightness_contrast,
    "HueSaturationValue": _hue_saturation,
    "GaussianBlur": _blur,
    "CoarseDropout": _drop,
}
"""albumentations' transforms that the device can do; a preset made of these has a device version."""


class DeviceTransform(TrainTransform):
    """A preset whose pixels are changed on the device; picklable.

    In a loader process the call gives the canvas, and :meth:`draw` what is to be done to it; :meth:`apply` does it to a batch.

    Attributes:
        canvas: (height, width) that the call returns: that of the model where the preset begins with the framed image, else
            what :func:`~kaggle_kit.images.transforms.prepare` keeps for random crops.

    Raises:
        ConfigError: the preset has a step that the device cannot do, or there are further transforms.
    """

    def __init__(self, spec: ImageSpec, augment: AugmentConfig) -> None:
        super().__init__(spec, augment)
        obstacle = _obstacle(self.steps, augment)
        if obstacle:
            raise ConfigError(f"augment.where: device cannot be used: {obstacle}. Set augment.where to workers or auto.")
        self.canvas = spec.size if self._framed else spec.prepare_size
        steps = {type(step).__name__: step for step in self.steps}
        self._padding = _BORDERS[steps["Affine"].border_mode] if "Affine" in steps else "border"
        self._tints = bool({"RandomBrightnessContrast", "HueSaturationValue"} & steps.keys())
        self._taps = _taps(steps["GaussianBlur"]) if "GaussianBlur" in steps else 1
        self._holes = steps["CoarseDropout"].num_holes_range[1] if "CoarseDropout" in steps else 0

    def __call__(self, image: Pixels, seed: int = 0) -> Pixels:  # noqa: ARG002
        """(H, W, 3) uint8 of any size → (*canvas, 3) uint8, contiguous."""
        if self._framed:
            return self.framed(image)
        if all(1 <= side / wanted <= 2 for side, wanted in zip(image.shape, self.canvas, strict=False)):
            # As prepared images are. Bilinear still sees every pixel, in a third of the time of averaging over areas.
            squashed: Pixels = cv2.resize(image, self.canvas[::-1], interpolation=cv2.INTER_LINEAR)
            return squashed
        return np.ascontiguousarray(resize(image, self.canvas, INTERPOLATIONS[self.spec.interpolation]))

    def draw(self, shape: tuple[int, int], seed: int) -> Drawing:
        """What the seed does to an image of ``shape`` (height, width)."""
        generators = np.random.default_rng(seed), random.Random(seed)
        generators[1].random()  # albumentations' Compose begins with one number for itself
        drawing = Drawing(self.spec.size if self._framed else shape)
        for step in self.steps:
            step.set_random_state(*generators)
            if step.should_apply():
                # Transforms look at the shape and the kind of numbers only; this array takes no memory.
                image = np.broadcast_to(np.uint8(0), (*drawing.shape, 3))
                drawn = step.get_params()
                drawn |= step.get_params_dependent_on_data({**drawn, "shape": image.shape}, {"image": image})
                DEVICE_STEPS[type(step).__name__](drawing, step, drawn)
        return drawing

    def stack(self, drawings: Sequence[Drawing]) -> Moves:
        """The drawings of a batch."""
        kernels = np.zeros((len(drawings), self._taps), np.float32)
        kernels[:, self._taps // 2] = 1
        holes = np.zeros((len(drawings), self._holes, 4), np.float32)
        for number, drawing in enumerate(drawings):
            if drawing.kernel is not None:
                margin = (self._taps - len(drawing.kernel)) // 2
                kernels[number] = np.pad(drawing.kernel, margin)
            if drawing.holes is not None:
                holes[number, : len(drawing.holes)] = drawing.holes
        view = np.stack([drawing.view[:2] for drawing in drawings]).astype(np.float32)
        colour = np.stack([drawing.colour[:3] for drawing in drawings]).astype(np.float32)
        return Moves(*(torch.from_numpy(part) for part in (view, colour, kernels, holes)))

    @torch.no_grad()
    def apply(self, images: Tensor, moves: Moves, device: torch.device | str = "cpu") -> Tensor:
        """Augment a batch on ``device``; the host waits for nothing.

        Args:
            images: (B, 3, *canvas) uint8.

        Returns:
            (B, 3, spec.height, spec.width) float32 in 0..255.
        """
        canvas = images.to(device, non_blocking=True).float()
        view, colour, kernel, holes = (part.to(device, non_blocking=True) for part in moves)
        grid = functional.affine_grid(view, [len(canvas), 3, *self.spec.size], align_corners=False)  # (B, H, W, 2)
        mode = _MODES[self.spec.interpolation]
        result = functional.grid_sample(canvas, grid, mode=mode, padding_mode=self._padding, align_corners=False)
        if self._tints:
            flat = torch.baddbmm(colour[:, :, 3:], colour[:, :, :3], result.flatten(2))  # (B, 3, H W)
            result = flat.view_as(result)
        result = result.clamp_(0, 255)
        if self._taps > 1:
            result = _blurred(result, kernel)
        return _punched(result, holes, self.spec.fill) if self._holes else result

    def describe(self) -> list[str]:
        """One line per step, in order; says that they are done on the device."""
        first, *steps = super().describe()
        height, width = self.canvas
        canvas = first if self._framed else f"{first}, squashed to {height}x{width}"
        return [canvas, *(f"{step} on the device" for step in steps)]


def device_obstacle(spec: ImageSpec, augment: AugmentConfig) -> str:
    """Why the device cannot do this augmentation, or an empty string."""
    return _obstacle(TrainTransform(spec, augment).steps, augment)


def _obstacle(steps: Sequence[Any], augment: AugmentConfig) -> str:
    if augment.transforms:  # of any kind and in any order, which one matrix and one list of holes could not follow
        return "the device does the presets alone, without augment.transforms"
    unknown = [type(step).__name__ for step in steps if type(step).__name__ not in DEVICE_STEPS]
    if unknown:
        able = ", ".join(DEVICE_STEPS)
        return f"preset {augment.preset!r} has steps that the device cannot do ({', '.join(unknown)}); it can {able}"
    return ""


def _taps(blur: Any) -> int:
    """Width of the widest kernel that albumentations makes."""
    return int(blur.sigma_limit[1] * 3.5) * 2 + 1


def _blurred(images: Tensor, kernel: Tensor) -> Tensor:
    """Each image (B, 3, H, W) along both axes with its own kernel (B, K); borders are reflected, as OpenCV does."""
    batch, channels, height, width = images.shape
    taps = kernel.shape[1]
    weight = kernel.repeat_interleave(channels, dim=0)[:, None, None, :]  # (3 B, 1, 1, K): a group for each channel
    flat = images.reshape(1, batch * channels, height, width)
    margin = taps // 2
    for sides, one_way in (((margin, margin, 0, 0), weight), ((0, 0, margin, margin), weight.mT)):
        flat = functional.conv2d(functional.pad(flat, sides, mode="reflect"), one_way, groups=batch * channels)
    return flat.view(batch, channels, height, width)


def _punched(images: Tensor, holes: Tensor, fill: tuple[int, int, int]) -> Tensor:
    """Fill the boxes ``holes`` (B, N, 4) of each image (B, 3, H, W); one without area fills nothing."""
    height, width = images.shape[2:]
    x, y, colour = _places(height, width, fill, images.device)
    left, top, right, bottom = holes[..., None].unbind(2)  # (B, N, 1) each
    columns = (x >= left) & (x < right)  # (B, N, W)
    rows = (y >= top) & (y < bottom)  # (B, N, H)
    inside = (rows[..., :, None] & columns[..., None, :]).any(1, keepdim=True)  # (B, 1, H, W)
    return torch.where(inside, colour, images)


@lru_cache(maxsize=16)
def _places(height: int, width: int, fill: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Columns (W,), rows (H,) and the colour (1, 3, 1, 1), kept on the device: to copy them there would make the host wait."""
    colour = torch.tensor(fill, dtype=torch.float32, device=device).view(1, 3, 1, 1)
    return torch.arange(width, device=device), torch.arange(height, device=device), colour
