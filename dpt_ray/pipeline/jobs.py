"""The work of a command for one run: check everything, make the targets, print the result."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from dpt_ray.config.load import check_overrides, given_settings
from dpt_ray.config.recipe_choices import Choice
from dpt_ray.config.schema import RunConfig
from dpt_ray.data.shards.skipped import skip_policy
from dpt_ray.data.storage import stores
from dpt_ray.distributed import job_log
from dpt_ray.distributed.node_watch import watched_surroundings
from dpt_ray.distributed.resources import check_machine
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.cluster_checks import check_cluster
from dpt_ray.pipeline.dpt import DualPseudoTraining, build
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import in_order, make_all, refuse_warnings
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.licence_notes import licence_notes
from dpt_ray.pipeline.recorded_run import recorded_run
from dpt_ray.pipeline.run_settings import load_run
from dpt_ray.pipeline.setting_warnings import setting_warnings
from dpt_ray.pipeline.start_checks import check_listed_labels
from dpt_ray.pipeline.steps.labelled_subset import LabelledSubset

DryRun = Literal["off", "plan", "measure"]

DEFAULT = "digits"
"""Preset of a job without a configuration file: embedded data, which take minutes on a laptop."""


def make_targets(
    file: str | None,
    overrides: Sequence[str],
    targets: Callable[[DualPseudoTraining], list[Step]],
    finish: Callable[[RunConfig, DualPseudoTraining, Mapping[Step, Artifact], str], str] | None = None,
    *,
    dry_run: DryRun = "off",
    strict: bool = False,
) -> None:
    """Make the targets of a run with their ancestors, and print the result.

    Args:
        file: YAML settings; the preset `DEFAULT` if None.
        overrides: settings `a.b=c`, stronger than the file.
        targets: returns the steps to make.
        finish: maps settings, steps, artifacts and the run's folder to the final text; by default the text lists the
            place of each target.
        dry_run: unless `off`, check everything, print the plan and make nothing; `measure` runs a few steps of each
            training to say how long it takes here.
        strict: stop at the first result that its step warns of.

    Raises:
        UserError: the settings, the data or the cluster are wrong.
    """
    check_overrides(overrides)
    inputs = Inputs()
    settings = load_run(file, [] if file else [f"preset={DEFAULT}"], overrides, inputs=inputs)
    config = settings.config
    check_machine(config.cluster, config.data.lanes)
    say_choices(settings.choices)
    run = build(config, inputs=inputs)
    warn_of_settings(config, file, overrides)
    store = ArtifactStore(config.root)
    targeted = targets(run)
    wanted = run.checked(targeted)
    if any(isinstance(step, LabelledSubset) for step in in_order(wanted)):
        check_listed_labels(config, inputs)
    if dry_run != "off":
        from dpt_ray.pipeline.dry_run import describe_plan

        say(describe_plan(config, wanted, store, measure=dry_run == "measure"))
        return
    stores.check_writable(store.root)
    check_cluster(config, in_order(wanted), store)
    with (
        job_log.about(run=config.name),
        watched_surroundings(),
        recorded_run(config, run, wanted, store.root) as recording,
    ):
        say(f"run: {recording.folder}")
        inputs.keep_listings()
        artifacts = make_all(wanted, store, config.cluster, say, skip_policy(config.data), strict=strict)
        recording.made(run, artifacts)
        if finish is not None:
            say(finish(config, run, artifacts, recording.folder))
        else:
            for step in targeted:
                say(f"{step.title}: {artifacts[step].url}")
        if strict:
            refuse_warnings(artifacts.values())


def warn_of_settings(config: RunConfig, file: str | None, overrides: Sequence[str]) -> None:
    """Print a line for each setting that has no effect or spoils the result, and for each restricted licence."""
    in_file, on_command_line = given_settings(file, overrides)
    if file and not in_file:
        warn(
            f"{file} holds no setting, so all that --set does not give have their defaults: "
            f"stages 1 and 2 train on {config.stage1.images:,} and {config.stage2.images:,} images"
        )
    for line in setting_warnings(config, in_file, on_command_line):
        warn(line)
    for line in licence_notes(config):
        say(f"licence: {line}")


def say_choices(choices: Sequence[Choice]) -> None:
    """Print a line for each setting that a recipe chose."""
    if choices:
        say("chosen from the data and this machine; --set changes any of these settings:")
    for choice in choices:
        say(f"  {choice}")


def warn(text: str) -> None:
    """Print a warning about a setting."""
    job_log.tell(f"warning: {text}", level="warning", event="setting_warning")


def say(text: str) -> None:
    """Print a line without buffering."""
    job_log.tell(text)
