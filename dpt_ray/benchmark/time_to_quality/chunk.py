"""One chunk of the run: goes on where the last one stopped, and ends in time."""

import torch

from dpt_ray.benchmark.time_to_quality import stages
from dpt_ray.benchmark.time_to_quality.cifar import Cifar
from dpt_ray.benchmark.time_to_quality.plan import Plan
from dpt_ray.benchmark.time_to_quality.progress_record import Clock, Progress
from dpt_ray.benchmark.time_to_quality.training import Run
from dpt_ray.tables import markdown_table

STAGES = ("classifier", "contest", "generator", "sample", "retrain")
"""In the order in which they follow from each other."""

CONTEST_SHARE = 0.3
"""Share of a chunk's time for the contest."""

SAMPLING_SHARE = 0.15
"""Share of the time after the contest that is left for sampling."""


def run_chunk(run: Run, data: Cifar, plan: Plan, wanted: tuple[str, ...], clock: Clock) -> Progress:
    """Run the wanted stages that are not finished, in order, until time is over; return how far the run is.

    The time of the last wanted stage is all that is left; a contest and sampling leave time for the others.

    Raises:
        UserError: what a stage needs is missing or damaged.
    """
    progress = run.folder.progress(torch.cuda.get_device_name() if run.device == "cuda" else "cpu")
    for name in STAGES:
        if name not in wanted or progress.stage(name).finished:
            continue
        if not stages.enough_time(clock):
            run.say(f"{name}: no time is left in this chunk")
            break
        _run_stage(run, data, plan, progress, name, _time_of(name, wanted, clock))
        run.folder.write_progress(progress)
        if not progress.stage(name).finished and name != "generator":
            run.say(f"{name}: goes on in the next chunk")
            break
    return progress


def _time_of(name: str, wanted: tuple[str, ...], clock: Clock) -> Clock:
    if name == "contest":
        return clock.part(CONTEST_SHARE * clock.left)
    if name == "generator" and "sample" in wanted:
        return clock.part((1 - SAMPLING_SHARE) * clock.left)
    return clock.part(clock.left)


def _run_stage(run: Run, data: Cifar, plan: Plan, progress: Progress, name: str, clock: Clock) -> None:
    stage = progress.stage(name)
    if name == "classifier":
        stages.train_classifier(run, data, plan, stage, clock)
    elif name == "contest":
        stages.Generators(run, data, plan).contest(stage, clock)
    elif name == "generator":
        choice = progress.stage("contest").choice or next(iter(plan.candidates))
        stages.Generators(run, data, plan).train(choice, stage, clock)
    elif name == "sample":
        stages.sample(run, plan, stage, clock)
    else:
        stages.retrain(run, data, plan, stage, clock)


def quality_table(progress: Progress) -> str:
    """Return "time to quality" as Markdown: for each stage its time, its images, and its last and best score."""
    rows = [("stage", "network", "minutes", "images", "score", "best score")]
    for name in STAGES:
        stage = progress.stages.get(name)
        if stage is None:
            continue
        last = stage.rows[-1] if stage.rows else None
        best = min if name in ("contest", "generator") else max
        scores = [row.score for row in stage.rows]
        rows.append(
            (
                name if stage.finished else f"{name} (not finished)",
                stage.choice,
                f"{stage.seconds / 60:.1f}",
                f"{last.images:,}" if last else "",
                f"{last.score:.4g}" if last else "",
                f"{best(scores):.4g}" if scores else "",
            )
        )
    meaning = "Scores are accuracies on the test images; of generators, Fréchet distances in stage 1's features."
    return f"{progress.device}.\n\n{markdown_table(rows)}\n\n{meaning}"
