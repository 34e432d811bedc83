"""What every job script does: read the command line, check everything, make one target, tell the result."""

import argparse
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence

from dpt_ray.config.load import check_overrides, given_settings, load_config
from dpt_ray.config.places import redacted
from dpt_ray.config.schema import DataConfig, RunConfig
from dpt_ray.data import stores
from dpt_ray.data.skipped import SkipPolicy
from dpt_ray.distributed import job_log
from dpt_ray.distributed.failures import user_error
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts import Artifact, ArtifactStore
from dpt_ray.pipeline.dpt import DualPseudoTraining, build
from dpt_ray.pipeline.graph import Step, make_all
from dpt_ray.pipeline.setting_warnings import setting_warnings

DEFAULT = "digits"
"""The preset of a job without a config file: embedded data, minutes on a laptop."""

USER_MISTAKE, FAILURE, INTERRUPTED = 2, 1, 130
"""Exit statuses besides 0."""


def run_job(
    description: str,
    targets: Callable[[DualPseudoTraining], list[Step]],
    finish: Callable[[RunConfig, DualPseudoTraining, Mapping[Step, Artifact], str], str] | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a job script and return its exit status.

    Args:
        description: what the script does, for `--help`.
        targets: the steps that the job is for; what they build on is made too.
        finish: from settings, steps, artifacts and the results' root to the text that ends the job; by default
            the place of each target.
        arguments: the command line; `sys.argv` if None.
    """
    options = _parse(description, arguments)

    def job() -> None:
        job_log.check_format()
        check_overrides(options.set)
        config = load_config(options.config, [] if options.config else [f"preset={DEFAULT}"], options.set)
        run = build(config)
        warn_of_settings(config, options.config, options.set)
        store = ArtifactStore(config.root)
        targeted = targets(run)
        wanted = run.checked(targeted)
        if options.dry_run:
            from dpt_ray.pipeline.dry_run import describe_plan

            say(describe_plan(config, wanted, store))
            return
        stores.check_writable(store.root)
        with job_log.about(run=config.name):
            artifacts = make_all(wanted, store, config.cluster, say, skip_policy(config.data))
            if finish is not None:
                say(finish(config, run, artifacts, store.root))
            else:
                for step in targeted:
                    say(f"{step.title}: {artifacts[step].url}")

    return run_guarded(job)


def run_guarded(job: Callable[[], None]) -> int:
    """Call what a job script does; return the exit status. Errors become one line."""
    try:
        job()
        return 0
    except UserError as error:
        return _mistake(error)
    except KeyboardInterrupt:
        _complain("interrupted: the same command goes on from here")
        return INTERRUPTED
    except Exception as error:
        if cause := user_error(error):
            return _mistake(cause)
        if not job_log.wants_json():
            print(redacted(traceback.format_exc()), file=sys.stderr, end="")
        _complain(
            f"error: {type(error).__name__}: {redacted(' '.join(str(error).split()))[:500]}",
            traceback=redacted(traceback.format_exc()),
        )
        return FAILURE


def warn_of_settings(config: RunConfig, file: str | None, overrides: Sequence[str]) -> None:
    """Print a line for each setting without effect, or with one that spoils the result."""
    in_file, on_command_line = given_settings(file, overrides)
    if file and not in_file:
        warn(
            f"{file} holds no setting, so all that --set does not give have their defaults: "
            f"stages 1 and 2 train on {config.stage1.images:,} and {config.stage2.images:,} images"
        )
    for line in setting_warnings(config, in_file, on_command_line):
        warn(line)


def warn(text: str) -> None:
    """Print a warning of a setting now."""
    job_log.tell(f"warning: {text}", level="warning", event="setting_warning")


def _mistake(error: UserError) -> int:
    _complain(f"error: {error}")
    return USER_MISTAKE


def skip_policy(data: DataConfig) -> SkipPolicy:
    """Return how many images the settings allow to be left out."""
    return SkipPolicy(data.max_skipped_share if data.on_error == "skip" else 0.0)


def say(text: str) -> None:
    """Print a line now."""
    job_log.tell(text)


def _complain(text: str, **fields: str) -> None:
    job_log.tell(text, level="error", event="error", stream=sys.stderr, **fields)


def _parse(description: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description,
        epilog="A Ray cluster named by RAY_ADDRESS is used; else a local Ray is started. "
        "DPT_LOG_FORMAT=json gives a JSON object a line instead of text.",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="YAML settings, shipped ones under configs/; default: the embedded digits"
    )
    parser.add_argument(
        "--set", metavar="a.b=c", action="append", default=[], help="override one setting; may be repeated"
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the plan and stop")
    return parser.parse_args(arguments)
