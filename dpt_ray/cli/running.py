"""Run a command line; report a mistake in it as one line with the nearest valid word."""

import difflib
from collections.abc import Sequence
from typing import Any

import click

from dpt_ray.cli.guard import USER_MISTAKE, report_interruption, report_user_error
from dpt_ray.errors import UserError

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "show_default": True}
"""click's context settings of all commands."""


def run_command(command: click.Command, arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """Run a command and return its exit status: that of `run_guarded`, or 2 for a wrong command line.

    Args:
        command: a verb or a group of verbs.
        arguments: the command line after the program's name; that of this process if None.
        program: name of the program, for `--help` and messages; that of the command if None.
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
        return report_user_error(usage_error(error))
    except click.Abort:
        return report_interruption()


def usage_error(error: click.ClickException) -> UserError:
    """Return the error for a wrong command line: what is wrong, in which verb, and the nearest valid word or a hint."""
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
    """Return a suggestion of the nearest of the `known` words; None if none is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else None


def _name(error: click.BadParameter) -> str:
    if isinstance(error.param, click.Option):
        return max(error.param.opts, key=len)
    return error.param.human_readable_name if error.param else "the command line"


def _clause(sentence: str) -> str:
    """Return a sentence of click as a clause: in lower case, without its full stop."""
    return sentence[:1].lower() + sentence[1:].rstrip().removesuffix(".")
