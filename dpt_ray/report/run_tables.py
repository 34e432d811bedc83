"""The tables of a run report that hold figures and steps."""

from dpt_ray.report.content import Report
from dpt_ray.report.page_templates import Column, Table
from dpt_ray.tables import MISSING, format_bytes, format_money, format_number, format_seconds, format_share

LEFT_OUT_ROWS = 100


def results_table(report: Report) -> Table:
    """Return the figures of both classifiers, side by side."""
    columns = (Column("On held-out images", "name"), *(Column(h, "number") for h in ("Stage 1", "Stage 3", "Change")))
    return Table("Results", columns, [(r.name, r.stage1, r.stage3, r.change) for r in report.results])


def metrics_table(report: Report) -> Table:
    """Return all figures with their meaning."""
    columns = (
        Column("Metric", "name"),
        Column("Value", "number"),
        Column("95% interval", "number"),
        Column("Meaning", "text"),
    )
    rows = [
        (
            metric.name,
            f"{format_number(metric.value)} {metric.unit}".strip(),
            " to ".join(map(format_number, metric.interval or ())),
            metric.meaning,
        )
        for metric in report.metrics
    ]
    return Table("Metrics", columns, rows)


def published_table(report: Report) -> Table:
    """Return the run's figures beside those of the paper: accuracies in per cent, distances as they are."""
    columns = (
        Column("Figure", "name"),
        *(Column(heading, "number") for heading in ("This run", "Paper", "Difference")),
        Column("Source", "text"),
    )
    rows = [
        (
            figure.name,
            *(format_share(v) if figure.is_share else f"{v:.2f}" for v in (figure.ours, figure.published)),
            f"{format_share(figure.ours - figure.published, signed=True)} points"
            if figure.is_share
            else f"{figure.ours - figure.published:+.2f}",
            figure.source,
        )
        for figure in report.published
    ]
    return Table("Paper", columns, rows)


def steps_table(report: Report) -> Table:
    """Return time, cost if anything has a price, throughput and size of each step."""
    cost = (f"Cost ({report.currency})",) if report.currency else ()
    columns = (
        Column("Step", "name"),
        *(Column(heading, "number") for heading in ("Time", *cost, "Share of time", "Images/s", "Size")),
        Column("Result", "text"),
        Column("Address", "code"),
    )
    total = sum(step.seconds or 0.0 for step in report.steps)
    rows = [
        (
            step.title,
            format_seconds(step.seconds),
            *([format_money(step.cost)] if report.currency else []),
            format_share(step.seconds / total) if step.seconds is not None and total else MISSING,
            MISSING if step.images_per_second is None else f"{step.images_per_second:,.0f}",
            MISSING if step.bytes is None else format_bytes(step.bytes),
            step.summary,
            step.address,
        )
        for step in report.steps
    ]
    return Table("Steps", columns, rows)


def parents_table(report: Report) -> Table:
    """Return which steps read the artifacts of which."""
    titles = {step.address: step.title for step in report.steps}
    rows = [(step.title, ", ".join(titles.get(parent, parent) for parent in step.parents)) for step in report.steps]
    return Table("Steps and what they read", (Column("Step", "name"), Column("Reads", "text")), rows)


def left_out_table(report: Report) -> Table:
    """Return the first images that steps could not use."""
    columns = (
        Column("Step", "name"),
        Column("Shard or file", "code"),
        Column("Image", "code"),
        Column("Reason", "text"),
        Column("Images", "number"),
    )
    rows = [
        (entry.step, entry.where, entry.image, entry.reason, f"{entry.images:,}")
        for entry in report.left_out[:LEFT_OUT_ROWS]
    ]
    return Table("Left out", columns, rows)
