"""`dpt runs`: list, show, compare and remove runs, and remove what no run needs."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from dpt_ray.cli.options import example
from dpt_ray.cli.verbs import Verbs
from dpt_ray.distributed.job_log import tell

ROOT = "dpt_results"

_root = click.option("--root", metavar="URL", default=ROOT, help="Folder or URL of the results, as the setting root.")
_dry_run = click.option("--dry-run", is_flag=True, help="Print what would be removed, with sizes, and remove nothing.")


def _checked(command: Callable[..., None]) -> Callable[..., None]:
    """Check the root before the command."""

    @wraps(command)
    def run(root: str, **options: Any) -> None:
        from dpt_ray.config.places import check_root
        from dpt_ray.data.storage.stores import absolute_url
        from dpt_ray.errors import UserError

        try:
            check_root(root)
        except ValueError as error:
            raise UserError(str(error), where="--root") from None
        command(root=absolute_url(root), **options)

    return run


@click.group("runs", cls=Verbs, invoke_without_command=True, short_help="List, compare and remove runs.")
@click.pass_context
def runs(context: click.Context) -> int | None:
    """List, show, compare and remove runs; remove artifacts that no run needs.

    A RUN is its name, which means the newest run of that name, or NAME/ID; the beginning of the id is enough.
    Without a command it lists the runs in dpt_results.
    """
    if context.invoked_subcommand is not None:
        return None
    with list_.make_context("list", [], parent=context) as inner:
        status: int = list_.invoke(inner)
    return status


@runs.command("list", short_help="List all runs.", epilog=example("dpt runs list --root s3://bucket/results"))
@click.option("--name", help="Only runs of this name.")
@_root
@_checked
def list_(root: str, name: str | None) -> None:
    """List runs with state, age, duration, size, accuracies and the settings in which runs of one name differ.

    The size includes artifacts that runs share.
    """
    import datetime

    from dpt_ray.pipeline.describe_runs import describe_list
    from dpt_ray.pipeline.runs import list_runs, runs_of_name

    found = runs_of_name(root, name) if name else list_runs(root)
    tell(describe_list(root, found, datetime.datetime.now(datetime.UTC)) if found else f"no runs in {root}")


@runs.command("show", short_help="Show one run.", epilog=example("dpt runs show digits"))
@click.argument("run")
@_root
@_checked
def show(root: str, run: str) -> None:
    """Show state, command, commit, versions, figures, artifacts and files of a run.

    The last lines say which artifacts the installed version would make again, and why. For them the data is listed.
    """
    from dpt_ray.pipeline.describe_runs import describe_run
    from dpt_ray.pipeline.made_again import describe_made_again
    from dpt_ray.pipeline.runs import find_run

    found = find_run(root, run)
    tell(describe_run(root, found))
    tell(f"\n{describe_made_again(root, found)}")


@runs.command(
    "compare",
    short_help="Show two runs side by side.",
    epilog=example("dpt runs compare digits/20260105-093000-123 digits"),
)
@click.argument("first", metavar="RUN")
@click.argument("second", metavar="RUN")
@_root
@_checked
def compare(root: str, first: str, second: str) -> None:
    """Show the settings in which two runs differ, and their figures."""
    from dpt_ray.pipeline.describe_runs import describe_comparison
    from dpt_ray.pipeline.runs import find_run

    tell(describe_comparison(find_run(root, first), find_run(root, second)))


@runs.command("remove", short_help="Remove runs.", epilog=example("dpt runs remove digits/20260105-093000-123"))
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@_dry_run
@_root
@_checked
def remove(root: str, names: tuple[str, ...], dry_run: bool) -> None:
    """Remove the folders of runs: report, log, measurements and settings.

    Their artifacts stay until dpt runs gc. A run in progress is refused.
    """
    from dpt_ray.pipeline.collect_garbage import remove_run
    from dpt_ray.pipeline.describe_runs import describe_folder
    from dpt_ray.pipeline.runs import find_run

    found = {run.title: run for run in (find_run(root, name) for name in names)}
    for run in found.values():
        size = describe_folder(run)
        if not dry_run:
            remove_run(root, run)
        tell(f"{'would remove' if dry_run else 'removed'} {run.title} ({size})")


@runs.command("gc", short_help="Remove artifacts that no run needs.", epilog=example("dpt runs gc --dry-run"))
@click.option(
    "--all", "every", is_flag=True, help="Also what no removed run needed: artifacts of studies, for example."
)
@click.option(
    "--states", is_flag=True, help="Also the final states of finished trainings, which can then not be extended."
)
@_dry_run
@_root
@_checked
def gc(root: str, every: bool, states: bool, dry_run: bool) -> None:
    """Remove artifacts of removed runs.

    What a run that is left, a search or a job in progress needs stays.
    """
    from dpt_ray.pipeline.collect_garbage import find_garbage, remove_garbage
    from dpt_ray.pipeline.describe_runs import describe_garbage
    from dpt_ray.tables import format_bytes

    garbage = find_garbage(root, every=every, states=states)
    if not garbage:
        tell("nothing to remove")
    elif dry_run:
        tell(f"{describe_garbage(garbage)}, would be removed")
    else:
        total = remove_garbage(root, garbage, lambda one: tell(f"removed {one.address} ({format_bytes(one.bytes)})"))
        tell(f"{format_bytes(total)} freed")
