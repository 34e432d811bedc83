"""Runs one trial of a search, in its own process."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dpt_ray.config.search_settings import SchedulerConfig
from dpt_ray.data.shards.skipped import skip_policy
from dpt_ray.distributed.evaluation_callback import EvaluationCallback
from dpt_ray.distributed.failures import user_error
from dpt_ray.distributed.job_log import present
from dpt_ray.distributed.trial_messages import Report, TrialOutcome, TrialReport
from dpt_ray.experiments.evaluators import ValidationAccuracy, pseudo_image_distance
from dpt_ray.experiments.search.space import Trial
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import make_all

LONGEST_CAUSE = 500


@dataclass(frozen=True)
class TrialJob:
    """A trial with its steps. They are described before, since relative paths differ in the trial's process.

    Attributes:
        trial: the trial.
        root: absolute URL of the results.
        scheduler: settings of early stopping.
    """

    trial: Trial
    root: str
    scheduler: SchedulerConfig


def run_trial(job: TrialJob, report: Report, say: Callable[[str], None]) -> TrialOutcome:
    """Make the evaluation of a trial. An error is returned as the cause of its failure, not raised."""
    began, cause = time.monotonic(), None
    try:
        _make(job, report, say)
    except Exception as error:
        known = user_error(error)
        cause = " ".join((str(known) if known else f"{type(error).__name__}: {error}").split())[:LONGEST_CAUSE]
    return TrialOutcome(round(time.monotonic() - began, 3), cause)


def _make(job: TrialJob, report: Report, say: Callable[[str], None]) -> None:
    trial, config = job.trial, job.trial.config
    store, policy = ArtifactStore(job.root), skip_policy(config.data)

    def say_news(text: str) -> None:
        if present().get("event") != "step_reused":  # most steps of a trial are shared with trials before it
            say(text)

    make = partial(make_all, store=store, cluster=config.cluster, say=say_news, policy=policy)
    make([trial.run.evaluation], callbacks=_callbacks(trial, job.scheduler, make, report))


def _callbacks(
    trial: Trial,
    scheduler: SchedulerConfig,
    make: Callable[..., Any],
    report: Report,
) -> dict[Step, EvaluationCallback]:
    """Return the callbacks that evaluate the trainings of a trial. The artifacts that they read are made first."""
    run, config = trial.run, trial.config
    callbacks: dict[Step, EvaluationCallback] = {}
    shares = tuple(scheduler.shares())

    def reporter(stage: str) -> Callable[[float, float], None]:
        return lambda share, score: report(TrialReport(trial.group(stage), stage, share, score))

    if shares and "stage2" in scheduler.stages and run.real_features is not None:
        judge = pseudo_image_distance(config, run, make, scheduler.proxy_per_class)
        callbacks[run.generator] = EvaluationCallback(shares, judge, reporter("stage2"))
    if shares and "stage3" in scheduler.stages:
        held_out = make([run.test_data])[run.test_data]
        accuracy = ValidationAccuracy(held_out.url, image_form(config.data), scheduler.validation_images)
        callbacks[run.retrained] = EvaluationCallback(shares, accuracy, reporter("stage3"))
    return callbacks
