"""The end of a full run: its folder with the resolved settings, the artifacts it is made of, and the report."""

import datetime
from collections.abc import Mapping

import numpy as np

from dpt_ray.config.load import dump_yaml
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.metrics.uncertainty import Interval
from dpt_ray.data.images.decoding import ImageForm, decode_image
from dpt_ray.data.loading.source import read_shard_samples
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.balanced_predictions import BalancedLabelsFacts
from dpt_ray.pipeline.artifacts.dataset import class_names, image_form
from dpt_ray.pipeline.artifacts.evaluation import (
    ClassMetrics,
    EvaluationFacts,
    described_metrics,
    read_metrics,
    tell_verdict,
)
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.overlap import PAIRS_FILE, ImagePair, OverlapFacts, tell_exact, tell_near
from dpt_ray.pipeline.artifacts.predictions import PredictionsFacts
from dpt_ray.pipeline.artifacts.pseudo_images import describe_guidance, first_pseudo_images
from dpt_ray.pipeline.artifacts.run import (
    REPORT_FILE,
    RUN_FILE,
    SAMPLES_FILE,
    SETTINGS_FILE,
    RunDocument,
)
from dpt_ray.pipeline.artifacts.step_facts import HasSkipped
from dpt_ray.pipeline.artifacts.store import Artifact, fingerprint
from dpt_ray.pipeline.artifacts.trained_network import ProbeFacts, read_history
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import in_order
from dpt_ray.pipeline.held_out_images import held_out_lists
from dpt_ray.report.content import (
    ClassAudit,
    Curve,
    Figure,
    ImageList,
    LeftOut,
    LookAlike,
    Overlap,
    Report,
    SampleGrid,
    StepRecord,
)
from dpt_ray.tables import format_share, text_table

HEADLINE = ("stage1_accuracy", "pseudo_label_accuracy", "stage3_accuracy")
"""Ids of the metrics that the headline shows."""
GRID_CLASSES, GRID_IMAGES = 20, 10
PICTURED_PAIRS = 10
NOTED_MISS = 0.2
"""Of a class's share; a balanced class that is off by more is told."""

Artifacts = Mapping[Step, Artifact]


def finish_run(config: RunConfig, run: DualPseudoTraining, artifacts: Artifacts, folder: str) -> str:
    """Write the report of a run and the list of its artifacts into its folder; return a table for the terminal."""
    from dpt_ray.report.grid import grid_png
    from dpt_ray.report.page import render

    settings = dump_yaml(config)
    document = RunDocument(
        artifacts={id: step.address for id, step in run.by_id().items()}, settings=fingerprint(settings)
    )
    report = describe_run(config, run, artifacts)
    stores.write_bytes(stores.join(folder, SETTINGS_FILE), settings.encode())
    if report.grid is not None:
        stores.write_bytes(stores.join(folder, SAMPLES_FILE), grid_png(report.grid, with_labels=True))
    stores.write_bytes(stores.join(folder, REPORT_FILE), render(report).encode())
    stores.write_json(stores.join(folder, RUN_FILE), document.to_json())
    metrics = EvaluationFacts.read(artifacts[run.evaluation])
    rows = [(figure.label, figure.value, figure.note) for figure in _headline(metrics)]
    rows += [(m.name, f"{m.value:.4g}", "") for m in described_metrics(metrics) if m.id not in HEADLINE]
    report_of_name = stores.join(folder.rpartition("/")[0], REPORT_FILE)  # `show_as_newest` copies it
    return f"\n{text_table(rows)}\n\nreport: {report_of_name}"


def describe_run(config: RunConfig, run: DualPseudoTraining, artifacts: Artifacts) -> Report:
    """Gather what the report says of a finished run."""
    metrics = read_metrics(artifacts[run.evaluation])
    return Report(
        title=f"Dual pseudo training: {config.name}",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        headline=_headline(metrics),
        metrics=described_metrics(metrics),
        curves=tuple(
            Curve(step.title, "images trained on", read_history(artifacts[step]))
            for step in (run.classifier, run.generator, run.retrained)
        ),
        grid=_sample_grid(config, artifacts[run.pseudo_images], artifacts[run.train_data]),
        reliability=metrics.reliability,
        classes=_audit(config, run, artifacts, metrics.per_class),
        image_lists=_image_lists(config, run, artifacts),
        overlap=_overlap(config, run, artifacts),
        steps=tuple(_record(step, artifacts[step]) for step in run.steps()),
        left_out=_left_out(run, artifacts),
        notes=_notes(run, artifacts),
        settings_yaml=dump_yaml(config),
    )


def _headline(metrics: EvaluationFacts) -> tuple[Figure, ...]:
    tests = f"{metrics.test_images:,} held-out images"
    change, pseudo = metrics.stage3_change, metrics.pseudo_label_accuracy
    gain = metrics.stage3_accuracy - metrics.stage1_accuracy
    compared = "stage 3 over stage 1"
    if change is not None:
        low, high = (format_share(bound, signed=True) for bound in (change.interval.low, change.interval.high))
        compared += f", 95% interval {low} to {high}; {tell_verdict(change)}"
    figures = [
        Figure("stage 1 accuracy", format_share(metrics.stage1_accuracy), tests + _bounds(metrics.stage1_interval)),
        Figure("stage 3 accuracy", format_share(metrics.stage3_accuracy), tests + _bounds(metrics.stage3_interval)),
        Figure("gain", format_share(gain, signed=True), compared),
    ]
    if pseudo is not None:
        figures.insert(1, Figure("pseudo-label accuracy", format_share(pseudo), "on unlabelled training images"))
    return tuple(figures)


