"""`dpt completion`: print a script for completion of verbs, options, configurations and settings in a shell."""

import click
from click.shell_completion import get_completion_class

from dpt_ray.cli.options import example
from dpt_ray.cli.verbs import OneOf, Verb
from dpt_ray.errors import UserError

SHELLS = ("bash", "zsh", "fish")


@click.command(
    "completion",
    cls=Verb,
    short_help="Print a script for completion in a shell.",
    epilog=example('eval "$(dpt completion bash)"   # in ~/.bashrc'),
)
@click.argument("shell", type=OneOf(lambda: SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell's script that completes commands, options, shipped configurations and names of settings.

    SHELL is bash, zsh or fish.
    """
    complete = get_completion_class(shell)
    if complete is None:
        raise UserError(f"completion for {shell} is not in this version of click")
    click.echo(complete(context.find_root().command, {}, "dpt", "_DPT_COMPLETE").source())
