"""Settings of a search: a tune file names a base configuration and what is tried over it."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from dpt_ray.config.complaints import describe
from dpt_ray.config.load import leaf_names, setting_names, setting_type
from dpt_ray.config.places import Place, SearchName
from dpt_ray.config.scalars import Mistyped, as_wanted, is_null, is_section, shown
from dpt_ray.config.schema import Count, Positive, Section
from dpt_ray.config.yaml_reader import read_yaml_file
from dpt_ray.errors import UserError

Number = Annotated[float, Field(allow_inf_nan=False)]


class DimensionConfig(Section):
    """The values of one setting; exactly one of these is given."""

    grid: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    """Every one of these values, with every value of all other grids."""
    choice: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    """One of these values, drawn."""
    uniform: tuple[Number, Number] | None = None
    """A number between two bounds, drawn."""
    log_uniform: tuple[Positive, Positive] | None = None
    """A number between two bounds above 0, its logarithm drawn uniformly."""
    integer: bool = False
    """Drawn numbers are whole ones, both bounds among them."""

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
        """Bounds of drawn numbers; None for listed values."""
        return self.uniform or self.log_uniform


class ValidationConfig(Section):
    """The images that settings are compared on. They are kept out of everything that trains."""

    images: Literal["labelled", "training", "test"]
    """`labelled`: a part of the labelled images, which training then does without; it costs no label more.
    `training`: training images with their true labels, besides the labelled ones: labels that a real project with few
    of them does not have. `test`: the test split, which then proves nothing any more."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of every class that is kept out (at least one image each); 0.2 when neither it nor `per_class` is given."""
    per_class: Count | None = None
    """Images of every class that are kept out, in the place of `share`."""
    seed: int = 0
    """Fixes which ones. It is the same for all trials, whatever their seed, so that all are compared on one set."""

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
"""Figures that a search may optimise, and whether more or less is better."""


class SchedulerConfig(Section):
    """Early stopping."""

    name: Literal["none", "asha"] = "none"
    """`asha`: asynchronous successive halving, among the trials of one seed."""
    stages: Annotated[tuple[Literal["stage2", "stage3"], ...], Field(min_length=1)] = ("stage3",)
    """Trainings that may be stopped: `stage3` by its accuracy on the validation images, `stage2` by a cheap proxy, the
    Frechet distance of a few pseudo images."""
    first_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of a training after which it is looked at first."""
    reduction_factor: Annotated[float, Field(gt=1)] = 2.0
    """Of so many trials that are looked at, one goes on; the next look is after so many times the length."""
    proxy_per_class: Count = 20
    """stage2: pseudo images of every class that are drawn for a look."""
    validation_images: Count = 2000
    """stage3: validation images that a look reads at most."""

    def shares(self) -> list[float]:
        """Return after which shares of a training it is looked at."""
        if self.name == "none":
            return []
        looks = math.ceil(math.log(1 / self.first_share) / math.log(self.reduction_factor) - 1e-9)
        return [self.first_share * self.reduction_factor**look for look in range(looks)]


class SearcherConfig(Section):
    name: Literal["random", "optuna"] = "random"
    """`random`: grids in full, the rest drawn. `optuna`: its tree-structured Parzen estimator proposes every setting
    from those that are finished; needs the extra `optuna`."""
    seed: int = 0
    """Fixes what is drawn."""


class BudgetConfig(Section):
    draws: Count = 1
    """random: draws for each point of the grids. optuna: proposals. A draw is run with every seed."""
    hours: Positive | None = None
    """No trial is started after so long; those that run are finished. The same command goes on with the rest."""


class TuneConfig(Section):
    """A search."""

    name: SearchName
    """Name of the search's folder under `<root>/searches/`, without slashes."""
    base: Place
    """Configuration that all trials refine: a YAML file, from this file's folder."""
    settings: dict[str, Any] = Field(default={})
    """Settings of all trials over those of `base`, by dotted name."""
    space: Annotated[dict[str, DimensionConfig], Field(min_length=1)]
    """Dotted setting -> the values that are tried."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    """Every setting is run with each: other labelled images, weights, orders and pseudo images."""
    validation: ValidationConfig
    metric: Literal["stage3_accuracy", "stage1_accuracy", "gain", "pseudo_image_agreement", "frechet_distance"] = (
        "stage3_accuracy"
    )
    """What the best settings are best in: accuracies on the validation images, `gain` (stage 3 over stage 1), or, of
    pseudo images, the share in which stage 1 sees the class asked for and the Frechet distance (least is best)."""
    scheduler: SchedulerConfig = SchedulerConfig()
    searcher: SearcherConfig = SearcherConfig()
    budget: BudgetConfig = BudgetConfig()
    max_concurrent: Count | None = None
    """Trials at the same time, at most; as many as the cluster has room for when not given."""

    @model_validator(mode="after")
    def _consistent(self) -> "TuneConfig":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds names a seed twice")
        known = set(setting_names())
        for name in self.space:
            if name.partition(".")[0] in _FIXED:
                raise ValueError(f"space: {name} changes no result, or is the search's own; leave it out")
            if name not in known and ".algorithm." not in name:
                raise ValueError(f"space: {name!r} is no setting; all are listed in docs/reference/settings.md")
        if set(self.space) & {"seed", "labels.seed"}:
            raise ValueError("space: seeds are no settings to choose; give them as seeds")
        return self


_FIXED = ("cluster", "root", "name", "preset")
"""Settings that a search must not vary."""


def load_tune(file: str) -> TuneConfig:
    """Return a checked tune file; `base` comes back as a path from where the process runs.

    Raises:
        UserError: unreadable file, unknown key, impossible value.
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


def _with_typed_values(tree: dict[str, Any], file: str) -> dict[str, Any]:
    """Return the tree with the values of settings read by the types of those settings.

    Raises:
        UserError: a value is of another type.
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


def _refuse_repeats(settings: dict[str, Any], file: str) -> None:
    """Refuse a setting that is given by its dotted name and within a group as well."""
    names = list(leaf_names(settings))
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"settings: {name} is given twice", where=file, fix="keep one")


def _of_type(name: str, value: Any, place: str, file: str) -> Any:
    """Return a value as the setting `name` takes it; values that are not allowed are the run's to refuse."""
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
