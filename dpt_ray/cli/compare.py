"""`dpt compare`: the table of several runs or searches, as a page, Markdown, CSV and LaTeX."""

import click

from dpt_ray.cli.options import example
from dpt_ray.cli.verbs import Verb
from dpt_ray.distributed.job_log import tell


@click.command(
    "compare",
    cls=Verb,
    short_help="Compare runs and searches in a table with intervals.",
    epilog=example(
        "dpt compare digits/20260105-093000-123 digits/20260105-101500-456",
        "dpt compare --all digits --output comparisons/digits",
        "dpt compare --search label_ratio",
    ),
)
@click.argument("runs", metavar="RUN...", nargs=-1)
@click.option("--all", "names", multiple=True, metavar="NAME", help="All finished runs of a name; may be repeated.")
@click.option(
    "--search",
    "searches",
    multiple=True,
    metavar="SEARCH",
    help="A search's name, its folder or its results.json; may be repeated.",
)
@click.option("--root", metavar="URL", default="dpt_results", help="Folder or URL of the results, as the setting root.")
@click.option("--output", metavar="URL", help="Folder for the files. Default: comparisons in the root.")
def compare(
    runs: tuple[str, ...], names: tuple[str, ...], searches: tuple[str, ...], root: str, output: str | None
) -> None:
    """Compare finished runs and trials of searches.

    Runs that differ in seeds alone are one row. Its columns are labels a class, Fréchet distance, accuracies of stages
    1 and 3 and the gain, with intervals over seeds. A RUN is its name, which means the newest run of that name, or
    NAME/ID. The files are comparison.html with curves and the settings that differ, .md, .csv and .tex.
    """
    from dpt_ray.config.places import check_root
    from dpt_ray.data.storage.stores import absolute_url, join
    from dpt_ray.errors import UserError
    from dpt_ray.experiments.comparison.compared_runs import read_run, read_search
    from dpt_ray.experiments.comparison.write import write_comparison
    from dpt_ray.pipeline.runs import find_run, runs_of_name

    if not (runs or names or searches):
        raise UserError("nothing to compare", fix="name runs, or give --all NAME or --search NAME")
    try:
        check_root(root)
    except ValueError as error:
        raise UserError(str(error), where="--root") from None
    root = absolute_url(root)
    found = [read_run(find_run(root, name)) for name in runs]
    for name in names:
        finished = [run for run in runs_of_name(root, name) if run.state == "finished" and run.figures]
        if not finished:
            raise UserError(f"there is no finished run of the name {name!r}", where=root)
        found += map(read_run, finished)
    for search in searches:
        is_place = "/" in search or search.endswith(".json")
        found += read_search(absolute_url(search) if is_place else join(root, "searches", search))
    tell(write_comparison(found, absolute_url(output) if output else join(root, "comparisons")))
