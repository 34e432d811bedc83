"""Runs and trials of searches that a comparison reads: their settings and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpt_ray.config.load import parse_dumped
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.json_records import plain_json
from dpt_ray.errors import UserError, expecting
from dpt_ray.experiments.search.records import measured, with_gain
from dpt_ray.experiments.search.results import RESULTS_FILE
from dpt_ray.json_values import Json
from dpt_ray.pipeline.artifacts.run import SETTINGS_FILE
from dpt_ray.pipeline.runs import RunSummary
from dpt_ray.pipeline.tracking.open_trackers import flat_settings

LABELS = "labels.per_class"
GUIDANCE = "sampling.guidance_scale"
_NO_RESULT = ("name", "root", "preset", "tracking.", "cluster.")
"""Beginnings of settings that change no figure."""


@dataclass(frozen=True)
class ComparedRun:
    """A finished run, or a finished trial of a search.

    Attributes:
        title: what the commands call it.
        seeds: settings that seed it, with their values.
        settings: all other settings that may change its figures. A trial has those of its tune file alone.
        figures: by the ids of the evaluation's metrics, and `gain`.
    """

    title: str
    seeds: Mapping[str, Json]
    settings: Mapping[str, Json]
    figures: Mapping[str, float]


def read_run(run: RunSummary) -> ComparedRun:
    """Return a finished run.

    Raises:
        UserError: it did not finish, has no figures, or its settings cannot be read.
    """
    if run.state != "finished" or not run.figures:
        what = "has no figures" if run.state == "finished" else f"is {run.state}, not finished"
        raise UserError(
            f"the run {run.title} {what}", where=run.url, fix="compare runs that dpt runs lists as finished"
        )
    place = stores.join(run.url, SETTINGS_FILE)
    tree = parse_dumped(stores.read_bytes(place), place).model_dump(mode="json")
    return _compared(run.title, {name: plain_json(value) for name, value in flat_settings(tree)}, run.figures)


def read_search(place: str) -> list[ComparedRun]:
    """Return the finished trials of a search.

    Args:
        place: URL of its folder, or of its file of results.

    Raises:
        UserError: there are no results, they have another form, or no trial finished.
    """
    url = place if place.endswith(".json") else stores.join(place, RESULTS_FILE)
    document = stores.read_json(url)
    with expecting("the results of a search", url):
        search = document["search"]
        name, common = str(search["name"]), dict(search["settings"])
        found = [
            _compared(
                f"{name} (trial {number})",
                {**common, **{str(setting): value for setting, value in trial["point"].items()}, "seed": trial["seed"]},
                trial["metrics"],
            )
            for number, trial in enumerate(document["trials"], 1)
            if trial["state"] == "finished"
        ]
    if not found:
        raise UserError("no trial of the search finished", where=url)
    return found


def _compared(title: str, settings: Mapping[str, Json], figures: Mapping[str, Json]) -> ComparedRun:
    known = {name: value for name, figure in with_gain(figures).items() if (value := measured(figure)) is not None}
    kept = {name: value for name, value in settings.items() if not name.startswith(_NO_RESULT)}
    return ComparedRun(
        title,
        {name: value for name, value in kept.items() if _is_seed(name)},
        {name: value for name, value in kept.items() if not _is_seed(name)},
        known,
    )


def _is_seed(setting: str) -> bool:
    return setting.rpartition(".")[2].endswith("seed")


def differing(runs: Sequence[ComparedRun]) -> list[str]:
    """Return the settings, seeds excluded, in which runs differ, with the labels and the guidance scale first."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    varied = [name for name in names if len({repr(run.settings.get(name)) for run in runs}) > 1]
    return sorted(varied, key=lambda name: (name != LABELS, name != GUIDANCE))
