"""Runs that a notebook starts or lists; `dpt_ray.run` and `dpt_ray.runs` are these functions."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from dpt_ray.config.schema import RunConfig
from dpt_ray.config.shipped import find_config
from dpt_ray.config.yaml_reader import write_value
from dpt_ray.data.storage import stores
from dpt_ray.distributed import job_log
from dpt_ray.distributed.failures import user_error
from dpt_ray.errors import UserError
from dpt_ray.export.arguments import as_url, described
from dpt_ray.pipeline.artifacts.run import RUN_FILE
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.finished_run import Run
from dpt_ray.pipeline.jobs import make_targets
from dpt_ray.pipeline.run_report import finish_run
from dpt_ray.pipeline.runs import list_runs


def run(
    config: str | os.PathLike[str] | None = None,
    settings: Mapping[str, object] | None = None,
    *,
    strict: bool = False,
) -> Run:
    """Make a run; see `dpt_ray.run`."""
    overrides = _overrides(settings)
    file = None if config is None else find_config(os.fspath(config))
    folders: list[str] = []

    def finish(config: RunConfig, steps: DualPseudoTraining, made: Mapping[Step, Artifact], folder: str) -> str:
        folders.append(folder)
        return finish_run(config, steps, made, folder)

    with _user_errors():
        job_log.check_format()
        job_log.show_warnings()
        make_targets(file, overrides, lambda steps: steps.steps(), finish, strict=strict)
        return Run(folders[0])


def finished_runs(root: str | os.PathLike[str]) -> list[Run]:
    """List finished runs; see `dpt_ray.runs`."""
    finished = (run.url for run in list_runs(as_url(root, "root")) if run.state == "finished")
    return [Run(url) for url in finished if stores.exists(stores.join(url, RUN_FILE))]  # without runs of some steps


def _overrides(settings: Mapping[str, object] | None) -> list[str]:
    """Return settings as `--set` has them."""
    if settings is None:
        return []
    if not isinstance(settings, Mapping):
        raise TypeError(f"settings must map names such as 'labels.per_class' to values, not {described(settings)}")
    for name in settings:
        if not isinstance(name, str):
            raise TypeError(f"the name of a setting must be text, not {described(name)}")
    return [f"{name}={write_value(_plain(value, name))}" for name, value in settings.items()]


def _plain(value: object, name: str) -> object:
    """Return a setting's value as Python's own types, which YAML has."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, f"{name}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, name) for inner in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{name} must be text, a number, True, False, None, a list or a mapping, not {described(value)}")


@contextmanager
def _user_errors() -> Iterator[None]:
    """Raise an error that the user can correct as itself, not in the wrappers that Ray puts around it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if cause := user_error(error):
            raise cause from error
        raise
