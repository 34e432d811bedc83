"""Load and check settings from a preset, a YAML file and `--set` overrides. Every error is one line.

Precedence, ascending: schema defaults, preset, file, `--set a.b=c`. Of settings that exclude each other (`ONE_OF`), one
in a higher layer replaces another in a lower one.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from pydantic import BaseModel, ValidationError

from dpt_ray.config.classifier_section import ClassifierModelConfig
from dpt_ray.config.complaints import Source, Tree, complaint, origin
from dpt_ray.config.generator_section import GeneratorModelConfig
from dpt_ray.config.places import redacted_value
from dpt_ray.config.scalars import is_null, is_section, shown
from dpt_ray.config.schema import ONE_OF, RunConfig
from dpt_ray.config.yaml_reader import UnreadableYamlError, read_value, read_yaml_bytes, read_yaml_file, write_yaml
from dpt_ray.errors import UserError


def load_config(file: str | None, *layers: Sequence[str], chosen: Sequence[str] = ()) -> RunConfig:
    """Return the checked configuration of a run.

    Args:
        file: a YAML file, or None for schema defaults.
        layers: lists of overrides `a.b=c`, with c in YAML, such as 0.6, true, null or [1, 2]. A later list takes
            precedence over an earlier one, and so does a later override in a list. `check_overrides` refuses
            contradictions.
        chosen: overrides of the preset alone.

    Raises:
        UserError: the file is unreadable, a key is unknown (the message contains the nearest one), a value has the
            wrong type or is not allowed, or settings contradict each other.
    """
    file_source = Source(file or "defaults", read_settings_file(file) if file else {})
    sources = [file_source]
    tree = file_source.tree
    for layer in layers:
        overrides = [_parse_override(text) for text in layer]
        sources += overrides
        tree = merge(tree, _joined([override.tree for override in overrides]))
    sources.reverse()  # by descending precedence: errors refer to the first source of a setting
    for source in sources:
        _check_groups(source)
    if not is_null(tree.get("preset")):
        below = [_parse_override(text).tree for text in chosen]
        tree = merge(_read_preset(tree["preset"], sources), _joined(below), tree)
    tree = merge(RunConfig().model_dump(mode="json", exclude={"stage3"}), tree)
    if isinstance(tree.get("stage1"), dict):  # stage 3 inherits from stage 1
        tree["stage3"] = merge(tree["stage1"], tree.get("stage3"))
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise complaint(error, sources, list(setting_names())) from None


def given_settings(file: str | None, overrides: Sequence[str] = ()) -> tuple[set[str], set[str]]:
    """Return the dotted names of the settings in a file, and of those in overrides."""
    tree = read_settings_file(file) if file else {}
    given = _joined([_parse_override(text).tree for text in overrides])
    return set(leaf_names(tree)), set(leaf_names(given))


def value_of(config: RunConfig, name: str) -> Any:
    """Return the value of a setting by its dotted name; None if the configuration does not have it."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def merge(*trees: Mapping[str, Any] | None) -> Tree:
    """Merge nested mappings recursively; later ones take precedence.

    Another `algorithm.name` drops the settings of the earlier algorithm. Another `model.name` drops those of a plug-in.
    A setting of an alternative in `ONE_OF` drops the earlier settings of the others.
    """
    merged: Tree = {}
    for tree in trees:
        for key, value in (tree or {}).items():
            old = merged.get(key)
            nested = isinstance(old, dict) and isinstance(value, dict)
            merged[key] = merge(_kept(key, old, value), value) if nested else value
    return merged


def _kept(key: str, old: Any, value: Any) -> Any:
    """Return what stays of a group's settings where others are merged into it."""
    old = {name: setting for name, setting in old.items() if name not in _replaced(key, value)}
    if "name" not in value or value["name"] == old.get("name"):
        return old
    if key == "algorithm":
        return {}
    if key == "model":
        return {name: setting for name, setting in old.items() if name in _NETWORK_SETTINGS}
    return old


def _replaced(section: str, given: Tree) -> set[str]:
    """Return the settings of lower layers that `given` settings of a section replace."""
    alternatives = ONE_OF.get(section, ())
    chosen = [names for names in alternatives if any(not is_null(given.get(name)) for name in names)]
    return {name for names in alternatives for name in names if chosen and names not in chosen}


_NETWORK_SETTINGS = {*ClassifierModelConfig.model_fields, *GeneratorModelConfig.model_fields}


def _joined(trees: Sequence[Tree]) -> Tree:
    """Return overrides of equal precedence as one tree; `algorithm.name` drops no other override."""
    joined: Tree = {}
    for tree in trees:
        for key, value in tree.items():
            old = joined.get(key)
            joined[key] = _joined([old, value]) if isinstance(old, dict) and isinstance(value, dict) else value
    return joined


def dump_yaml(config: RunConfig) -> str:
    """Return the resolved configuration as YAML, from which `load_config` returns an equal one."""
    return write_yaml(config.model_dump(mode="json"))


