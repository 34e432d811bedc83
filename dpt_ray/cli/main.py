"""The command `dpt`, a group of all verbs."""

import sys
from functools import partial
from pathlib import Path

import click

from dpt_ray import __version__
from dpt_ray.cli.benchmark import benchmark
from dpt_ray.cli.compare import compare
from dpt_ray.cli.completion import completion
from dpt_ray.cli.export import export
from dpt_ray.cli.guard import INTERRUPTED, TRY_AGAIN, leave
from dpt_ray.cli.init import init
from dpt_ray.cli.job import JOBS
from dpt_ray.cli.options import example
from dpt_ray.cli.predict import generate, predict
from dpt_ray.cli.running import CONTEXT, run_command
from dpt_ray.cli.runs import runs
from dpt_ray.cli.serve import serve
from dpt_ray.cli.study import study
from dpt_ray.cli.suggest import suggest_labels
from dpt_ray.cli.supervisor import supervised
from dpt_ray.cli.tune import tune
from dpt_ray.cli.verbs import Verbs
from dpt_ray.core.training.freed_memory import use_one_arena
from dpt_ray.core.training.spin_count import limit_spinning

NAME = "dpt"


@click.group(
    NAME,
    cls=Verbs,
    context_settings=CONTEXT,
    epilog=example("dpt run --config digits", notes="'dpt COMMAND --help' shows options and an example."),
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def dpt() -> None:
    """Dual pseudo training: a better classifier and an image generator from a few labels.

    A command first makes the results that it needs. After an interruption the same command resumes. The exit status is
    0 for success, 2 for an error that you can correct, 75 if a process that the command needs has died or SIGTERM
    announced a preemption and the same command resumes, 130 for an interruption and 1 for any other error.
    """


for _verb in (
    init,
    *JOBS,
    suggest_labels,
    predict,
    generate,
    serve,
    tune,
    compare,
    study,
    benchmark,
    export,
    runs,
    completion,
):
    dpt.add_command(_verb)


def main(verb: str | None = None) -> int:
    """Run the command line of this process in a child process; return the exit status.

    Args:
        verb: the verb of a job script, whose command line holds only the verb's options; None for `dpt` itself.
    """
    return supervised(partial(_run, verb))


def _run(verb: str | None) -> int:
    limit_spinning()
    use_one_arena()  # trainings in this process run in a thread, and threads get their arenas when they start
    if verb is None:
        status = run_command(dpt, program=NAME)
    else:
        status = run_command(dpt.commands[verb], program=Path(sys.argv[0]).name)
    if status in (INTERRUPTED, TRY_AGAIN):
        leave(status)
    return status
