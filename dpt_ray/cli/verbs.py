"""Classes that click lacks: verbs that report errors as one line, options with several values, and lazy choices."""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click

from dpt_ray.cli.guard import run_guarded
from dpt_ray.cli.running import nearest
from dpt_ray.distributed import job_log


class Verb(click.Command):
    """A command that returns its exit status, and whose options may be instances of `Values`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line of the verb."""
        several = {name for option in self.params if isinstance(option, Values) for name in option.opts}
        return super().parse_args(ctx, _repeated(args, several))

    def invoke(self, ctx: click.Context) -> int:
        """Run the verb; return the exit status."""
        call = partial(super().invoke, ctx)

        def job() -> None:
            job_log.check_format()
            job_log.show_warnings()
            call()

        return run_guarded(job)


class Verbs(click.Group):
    """A group of verbs, in the order in which they were added."""

    command_class = Verb
    subcommand_metavar = "COMMAND ..."

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the verbs."""
        return list(self.commands)


class Values(click.Option):
    """An option with one or more values: `--seeds 0 1 2`, or `--seeds 0 --seeds 1`. Its verb has no arguments."""

    def __init__(self, names: Sequence[str], **attributes: Any):
        super().__init__(names, multiple=True, **attributes)
        if self.metavar is None:
            self.metavar = f"{self.type.name.upper()}..."


def _repeated(words: Sequence[str], several: set[str]) -> list[str]:
    """Repeat an option before each of its further values, since click takes one value for each option."""
    repeated: list[str] = []
    option, values = None, 0
    for word in words:
        if word.startswith("-") and not re.match(r"-\d", word):
            option, values = (word if word in several else None), 0
        elif option:
            values += 1
            if values > 1:
                repeated.append(option)
        repeated.append(word)
    return repeated


class OneOf(click.Choice[str]):
    """A choice whose names are looked up only when they are needed, since the modules that list them load slowly."""

    def __init__(self, names: Callable[[], Sequence[str]]):
        self.case_sensitive = True
        self._names = names

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]  # a plain attribute in click
        """The names."""
        return tuple(self._names())

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        if value not in self.choices:
            fix = nearest(str(value), self.choices) or f"there are: {', '.join(map(repr, self.choices))}"
            self.fail(f"{value!r} is not known; {fix}", param, ctx)
        return str(value)


class PositiveNumber(click.ParamType[float]):
    """A finite number above 0."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            self.fail(f"{value!r} is not a number above 0", param, ctx)
        return number
