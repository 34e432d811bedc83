"""The points of a search space, and the trial of each point and seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from dpt_ray.config.schema import RunConfig
from dpt_ray.config.search_settings import DimensionConfig, TuneConfig
from dpt_ray.config.yaml_reader import write_value
from dpt_ray.core.seeds import derive_seed
from dpt_ray.errors import StoreFailureError, UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.dpt import DualPseudoTraining, build
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import in_order
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.run_settings import load_run
from dpt_ray.pipeline.splits import Split, validation_split
from dpt_ray.report.search_content import short_names

Point: TypeAlias = JsonObject
"""Dotted setting -> value."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One run of a search.

    Attributes:
        point: dotted setting -> value.
        seed: seed of the run.
        config: all settings.
        run: the steps.
    """

    point: Point
    seed: int
    config: RunConfig
    run: DualPseudoTraining

    @cached_property
    def key(self) -> str:
        """Identifies the trial: the address of its evaluation."""
        return self.run.evaluation.fingerprint

    @cached_property
    def steps(self) -> list[Step]:
        """All steps of its evaluation, parents first."""
        return in_order([self.run.evaluation])

    @property
    def title(self) -> str:
        """Name for messages."""
        return f"{describe_point(self.point)}, seed {self.seed}"

    def group(self, stage: str) -> str:
        """Name the trainings with which the scheduler compares a stage of this trial."""
        return f"{stage}, seed {self.seed}"


def describe_point(point: Mapping[str, Any]) -> str:
    """Return a point in words: the settings' short names and their values."""
    names = short_names(point)
    return ", ".join(f"{names[name]} {format_value(value)}" for name, value in point.items())


def format_value(value: Any) -> str:
    """Return a setting's value as people read it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)


def listed_points(tune: TuneConfig) -> list[Point]:
    """Return every point of the grids; with drawn settings, `budget.draws` times with other draws.

    A draw is a function of the searcher's seed and of its number, so a larger budget begins with the same draws.
    """
    grids = {name: dimension.grid for name, dimension in tune.space.items() if dimension.grid is not None}
    drawn = {name: dimension for name, dimension in tune.space.items() if dimension.grid is None}
    points: list[Point] = []
    for number in range(tune.budget.draws if drawn else 1):
        for cell, values in enumerate(product(*grids.values())):
            chosen = dict(zip(grids, values, strict=True))
            for name, dimension in drawn.items():
                seed = derive_seed("search", tune.searcher.seed, number, cell, name)
                chosen[name] = draw(dimension, np.random.default_rng(seed))
            points.append({name: chosen[name] for name in tune.space})
    return points


def draw(dimension: DimensionConfig, random: np.random.Generator) -> Any:
    """Draw one value."""
    if dimension.bounds is None:
        values = dimension.choice or dimension.grid or ()
        return values[int(random.integers(len(values)))]
    low, high = dimension.bounds
    if dimension.integer:  # every whole number has the same probability
        low, high = low - 0.5, high + 0.5
    logarithmic = dimension.log_uniform is not None
    value = float(np.exp(random.uniform(np.log(low), np.log(high))) if logarithmic else random.uniform(low, high))
    return min(max(round(value), int(dimension.bounds[0])), int(dimension.bounds[1])) if dimension.integer else value


class Trials:
    """The trials of a search: their settings and steps. Storage is read once for all of them.

    Args:
        tune: the search.
        overrides: `a.b=c` of the command line, stronger than the tune file's `settings`.
    """

    def __init__(self, tune: TuneConfig, overrides: Sequence[str]):
        self._tune, self._overrides = tune, overrides
        self.inputs = Inputs()

    def trial(self, point: Point, seed: int) -> Trial:
        """Return the trial of a point and a seed.

        Raises:
            UserError: its settings are impossible, or its data cannot be read; the point is named if it is the cause.
        """
        try:
            return self._describe(point, seed)
        except StoreFailureError:
            raise
        except UserError as error:
            if self._fails_without(point, seed, error):
                raise
            what = f"{error.what} (at {describe_point(point)})"
            raise UserError(what, where=error.where, fix=error.fix) from None

    def config(self, point: Mapping[str, Any], seed: int | None = None) -> RunConfig:
        """Return all settings of a point, with the base's own seeds if no seed is given.

        Raises:
            UserError: they are impossible. The message names the place in the tune file.
        """
        seeds = {} if seed is None else dict.fromkeys(_SEEDS, seed)
        settings = self._tune.settings
        try:
            layers = _settings(settings), self._overrides, _settings(point), _settings(seeds)
            return load_run(self._tune.base, *layers, inputs=self.inputs).config
        except UserError as error:
            where = _place_in_tune(error.where, settings, self._overrides, point, seeds)
            raise UserError(error.what, where=where, fix=error.fix) from None

    def _describe(self, point: Point, seed: int) -> Trial:
        config = self.config(point, seed)
        return Trial(point, seed, config, build(config, self._split, self.inputs))

    def _split(self, config: RunConfig, inputs: Inputs) -> Split:
        return validation_split(config, self._tune.validation, inputs)

    def _fails_without(self, point: Point, seed: int, error: UserError) -> bool:
        """Whether the same error occurs without the point, which then is not its cause."""
        if not point:
            return True
        try:
            self._describe({}, seed)
        except UserError as other:
            return str(other) == str(error)
        return False


_SEEDS = ("seed", "labels.seed")


def _place_in_tune(
    where: str | None,
    settings: Mapping[str, Any],
    overrides: Sequence[str],
    point: Mapping[str, Any],
    seeds: Mapping[str, Any],
) -> str | None:
    """Return the place of a wrong setting. All settings are passed as `--set` is; most come from the tune file."""
    mark = "--set "
    if where is None or not where.startswith(mark):
        return where
    name = where.removeprefix(mark).partition("=")[0].strip()
    if name in seeds:
        return "seeds"
    if name in point:
        return f"space: {name}"
    given = {override.partition("=")[0].strip() for override in overrides}
    return f"settings: {name}" if name in {key.strip() for key in settings} - given else where


def _settings(values: Mapping[str, Any]) -> list[str]:
    """Return values as `a.b=c`, c in YAML on one line."""
    return [f"{name}={write_value(value)}" for name, value in values.items()]
