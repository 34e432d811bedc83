"""Verbs that make one run, or one step of it with the steps that it builds on."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from dpt_ray.cli.options import CLUSTER, config_option, example, set_option
from dpt_ray.cli.running import run_command
from dpt_ray.cli.verbs import OneOf, Verb
from dpt_ray.config.shipped import find_config
from dpt_ray.errors import UserError

if TYPE_CHECKING:
    from dpt_ray.config.schema import RunConfig
    from dpt_ray.pipeline.artifacts.store import Artifact
    from dpt_ray.pipeline.dpt import DualPseudoTraining
    from dpt_ray.pipeline.execution.step import Step
    from dpt_ray.pipeline.jobs import DryRun

    Targets = Callable[[DualPseudoTraining], list[Step]]
    Finish = Callable[[RunConfig, DualPseudoTraining, Mapping[Step, Artifact], str], str]


_DRY_RUNS: "dict[str | None, DryRun]" = {None: "off", "plan": "plan", "measure": "measure"}


def job_command(
    name: str, summary: str, about: str, targets: "Targets", finish: "Finish | None" = None, *examples: str
) -> click.Command:
    """Return a verb.

    Args:
        name: name of the verb.
        summary: short description for the list of verbs.
        about: description for `--help`.
        targets: returns the steps to make. The steps that they build on are made too.
        finish: returns the text that ends the job, from settings, steps, artifacts and the run's folder. By
            default the text is the location of each target.
        examples: command lines for `--help`.
    """
    notes = f"{CLUSTER} With DPT_LOG_FORMAT=json every line is a JSON object."

    @click.command(name, cls=Verb, short_help=summary, help=about, epilog=example(*examples, notes=notes))
    @config_option("Settings: a YAML file, or the name of a shipped configuration.", show_default="the embedded digits")
    @set_option("Override one setting; may be repeated.")
    @click.option(
        "--dry-run",
        is_flag=False,
        flag_value="plan",
        default=None,
        type=OneOf(lambda: ("plan", "measure")),
        show_default=False,
        metavar="[=measure]",
        help="Check everything, print the plan and stop; =measure runs a few steps of each training to say how long it "
        "takes on this machine.",
    )
    @click.option("--strict", is_flag=True, help="Stop at the first result that a step warns of.")
    def job(config: str | None, overrides: tuple[str, ...], dry_run: str | None, strict: bool) -> None:
        file = find_config(config) if config else None
        from dpt_ray.pipeline.jobs import make_targets

        make_targets(file, overrides, targets, finish, dry_run=_DRY_RUNS[dry_run], strict=strict)

    return job


def run_job(
    about: str, targets: "Targets", finish: "Finish | None" = None, arguments: Sequence[str] | None = None
) -> int:
    """Run a verb for any steps with a command line; return its exit status.

    Args:
        about: description for `--help`.
        targets: as in `job_command`.
        finish: as in `job_command`.
        arguments: the command line after the program's name; that of this process if None.
    """
    return run_command(job_command("job", about, about, targets, finish, "dpt run --config digits"), arguments)


def _finish_run(*made: object) -> str:
    from dpt_ray.pipeline.run_report import finish_run

    return finish_run(*made)  # type: ignore[arg-type]


def _encoder_of(run: "DualPseudoTraining") -> "list[Step]":
    if run.encoder is None:
        fix = "set stage1.model.name=linear_probe and stage1.probe.encoder=stage0"
        raise UserError("no stage uses the encoder of stage 0", where="stage0", fix=fix)
    return [run.encoder]


def _summarise_data(*made: object) -> str:
    from dpt_ray.pipeline.data_summary import summarise_data

    return summarise_data(*made)  # type: ignore[arg-type]


JOBS = (
    job_command(
        "run",
        "All stages, from images to a report.",
        "Dual pseudo training from images to a report: stages 1, 2 and 3 with the two inference steps between them.",
        lambda run: run.steps(),
        _finish_run,
        "dpt run --config digits --dry-run",
        "dpt run --config my.yaml --set root=s3://bucket/results",
    ),
    job_command(
        "prepare",
        "Import images as shards and index them.",
        "Import images of any supported format as shards and index them; print classes, sizes and refused images.",
        lambda run: [run.train_data, run.test_data],
        _summarise_data,
        "dpt prepare --config my.yaml --set data.on_error=skip",
    ),
    job_command(
        "train-encoder",
        "Stage 0: train an encoder without labels.",
        "Stage 0: train the encoder of a linear probe on the training images by self-supervision, without labels.",
        _encoder_of,
        None,
        "dpt train-encoder --config digits_encoder",
    ),
    job_command(
        "train-classifier",
        "Stage 1: train the classifier.",
        "Stage 1: train the semi-supervised classifier on labelled and unlabelled images.",
        lambda run: [run.classifier],
        None,
        "dpt train-classifier --config digits --set stage1.algorithm.name=fixmatch",
    ),
    job_command(
        "pseudo-label",
        "Label every training image.",
        "Label every training image with the stage-1 classifier (distributed batch inference).",
        lambda run: [run.pseudo_labels],
        None,
        "dpt pseudo-label --config digits",
    ),
    job_command(
        "train-generator",
        "Stage 2: train the diffusion model.",
        "Stage 2: train the class-conditional diffusion model on the pseudo-labels.",
        lambda run: [run.generator],
        None,
        "dpt train-generator --config digits --set stage2.process=edm",
    ),
    job_command(
        "sample",
        "Draw pseudo images of every class.",
        "Draw pseudo images of every class from the generator (distributed batch inference).",
        lambda run: [run.pseudo_images],
        None,
        "dpt sample --config digits --set sampling.guidance_scale=0.5",
    ),
    job_command(
        "retrain",
        "Stage 3: train the classifier again.",
        "Stage 3: train the classifier again, on labelled, unlabelled and pseudo images.",
        lambda run: [run.retrained],
        None,
        "dpt retrain --config digits --set stage3.mixing.real_share=0.25",
    ),
    job_command(
        "evaluate",
        "Compare all results with the truth.",
        "Compare both classifiers, the pseudo-labels and the pseudo images with the truth.",
        lambda run: [run.evaluation],
        None,
        "dpt evaluate --config digits",
    ),
)
"""The verbs. The first makes a whole run; the others follow in the order of its steps."""
