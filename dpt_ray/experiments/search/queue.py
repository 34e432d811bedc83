"""The order in which trials run."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable

from dpt_ray.experiments.search.records import Record
from dpt_ray.experiments.search.space import Trial
from dpt_ray.pipeline.artifacts.store import ArtifactStore


class TrialQueue(ABC):
    """The trials that wait. It receives the records of trials that have ended."""

    @abstractmethod
    def take(self, running: Collection[Trial]) -> Trial | None:
        """Remove and return the next trial, given the running ones; None if there is none at the moment."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether there will be no further trial."""

    @abstractmethod
    def most_to_come(self) -> int:
        """Return the largest number of further trials that are not described yet."""

    @abstractmethod
    def tell(self, trial: Trial, record: Record) -> None:
        """Receive the record of a trial that has ended."""

    @abstractmethod
    def put_back(self, trial: Trial) -> None:
        """Let a trial that did not come to its end be the next one."""

    @abstractmethod
    def drop(self, unwanted: Callable[[Trial], bool]) -> list[Trial]:
        """Remove and return waiting trials."""


class ListedTrials(TrialQueue):
    """Trials that are known from the start.

    The next trial is the waiting one that shares the fewest missing artifacts with the running ones. A trial that waits
    for an artifact of another one would occupy its place without working.
    """

    def __init__(self, trials: Iterable[Trial], store: ArtifactStore):
        self._waiting, self._missing = list(trials), Missing(store)

    def take(self, running: Collection[Trial]) -> Trial | None:
        if not self._waiting:
            return None
        trial = self._missing.least_shared(self._waiting, running)
        self._waiting.remove(trial)
        return trial

    def is_empty(self) -> bool:
        return not self._waiting

    def most_to_come(self) -> int:
        return 0

    def tell(self, trial: Trial, record: Record) -> None:
        pass

    def put_back(self, trial: Trial) -> None:
        self._waiting.insert(0, trial)

    def drop(self, unwanted: Callable[[Trial], bool]) -> list[Trial]:
        dropped = [trial for trial in self._waiting if unwanted(trial)]
        self._waiting = [trial for trial in self._waiting if not unwanted(trial)]
        return dropped


LOOK_SECONDS = 15.0
"""Seconds for which an artifact that was missing counts as missing."""


class Missing:
    """The artifacts that are missing in a store, by a look that is at most `LOOK_SECONDS` old.

    A look lists the folders of each kind of artifact, and asks for those alone that have a folder.
    """

    def __init__(self, store: ArtifactStore):
        self._store = store
        self._made: set[tuple[str, str]] = set()
        self._looked: dict[tuple[str, str], float] = {}
        """Address of a missing artifact -> when it was looked for, s."""

    def least_shared(self, candidates: Collection[Trial], running: Collection[Trial]) -> Trial:
        """Return the first of the candidates that share the fewest missing artifacts with the running trials."""
        wanted = {(step.name, step.fingerprint) for trial in candidates for step in trial.steps}
        being_made = wanted & {(step.name, step.fingerprint) for trial in running for step in trial.steps}
        self._look(being_made)
        being_made -= self._made
        return min(
            candidates,
            key=lambda trial: sum((step.name, step.fingerprint) in being_made for step in trial.steps),
        )

    def _look(self, addresses: set[tuple[str, str]]) -> None:
        """Look for artifacts that are not known to be made, unless this was done a short time ago."""
        now = time.monotonic()
        due = {
            address for address in addresses - self._made if now - self._looked.get(address, -math.inf) >= LOOK_SECONDS
        }
        begun = {(name, folder) for name in {name for name, _ in due} for folder in self._store.folders(name)}
        self._made.update(address for address in due & begun if self._store.find(*address) is not None)
        self._looked.update(dict.fromkeys(due - self._made, now))
