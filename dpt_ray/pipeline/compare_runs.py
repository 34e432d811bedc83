"""What runs differ in: settings and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpt_ray.config.load import parse_dumped
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.run import SETTINGS_FILE
from dpt_ray.pipeline.runs import RunSummary
from dpt_ray.pipeline.tracking.open_trackers import flat_settings
from dpt_ray.tables import MISSING, format_number

_NO_RESULT = ("name", "root", "tracking.")
"""Beginnings of settings that say where a run is and who observes it."""


@dataclass(frozen=True)
class Difference:
    """A setting or figure of two runs.

    Attributes:
        name: of the setting or figure.
        first, second: the values, ready to print.
        change: of a figure, second minus first; empty for a setting.
    """

    name: str
    first: str
    second: str
    change: str = ""


def read_settings(run: RunSummary) -> dict[str, str] | None:
    """Return all settings of a run by their dotted names, ready to print; None if this version cannot read them."""
    place = stores.join(run.url, SETTINGS_FILE)
    try:
        tree = parse_dumped(stores.read_bytes(place), place).model_dump(mode="json")
    except UserError:
        return None
    return {name: str(value) for name, value in flat_settings(tree) if not name.startswith(_NO_RESULT)}


def varied_settings(runs: Sequence[RunSummary]) -> list[dict[str, str]]:
    """Return, for each run, its values of the settings in which runs of its name differ; empty if they are unknown."""
    settings = [read_settings(run) or {} for run in runs]
    varied = []
    for run, own in zip(runs, settings, strict=True):
        same_name = [them for other, them in zip(runs, settings, strict=True) if other.name == run.name and them]
        varied.append({name: value for name, value in own.items() if len({t.get(name) for t in same_name}) > 1})
    return varied


def setting_differences(first: RunSummary, second: RunSummary) -> list[Difference]:
    """Return the settings in which two runs differ.

    Raises:
        UserError: the settings of one of them cannot be read.
    """
    a, b = (_need_settings(run) for run in (first, second))
    names = dict.fromkeys([*a, *b])
    return [Difference(n, a.get(n, MISSING), b.get(n, MISSING)) for n in names if a.get(n) != b.get(n)]


def figure_differences(first: Mapping[str, float], second: Mapping[str, float]) -> list[Difference]:
    """Return all figures of two runs."""
    return [
        Difference(
            name,
            format_number(first.get(name)),
            format_number(second.get(name)),
            f"{second[name] - first[name]:+.4g}" if name in first and name in second else "",
        )
        for name in dict.fromkeys([*first, *second])
    ]


def _need_settings(run: RunSummary) -> dict[str, str]:
    settings = read_settings(run)
    if settings is None:
        raise UserError("are no settings that this version reads", where=stores.join(run.url, SETTINGS_FILE))
    return settings
