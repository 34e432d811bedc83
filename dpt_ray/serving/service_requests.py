"""Requests for images and for classes, and the reading of a request for images from JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dpt_ray.errors import UserError
from dpt_ray.export.arguments import LARGEST, as_class_ids
from dpt_ray.export.loaded_generator import GivenSettings
from dpt_ray.serving.limits import Limits, RefusedError
from dpt_ray.text import shortened

_LARGEST_NUMBER = 10**9
"""Largest number of an image in its class."""


class Sampling(NamedTuple):
    """Sampling settings; None is the generator's own. Images are drawn together if these are equal.

    Attributes:
        guidance_scale: s in conditional + s (conditional - unconditional).
        seed: `sampling.seed`.
        steps: `sampling.steps`.
        sampler: `sampling.sampler`.
    """

    guidance_scale: float | None
    seed: int | None
    steps: int | None
    sampler: str | None

    def given(self) -> GivenSettings:
        """Return the settings that are not None."""
        given: GivenSettings = {}
        if self.guidance_scale is not None:
            given["guidance_scale"] = self.guidance_scale
        if self.seed is not None:
            given["seed"] = self.seed
        if self.steps is not None:
            given["steps"] = self.steps
        if self.sampler is not None:
            given["sampler"] = self.sampler
        return given


@dataclass(frozen=True)
class DrawingRequest:
    """A request for images of one class.

    Attributes:
        sampling: settings.
        label: the class id.
        first: number of the first image in its class.
        images: number of images.
    """

    sampling: Sampling
    label: int
    first: int
    images: int

    @property
    def places(self) -> list[tuple[int, int]]:
        """Class id and number in the class of each image."""
        return [(self.label, self.first + number) for number in range(self.images)]


@dataclass(frozen=True)
class UploadRequest:
    """A request for the classes of an image.

    Attributes:
        data: content of its file.
        images: it is one.
    """

    data: bytes
    images: int = 1


Request = DrawingRequest | UploadRequest


def goes_with(first: Request, other: Request) -> bool:
    """Whether two requests can be computed together."""
    if isinstance(first, DrawingRequest) and isinstance(other, DrawingRequest):
        return first.sampling == other.sampling
    return type(first) is type(other)


class _Body(BaseModel):
    """The JSON of a request for images."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    label: Annotated[int | str, Field(alias="class")]
    images: Annotated[int, Field(ge=1)] = 4
    first: Annotated[int, Field(ge=0, le=_LARGEST_NUMBER)] = 0
    guidance_scale: Annotated[float, Field(ge=0, le=1000)] | None = None
    seed: Annotated[int, Field(ge=-LARGEST, le=LARGEST)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    sampler: Annotated[str, Field(max_length=100)] | None = None


def read_drawing_request(body: bytes, classes: Sequence[str], limits: Limits) -> DrawingRequest:
    """Read a request for images.

    Args:
        body: a JSON object with `class` (id or name), and optionally `images`, `first`, `guidance_scale`, `seed`,
            `steps` and `sampler`.
        classes: names of the generator's classes, by id.
        limits: bounds of images and steps.

    Raises:
        RefusedError: it is no such object (400).
    """
    try:
        given = _Body.model_validate_json(body)
        (label,) = as_class_ids([given.label], classes)
    except ValidationError as error:
        raise RefusedError(400, _complaint(error)) from None
    except UserError as error:
        raise RefusedError(400, str(error)) from None
    for name, value, most in (("images", given.images, limits.images), ("steps", given.steps or 1, limits.steps)):
        if value > most:
            raise RefusedError(400, f"{name} must be at most {most}, not {shortened(str(value), 30)}")
    sampling = Sampling(given.guidance_scale, given.seed, given.steps, given.sampler)
    return DrawingRequest(sampling, label, given.first, given.images)


def _complaint(error: ValidationError) -> str:
    """Return what is wrong with a body, in one clause."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return "the body is no JSON"
    name = str(first["loc"][0]) if first["loc"] else "the body"
    if first["type"] == "missing":
        return f"{name} is missing"
    if first["type"] == "extra_forbidden":
        known = ", ".join(field.alias or key for key, field in _Body.model_fields.items())
        return f"there is no field {shortened(name, 40)!r}; there are: {known}"
    reason = first["msg"]
    return f"{name}: {reason[:1].lower()}{reason[1:]}"
