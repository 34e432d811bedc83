"""Warnings of settings of a search that are allowed but have no effect or spoil the result."""

from dpt_ray.config.load import given_settings
from dpt_ray.config.schema import RunConfig
from dpt_ray.experiments.search.search import Search
from dpt_ray.experiments.search.space import Point, describe_point, listed_points
from dpt_ray.pipeline.setting_warnings import setting_warnings


def search_warnings(search: Search) -> list[str]:
    """Return a warning for each doubtful setting.

    There is no warning for a setting that some points read and others do not. A warning of some points only names the
    first of them. Points that a searcher will propose are not known yet.
    """
    tune = search.tune
    in_file, _ = given_settings(tune.base)
    given = {*given_settings(None, search.overrides)[1], *tune.settings, *tune.space}
    configs = _configs(search)
    at_all = [set(setting_warnings(config, in_file, given)) for _, config in configs]
    common = set.intersection(*at_all)
    lines = dict.fromkeys(line for line in setting_warnings(configs[0][1], in_file, given) if line in common)
    for point, config in configs:
        for line in setting_warnings(config):
            if line not in lines and not any(told.startswith(f"{line} (at ") for told in lines):
                lines[f"{line} (at {describe_point(point)})"] = None
    return list(lines)


def _configs(search: Search) -> list[tuple[Point, RunConfig]]:
    """Return the settings of every known point, once for all of its seeds."""
    seed = search.tune.seeds[0]
    known = [(trial.point, trial.config) for trial in search.listed if trial.seed == seed]
    first = listed_points(search.tune)[0]
    return known or [(first, search.trials.config(first, seed))]
