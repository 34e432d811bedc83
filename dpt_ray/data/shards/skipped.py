"""Images that could not be used: listed one by one, and tolerated up to a share that the user states.

`data.on_error` decides what damage is tolerated, never what a result is made from: it is no part of any
fingerprint. Steps list what they left out in their facts, `images_in` and `skipped`, and the list is held
against the policy whenever an artifact is made or used again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dpt_ray.config.schema import DataConfig
from dpt_ray.errors import UserError
from dpt_ray.text import printable, shortened

_FIX = "mend or remove it, or set data.on_error=skip to go on without"
LISTED_IN_ERROR = 10
"""So many entries are told in an error; the artifact's manifest holds all."""
_LONGEST_REASON = 1500
"""Characters. A reason may quote a name of any length."""


@dataclass(frozen=True)
class Skipped:
    """Something that was left out.

    Attributes:
        where: URL of the shard or file.
        key: the sample's key; None stands for the whole file, or for a part of it without readable names.
        reason: what is wrong with it, as in an error message: one line, whatever names of the data it holds.
        images: images that are lost with it, as far as that is known; at least 1.
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
        """Where it is, for messages; of a long key the beginning."""
        if self.key is None:
            return self.where
        return f"{self.where}: sample {shortened(self.key)!r}"

    def to_json(self) -> dict[str, Any]:
        """Return the entry as it stands in facts and manifests."""
        return asdict(self)


def count_images(skipped: Iterable[Skipped]) -> int:
    """Return how many images the entries stand for."""
    return sum(entry.images for entry in skipped)


def skip_facts(images_in: int, skipped: Iterable[Skipped]) -> dict[str, Any]:
    """Return the facts that a step which may leave images out gives; `images_in` includes those."""
    return {"images_in": images_in, "skipped": [entry.to_json() for entry in skipped]}


def read_skipped(facts: Mapping[str, Any]) -> list[Skipped]:
    """Return what an artifact's facts list as left out; nothing for steps that leave nothing out."""
    return [Skipped(**entry) for entry in facts.get("skipped", ())]


@dataclass(frozen=True)
class SkipPolicy:
    """The share of images that may be left out; 0 is `on_error: fail`."""

    allowed_share: float = 0.0

    def allowed(self, images_in: int) -> int:
        """Return how many of so many images may be left out."""
        return int(self.allowed_share * images_in + 1e-9)  # 0.29 times 100 is a little less than 29

    def check(self, skipped: list[Skipped], images_in: int) -> None:
        """Accept a list of what was left out of `images_in` images.

        Raises:
            UserError: it is more than may be; the entries are told.
        """
        lost = count_images(skipped)
        if not skipped or lost <= self.allowed(images_in):
            return
        first, *others = skipped
        if self.allowed_share == 0:
            reason = first.reason
            if others:
                reason += f" (and {len(others):,} more: {_told(others)})"
            raise UserError(
                reason, where=first.place, fix="mend or remove it, or set data.on_error=skip to go on without"
            )
        raise UserError(
            f"{lost:,} of {images_in:,} images cannot be used, more than the share of "
            f"{self.allowed_share:g} that is allowed: {_told(skipped)}",
            where="data.max_skipped_share",
            fix="mend or remove them, or raise data.max_skipped_share",
        )


TOLERATE_NOTHING = SkipPolicy()


def _told(entries: list[Skipped]) -> str:
    told = "; ".join(map(str, entries[:LISTED_IN_ERROR]))
    return told + (f"; and {len(entries) - LISTED_IN_ERROR:,} more" if len(entries) > LISTED_IN_ERROR else "")


def skip_policy(data: DataConfig) -> SkipPolicy:
    """Return how many images the settings allow to be left out."""
    return SkipPolicy(data.max_skipped_share if data.on_error == "skip" else 0.0)
