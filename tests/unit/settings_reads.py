"""Which settings a step reads while it is made, and which settings its address follows from."""

import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from pydantic import ValidationError
from ray.train import torch as ray_torch
from run_in_process import without_ray

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.effects import unread_settings
from dpt_ray.config.scalars import is_section
from dpt_ray.config.section import Section
from dpt_ray.core.models import network_settings
from dpt_ray.core.semi_supervised.algorithms import algorithm_class
from dpt_ray.core.training import from_settings
from dpt_ray.data.loading.read_rows import new_arrays, read_rows
from dpt_ray.data.loading.source import ImageSource
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING
from dpt_ray.distributed import checkpoints, training_job, training_worker
from dpt_ray.distributed.notice import Notice
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.step_facts import Facts
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.execution import train_network
from dpt_ray.pipeline.execution.classifier_stage import ClassifierStage
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.pipeline.graph import in_order
from dpt_ray.pipeline.steps import fit_probe

Sections = Mapping[str, Section]
"""Prefix of dotted names ("" for a run's settings) -> the section."""

Describe = Callable[[Sections], Mapping[str, Step]]
"""From settings to the steps by their ids; another value of a setting must leave the data as they are."""

RUN_SEED = "seed"
"""Not a section but a number, which steps keep under these names."""
_SEED_HOLDERS: dict[type, str] = {Step: "_seed", ClassifierStage: "seed"}


@dataclass
class Reads:
    """Notes the fields of given sections that are read, by dotted name.

    It follows sections by identity, and copies of them. A dump of a section is not a read: files of networks describe
    themselves with dumps, which hold settings that nothing follows from.
    """

    sections: Sections
    names: set[str] = field(default_factory=set)
    in_make: bool = False

    def __post_init__(self) -> None:
        self._held: list[Section] = []  # so that no other object takes over an identity
        self._prefixes: dict[int, str] = {}
        self._algorithm = ""
        for prefix, section in self.sections.items():
            self._add(section, prefix)

    def _add(self, section: Section, prefix: str) -> None:
        assert id(section) not in self._prefixes, f"{prefix} and {self._prefixes[id(section)]} are one object"
        self._hold(section, prefix)
        for name in type(section).model_fields:
            if isinstance(value := section.__dict__[name], Section):
                self._add(value, f"{prefix}{name}.")

    def _hold(self, section: Section, prefix: str) -> None:
        self._held.append(section)
        self._prefixes[id(section)] = prefix

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Note reads from now on; `make` must read sections alone, not the settings of the address."""
        copy = Section.model_copy

        def read(section: Section, name: str) -> Any:
            value = object.__getattribute__(section, name)
            self._note(section, name)
            return value

        def copied(section: Section, **options: Any) -> Section:
            made = copy(section, **options)
            if id(section) in self._prefixes:
                self._hold(made, self._prefixes[id(section)])
            return made

        def unread(section: Section) -> dict[str, str]:
            names = set(self.names)
            found = unread_settings(section)
            self.names = names  # to evaluate the marks of all fields is not to read their values
            return found

        for module in (from_settings, network_settings):
            patch.setattr(module, "unread_settings", unread)
        patch.setattr(Section, "__getattribute__", read)
        patch.setattr(Section, "model_copy", copied)
        for holder, attribute in _SEED_HOLDERS.items():
            patch.setattr(holder, "__getattribute__", self._reader_of(attribute))

    def _note(self, section: Section, name: str) -> None:
        kind = type(section)
        prefix = self._prefixes.get(id(section))
        if prefix is None and kind.__qualname__.endswith(".Settings") and self._algorithm:
            prefix = self._algorithm  # an algorithm's own settings are checked anew from the section's further keys
            self._hold(section, prefix)
        if prefix is not None and name == "model_extra":
            self._algorithm = prefix
        if prefix is not None and name in kind.model_fields and not isinstance(section.__dict__[name], Section):
            self.names.add(prefix + name)

    def _reader_of(self, seed: str) -> Callable[[Any, str], Any]:
        def read(holder: Any, name: str) -> Any:
            if name == seed:
                self.names.add(RUN_SEED)
            assert name != "settings" or not self.in_make, "make reads the settings of its address, not its sections"
            return object.__getattribute__(holder, name)

        return read

    def of_make(self, step: Step, context: StepContext) -> tuple[Facts, set[str]]:
        """Make a step; return its facts and what it read."""
        self.names, self.in_make = set(), True
        facts = step.make(context)
        self.in_make = False
        return facts, set(self.names)


def make_recorded(root: str, sections: Sections, describe: Describe) -> dict[str, set[str]]:
    """Make steps, without Ray, and return the settings that each reads; those of `cluster` never count."""
    store, reads = ArtifactStore(root), Reads(sections)
    made: dict[str, Artifact] = {}
    found: dict[str, set[str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch)
        train_here(patch)
        reads.watch(patch)
        steps = describe(sections)
        for step in in_order(list(steps.values())):
            parents = {role: made[parent.fingerprint] for role, parent in step.parents.items()}
            folder = store.folder(step.name, step.fingerprint)
            context = StepContext(folder, parents, ClusterConfig(), step.title, TOLERATE_NOTHING)
            facts, found[step.fingerprint] = reads.of_make(step, context)
            manifest = {"facts": facts.to_json(), "settings": step.settings, "seconds": 0.0}
            made[step.fingerprint] = store.commit(step.name, step.fingerprint, manifest)
    return {id: found[step.fingerprint] for id, step in steps.items()}


def train_here(patch: pytest.MonkeyPatch) -> None:
    """Let trainings run in this process, by the code that Ray's workers run."""
    context = types.SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    patch.setattr("ray.train.get_context", lambda: context)
    patch.setattr(ray_torch, "get_device", lambda: "cpu")
    patch.setattr(train_network, "run_training", _run_training)
    patch.setattr(fit_probe, "run_once", lambda function, *arguments, resources: function(*arguments))