def _bounds(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f", 95% interval {format_share(interval.low)} to {format_share(interval.high)}"


def _sample_grid(config: RunConfig, artifact: Artifact, train_data: Artifact) -> SampleGrid:
    """Read the first pseudo images of every class (of some classes, where there are very many)."""
    index = read_index(artifact.url)
    per_class = min(GRID_IMAGES, config.sampling.per_class)
    form = image_form(config.data)
    kept = [int(label) for label in np.linspace(0, index.num_classes - 1, min(GRID_CLASSES, index.num_classes))]
    images = np.zeros((len(kept), per_class, *form.shape), np.uint8)
    for image in first_pseudo_images(index, form, per_class, kept):
        images[kept.index(image.label), image.position] = image.pixels
    sampling = config.sampling
    caption = f"{sampling.sampler}, {sampling.steps} steps, {describe_guidance(sampling)}"
    names = class_names(config.data, index.num_classes, read_index(train_data.url).class_names)
    return SampleGrid(images, [names[label] for label in kept], caption)


def _image_lists(config: RunConfig, run: DualPseudoTraining, artifacts: Artifacts) -> tuple[ImageList, ...]:
    index = read_index(artifacts[run.train_data].url)
    return held_out_lists(
        artifacts[run.test_data],
        artifacts[run.stage1_predictions],
        artifacts[run.stage3_predictions],
        class_names(config.data, index.num_classes, index.class_names),
        image_form(config.data),
    )


def _overlap(config: RunConfig, run: DualPseudoTraining, artifacts: Artifacts) -> Overlap | None:
    """Describe held-out images that look like training images; None where there are none."""
    if run.overlap is None:
        return None
    artifact = artifacts[run.overlap]
    facts = OverlapFacts.read(artifact)
    if not facts.first:
        return None
    test, train = (read_index(artifacts[data].url) for data in (run.test_data, run.train_data))
    pictured = [
        pair
        for found in facts.first[:PICTURED_PAIRS]
        if (pair := _read_pair(found, test, train, image_form(config.data))) is not None
    ]
    pictures = SampleGrid(np.stack(pictured, axis=1), ["held-out", "training"]) if pictured else None
    pairs = tuple(LookAlike(pair.test.key, pair.train.key, pair.bits) for pair in facts.first)
    findings = f"{tell_exact(facts)}; {tell_near(facts)}."
    return Overlap(findings[0].upper() + findings[1:], pairs, artifact.file(PAIRS_FILE), pictures)


def _read_pair(pair: ImagePair, test: DatasetIndex, train: DatasetIndex, form: ImageForm) -> np.ndarray | None:
    """Return both images of a pair, uint8 (2, C, H, W); None if one cannot be read any more."""
    images = []
    for index, place in ((test, pair.test), (train, pair.train)):
        shard = index.shards[place.number]
        try:
            sample = read_shard_samples(shard)[place.row]
            images.append(decode_image(sample.image_bytes(shard.url), shard.form(form), shard.url))
        except UserError:
            return None
    return np.stack(images)


def _audit(
    config: RunConfig, run: DualPseudoTraining, artifacts: Artifacts, per_class: ClassMetrics
) -> tuple[ClassAudit, ...]:
    index = read_index(artifacts[run.train_data].url)
    labelled = np.bincount([i.label for i in read_labelled(artifacts[run.labelled])], minlength=index.num_classes)
    pseudo_labelled = PredictionsFacts.read(artifacts[run.pseudo_labels]).predicted_per_class
    return tuple(
        ClassAudit(
            name=name,
            images=index.class_counts[label],
            labelled=int(labelled[label]),
            pseudo_labelled=pseudo_labelled[label],
            precision=per_class.pseudo_label_precision[label],
            recall=per_class.pseudo_label_recall[label],
            stage1_accuracy=per_class.stage1_accuracy[label],
            stage3_accuracy=per_class.stage3_accuracy[label],
        )
        for label, name in enumerate(class_names(config.data, index.num_classes, index.class_names))
    )


def _record(step: Step, artifact: Artifact) -> StepRecord:
    return StepRecord(step.title, step.address, artifact.seconds, step.summary(step.facts_type.read(artifact)))


def _left_out(run: DualPseudoTraining, artifacts: Artifacts) -> tuple[LeftOut, ...]:
    return tuple(
        LeftOut(step.title, entry.where, entry.key or "", entry.reason, entry.images)
        for step in in_order(run.steps())
        if isinstance(facts := step.facts_type.read(artifacts[step]), HasSkipped)
        for entry in facts.skipped
    )


def _notes(run: DualPseudoTraining, artifacts: Artifacts) -> tuple[str, ...]:
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
