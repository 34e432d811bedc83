"""Names and locations of the configurations that the package ships."""

import difflib
from pathlib import Path

from dpt_ray.errors import UserError

SEARCHES = "tune"
"""Folder of the tune files among the shipped configurations. `dpt tune` accepts their names, other commands the
rest."""


def shipped_folder() -> Path:
    """Return the folder of the shipped configurations.

    In a wheel it is inside the package. In a checkout, an image and the folder of a submitted job it is beside the
    package.
    """
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def shipped_configs(searches: bool = False) -> dict[str, Path]:
    """Return the paths of the shipped configurations, or of the tune files, by name: the relative path without
    suffix."""
    folder = shipped_folder()
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    if searches:
        return {name.removeprefix(f"{SEARCHES}/"): path for name, path in found.items() if name.startswith(SEARCHES)}
    return {name: path for name, path in found.items() if not name.startswith(f"{SEARCHES}/")}


def find_config(given: str, searches: bool = False) -> str:
    """Return the path of the file that `--config` names.

    Args:
        given: a path, or the name of a shipped configuration.
        searches: look for a tune file instead of a run's configuration.

    Raises:
        UserError: no file is found, or the name fits both a shipped configuration and a file in the working folder.
    """
    shipped = shipped_configs(searches)
    if given not in shipped:
        if "://" not in given and not Path(given).exists():
            raise _missing(given, list(shipped))
        return given
    for file in (given, f"{given}.yaml"):
        if Path(file).is_file():
            raise UserError(
                "a shipped configuration and a file in this folder have this name",
                where=f"--config {given}",
                fix=f"give ./{file} for the file; rename the file to use the shipped one",
            )
    return str(shipped[given])


def _missing(given: str, names: list[str]) -> UserError:
    stem = Path(given).stem
    near = [stem] if stem in names else difflib.get_close_matches(given, names, n=1)
    hint = f"did you mean the shipped {near[0]!r}? " if near else ""
    return UserError("no such config file", where=given, fix=f"{hint}shipped ones, by name: {', '.join(names)}")
