"""Conversion of images that users pass to a classifier: arrays of NumPy or torch, or images of Pillow."""

import io
import os
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dpt_ray.data.images.decoding import ImageForm, decode_images
from dpt_ray.data.images.exif import ORIENTATION
from dpt_ray.errors import UserError
from dpt_ray.export.arguments import described, elements
from dpt_ray.text import one_line

_DIMENSIONS = {1: "channels", 2: "height", 3: "width"}
_FIX = "classifier.read(files) makes them so"


def as_images(images: Any, form: ImageForm) -> Tensor:
    """Return images as uint8 (N, C, H, W).

    Args:
        images: a uint8 array (N, C, H, W) or (N, H, W, C), without N for one image, without C for grey images; or an
            image of Pillow, which is converted to `form` like a file; or a list of single images.
        form: size and channels that the classifier accepts.

    Raises:
        TypeError: `images` is of another type.
        UserError: an array has another shape or dtype, or an image of Pillow cannot be decoded.
    """
    if isinstance(images, np.ndarray | Tensor):
        return _of_array(images, form)
    if isinstance(images, Image.Image):
        return _of_pillow(images, form, "the image")
    if isinstance(images, str | os.PathLike | bytes):
        raise TypeError(f"images must be arrays or images, not {described(images)}; classifier.read(files) reads files")
    singles = [
        _single(image, form, f"images[{place}]")
        for place, image in enumerate(elements(images, "images", "an array, an image of Pillow"))
    ]
    return torch.cat(singles) if singles else torch.empty(0, *form.shape, dtype=torch.uint8)


def _single(image: Any, form: ImageForm, name: str) -> Tensor:
    """Return one element of a list of images as (1, C, H, W)."""
    if isinstance(image, Image.Image):
        return _of_pillow(image, form, name)
    if not isinstance(image, np.ndarray | Tensor):
        raise TypeError(f"{name} must be an array or an image of Pillow, not {described(image)}")
    row = _of_array(image, form, name)
    if len(row) != 1:
        raise UserError(f"{name} must be one image, not {len(row)}", fix="give one array, or a list of single images")
    return row


def _of_array(images: np.ndarray | Tensor, form: ImageForm, name: str = "images") -> Tensor:
    kind, shape = str(images.dtype).removeprefix("torch."), tuple(images.shape)
    wanted = f"uint8 (N, {', '.join(map(str, form.shape))})"
    if kind != "uint8":
        raise UserError(f"{name} must be {wanted}, not {kind} {shape}", fix=_FIX)
    rows = _rows(shape, form)
    if rows is None:
        raise UserError(f"{name} must be {wanted}, not {kind} {shape}{_difference(shape, form)}", fix=_FIX)
    shape_of_rows, channels_last = rows
    try:
        tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images, order="C"))
        tensor = tensor.detach().reshape(shape_of_rows)
    except Exception:  # sparse tensors, and tensors without values, raise
        raise TypeError(f"{name} must be an ordinary array, not {described(images)}") from None
    if tensor.is_meta:
        raise TypeError(f"{name} has no values: {described(images)}")
    return tensor.permute(0, 3, 1, 2) if channels_last else tensor


def _rows(shape: tuple[int, ...], form: ImageForm) -> tuple[tuple[int, ...], bool] | None:
    """Return the four-dimensional shape, and whether channels are last; None if the shape does not fit `form`."""
    channels, height, width = form.shape
    last = (height, width, channels)
    if len(shape) == 4 and shape[1:] in (form.shape, last):
        return shape, shape[1:] != form.shape
    if shape in (form.shape, last):
        return (1, *shape), shape != form.shape
    if channels == 1 and len(shape) in (2, 3) and shape[-2:] == (height, width):
        return (1 if len(shape) == 2 else shape[0], 1, height, width), False
    return None


def _difference(shape: tuple[int, ...], form: ImageForm) -> str:
    """Return a description of the dimension that differs, where it is unambiguous."""
    if len(shape) == 2:
        if form.channels == 3:
            return ": greyscale, where colour is taken"
        shape = (1, *shape)
    if len(shape) not in (3, 4):
        return f": {len(shape)} dimension{'s' * (len(shape) != 1)}"
    single = shape[-3:]
    if single[2] in (1, 3, 4) and single[0] not in (1, 3, 4):
        single = (single[2], *single[:2])  # channels last
    wrong = [
        f"{_DIMENSIONS[place]} {has}, not {takes}"
        for place, (has, takes) in enumerate(zip(single, form.shape, strict=True), 1)
        if has != takes
    ]
    return f": {', '.join(wrong)}"


def _of_pillow(image: Image.Image, form: ImageForm, name: str) -> Tensor:
    """Return an image as (1, C, H, W), converted like a PNG file with its pixels."""
    if 0 in image.size:
        raise UserError(f"{name} has no pixels ({image.width}x{image.height})")
    if image.width * image.height > form.max_pixels:
        raise UserError(f"{name} has {image.width}x{image.height} pixels; at most {form.max_pixels} are taken")
    if image.mode == "F":
        raise UserError(f"{name} has floating-point pixels, whose range is not known", fix="give 8 bits a channel")
    content = io.BytesIO()
    exif = _orientation(image)
    try:
        if image.mode.startswith("I"):  # 16 bits or more, in any byte order
            image = Image.fromarray(np.asarray(image).clip(0, 65535).astype(np.uint16))
        elif image.mode not in _IN_PNG:
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image.save(content, "PNG", compress_level=0, exif=exif)
    except Exception as error:  # Pillow decodes lazily, and its decoders may raise anything
        raise UserError(f"{name} cannot be decoded ({one_line(error)})") from None
    return torch.from_numpy(decode_images([content.getvalue()], form, lambda _: name))


_IN_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
"""Pillow's modes that PNG supports without conversion."""


def _orientation(image: Image.Image) -> Image.Exif:
    """Return EXIF data with an image's orientation only."""
    exif = Image.Exif()
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # damaged EXIF data may raise anything
        return exif
    if isinstance(orientation, int) and 2 <= orientation <= 8:
        exif[ORIENTATION] = orientation
    return exif
