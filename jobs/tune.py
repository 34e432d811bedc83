"""A search over settings by Ray Tune: trials share all that they have in common. The same command goes on."""

import argparse

from dpt_ray.config.load import check_overrides
from dpt_ray.config.tune import load_tune
from dpt_ray.pipeline.jobs import run_guarded, say
from dpt_ray.search.finish import finish_search
from dpt_ray.search.plan import describe_search
from dpt_ray.search.search import Search


def main() -> int:
    """Run the search that the command line names; return the exit status."""
    options = _parse()

    def search() -> None:
        check_overrides(options.set)
        found = Search(load_tune(options.config), options.set)
        if options.dry_run:
            say(describe_search(found))
            return
        finished = finish_search(found, found.run(say))
        say(finished.text)
        if finished.problem is not None:
            raise finished.problem

    return run_guarded(search)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="A Ray cluster named by RAY_ADDRESS is used; else a local Ray is started."
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        required=True,
        help="tune file, shipped ones under configs/tune/; see docs/guide/search.md",
    )
    parser.add_argument(
        "--set", metavar="a.b=c", action="append", default=[], help="override a setting of all trials; may be repeated"
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the plan and stop")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
