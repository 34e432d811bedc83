"""What the service takes at most, and the errors with which it refuses more."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of the service.

    Attributes:
        held: requests held at a time: being received, waiting, or being computed. One more is refused with 429.
        batch: images that are computed together.
        images: images of one request; at most `batch`.
        steps: sampler steps of one request.
        upload_bytes: size of an uploaded image.
        receive_seconds: longest time in which a request's body must arrive.
        answer_seconds: longest time from then until its answer.
    """

    held: int = 32
    batch: int = 32
    images: int = 16
    steps: int = 250
    upload_bytes: int = 10 * 2**20
    receive_seconds: float = 30.0
    answer_seconds: float = 300.0


JSON_BYTES = 65_536
"""Largest body of a request for images, which is a small JSON object."""


class RefusedError(Exception):
    """A request that is not answered as it wishes.

    Args:
        status: HTTP status.
        what: what is wrong, as a clause.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, what: str, headers: dict[str, str] | None = None):
        super().__init__(what)
        self.status, self.what, self.headers = status, what, headers or {}
