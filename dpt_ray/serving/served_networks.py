"""The networks of the service: they draw and classify images. They run in the service's process or in replicas."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from dpt_ray.data.images.decoding import decode_images, encode_png
from dpt_ray.errors import UserError
from dpt_ray.export.loaded_classifier import load_classifier
from dpt_ray.export.loaded_generator import load_generator
from dpt_ray.serving.service_requests import DrawingRequest, Request, UploadRequest


@dataclass(frozen=True)
class ServedGenerator:
    """The generator of a service, as the page must know it.

    Attributes:
        classes: name of each class, by id.
        image_shape: (C, H, W) of its images.
        guidance_scale: default.
        seed: default.
        steps: default.
        sampler: default.
        can_be_guided: whether a guidance scale above 0 is possible.
    """

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    guidance_scale: float
    seed: int
    steps: int
    sampler: str
    can_be_guided: bool


@dataclass(frozen=True)
class ServedClassifier:
    """The classifier of a service.

    Attributes:
        classes: name of each class, by id.
        image_shape: (C, H, W) of the images that it classifies, after resizing.
    """

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]


@dataclass(frozen=True)
class Served:
    """What a service offers; None is what it lacks."""

    generator: ServedGenerator | None
    classifier: ServedClassifier | None


@dataclass(frozen=True)
class DrawnImages:
    """An answer: the content of a PNG file for each image."""

    pngs: tuple[bytes, ...]


@dataclass(frozen=True)
class FoundClasses:
    """An answer: (class id, probability) of the most probable classes, the most probable first."""

    ranked: tuple[tuple[int, float], ...]


Answer = DrawnImages | FoundClasses | UserError
"""The answer to a request. A `UserError` is one that these networks cannot answer: a file that is no image, a sampler
that does not exist, images that diverge."""

MOST_CLASSES = 5
"""Largest number of classes in an answer."""


class ServedNetworks:
    """Networks that answer requests.

    Args:
        generator: URL of an exported generator; None for a service without.
        classifier: URL of an exported classifier; None for a service without.
        device: device of both; if None, a GPU if there is one.

    Raises:
        UserError: an export is damaged, or the device cannot be used.
    """

    parallel = 1
    """Batches that are computed at a time."""

    def __init__(self, generator: str | None, classifier: str | None, device: str | None = None):
        self._generator = load_generator(generator, device) if generator else None
        self._classifier = load_classifier(classifier, device) if classifier else None

    def describe(self) -> Served:
        """Return what the networks offer."""
        drawn = classified = None
        if self._generator is not None:
            sampling = self._generator.sampling
            drawn = ServedGenerator(
                self._generator.classes,
                self._generator.image_shape,
                sampling.guidance_scale,
                sampling.seed,
                sampling.steps,
                sampling.sampler,
                self._generator.can_be_guided,
            )
        if self._classifier is not None:
            classified = ServedClassifier(self._classifier.classes, self._classifier.image_shape)
        return Served(drawn, classified)

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer requests that `goes_with` lets be computed together, in their order."""
        if isinstance(requests[0], DrawingRequest):
            return self._draw(cast("Sequence[DrawingRequest]", requests))
        return self._classify(cast("Sequence[UploadRequest]", requests))

    def is_healthy(self) -> bool:
        """Whether requests can be answered."""
        return True

    def close(self) -> None:
        """Give back what the networks hold."""

    def _draw(self, requests: Sequence[DrawingRequest]) -> list[Answer]:
        assert self._generator is not None
        places = [place for request in requests for place in request.places]
        try:
            images = self._generator.sample_numbered(places, batch=len(places), **requests[0].sampling.given()).numpy()
        except UserError as error:
            return self._one_by_one(requests) if len(requests) > 1 else [error]
        pngs = [encode_png(image) for image in images]
        answers: list[Answer] = []
        for request in requests:
            answers.append(DrawnImages(tuple(pngs[: request.images])))
            del pngs[: request.images]
        return answers

    def _one_by_one(self, requests: Sequence[DrawingRequest]) -> list[Answer]:
        # Images of one class may diverge; the other requests must not suffer for them.
        return [answer for request in requests for answer in self._draw([request])]

    def _classify(self, requests: Sequence[UploadRequest]) -> list[Answer]:
        assert self._classifier is not None
        errors: dict[int, UserError] = {}

        def note(number: int, error: UserError) -> None:
            errors[number] = error

        pixels = decode_images(
            [request.data for request in requests],
            self._classifier.form,
            lambda number: "the image",
            note,
        )
        usable = [number for number in range(len(requests)) if number not in errors]
        shares = dict(zip(usable, self._classifier.probabilities(pixels[usable]).numpy(), strict=True))
        return [
            errors[number] if number in errors else FoundClasses(_ranked(shares[number]))
            for number in range(len(requests))
        ]


def _ranked(shares: np.ndarray) -> tuple[tuple[int, float], ...]:
    order = np.argsort(-shares, kind="stable")[:MOST_CLASSES]
    return tuple((int(label), float(shares[label])) for label in order)
