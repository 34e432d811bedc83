"""Runs as tables for a terminal."""

import datetime
import shlex
from collections.abc import Sequence

from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.run import REPORT_FILE, SETTINGS_FILE
from dpt_ray.pipeline.artifacts.run_record import LOG_FILE, METRICS_FILE
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.collect_garbage import Garbage, artifact_bytes
from dpt_ray.pipeline.compare_runs import figure_differences, setting_differences, varied_settings
from dpt_ray.pipeline.runs import RunSummary
from dpt_ray.tables import MISSING, duration, format_bytes, format_number, format_seconds, format_share, text_table

SHOWN_SETTINGS = 3


def describe_list(root: str, runs: Sequence[RunSummary], now: datetime.datetime) -> str:
    """Return a row for each run: state, age, duration, size, accuracies, and the settings that differ by name."""
    sizes = run_sizes(root, runs)
    rows = [["run", "state", "age", "time", "size", "stage 1", "stage 3", "settings that differ"]]
    for run, size, varied in zip(runs, sizes, varied_settings(runs), strict=True):
        shown = [f"{name}={value}" for name, value in list(varied.items())[:SHOWN_SETTINGS]]
        more = len(varied) - len(shown)
        rows.append(
            [
                run.title,
                run.state,
                duration((now - run.started).total_seconds()) if run.started else MISSING,
                duration(run.seconds) if run.seconds is not None else MISSING,
                format_bytes(size),
                *(format_share(run.figures.get(f"stage{stage}_accuracy")) for stage in (1, 3)),
                ", ".join([*shown, *([f"and {more} more"] if more else [])]),
            ]
        )
    return text_table(rows, header=True)


def run_sizes(root: str, runs: Sequence[RunSummary]) -> list[int]:
    """Return the number of bytes of each run: its folder and all its artifacts, those that it shares included."""
    store = ArtifactStore(root)
    addresses = {address for run in runs for address in _addresses(run)}
    sizes = {address: artifact_bytes(store, address) for address in addresses}
    return [sum(sizes[address] for address in _addresses(run)) + _folder_bytes(run) for run in runs]


def _folder_bytes(run: RunSummary) -> int:
    return sum(file["size"] or 0 for file in stores.list_tree(run.url))


def describe_folder(run: RunSummary) -> str:
    """Return the size of a run's folder, without its artifacts."""
    return format_bytes(_folder_bytes(run))


def _addresses(run: RunSummary) -> set[str]:
    return {*run.needs, *run.artifacts.values()}


def describe_run(root: str, run: RunSummary) -> str:
    """Return all that is known of a run."""
    (size,) = run_sizes(root, [run])
    started = f"{run.started:%Y-%m-%d %H:%M:%S} UTC" if run.started else MISSING
    about = [
        ["run", run.title],
        ["state", run.state if run.message is None else f"{run.state}: {run.message}"],
        ["started", started],
        ["time", format_seconds(run.seconds)],
        ["size", format_bytes(size)],
        ["command", shlex.join(run.command) or MISSING],
        ["commit", run.commit or MISSING],
        ["software", ", ".join(f"{name} {version}" for name, version in run.software.items()) or MISSING],
    ]
    files = [[name, stores.join(run.url, name)] for name in (REPORT_FILE, LOG_FILE, METRICS_FILE, SETTINGS_FILE)]
    blocks = [
        about,
        [[name, format_number(value)] for name, value in run.figures.items()],
        [[id, address] for id, address in run.artifacts.items()],
        [row for row in files if stores.exists(row[1])],
    ]
    return "\n\n".join(text_table(block) for block in blocks if block)


def describe_comparison(first: RunSummary, second: RunSummary) -> str:
    """Return the settings in which two runs differ, and their figures, side by side."""
    settings, figures = setting_differences(first, second), figure_differences(first.figures, second.figures)
    blocks = []
    if settings:
        rows = [["setting", first.title, second.title], *([d.name, d.first, d.second] for d in settings)]
        blocks.append(text_table(rows, header=True))
    else:
        blocks.append("no setting differs")
    if figures:
        titles = ["figure", first.title, second.title, "change"]
        blocks.append(text_table([titles, *([d.name, d.first, d.second, d.change] for d in figures)], header=True))
    return "\n\n".join(blocks)


def describe_garbage(garbage: Sequence[Garbage]) -> str:
    """Return a row for each artifact, the largest first, and their sum."""
    largest = sorted(garbage, key=lambda one: -one.bytes)
    rows = [["artifact", "size"], *([one.address, format_bytes(one.bytes)] for one in largest)]
    total = format_bytes(sum(one.bytes for one in garbage))
    return f"{text_table(rows, header=True)}\n{len(garbage)} artifacts, {total}"
