"""`dpt tune`: search over settings."""

import click

from dpt_ray.cli.options import CLUSTER, config_option, dry_run_option, example, set_option
from dpt_ray.cli.verbs import Verb
from dpt_ray.config.shipped import find_config


@click.command(
    "tune",
    cls=Verb,
    short_help="Search over settings by Ray Tune.",
    epilog=example(
        "dpt tune --config guidance_scale --dry-run",
        "dpt tune --config my_search.yaml --set root=s3://bucket/results",
        notes=CLUSTER,
    ),
)
@config_option("Tune file, or the name of a shipped one; see docs/guide/search.md.", searches=True, required=True)
@set_option("Override a setting of all trials; may be repeated.")
@dry_run_option()
def tune(config: str, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Search over settings by Ray Tune. Trials share their common artifacts, and the same command resumes."""
    file = find_config(config, searches=True)
    from dpt_ray.config.load import check_overrides
    from dpt_ray.config.search_settings import load_tune
    from dpt_ray.experiments.search.finish import finish_search
    from dpt_ray.experiments.search.search import Search
    from dpt_ray.experiments.search.search_warnings import search_warnings
    from dpt_ray.experiments.search.trial_plan import describe_search
    from dpt_ray.pipeline.jobs import say, warn

    check_overrides(overrides)
    search = Search(load_tune(file), list(overrides))
    for line in search_warnings(search):
        warn(line)
    if dry_run:
        say(describe_search(search))
        return
    finished = finish_search(search, search.run(say))
    say(finished.text)
    if finished.problem is not None:
        raise finished.problem