def _run_training(job: training_job.TrainingJob, **_: Any) -> None:
    readers = {name: _Reader(source) for name, (source, _) in job.sources.items()}
    board = types.SimpleNamespace(name="", send=lambda *message: None)
    left = checkpoints.begin_attempt(job.folder)
    setup = training_job.WorkerSetup(
        job=job,
        readers=readers,
        threads=1,
        board=board,
        title="",
        left=left,
        callback=None,
        preview=None,
        plugins=(),
        stop=None,
        notice=Notice(),
    )
    assert training_worker.run_worker({training_worker.SETUP: setup}) is None


@dataclass
class _Reader:
    source: ImageSource

    def open(self, **_: Any) -> Any:
        form, columns = self.source.form, self.source.columns
        return lambda part: read_rows(
            self.source.shards[part.shard], range(part.start, part.stop), form, new_arrays(form, 1000), columns
        )


@dataclass
class Addressed:
    """The settings that a step's address follows from.

    Attributes:
        own: those of the step's own `settings`.
        all: those of its address, which its parents' addresses are part of.
        fixed: settings that have no other value beside the other settings, so that nothing can be said of them.
    """

    own: set[str] = field(default_factory=set)
    all: set[str] = field(default_factory=set)
    fixed: set[str] = field(default_factory=set)


def addressed(sections: Sections, describe: Describe) -> dict[str, Addressed]:
    """Return what the steps' addresses follow from, found by giving every setting another value that is allowed."""
    before = describe(sections)
    own = {id: step.settings for id, step in before.items()}
    fixed = set(setting_names(sections))
    found = {id: Addressed(fixed=fixed) for id in before}
    for name, changed in _changes(sections):
        try:
            after = describe(changed)
        except UserError:
            continue
        fixed.discard(name)
        for id, step in before.items():
            if id in after and after[id].fingerprint == step.fingerprint:
                continue
            found[id].all.add(name)
            if id in after and type(after[id]) is type(step) and after[id].settings != own[id]:
                found[id].own.add(name)
    return found


def setting_names(sections: Sections) -> list[str]:
    """Return the dotted names of all settings."""
    return [prefix + ".".join(path) for prefix, section in sections.items() for path, _ in _leaves(section)]


def _changes(sections: Sections) -> Iterator[tuple[str, Sections]]:
    """Yield every setting's name with the settings in which it alone is another, for each allowed value to try."""
    for prefix, section in sections.items():
        tree = section.model_dump(mode="json")
        for path, annotation in _leaves(section):
            for value in _values(annotation, _get(tree, path)):
                try:
                    changed = type(section).model_validate(_with(section, path, value))
                except ValidationError:
                    continue
                yield prefix + ".".join(path), {**sections, prefix: changed}


def _leaves(section: Section, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, info in type(section).model_fields.items():
        value = section.__dict__[name]
        if isinstance(value, Section) and is_section(info.annotation):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), info.annotation
    if section.model_extra is not None:  # an algorithm's own settings
        for name, info in algorithm_class(section.__dict__["name"]).Settings.model_fields.items():
            yield (*path, name), info.annotation


def _values(annotation: Any, now: Any) -> list[Any]:
    """Return values of a type, other than the present one."""
    return [value for value in _values_of(annotation, now) if value != now]


def _values_of(annotation: Any, now: Any) -> list[Any]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _values_of(arguments[0], now)
    if origin in (typing.Union, types.UnionType):
        return [value for kind in arguments for value in _values_of(kind, now)]
    if origin is Literal:
        return list(arguments)
    if origin is tuple:
        kinds = [kind for kind in arguments if kind is not Ellipsis]
        listed = [_values_of(kind, None) for kind in kinds]
        length = len(now) if isinstance(now, list) else len(kinds)
        return [list(values) for values in zip(*(listed * length)[:length], strict=False)]
    if annotation is type(None):
        return [None]
    if annotation is bool:
        return [False, True]
    if annotation is int:
        return [2 * now, now + 1, now + 8, 1] if now is not None else [1, 2, 8, 10]
    if annotation is float:
        return [now / 2, 0.5] if now is not None else [0.25, 0.5, 1.5]
    return ["fixmatch", "other/place"]


def _get(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name) if tree is not None else None
    return tree


def _with(section: Section, path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return what a section with another value is validated from: sections on the path as values, all others as is."""
    first, *rest = path
    held = {name: section.__dict__[name] for name in type(section).model_fields} | (section.model_extra or {})
    if path == ("algorithm", "name"):  # another algorithm does not have the settings of this one
        return {**held, "algorithm": {"name": value}}
    return {**held, first: _with(held[first], tuple(rest), value) if rest else value}
