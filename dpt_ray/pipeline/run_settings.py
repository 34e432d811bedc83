"""Load the settings of a run, and let a recipe choose what they leave open."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpt_ray.config.load import given_settings, load_config, setting_names, value_of
from dpt_ray.config.recipe_choices import Choice, left_open
from dpt_ray.config.schema import RunConfig
from dpt_ray.data.importing.survey import survey
from dpt_ray.data.shards.label_table import listed_names
from dpt_ray.errors import UserError
from dpt_ray.networks.pretrained.lite_encoder import is_installed
from dpt_ray.pipeline import photo_recipe
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.machine import this_machine


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run.

    Attributes:
        config: all settings.
        choices: those of them that a recipe chose.
    """

    config: RunConfig
    choices: tuple[Choice, ...] = ()


def load_run(file: str | None, *layers: Sequence[str], inputs: Inputs | None = None) -> RunSettings:
    """Return the checked settings of a run; a recipe (the preset `photos`) chooses what they leave open.

    Choices take precedence over the preset alone. The settings that a run stores hold them, so a run by that file
    chooses nothing and is the same on another machine.

    Args:
        file: as `load_config`.
        layers: as `load_config`.
        inputs: looks the data up.

    Raises:
        UserError: as `load_config`; or the data that a recipe must look at cannot be read.
    """
    config = load_config(file, *layers)
    if config.preset != photo_recipe.PRESET or config.data.train in (None, "digits"):
        return RunSettings(config)
    in_file, on_command_line = given_settings(file, [override for layer in layers for override in layer])
    given = in_file | on_command_line
    if given.issuperset(setting_names()):  # the stored settings of a run
        return RunSettings(config)
    values = {name: value_of(config, name) for name in given}
    first = left_open(photo_recipe.choose_reading(values), given)
    config = load_config(file, *layers, chosen=[choice.override for choice in first])
    inputs = inputs or Inputs()
    inputs.use_listings(config)
    found = survey(inputs.data("train", config.data))
    if found is None:
        raise UserError("no image can be read", where=str(config.data.train), fix="dpt prepare lists the reasons")
    chosen = photo_recipe.choose(found, this_machine(), values, is_installed(), _listed_labels(config, inputs))
    choices = [*first, *left_open(chosen, given)]
    return RunSettings(load_config(file, *layers, chosen=[choice.override for choice in choices]), tuple(choices))


def _listed_labels(config: RunConfig, inputs: Inputs) -> int | None:
    """Return how many images `labels.file` lists; None without it.

    Raises:
        UserError: it cannot be read.
    """
    file = config.labels.file
    return None if file is None else len(listed_names(inputs.label_list(file), file))
