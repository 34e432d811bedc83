"""Images that cannot be used: listed one by one, and tolerated up to a share that the user sets.

`data.on_error` decides how much damage is tolerated. It does not change what a result is made from, so it enters no
fingerprint. Steps list what they left out in their facts `images_in` and `skipped`. The list is compared with the
policy whenever an artifact is made or used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dpt_ray.config.data_section import DataConfig
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.text import printable, shortened

_FIX = "mend or remove it, or set data.on_error=skip to go on without"
LISTED_IN_ERROR = 10
"""Most entries that an error shows; the artifact's manifest holds all."""
_LONGEST_REASON = 1500
"""Most characters of a reason, which may quote a name of any length."""


@dataclass(frozen=True)
class Skipped:
    """A sample, or a part of a file, that was left out.

    Attributes:
        where: URL of the shard or file.
        key: the sample's key; None for the whole file, or for a part of it without readable names.
        reason: the error message, in one line of printable characters.
        images: number of lost images, as far as it is known; at least 1.
    """

    where: str
    key: str | None
    reason: str
    images: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", shortened(printable(self.reason), _LONGEST_REASON))  # frozen

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"

    @property
    def place(self) -> str:
        """The place for messages, with a long key shortened."""
        if self.key is None:
            return self.where
        return f"{self.where}: sample {shortened(self.key)!r}"

    def to_json(self) -> JsonObject:
        """Return the entry as JSON for facts and manifests."""
        return asdict(self)


def count_images(skipped: Iterable[Skipped]) -> int:
    """Return the number of images that are lost with the entries."""
    return sum(entry.images for entry in skipped)


def skip_facts(images_in: int, skipped: Iterable[Skipped]) -> JsonObject:
    """Return the facts of a step that may leave images out; `images_in` includes those left out."""
    return {"images_in": images_in, "skipped": [entry.to_json() for entry in skipped]}


def read_skipped(facts: Mapping[str, Any]) -> list[Skipped]:
    """Return the entries in an artifact's facts; an empty list for steps that never leave images out."""
    return [Skipped(**entry) for entry in facts.get("skipped", ())]


@dataclass(frozen=True)
class SkipPolicy:
    """The limit for images that are left out.

    Attributes:
        allowed_share: the share of images that may be left out, in [0, 1]; 0 is `on_error: fail`.
    """

    allowed_share: float = 0.0

    def allowed(self, images_in: int) -> int:
        """Return how many of `images_in` images may be left out."""
        return int(self.allowed_share * images_in + 1e-9)  # 0.29 times 100 is a little less than 29

    def check(self, skipped: list[Skipped], images_in: int) -> None:
        """Check a list of what was left out of `images_in` images.

        Raises:
            UserError: more images are lost than allowed. The error shows the first entries.
        """
        lost = count_images(skipped)
        if not skipped or lost <= self.allowed(images_in):
            return
        first, *others = skipped
        if self.allowed_share == 0:
            reason = first.reason
            if others:
                reason += f" (and {len(others):,} more: {_first_entries(others)})"
            raise UserError(
                reason, where=first.place, fix="mend or remove it, or set data.on_error=skip to go on without"
            )
        raise UserError(
            f"{lost:,} of {images_in:,} images cannot be used, more than the share of "
            f"{self.allowed_share:g} that is allowed: {_first_entries(skipped)}",
            where="data.max_skipped_share",
            fix="mend or remove them, or raise data.max_skipped_share",
        )


TOLERATE_NOTHING = SkipPolicy()


def _first_entries(entries: list[Skipped]) -> str:
    text = "; ".join(map(str, entries[:LISTED_IN_ERROR]))
    return text + (f"; and {len(entries) - LISTED_IN_ERROR:,} more" if len(entries) > LISTED_IN_ERROR else "")


def skip_policy(data: DataConfig) -> SkipPolicy:
    """Return the limit that the settings define."""
    return SkipPolicy(data.max_skipped_share if data.on_error == "skip" else 0.0)
