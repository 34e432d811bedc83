"""Sizes of runs as text, for `--dry-run` and docs/guide/cluster/sizing.md."""

from collections.abc import Mapping

from dpt_ray.capacity.flops import H100
from dpt_ray.capacity.sizes import RunSize, StageSize
from dpt_ray.tables import MISSING, format_bytes, markdown_table, text_table

ASSUMED = "assumed"


def describe_size(size: RunSize) -> list[str]:
    """Return the size of a run as lines for a terminal."""
    head = ("stage", "GPU-hours", "images/s/GPU", "CPU readers/GPU", "GET/s/GPU", "fetched/s/GPU", "checkpoint")
    rows = [
        (
            stage.name,
            hours(stage.gpu_hours),
            number(stage.images_per_second),
            *reading(stage),
            format_bytes(stage.checkpoint) if stage.checkpoint else MISSING,
        )
        for stage in size.stages
    ]
    return [
        f"size on one {H100.name} (GPU figures are {ASSUMED}, reading is measured, bytes are counted: "
        "docs/guide/cluster/sizing.md):",
        text_table([head, *rows], header=True),
        f"object store: {format_bytes(size.object_store)} on each node with a training worker; "
        f"training shards: {format_bytes(size.shards)}; results: at most {format_bytes(size.results)}",
    ]


def size_table(sizes: Mapping[str, RunSize]) -> str:
    """Return a Markdown table with a column for each run, by title."""
    runs = list(sizes.values())
    stages = [run.longest for run in runs]
    rows = [
        ("", *sizes),
        ("training images", *(f"{run.data.images:,}" for run in runs)),
        ("training shards in S3, counted", *(format_bytes(run.shards) for run in runs)),
        ("results in S3 at most, counted", *(format_bytes(run.results) for run in runs)),
        ("training set", *("streams" if any(s.streams and s.checkpoint for s in run.stages) else "kept decoded"
                           for run in runs)),
        ("object store of a node with a training worker, counted", *(format_bytes(run.object_store) for run in runs)),
        ("longest stage", *(stage.name for stage in stages)),
        ("its images/s on a GPU, assumed", *(number(stage.images_per_second) for stage in stages)),
        ("CPU readers for a GPU, measured rate", *(reading(stage)[0] for stage in stages)),
        ("GET/s for a GPU", *(reading(stage)[1] for stage in stages)),
        ("fetched in a second for a GPU", *(reading(stage)[2] for stage in stages)),
        ("checkpoint of stage 1, counted", *(checkpoint(run, "stage1") for run in runs)),
        ("checkpoint of stage 2, counted", *(checkpoint(run, "stage2") for run in runs)),
        *(
            (f"GPU-hours of {title}, assumed", *(hours(run.hours_of(ids)) for run in runs))
            for title, ids in {
                "stage 1 and labelling": ("stage1", "encoding", "pseudo_labels"),
                "stage 2": ("encoding_latents", "stage2"),
                "pseudo images": ("pseudo_images", "decoding_latents"),
                "stage 3": ("stage3", "encoding_pseudo_images"),
            }.items()
        ),
        ("**GPU-hours in all, assumed**", *(f"**{hours(run.gpu_hours)}**" for run in runs)),
    ]  # fmt: skip
    return markdown_table(rows)


def checkpoint(run: RunSize, id: str) -> str:
    """Return the size of a stage's checkpoint; a dash if the stage trains no network."""
    found = [stage.checkpoint for stage in run.stages if stage.id == id]
    return format_bytes(found[0]) if found else MISSING


def reading(stage: StageSize) -> tuple[str, str, str]:
    """Return CPU readers, requests a second and bytes a second; zeros for a stage that does not stream."""
    if not stage.streams:
        return ("0", "0", "0")
    return (number(stage.readers), number(stage.requests), format_bytes(stage.bytes_per_second))


def hours(value: float) -> str:
    """Return GPU-hours with two significant digits; times below a minute and a half as "< 0.03"."""
    return number(value) if value >= 0.025 else "< 0.03"


def number(value: float) -> str:
    """Return a number with two significant digits, the precision of the assumptions."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"
