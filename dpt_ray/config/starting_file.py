"""A file of settings to start from: a preset's own text, with a comment for each setting that says what it means."""

import re
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from dpt_ray.config.load import load_config, read_preset
from dpt_ray.config.scalars import is_section
from dpt_ray.config.schema import RunConfig
from dpt_ray.config.yaml_reader import write_value

WIDTH = 110
"""Of a comment, in characters."""
COMPLETED = ("data", "labels")
"""Groups whose other settings are written as comments. So are the settings of the run itself."""

_KEY = re.compile(r"^( *)(\w+):")


def starting_file(preset: str, file: str) -> str:
    """Return the text of a settings file that means what a preset means.

    Args:
        preset: its name.
        file: what the new file is called, for the command in its head.

    Raises:
        UserError: there is no such preset.
    """
    config = load_config(None, [f"preset={preset}"], ["data.train=train", "data.test=test"])  # some presets lack data
    lines = [*_head(preset, file), *_described(read_preset(preset).decode().splitlines(), config)]
    return "\n".join(lines) + "\n"


def _head(preset: str, file: str) -> list[str]:
    return [
        f"# Settings of a run:  dpt run --config {file} --dry-run",
        "# Change what you like. A setting without '# ' before its name is in force; remove a line, and the preset's",
        "# value holds. Lines that are commented out show the defaults of further settings; 'null' is 'not given'.",
        "# All settings: docs/reference/settings.md of dpt_ray.",
        "",
        "# Gives the settings that this file does not give.",
        f"preset: {preset}",
        "",
    ]


def _described(lines: list[str], config: RunConfig) -> Iterator[str]:
    """Yield the lines of a preset, a comment before each setting, and the further settings after their group."""
    path: list[str] = []
    given: dict[str, set[str]] = {}
    for line in lines:
        key = _KEY.match(line)
        if key is None:
            yield line
            continue
        depth = len(key[1]) // 2
        yield from _further(path, depth, given)
        path = [*path[:depth], key[2]]
        given.setdefault(".".join(path[:-1]), set()).add(key[2])
        model = _model(path[:-1], config)
        yield from _comment(model, key[2], key[1])
        yield line
    yield from _further(path, 0, given)
    yield from _missing(RunConfig(), given[""] | {"preset"}, "")


def _further(path: list[str], depth: int, given: dict[str, set[str]]) -> Iterator[str]:
    """Yield what a group lacks, and an empty line, where the group ends."""
    if depth == 0 and len(path) > 1 and path[0] in COMPLETED:
        yield from _missing(getattr(RunConfig(), path[0]), given[path[0]], "  ")
    if depth == 0 and path:
        yield ""


def _missing(defaults: BaseModel, given: set[str], indent: str) -> Iterator[str]:
    model, values = type(defaults), defaults.model_dump(mode="json")
    for name, field in model.model_fields.items():
        if name not in given and is_section(field.annotation) is None:
            yield from _comment(model, name, indent)
            yield f"{indent}# {name}: {write_value(values[name])}"


def _comment(model: type[BaseModel] | None, name: str, indent: str) -> Iterator[str]:
    field = model.model_fields.get(name) if model else None
    if field is None or not field.description:
        return
    text = " ".join(field.description.split())
    for line in textwrap.wrap(text, WIDTH - len(indent), break_long_words=False):
        yield f"{indent}# {line}"


def _model(path: list[str], config: RunConfig) -> type[BaseModel] | None:
    """Return the model of a group of settings; None for settings that the schema leaves to others."""
    value: Any = config
    for part in path:
        value = getattr(value, part, None)
    return type(value) if isinstance(value, BaseModel) else None
