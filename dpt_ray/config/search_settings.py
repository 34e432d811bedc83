"""Settings of a search: a tune file names a base configuration and the values to try."""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from dpt_ray.config.complaints import Tree, describe
from dpt_ray.config.load import leaf_names, setting_names, setting_type
from dpt_ray.config.places import Place, SearchName
from dpt_ray.config.scalars import Mistyped, as_wanted, is_null, is_section, shown
from dpt_ray.config.section import Count, Positive, Section
from dpt_ray.config.yaml_reader import read_yaml_file
from dpt_ray.errors import UserError

Number = Annotated[float, Field(allow_inf_nan=False)]


class DimensionConfig(Section):
    """The values to try for one setting; exactly one of `grid`, `choice`, `uniform` and `log_uniform` is given."""

    grid: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    """Every one of these values, combined with every value of all other grids."""
    choice: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    """One of these values, drawn at random."""
    uniform: tuple[Number, Number] | None = None
    """A number between two bounds, drawn uniformly."""
    log_uniform: tuple[Positive, Positive] | None = None
    """A number between two positive bounds, with its logarithm drawn uniformly."""
    integer: bool = False
    """Draw integers; both bounds are included."""

    @model_validator(mode="after")
    def _one_kind(self) -> "DimensionConfig":
        given = [kind for kind in ("grid", "choice", "uniform", "log_uniform") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of grid, choice, uniform, log_uniform (now: {', '.join(given) or 'none'})"
            )
        bounds = self.bounds
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"{given[0]} must be [low, high] with low < high: got [{bounds[0]:g}, {bounds[1]:g}]")
        if self.integer and bounds is None:
            raise ValueError("integer has an effect with uniform and log_uniform alone")
        if self.integer and bounds is not None and any(bound != int(bound) for bound in bounds):
            raise ValueError(f"integer needs whole bounds: got [{bounds[0]:g}, {bounds[1]:g}]")
        if self.grid is not None and len({repr(value) for value in self.grid}) < len(self.grid):
            raise ValueError("grid names a value twice")
        return self

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Bounds of a drawn number; None for listed values."""
        return self.uniform or self.log_uniform


class ValidationConfig(Section):
    """The images on which settings are compared. No training uses them."""

    images: Literal["labelled", "training", "test"]
    """`labelled`: a part of the labelled images, which training then lacks; it needs no further labels. `training`:
    training images with their true labels, besides the labelled images; a project with few labels does not have them.
    `test`: the test split, whose accuracy is then no longer an unbiased result."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of every class that is held out (at least one image each); 0.2 without `per_class`."""
    per_class: Count | None = None
    """Number of images of every class that are held out, instead of `share`."""
    seed: int = 0
    """Seed of the choice. All trials use the same images, whatever their seed."""

    @model_validator(mode="after")
    def _consistent(self) -> "ValidationConfig":
        if self.share is not None and self.per_class is not None:
            raise ValueError("share and per_class say the same; give one of them")
        if self.images == "test" and (self.share is not None or self.per_class is not None):
            raise ValueError("images: test is the whole test split; leave out share and per_class")
        return self


METRICS: dict[str, Literal["max", "min"]] = {
    "stage3_accuracy": "max",
    "stage1_accuracy": "max",
    "gain": "max",
    "pseudo_image_agreement": "max",
    "frechet_distance": "min",
}
"""Metric that a search can optimise -> whether larger or smaller values are better."""


