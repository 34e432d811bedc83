"""The files of a search's results, and whether those that are there are of this search."""

from collections.abc import Sequence
from typing import Any

from dpt_ray.config.search_settings import TuneConfig
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.store import fingerprint

REPORT_FILE, RESULTS_FILE, BEST_FILE = "report.html", "results.json", "best.yaml"

_EXTENT = ("budget", "max_concurrent")
"""Keys of a tune file that say how much of a search is run."""
_NO_RESULT = ("cluster.", "root=")
"""Beginnings of settings that change no result."""


def tune_tree(tune: TuneConfig) -> dict[str, Any]:
    """Return a tune file's settings, JSON-like."""
    return tune.model_dump(mode="json", exclude_none=True)


def overrides_address(overrides: Sequence[str]) -> str:
    """Return what tells other settings of the command line; they themselves may hold passwords."""
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


def _meaning(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name not in _EXTENT}
