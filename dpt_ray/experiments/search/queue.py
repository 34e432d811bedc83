"""Which trial comes next."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable

from dpt_ray.experiments.search.records import Record
from dpt_ray.experiments.search.space import Trial
from dpt_ray.pipeline.artifacts.store import ArtifactStore


class TrialQueue(ABC):
    """Hands out trials, and is told what became of them."""

    @abstractmethod
    def take(self, running: Collection[Trial]) -> Trial | None:
        """Return the next trial, given those that run; None if there is none at the moment."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether no trial will come any more."""

    @abstractmethod
    def most_to_come(self) -> int:
        """Return how many trials may still come that are not described yet."""

    @abstractmethod
    def tell(self, trial: Trial, record: Record) -> None:
        """Note what became of a trial that was handed out."""

    @abstractmethod
    def drop(self, unwanted: Callable[[Trial], bool]) -> list[Trial]:
        """Remove trials that wait, and return them."""


class ListedTrials(TrialQueue):
    """Trials that are known from the start.

    Of those that wait, the one comes first that shares least of what is still to make with those that run: a trial
    that waits for another's artifact would hold its place for nothing.
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

    def drop(self, unwanted: Callable[[Trial], bool]) -> list[Trial]:
        dropped = [trial for trial in self._waiting if unwanted(trial)]
        self._waiting = [trial for trial in self._waiting if not unwanted(trial)]
        return dropped


class Missing:
    """Which artifacts are still to make."""

    def __init__(self, store: ArtifactStore):
        self._store = store
        self._made: set[tuple[str, str]] = set()

    def least_shared(self, candidates: Collection[Trial], running: Collection[Trial]) -> Trial:
        """Return the candidate that shares least of what is missing with those that run; of equal ones the first."""
        being_made = {(step.name, step.fingerprint) for trial in running for step in trial.steps}
        being_made = {address for address in being_made if self._is_missing(address)}
        return min(
            candidates,
            key=lambda trial: sum((step.name, step.fingerprint) in being_made for step in trial.steps),
        )

    def _is_missing(self, address: tuple[str, str]) -> bool:
        if address not in self._made and self._store.find(*address) is not None:
            self._made.add(address)
        return address not in self._made