class SchedulerConfig(Section):
    """Early stopping of trials."""

    name: Literal["none", "asha"] = "none"
    """`asha`: asynchronous successive halving of the trials with the same seed."""
    stages: Annotated[tuple[Literal["stage2", "stage3"], ...], Field(min_length=1)] = ("stage3",)
    """Trainings that can be stopped: `stage3` by the accuracy on validation images, `stage2` by the Fréchet distance of
    a few pseudo images, which is a cheap proxy."""
    first_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of a training after which it is first evaluated."""
    reduction_factor: Annotated[float, Field(gt=1)] = 2.0
    """One of this many evaluated trials continues. The next evaluation is after this many times the length."""
    proxy_per_class: Count = 20
    """stage2: number of pseudo images of every class in an evaluation."""
    validation_images: Count = 2000
    """stage3: largest number of validation images in an evaluation."""

    def shares(self) -> list[float]:
        """Return the shares of a training after which it is evaluated, ascending; none without early stopping."""
        if self.name == "none":
            return []
        evaluations = math.ceil(math.log(1 / self.first_share) / math.log(self.reduction_factor) - 1e-9)
        return [self.first_share * self.reduction_factor**number for number in range(evaluations)]


class SearcherConfig(Section):
    name: Literal["random", "optuna"] = "random"
    """`random`: all points of the grids, with the other settings drawn at random. `optuna`: the tree-structured Parzen
    estimator proposes all settings from the finished trials; it needs the extra `optuna`."""
    seed: int = 0
    """Seed of the draws."""


class BudgetConfig(Section):
    draws: Count = 1
    """random: number of draws for each point of the grids. optuna: number of proposals. Every seed runs each of
    them."""
    hours: Positive | None = None
    """Time in hours after which no trial starts; running trials finish. The same command continues the search."""


class TuneConfig(Section):
    """The settings of a search."""

    name: SearchName
    """Name of the search's folder below `<root>/searches/`, without slashes."""
    base: Place
    """Configuration that all trials refine: path of a YAML file, relative to the folder of the tune file."""
    settings: dict[str, Any] = Field(default={})
    """Dotted name -> value of settings that all trials have instead of those of `base`."""
    space: Annotated[dict[str, DimensionConfig], Field(min_length=1)]
    """Dotted name of a setting -> the values to try."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    """Seeds with which each point runs: they change labelled images, initial weights, data orders and pseudo images."""
    validation: ValidationConfig
    metric: Literal["stage3_accuracy", "stage1_accuracy", "gain", "pseudo_image_agreement", "frechet_distance"] = (
        "stage3_accuracy"
    )
    """Metric that the search optimises: an accuracy on the validation images, `gain` (stage 3 minus stage 1), or, for
    pseudo images, the agreement of stage 1's predictions with the requested classes or the Fréchet distance (smallest
    is best)."""
    scheduler: SchedulerConfig = SchedulerConfig()
    searcher: SearcherConfig = SearcherConfig()
    budget: BudgetConfig = BudgetConfig()
    max_concurrent: Count | None = None
    """Largest number of concurrent trials; by default as many as the CPUs, GPUs and memory of the cluster allow."""
    trial_gib: Annotated[float, Field(gt=0)] | None = None
    """Memory in GiB that the processes of a trial need on all nodes together, which bounds the number of concurrent
    trials; by default reckoned from the networks and the number of workers."""

    @model_validator(mode="after")
    def _consistent(self) -> "TuneConfig":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds names a seed twice")
        known = set(setting_names())
        for name in self.space:
            if name.partition(".")[0] in _FIXED:
                raise ValueError(f"space: {name} changes no result, or is the search's own; leave it out")
            if name not in known and not _OF_PLUGIN.search(name):
                raise ValueError(f"space: {name!r} is no setting; all are listed in docs/reference/settings.md")
        if set(self.space) & {"seed", "labels.seed"}:
            raise ValueError("space: seeds are no settings to choose; give them as seeds")
        return self


_FIXED = ("cluster", "root", "name", "preset")
"""Settings and sections that a search must not vary."""

_OF_PLUGIN = re.compile(r"^stage[123]\.(algorithm|model)\.\w+$")
"""Names that may be settings of a plug-in. The settings of each point are checked when the search is planned."""


def load_tune(file: str) -> TuneConfig:
    """Return the checked content of a tune file, with `base` relative to the working folder.

    Raises:
        UserError: the file is unreadable, a key is unknown, or a value is not allowed.
    """
    path = Path(file)
    tree = read_yaml_file(file, "tune file", "the shipped ones are under configs/tune/")
    if is_null(tree):
        raise UserError("is empty", where=file, fix="docs/guide/search.md says what a tune file holds")
    if not isinstance(tree, dict):
        raise UserError("must hold settings as 'name: value' lines", where=file)
    try:
        config = TuneConfig.model_validate(_with_typed_values(tree, file))
    except ValidationError as error:
        raise _one_line(error, file) from None
    base = Path(config.base)
    return config.model_copy(update={"base": str(base if base.is_absolute() else path.parent / base)})


def _with_typed_values(tree: Tree, file: str) -> Tree:
    """Return the tree with the values of settings converted to the types of those settings.

    Raises:
        UserError: a value has another type.
    """
    typed = dict(tree)
    settings, space = tree.get("settings"), tree.get("space")
    if isinstance(settings, dict):
        typed["settings"] = {name: _of_type(name, value, f"settings: {name}", file) for name, value in settings.items()}
        _refuse_repeats(settings, file)
    if isinstance(space, dict):
        typed["space"] = {name: _typed_dimension(name, value, file) for name, value in space.items()}
    return typed


def _typed_dimension(name: str, dimension: Any, file: str) -> Any:
    if not isinstance(dimension, dict):
        return dimension
    return {
        kind: [_of_type(name, value, f"space: {name}: {kind}", file) for value in values]
        if kind in ("grid", "choice") and isinstance(values, list)
        else values
        for kind, values in dimension.items()
    }


def _refuse_repeats(settings: Tree, file: str) -> None:
    """Refuse a setting that is given both by its dotted name and within a group."""
    names = list(leaf_names(settings))
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"settings: {name} is given twice", where=file, fix="keep one")


def _of_type(name: str, value: Any, place: str, file: str) -> Any:
    """Return a value converted to the type of the setting `name`; the run's settings check whether it is allowed."""
    if isinstance(value, dict) and is_section(setting_type(name)) is not None:
        return {key: _of_type(f"{name}.{key}", item, f"{place}.{key}", file) for key, item in value.items()}
    wanted = as_wanted(value, setting_type(name))
    if isinstance(wanted, Mistyped):
        reason = f": {wanted.reason}" if wanted.reason else ""
        raise UserError(f"{place}: {shown(value)} is not allowed{reason}", where=file)
    return wanted


def _one_line(error: ValidationError, file: str) -> UserError:
    details = error.errors()
    first = details[0]
    name = ".".join(str(part) for part in first["loc"])
    more = f" ({len(details) - 1} more after this one)" if len(details) > 1 else ""
    if first["type"] == "extra_forbidden":
        fix = "docs/guide/search.md lists the keys of a tune file"
        return UserError(f"unknown key {name!r}{more}", where=file, fix=fix)
    if first["type"] == "missing":
        return UserError(f"{name} is missing{more}", where=file, fix="docs/guide/search.md says what it is")
    return UserError(f"{describe(first)}{more}", where=file)
