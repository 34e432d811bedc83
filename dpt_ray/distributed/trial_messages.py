"""The messages of a trial to the search that runs it."""

from collections.abc import Callable
from dataclasses import dataclass

from dpt_ray.data.storage.json_records import Record, optional


@dataclass(frozen=True)
class TrialReport(Record):
    """An evaluation of a training during a trial, which the scheduler compares with those of other trials.

    Attributes:
        group: only trainings of one group are compared.
        stage: the stage that trains.
        share: share of the training that is done, in (0, 1].
        score: result of the evaluation; higher is better.
    """

    group: str
    stage: str
    share: float
    score: float


@dataclass(frozen=True)
class TrialOutcome(Record):
    """The end of a trial that was not stopped.

    Attributes:
        seconds: duration of the trial.
        cause: why it failed, in one line; None if it did not fail.
        preempted: why it was left before its end; None if it was not. It goes on elsewhere.
    """

    seconds: float
    cause: str | None = optional()
    preempted: str | None = optional()


Report = Callable[[TrialReport], None]
"""Sends a report. It does not return if the scheduler stops the trial."""
