"""Checks before a search starts: settings that are given twice, and a metric that is not measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dpt_ray.config.schema import RunConfig
from dpt_ray.config.search_settings import TuneConfig
from dpt_ray.errors import UserError
from dpt_ray.experiments.search.space import Point, Trials, format_value, listed_points

Path = tuple[str, ...]
"""The parts of a dotted name."""


def check_given_once(tune: TuneConfig, overrides: Sequence[str]) -> None:
    """Refuse a setting that is given in two places, one of which would have no effect.

    Raises:
        UserError: a setting is given twice; the message names both places.
    """
    given: dict[Path, str] = {}
    for name, value in tune.settings.items():
        for path in _leaves(_parts(name), value):
            _add(given, path, f"settings: {name}")
    for override in overrides:  # stronger than `settings`, so these may be named by both
        path = _parts(override.partition("=")[0])
        for name in tune.space:
            if _overlap(path, _parts(name)):
                raise UserError(
                    f"has no effect, since the search's space varies {name}",
                    where=f"--set {override}",
                    fix="leave it out, or take the setting out of the space",
                )
    for name in tune.space:
        _add(given, _parts(name), f"space: {name}")


def check_early_stopping(tune: TuneConfig, config: RunConfig) -> None:
    """Refuse early stopping of a stage that no callback can evaluate.

    Raises:
        UserError: it is asked for.
    """
    if tune.scheduler.name == "none":
        return
    for stage, section in (("stage2", config.stage1), ("stage3", config.stage3)):
        if stage in tune.scheduler.stages and section.model.name == "linear_probe":
            raise UserError(
                f"{stage} cannot be stopped early with a linear probe",
                where="scheduler.stages",
                fix=f"leave {stage} out",
            )
    if "stage2" in tune.scheduler.stages and not config.evaluation.frechet:
        raise UserError("stage2 needs evaluation.frechet, its proxy", where="scheduler.stages", fix="set it to true")


def _add(given: dict[Path, str], path: Path, place: str) -> None:
    for other, earlier in given.items():
        if _overlap(path, other):
            longer: Path = max(path, other, key=len)
            raise UserError(
                f"{'.'.join(longer)} is given here and in {earlier}", where=place, fix="leave one of them out"
            )
    given[path] = place


def _parts(name: str) -> Path:
    return tuple(part.strip() for part in name.split("."))


def _leaves(path: Path, value: Any) -> Iterator[Path]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves((*path, *_parts(str(name))), inner)
    else:
        yield path


def _overlap(one: Path, other: Path) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def check_space(tune: TuneConfig, trials: Trials) -> None:
    """Refuse a grid with values that are one setting, such as 1 and 1.0, and a metric that some point does not measure.

    Raises:
        UserError: the space has such a grid or such a point.
    """
    first = listed_points(tune)[0]
    _check_grids(tune, trials, first)
    _check_metric(tune, trials, first)


def _check_grids(tune: TuneConfig, trials: Trials, first: Point) -> None:
    for name, dimension in tune.space.items():
        values: dict[str, object] = {}
        for value in dimension.grid or ():
            try:
                resolved = trials.config({**first, name: value}).model_dump_json()
            except UserError:  # the trial itself reports it
                continue
            if resolved in values:
                twice = f"{format_value(values[resolved])} and {format_value(value)}"
                raise UserError(f"its grid names {twice}, which are the same setting", where=f"space: {name}")
            values[resolved] = value


def _check_metric(tune: TuneConfig, trials: Trials, first: Point) -> None:
    if tune.metric != "frechet_distance":
        return  # the others are always measured
    switch = "evaluation.frechet"
    dimension = tune.space.get(switch)
    values = (dimension.grid or dimension.choice or ()) if dimension else ()
    points: list[Point] = [{**first, switch: value} for value in values] or [first]
    for point in points:
        if not trials.config(point).evaluation.frechet:
            where = f"space: {switch}" if dimension else "metric"
            raise UserError(
                f"{tune.metric} is not measured where {switch} is false",
                where=where,
                fix=f"set {switch} to true, or choose another metric",
            )
