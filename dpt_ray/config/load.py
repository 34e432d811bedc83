"""Settings from a preset, a YAML file and `--set` overrides, checked; every error is one line.

Precedence, weakest first: schema defaults, preset, file, `--set a.b=c`.
"""

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from dpt_ray.config.schema import LABEL_CHOICES, RunConfig
from dpt_ray.errors import UserError

Tree = dict[str, Any]


def load_config(file: str | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the checked configuration of a run.

    Args:
        file: a YAML file, or None for schema defaults.
        overrides: `a.b=c` strings; c is read as YAML, so 0.6, true, null and [1, 2] mean what they look like.

    Raises:
        UserError: unreadable file, unknown key (naming the nearest right one), wrong type,
            impossible value or contradictory settings.
    """
    file_tree = _read_yaml(Path(file)) if file else {}
    override_trees = [_parse_override(text) for text in overrides]
    # Strongest first, which is the one to name when something is wrong.
    sources = {f"--set {text}": tree for text, tree in zip(reversed(overrides), reversed(override_trees), strict=True)}
    sources[file or "defaults"] = file_tree
    tree: Tree = merge(file_tree, *override_trees)
    preset = tree.get("preset")
    if preset is not None:
        tree = merge(_read_preset(preset, sources), tree)
    tree = merge(_defaults(tree), tree)
    if isinstance(tree.get("stage1"), dict):  # stage 3 is stage 1 with differences
        own = tree.get("stage3")
        tree["stage3"] = merge(tree["stage1"], own) if isinstance(own, dict) or own is None else own
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise _one_line(error, sources) from None


def _defaults(given: Tree) -> Tree:
    """Return the schema's defaults, without those that `given` settings stand in for."""
    tree = RunConfig().model_dump(mode="json", exclude={"stage3"})
    labels = given.get("labels")
    if isinstance(labels, dict) and not labels.keys().isdisjoint(LABEL_CHOICES):
        del tree["labels"]
    return tree


def merge(*trees: Mapping[str, Any] | None) -> Tree:
    """Merge nested mappings; later ones win, mapping by mapping.

    Another algorithm's settings mean nothing to this one: a new `algorithm.name` drops them.
    """
    merged: Tree = {}
    for tree in trees:
        for key, value in (tree or {}).items():
            old = merged.get(key)
            nested = isinstance(old, dict) and isinstance(value, dict)
            merged[key] = merge(old, value) if nested and not _renames_algorithm(key, old, value) else value
    return merged


def _renames_algorithm(key: str, old: Any, value: Any) -> bool:
    return key == "algorithm" and "name" in value and value["name"] != old.get("name")


def dump_yaml(config: RunConfig) -> str:
    """Return the resolved configuration as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def setting_names(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[str]:
    """Yield every setting's dotted name."""
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            yield prefix + name
        else:
            yield from setting_names(section, f"{prefix}{name}.")


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(filter(None, map(_section, typing.get_args(annotation))), None)
    return None


def _read_yaml(path: Path) -> Tree:
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError("no such config file", where=str(path), fix="the shipped ones are under configs/") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read ({error})", where=str(path)) from None
    except yaml.YAMLError as error:
        raise UserError(f"is not valid YAML ({error})", where=str(path)) from None
    if not isinstance(tree, dict | None):
        raise UserError("must hold settings as 'name: value' lines", where=str(path))
    return tree or {}


def _read_preset(name: Any, sources: dict[str, Tree]) -> Tree:
    folder = resources.files("dpt_ray.config") / "presets"
    names = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"unknown preset {name!r}",
            where=_origin([("preset",)], sources),
            fix=f"{hint}there are: {', '.join(names)}",
        )
    return _preset_tree(name)


@cache
def _preset_tree(name: str) -> Tree:
    """Return a preset, read once however many configurations build on it; nobody changes it."""
    return yaml.safe_load((resources.files("dpt_ray.config") / "presets" / f"{name}.yaml").read_text())


def _parse_override(text: str) -> Tree:
    name, equals, value = text.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise UserError("is not of the form a.b=value", where=f"--set {text}")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError("its value is not valid YAML", where=f"--set {text}", fix="quote it") from None
    tree: Tree = {}
    node = tree
    for part in parts[:-1]:
        node = node.setdefault(part, {})
    node[parts[-1]] = parsed
    return tree


def _origin(paths: Sequence[Sequence[str]], sources: dict[str, Tree]) -> str:
    """Name the source that set one of `paths`: an override, or else the file (which chose the preset)."""
    for source, tree in sources.items():
        if any(_sets(tree, path) for path in paths):
            return source
    return next(reversed(sources))


def _sets(tree: Any, path: Sequence[str]) -> bool:
    return not path or (isinstance(tree, dict) and path[0] in tree and _sets(tree[path[0]], path[1:]))


def _named_settings(reason: str, section: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the settings of `section` that a message names, in full or by their names in the section."""
    words = set(re.findall(r"\w+(?:\.\w+)*", reason))
    settings = [tuple(name.split(".")) for name in setting_names()]
    inside = [path for path in settings if path[: len(section)] == section]
    return [path for path in inside if {".".join(path), ".".join(path[len(section) :])} & words]


def _one_line(error: ValidationError, sources: dict[str, Tree]) -> UserError:
    # An unknown key is the likeliest cause of whatever else is wrong, so it is told first.
    details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    told = [detail["loc"] for detail in details]
    details = [d for d in details if d["loc"][:1] != ("stage3",) or ("stage1", *d["loc"][1:]) not in told]  # inherited
    first = details[0]
    path = tuple(part for part in first["loc"] if isinstance(part, str))
    reason = first["msg"].removeprefix("Value error, ")
    paths = [path]
    if first["type"] == "value_error":  # settings that contradict each other
        paths = _named_settings(reason, path) or [path]
    inherited = [("stage1", *setting[1:]) for setting in paths if setting[:1] == ("stage3",)]
    where = _origin([*paths, *inherited], sources)
    name = ".".join(path)
    more = f" ({len(details) - 1} more after this one)" if len(details) > 1 else ""
    if first["type"] == "extra_forbidden":
        return UserError(f"unknown setting {name!r}{more}", where=where, fix=_nearest(name))
    if first["type"] == "value_error":
        return UserError(f"{name + ': ' if name else ''}{reason}{more}", where=where)
    setting = f"{name} = " if name else ""
    return UserError(
        f"{setting}{first['input']!r} is not allowed: {reason[:1].lower() + reason[1:]}{more}", where=where
    )


def _nearest(name: str) -> str:
    known = list(setting_names())
    known += sorted({candidate.rpartition(".")[0] for candidate in known} - {""})
    leaf = name.rpartition(".")[2]
    same_leaf = [candidate for candidate in known if candidate.rpartition(".")[2] == leaf]
    leaves = {candidate.rpartition(".")[2]: candidate for candidate in reversed(known)}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75) or same_leaf
    if not near:
        near = [leaves[match] for match in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.6)]
    return f"did you mean {near[0]!r}?" if near else "every setting is listed in docs/settings.md"
