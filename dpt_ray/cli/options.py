"""Options that several verbs share, with their completion in a shell."""

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from dpt_ray.cli.verbs import OneOf

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Adds an option or argument to the function of a verb."""


def together(*options: Decorator) -> Decorator:
    """Return a decorator that adds several options or arguments, in this order."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


CLUSTER = "A Ray cluster named by RAY_ADDRESS is used; otherwise a local Ray is started."


def example(*commands: str, notes: str = "") -> str:
    r"""Return the end of a verb's `--help`: notes, then commands. `\b` keeps click from joining their lines."""
    title = "Examples:" if len(commands) > 1 else "Example:"
    return "\n\n".join([*([notes] if notes else []), "\n".join(["\b", title, *(f"  {line}" for line in commands)])])


def config_option(about: str, *, searches: bool = False, **attributes: Any) -> Decorator:
    """Return the option `--config`: a file, or the name of a shipped configuration."""

    def complete(context: click.Context, option: click.Parameter, begun: str) -> list[CompletionItem]:
        from dpt_ray.config.shipped import shipped_configs

        names = [name for name in shipped_configs(searches) if name.startswith(begun)]
        return [*map(CompletionItem, names), CompletionItem(begun, type="file")]

    return click.option("--config", metavar="NAME|FILE", shell_complete=complete, help=about, **attributes)


def set_option(about: str) -> Decorator:
    """Return the option `--set`."""
    return click.option(
        "--set", "overrides", metavar="a.b=c", multiple=True, shell_complete=_complete_setting, help=about
    )


def stage_option() -> Decorator:
    """Return the option `--stage`, which chooses one of a run's classifiers."""
    return click.option(
        "--stage",
        type=OneOf(lambda: ("1", "3")),
        help="Which of a run's classifiers. Default: 3, unless 1 is more accurate or the pseudo images are poor.",
    )


def dry_run_option() -> Decorator:
    """Return the option `--dry-run`."""
    return click.option("--dry-run", is_flag=True, help="Check all settings, print the plan and stop.")


def _complete_setting(context: click.Context, option: click.Parameter, begun: str) -> list[CompletionItem]:
    from dpt_ray.config.load import setting_names

    return [CompletionItem(name) for name in setting_names() if name.startswith(begun)]
