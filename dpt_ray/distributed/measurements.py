"""What steps measure while they run, for whoever observes the job: trackers and the live report of a run."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Measurement:
    """The state of a step at a moment.

    Attributes:
        step: title of the step.
        done: finished units of work.
        total: all units.
        unit: their name (plural).
        values: what was measured, finite numbers: a row of a training's history, or the rate of another step.
        seconds: when, as Unix time.
    """

    step: str
    done: int
    total: int
    unit: str
    values: Mapping[str, float] = field(default_factory=dict)
    seconds: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Picture:
    """What a network makes at a moment of its training.

    Attributes:
        step: title of the step.
        done: images that the network has seen.
        png: content of a PNG file.
        seconds: when, as Unix time.
    """

    step: str
    done: int
    png: bytes
    seconds: float = field(default_factory=time.time)


Observer = Callable[[Measurement | Picture], None]
"""Called in any thread of the process that runs the job; it must return at once and not raise."""

_observers: list[Observer] = []


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Call an observer with all measurements and pictures of this process within the context."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def is_observed() -> bool:
    """Return whether this process has an observer."""
    return bool(_observers)


def publish(step: str, done: int, total: int, unit: str, values: Mapping[str, float]) -> None:
    """Give a measurement to all observers, without values that are no finite numbers."""
    if _observers:
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        _give(Measurement(step, done, total, unit, finite))


def publish_picture(step: str, done: int, png: bytes) -> None:
    """Give a picture to all observers."""
    _give(Picture(step, done, png))


def _give(observed: Measurement | Picture) -> None:
    for observer in tuple(_observers):
        observer(observed)
