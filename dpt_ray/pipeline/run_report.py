"""The end of a full run: its folder with the resolved settings, the artifacts it is made of, and the report."""

import datetime
from collections.abc import Mapping

from dpt_ray.config.load import dump_yaml
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.metrics.uncertainty import Interval, PairedChange
from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.evaluation import EvaluationFacts, described_metrics, read_metrics, tell_verdict
from dpt_ray.pipeline.artifacts.run import (
    REPORT_FILE,
    RUN_FILE,
    SAMPLES_FILE,
    SETTINGS_FILE,
    STEPS_FILE,
    RunDocument,
)
from dpt_ray.pipeline.artifacts.store import Artifact, fingerprint
from dpt_ray.pipeline.artifacts.trained_network import read_history
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.held_out_images import held_out_lists
from dpt_ray.pipeline.licence_notes import licence_notes
from dpt_ray.pipeline.published_figures import published_figures, published_note
from dpt_ray.pipeline.report_classes import audit_classes, confusions, reliabilities
from dpt_ray.pipeline.report_images import look_alikes, nearest_images, real_grid, sample_grid
from dpt_ray.pipeline.report_steps import left_out, provenance, run_notes, step_records
from dpt_ray.pipeline.step_costs import run_steps
from dpt_ray.report.content import Curve, Figure, Report, StageFigure
from dpt_ray.tables import format_money, format_share, text_table

HEADLINE = ("stage1_accuracy", "pseudo_label_accuracy", "stage3_accuracy", "classification_accuracy_score")
"""Ids of the metrics that the headline shows."""

Artifacts = Mapping[Step, Artifact]


def finish_run(config: RunConfig, run: DualPseudoTraining, artifacts: Artifacts, folder: str) -> str:
    """Write the report of a run and the list of its artifacts into its folder; return a table for the terminal."""
    from dpt_ray.report.grid import grid_png
    from dpt_ray.report.page import render

    settings = dump_yaml(config)
    document = RunDocument(
        artifacts={id: step.address for id, step in run.by_id().items()}, settings=fingerprint(settings)
    )
    report = describe_run(config, run, artifacts, folder)
    stores.write_bytes(stores.join(folder, SETTINGS_FILE), settings.encode())
    if report.grid is not None:
        stores.write_bytes(stores.join(folder, SAMPLES_FILE), grid_png(report.grid, with_labels=True))
    stores.write_bytes(stores.join(folder, REPORT_FILE), render(report).encode())
    steps = run_steps(run.steps(), artifacts, config.cluster)
    stores.write_json(stores.join(folder, STEPS_FILE), steps.to_json())
    stores.write_json(stores.join(folder, RUN_FILE), document.to_json())
    metrics = EvaluationFacts.read(artifacts[run.evaluation])
    rows = [(figure.label, figure.value, figure.note) for figure in _headline(metrics)]
    rows += [(m.name, f"{m.value:.4g}", m.note) for m in described_metrics(metrics) if m.id not in HEADLINE]
    if steps.cost is not None:
        rows.append(("cost of all steps", f"{format_money(steps.cost)} {steps.currency}", ""))
    report_of_name = stores.join(folder.rpartition("/")[0], REPORT_FILE)  # `show_as_newest` copies it
    return f"\n{text_table(rows)}\n\nreport: {report_of_name}"


