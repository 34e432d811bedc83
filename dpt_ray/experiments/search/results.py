"""The files with the results of a search, and the removal of those of another search of the same name."""

from collections.abc import Sequence

from dpt_ray.config.search_settings import TuneConfig
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.store import fingerprint

REPORT_FILE, RESULTS_FILE, BEST_FILE = "report.html", "results.json", "best.yaml"

_EXTENT = ("budget", "max_concurrent", "trial_gib")
"""Keys of a tune file that change how much of a search runs, or how much of it at a time, and no result of a trial."""
_NO_RESULT = ("cluster.", "root=")
"""Beginnings of settings that change no result."""


def tune_tree(tune: TuneConfig) -> JsonObject:
    """Return the settings of a tune file as a JSON object."""
    tree: JsonObject = tune.model_dump(mode="json", exclude_none=True)
    return tree


def overrides_address(overrides: Sequence[str]) -> str:
    """Return a hash of the settings of the command line, which are not stored themselves: they may hold passwords."""
    return fingerprint(sorted(text for text in overrides if not text.strip().startswith(_NO_RESULT)))


def remove_other_results(folder: str, tune: TuneConfig, overrides: Sequence[str]) -> None:
    """Remove the results of another search of this name, so that they are not taken for those of this one."""
    try:
        stored = stores.read_json(stores.join(folder, RESULTS_FILE))
        is_ours = _meaning(stored["search"]) == _meaning(tune_tree(tune)) and stored.get(
            "overrides", overrides_address(overrides)
        ) == overrides_address(overrides)
    except (UserError, KeyError, TypeError, AttributeError):  # absent, or not what a search writes
        is_ours = False
    if not is_ours:
        for name in (BEST_FILE, REPORT_FILE, RESULTS_FILE):
            stores.remove_tree(stores.join(folder, name))


def _meaning(tree: JsonObject) -> JsonObject:
    return {name: value for name, value in tree.items() if name not in _EXTENT}