def parse_dumped(data: bytes, where: str) -> RunConfig:
    """Return a configuration from the bytes of `dump_yaml`.

    Raises:
        UserError: this version cannot read it.
    """
    source = Source(where, _settings(read_yaml_bytes(data, where), where))
    try:
        return RunConfig.model_validate(source.tree)
    except ValidationError as error:
        raise complaint(error, [source], list(setting_names())) from None


def setting_names(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings."""
    for name, field in model.model_fields.items():
        section = is_section(field.annotation)
        if section is None:
            yield prefix + name
        else:
            yield from setting_names(section, f"{prefix}{name}.")


def setting_type(name: str) -> Any:
    """Return the annotation of a setting, given its dotted name; `Any` if the schema does not have it."""
    model: type[BaseModel] | None = RunConfig
    annotation: Any = Any
    for part in name.split("."):
        if model is None or part not in model.model_fields:
            return Any
        annotation = model.model_fields[part].annotation
        model = is_section(annotation)
    return annotation


def read_settings_file(file: str) -> Tree:
    """Return the settings of a file with scalars as text; an empty tree for an empty file.

    Raises:
        UserError: it cannot be read, or does not contain settings.
    """
    return _settings(read_yaml_file(file, "config file", "the shipped ones are under configs/"), file)


def _settings(tree: Any, where: str) -> Tree:
    if is_null(tree):
        return {}
    if not isinstance(tree, dict):
        raise UserError("must hold settings as 'name: value' lines", where=where)
    return tree


def preset_names() -> list[str]:
    """Return the names of the presets, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _presets().iterdir() if entry.name.endswith(".yaml"))


def read_preset(name: str) -> bytes:
    """Return the file of a preset, given its name."""
    return (_presets() / f"{name}.yaml").read_bytes()


def _presets() -> Traversable:
    return resources.files("dpt_ray.config") / "presets"


def _read_preset(name: Any, sources: Sequence[Source]) -> Tree:
    names = preset_names()
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"unknown preset {shown(str(name) if isinstance(name, str) else name)}",
            where=origin([("preset",)], sources),
            fix=f"{hint}there are: {', '.join(names)}",
        )
    return _preset_tree(name)


@cache
def _preset_tree(name: str) -> Tree:
    """Return a preset. It is cached, so callers must not change it."""
    return _settings(read_yaml_bytes(read_preset(name), f"preset {name}"), f"preset {name}")


def _parse_override(text: str) -> Source:
    name, equals, value = text.partition("=")
    where = f"--set {_printable(name)}={_printable(redacted_value(value))}" if equals else f"--set {_printable(text)}"
    parts = name.strip().split(".")
    if not equals or not all(part and part == part.strip() for part in parts):
        raise UserError("is not of the form a.b=value", where=where)
    try:
        parsed = read_value(value)
    except UnreadableYamlError as error:
        raise UserError(f"its value is not valid YAML ({error})", where=where, fix="quote it") from None
    tree: Tree = {parts[-1]: parsed}
    for part in reversed(parts[:-1]):
        tree = {part: tree}
    return Source(where, tree)


_MAX_SHOWN = 200


def _printable(text: str) -> str:
    shortened = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return "".join(character if character.isprintable() else "?" for character in shortened)


def leaf_names(tree: Tree) -> Iterator[str]:
    """Return the dotted names of the settings in a tree."""
    return (name for name, _ in _leaves(tree))


def _leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse two overrides of a command line with different values for one setting.

    Raises:
        UserError: two overrides contradict each other; the message contains both.
    """
    given: dict[str, tuple[Any, str]] = {}
    for override in map(_parse_override, overrides):
        for name, value in _leaves(override.tree):
            for other, (earlier, where) in given.items():
                same = name == other and (value == earlier and type(value) is type(earlier))
                inside = f"{name}.".startswith(f"{other}.") or f"{other}.".startswith(f"{name}.")
                if inside and not same:
                    raise UserError(f"contradicts {where}", where=override.name, fix="give one of them")
            given[name] = value, override.name


def _check_groups(source: Source) -> None:
    """Refuse a single value or null in place of a section."""
    _check_group(source.tree, RunConfig, "", source.name)


def _check_group(tree: Tree, model: type[BaseModel], prefix: str, where: str) -> None:
    for key, value in tree.items():
        section = is_section(model.model_fields[key].annotation) if key in model.model_fields else None
        if section is None:
            continue
        name, first = prefix + key, next(iter(section.__annotations__))
        if isinstance(value, dict):
            _check_group(value, section, f"{name}.", where)
        elif is_null(value):
            fix = f"give settings in it, such as {name}.{first}, or leave it out"
            raise UserError(f"the section {name} is empty", where=where, fix=fix)
        else:
            reason = f"{name} = {shown(value)} is not allowed: it is a group of settings"
            raise UserError(reason, where=where, fix=f"give those in it, such as {name}.{first}")