def describe_run(config: RunConfig, run: DualPseudoTraining, artifacts: Artifacts, folder: str | None = None) -> Report:
    """Gather what the report says of a finished run.

    Args:
        config: settings of the run.
        run: its steps.
        artifacts: all of its artifacts.
        folder: URL of the run's folder, which holds how it was started.
    """
    metrics = read_metrics(artifacts[run.evaluation])
    classes = audit_classes(config, run, artifacts, metrics)
    names = [audit.name for audit in classes]
    published = published_figures(config, [audit.labelled for audit in classes], metrics)
    return Report(
        title=f"Dual pseudo training: {config.name}",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        headline=_headline(metrics),
        results=_results(metrics),
        verdict=_verdict(metrics.stage3_change),
        metrics=described_metrics(metrics),
        curves=tuple(
            Curve(step.title, "images trained on", read_history(artifacts[step]))
            for step in (run.classifier, run.pretraining, run.generator, run.retrained, run.trained_on_pseudo)
            if step is not None
        ),
        real=real_grid(config, artifacts[run.test_data], artifacts[run.train_data]),
        grid=sample_grid(config, artifacts[run.pseudo_images], artifacts[run.train_data]),
        neighbours=nearest_images(config, run, artifacts),
        reliability=reliabilities(metrics),
        classes=classes,
        confusions=confusions(metrics, names),
        image_lists=held_out_lists(
            artifacts[run.test_data],
            artifacts[run.stage1_predictions],
            artifacts[run.stage3_predictions],
            names,
            image_form(config.data),
        ),
        overlap=look_alikes(config, run, artifacts),
        published=published,
        published_note=published_note(config) if published else "",
        steps=step_records(run, artifacts, config.cluster),
        currency=run_steps(run.steps(), artifacts, config.cluster).currency or "",
        left_out=left_out(run, artifacts),
        notes=(*run_notes(run, artifacts), *(f"Licence: {line}." for line in licence_notes(config))),
        provenance=provenance(folder),
        settings_yaml=dump_yaml(config),
    )


def _results(metrics: EvaluationFacts) -> tuple[StageFigure, ...]:
    """Return the figures of both classifiers; those that are not known are left out."""
    change = metrics.stage3_change
    gain = format_share(metrics.stage3_accuracy - metrics.stage1_accuracy, signed=True)
    rows = [
        StageFigure(
            "Accuracy", format_share(metrics.stage1_accuracy), format_share(metrics.stage3_accuracy), f"{gain} points"
        )
    ]
    if metrics.stage1_interval is not None and metrics.stage3_interval is not None:
        between = ""
        if change is not None:
            low, high = (format_share(bound, signed=True) for bound in (change.interval.low, change.interval.high))
            between = f"{low} to {high}"
        rows.append(
            StageFigure("95% interval", _range(metrics.stage1_interval), _range(metrics.stage3_interval), between)
        )
    first, last = metrics.stage1_top5_accuracy, metrics.stage3_top5_accuracy
    if first is not None and last is not None:
        rows.append(
            StageFigure(
                "Top-5 accuracy", format_share(first), format_share(last), format_share(last - first, signed=True)
            )
        )
        if metrics.stage1_top5_interval is not None and metrics.stage3_top5_interval is not None:
            rows.append(
                StageFigure(
                    "95% interval of top-5", _range(metrics.stage1_top5_interval), _range(metrics.stage3_top5_interval)
                )
            )
    first, last = metrics.stage1_calibration_error, metrics.stage3_calibration_error
    if first is not None and last is not None:
        rows.append(StageFigure("Calibration error", format_share(first), format_share(last)))
    return tuple(rows)


def _verdict(change: PairedChange | None) -> str:
    """Return in a sentence whether the stages can be told apart; empty if that is not known."""
    if change is None:
        return ""
    return (
        f"Stage 3 corrects {change.mended:,} of {change.images:,} images and newly gets {change.broken:,} wrong. By "
        f"McNemar's exact test the classifiers are {tell_verdict(change)}."
    )


def _range(interval: Interval) -> str:
    return f"{format_share(interval.low)} to {format_share(interval.high)}"


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
    score = metrics.classification_accuracy_score
    if score is not None:
        note = "by a classifier that learnt from pseudo images alone"
        note += _bounds(metrics.classification_accuracy_score_interval)
        figures.append(Figure("classification accuracy score", format_share(score), note))
    return tuple(figures)


def _bounds(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f", 95% interval {format_share(interval.low)} to {format_share(interval.high)}"
