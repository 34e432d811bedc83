"""From words on a command line to an exit status; wrong words are one line with the nearest right one."""

import difflib
from collections.abc import Sequence
from typing import Any

import click

from dpt_ray.cli.guard import USER_MISTAKE, interrupted, mistake
from dpt_ray.errors import UserError

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "show_default": True}
"""What holds for all commands."""


def run_command(command: click.Command, arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """Run a command and return its exit status: that of `run_guarded`, or 2 for a wrong command line.

    Args:
        command: a verb or a group of verbs.
        arguments: the command line after the program's name; that of this process if None.
        program: its name, for `--help` and messages.
    """
    try:
        status: int = command.main(
            arguments,
            prog_name=program or command.name,
            standalone_mode=False,
            **CONTEXT,
        )
        return status
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USER_MISTAKE
    except click.ClickException as error:
        return mistake(usage_error(error))
    except click.Abort:
        return interrupted()


def usage_error(error: click.ClickException) -> UserError:
    """Return a wrong command line in one line: what, of which verb, and the nearest right word or where they are."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = context.command_path if context else None
    fix = f"'{where} --help' shows its options" if where else None
    if isinstance(error, click.exceptions.NoSuchOption):
        options = [name for option in context.command.get_params(context) for name in option.opts] if context else []
        return UserError(
            f"no such option {error.option_name}", where=where, fix=nearest(error.option_name, options) or fix
        )
    if isinstance(error, click.exceptions.NoSuchCommand):
        commands = list(context.command.commands) if context and isinstance(context.command, click.Group) else []
        fix = nearest(error.command_name, commands) or f"there are: {', '.join(commands)}"
        return UserError(f"no such command {error.command_name!r}", where=where, fix=fix)
    if isinstance(error, click.exceptions.MissingParameter):
        return UserError(f"{_name(error)} is missing", where=where, fix=fix)
    if isinstance(error, click.BadParameter):
        return UserError(_clause(error.message), where=f"{where} {_name(error)}" if where else _name(error))
    return UserError(_clause(error.format_message()), where=where, fix=fix)


def nearest(word: str, known: Sequence[str]) -> str | None:
    """Return the question whether the nearest of `known` words was meant; None if none is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else None


def _name(error: click.BadParameter) -> str:
    if isinstance(error.param, click.Option):
        return max(error.param.opts, key=len)
    return error.param.human_readable_name if error.param else "the command line"


def _clause(sentence: str) -> str:
    """Return one of click's sentences as a part of a line."""
    return sentence[:1].lower() + sentence[1:].rstrip().removesuffix(".")
