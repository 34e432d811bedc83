"""What a run report says of the steps: time, size, parents, what they left out, warnings, and the run's origin."""

import shlex
from collections.abc import Mapping

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.pipeline.artifacts.balanced_predictions import BalancedLabelsFacts
from dpt_ray.pipeline.artifacts.dataset import DatasetFacts
from dpt_ray.pipeline.artifacts.overlap import OverlapFacts
from dpt_ray.pipeline.artifacts.predictions import PredictionsFacts
from dpt_ray.pipeline.artifacts.pseudo_images import PseudoImagesFacts
from dpt_ray.pipeline.artifacts.run_record import STARTED_FILE, RunStart
from dpt_ray.pipeline.artifacts.step_facts import Facts, HasSkipped
from dpt_ray.pipeline.artifacts.store import Artifact, software_versions
from dpt_ray.pipeline.artifacts.trained_network import ProbeFacts, TrainingFacts
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import in_order
from dpt_ray.pipeline.step_costs import step_cost
from dpt_ray.report.content import LeftOut, StepRecord
from dpt_ray.tables import MISSING, format_share

NOTED_MISS = 0.2
"""Of a class's share; a balanced class that is off by more is told."""

Artifacts = Mapping[Step, Artifact]


def step_records(run: DualPseudoTraining, artifacts: Artifacts, cluster: ClusterConfig) -> tuple[StepRecord, ...]:
    """Return all steps of a run, parents before children, at the prices of the settings."""
    return tuple(_record(step, artifacts[step], cluster) for step in in_order(run.steps()))


def _record(step: Step, artifact: Artifact, cluster: ClusterConfig) -> StepRecord:
    facts = step.facts_type.read(artifact)
    files = artifact.manifest.get("files")
    return StepRecord(
        step.title,
        step.address,
        artifact.seconds,
        step.summary(facts),
        images=_images(facts),
        bytes=sum(files.values()) if isinstance(files, dict) else None,
        parents=tuple(dict.fromkeys(parent.address for parent in step.parents.values())),
        cost=step_cost(artifact, cluster),
    )


def _images(facts: Facts) -> int | None:
    """Return how many images a step processed, each as often as it was; None for a step that processes none."""
    if isinstance(facts, TrainingFacts):
        return facts.images_seen
    if isinstance(facts, ProbeFacts):
        return facts.rows * facts.evaluations
    return facts.images if isinstance(facts, DatasetFacts | PredictionsFacts | PseudoImagesFacts) else None


def provenance(folder: str | None) -> tuple[tuple[str, str], ...]:
    """Return command, commit and versions of a run.

    Args:
        folder: URL of the run's folder; None for a run without one, whose versions are those of this process.
    """
    place = stores.join(folder, STARTED_FILE) if folder else None
    if place is None or not stores.exists(place):
        return tuple(software_versions().items())
    start: RunStart = read_document(place, RunStart, "the start of a run")
    about = [("started", start.started), ("command", shlex.join(start.command)), ("commit", start.commit or MISSING)]
    return (*about, *start.software.items())


def left_out(run: DualPseudoTraining, artifacts: Artifacts) -> tuple[LeftOut, ...]:
    """Return all that steps could not use."""
    return tuple(
        LeftOut(step.title, entry.where, entry.key or "", entry.reason, entry.images)
        for step in in_order(run.steps())
        if isinstance(facts := step.facts_type.read(artifacts[step]), HasSkipped)
        for entry in facts.skipped
    )


def run_notes(run: DualPseudoTraining, artifacts: Artifacts) -> tuple[str, ...]:
    """Return every warning of the steps, and further limits that the reader has to know."""
    facts = run.pseudo_labels.facts_type.read(artifacts[run.pseudo_labels])
    notes = [f"{step.title}: {text}" for step in in_order(run.steps()) for text in artifacts[step].warnings]
    if run.overlap is not None and (duplicates := OverlapFacts.read(artifacts[run.overlap]).exact.test_images):
        notes.append(
            f"{duplicates:,} held-out images are training images, pixel for pixel, and data.on_overlap=report lets the "
            "run go on: accuracies on held-out images count them."
        )
    if isinstance(facts, BalancedLabelsFacts):
        share = format_share(facts.moved / max(1, facts.images))
        notes.append(f"Balancing gave {share} of the images another class than the most probable one.")
        if not facts.converged:
            notes.append(f"Balancing ended before its tolerance, at an error of {facts.error:.1e}.")
        if facts.largest_miss > NOTED_MISS:
            missed = format_share(facts.largest_miss)
            notes.append(f"Balancing missed a class's share by {missed} of it (see docs/guide/classifiers.md).")
    for step in (run.classifier, run.retrained):
        fit = step.facts_type.read(artifacts[step])
        if isinstance(fit, ProbeFacts) and not fit.converged:
            notes.append(
                f"The fit of the {step.title} ended before its tolerance, at a gradient of {fit.gradient:.1e}."
            )
    return tuple(notes)
