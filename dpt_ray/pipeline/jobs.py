"""What a verb of the command line does for one run: check everything, make the targets, tell the result."""

from collections.abc import Callable, Mapping, Sequence

from dpt_ray.config.recipe_choices import Choice
from dpt_ray.config.load import check_overrides, given_settings
from dpt_ray.config.schema import RunConfig
from dpt_ray.data.shards.skipped import skip_policy
from dpt_ray.data.storage import stores
from dpt_ray.distributed import job_log
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.dpt import DualPseudoTraining, build
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import make_all
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.run_settings import load_run
from dpt_ray.pipeline.setting_warnings import setting_warnings

DEFAULT = "digits"
"""The preset of a job without a config file: embedded data, minutes on a laptop."""


def make_targets(
    file: str | None,
    overrides: Sequence[str],
    targets: Callable[[DualPseudoTraining], list[Step]],
    finish: Callable[[RunConfig, DualPseudoTraining, Mapping[Step, Artifact], str], str] | None = None,
    *,
    dry_run: bool = False,
) -> None:
    """Make the targets of a run and what they build on, and tell the result.

    Args:
        file: YAML settings; the preset `DEFAULT` if None.
        overrides: `a.b=c` over them.
        targets: the steps that are wanted.
        finish: from settings, steps, artifacts and the results' root to the text that ends the job; by default
            the place of each target.
        dry_run: check everything, print the plan and make nothing.

    Raises:
        UserError: what the user can mend.
    """
    check_overrides(overrides)
    inputs = Inputs()
    settings = load_run(file, [] if file else [f"preset={DEFAULT}"], overrides, inputs=inputs)
    config = settings.config
    say_choices(settings.choices)
    run = build(config, inputs=inputs)
    warn_of_settings(config, file, overrides)
    store = ArtifactStore(config.root)
    targeted = targets(run)
    wanted = run.checked(targeted)
    if dry_run:
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


def say_choices(choices: Sequence[Choice]) -> None:
    """Print a line for each setting that a recipe chose."""
    if choices:
        say("chosen from the data and this machine; --set changes any of these settings:")
    for choice in choices:
        say(f"  {choice}")


def warn(text: str) -> None:
    """Print a warning of a setting now."""
    job_log.tell(f"warning: {text}", level="warning", event="setting_warning")


def say(text: str) -> None:
    """Print a line now."""
    job_log.tell(text)
