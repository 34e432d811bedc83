"""The reference of all settings, generated from the schema and the algorithms; `COMMAND` writes it."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from dpt_ray.config.schema import RunConfig
from dpt_ray.core.semi_supervised.algorithms import algorithm_class, algorithm_names

COMMAND = "python -m dpt_ray.report.settings_document > docs/reference/settings.md"

_INHERITS = {"stage3": "stage1"}
"""Sections that take what they don't give from another one (`load.py`)."""

_HEAD = f"""\
# Settings

Generated from `dpt_ray/config/*_section.py` and from the algorithms. Don't edit it, run

    {COMMAND}

A setting is given in a YAML file, nested by the dots of its name, or on the command line as `--set name=value`.
The command line wins over the file, the file over the preset, the preset over the defaults below.
`null` as a value takes a preset's setting back to "not given".

**Values are read as YAML 1.2 reads them, by the type of their setting.** Where a number is wanted, `010` is 10,
`0o10` is 8, and `1e5` is 100000, a whole number too; `1_000`, `1:30` and `yes` are refused. Where a text is wanted,
what is typed counts: `name: 007` and `class_names: [NO, YES]` need no quotes. In quotes a value is a text. After
`--set name=` all that follows is the value; lists, mappings and texts in quotes are read as YAML.

**Nothing is dropped silently.** A key that stands twice in a file, an empty section, and two values of one
setting on the command line are refused. A setting that the chosen network, optimizer, process or algorithm does not
read changes no result and no address; where it is given, the job warns that it has no effect. It also warns of
settings that spoil a result, such as a warm-up that is longer than the training. Warnings come at the start, and with
`--dry-run`, which writes nothing.

**Places** are paths or URLs. A file URL has three slashes: `file:///data/train`. No setting takes a URL with a
password, a token or a signature, since settings are stored and shown. Keys come from the environment
([object storage](../guide/object-storage.md)). A submitted job runs in a temporary folder of Ray's, so `root`, data and
models need whole paths or URLs there.

**Plug-ins.** `data.format`, `sampling.sampler`, `algorithm.name` and `model.name` also take the names of installed
[plug-ins](../guide/developers.md#plug-ins).
"""

Schema = dict[str, Any]


def render_settings() -> str:
    """Return the reference as Markdown: a section for each group of settings, a table row for each setting."""
    schema = RunConfig.model_json_schema()
    defaults = RunConfig().model_dump(mode="json")
    lines = [_HEAD, "## Run", "", *_table(schema, schema["$defs"], "", defaults)]
    lines += _subsections(schema, schema["$defs"], "", defaults)
    return "\n".join(lines)


def _subsections(section: Schema, definitions: Schema, prefix: str, defaults: Any) -> Iterator[str]:
    for name, field in section["properties"].items():
        inner = _section(field, definitions)
        if inner is None:
            continue
        yield from [f"{'##' if not prefix else '###'} `{prefix}{name}`", ""]
        if about := field.get("description") or inner.get("description"):
            yield from [_one_line(about), ""]
        if model := _INHERITS.get(prefix + name):
            yield from [
                f"It has every setting of `{model}`, under `{name}`: `{name}.images`, `{name}.optimizer.name`, ...",
                f"The default of each is its value in `{model}`.",
                "",
            ]
            continue
        own = (defaults or {}).get(name)
        yield from _table(inner, definitions, f"{prefix}{name}.", own)
        if name == "algorithm":
            yield from _algorithms(f"{prefix}{name}.")
        yield from _subsections(inner, definitions, f"{prefix}{name}.", own)


def _algorithms(prefix: str) -> Iterator[str]:
    """Yield a table of the settings of each algorithm on the menu."""
    for name in algorithm_names():
        settings: type[BaseModel] = algorithm_class(name).Settings
        yield from [f"With `{prefix}name: {name}`" + (":" if settings.model_fields else ": nothing else."), ""]
        schema = settings.model_json_schema()
        yield from _table(schema, schema.get("$defs", {}), prefix, None)


def _table(section: Schema, definitions: Schema, prefix: str, defaults: Any) -> Iterator[str]:
    rows = [
        (
            f"`{prefix}{name}`",
            _allowed(field),
            _value(defaults[name] if defaults else field.get("default")),
            field.get("description", ""),
        )
        for name, field in section["properties"].items()
        if _section(field, definitions) is None
    ]
    if rows:
        yield from ["| setting | allowed | default | meaning |", "|---|---|---|---|"]
        for row in rows:
            yield "| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in row) + " |"
        yield ""


def _section(field: Schema, definitions: Schema) -> Schema | None:
    """Return the group of settings that a field holds; None for a single setting."""
    for choice in (field, *field.get("anyOf", ())):
        if "$ref" in choice:
            definition = definitions[choice["$ref"].rpartition("/")[2]]
            return definition if "properties" in definition else None
    return None


def _allowed(field: Schema) -> str:
    """Say which values a field takes."""
    if "anyOf" in field:
        return "; or ".join(_allowed(choice) for choice in field["anyOf"])
    if "enum" in field or "const" in field:
        return ", ".join(_value(value) for value in field.get("enum", [field.get("const")]))
    kind: str = field["type"]
    if kind == "array":
        items = field.get("prefixItems")
        if items:
            return f"list of {len(items)}: {_allowed(items[0])}"
        return f"list of: {_allowed(field['items'])}"
    names = {"null": "`null`", "string": "text", "boolean": "`true`, `false`"}
    return names.get(kind, kind) + _bounds(field)


def _bounds(field: Schema) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
        "multipleOf": "multiple of",
    }
    bounds = [f"{word} {field[key]:g}" for key, word in words.items() if key in field]
    return f", {', '.join(bounds)}" if bounds else ""


def _value(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    print(render_settings(), end="")
