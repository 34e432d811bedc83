"""The page of images to label; its words stand in `templates/suggested.html.j2`."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dpt_ray.report.content import Figure
from dpt_ray.report.page_templates import render_page


@dataclass(frozen=True)
class SuggestedImage:
    """An image to label.

    Attributes:
        name: its file name or key.
        reason: why it is suggested.
        pixels: uint8 (C, H, W), C 1 or 3.
    """

    name: str
    reason: str
    pixels: np.ndarray


@dataclass(frozen=True)
class SuggestedLabels:
    """All of the page.

    Attributes:
        title: of the page.
        created: ISO 8601 time, UTC.
        images: in the order of their use: if only some are labelled, the first.
        classes: names of the classes; none if they are not known yet.
        table: file name of the table to fill in.
        setting: the setting that takes the table.
        headline: figures below the title.
        notes: warnings.
    """

    title: str
    created: str
    images: Sequence[SuggestedImage]
    classes: Sequence[str]
    table: str
    setting: str
    headline: Sequence[Figure] = ()
    notes: Sequence[str] = ()


def render_suggested(report: SuggestedLabels) -> str:
    """Return the whole page."""
    return render_page(
        "suggested.html.j2", report=report, images=[(image, _png(image.pixels)) for image in report.images]
    )


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]).save(buffer, "PNG")
    return buffer.getvalue()
