"""`dpt init`: a commented file of settings to start from."""

import click

from dpt_ray.cli.options import example
from dpt_ray.cli.verbs import OneOf, Verb
from dpt_ray.distributed.job_log import tell
from dpt_ray.errors import UserError


def _presets() -> list[str]:
    from dpt_ray.config.load import preset_names

    return preset_names()


@click.command(
    "init",
    cls=Verb,
    short_help="Write a commented file of settings.",
    epilog=example("dpt init my.yaml --preset digits"),
)
@click.argument("file", metavar="[FILE]", default="my.yaml")
@click.option("--preset", type=OneOf(_presets), metavar="NAME", default="digits", help="The preset to start from.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def init(file: str, preset: str, force: bool) -> None:
    """Write the settings of a preset to a new YAML file, with a comment for each setting.

    FILE is a path; by default my.yaml in the working folder.
    """
    from dpt_ray.config.starting_file import starting_file
    from dpt_ray.data.storage import stores

    if not file.endswith((".yaml", ".yml")):
        raise UserError("is no name of a settings file", where=file, fix="end it in .yaml")
    if stores.exists(file) and not force:
        raise UserError("exists already", where=file, fix="give another name, or --force to replace it")
    stores.write_bytes(file, starting_file(preset, file).encode())
    tell(f"settings: {file}; next: dpt run --config {file} --dry-run")
