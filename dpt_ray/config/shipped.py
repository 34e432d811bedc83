"""Configurations that come with the package: their names, and where they lie."""

import difflib
from pathlib import Path

from dpt_ray.errors import UserError

SEARCHES = "tune"
"""Folder of tune files among the shipped configurations; `dpt tune` names those in it, all others name the rest."""


def shipped_folder() -> Path:
    """Return the folder of the shipped configurations.

    A wheel holds it in the package. In a checkout, an image and the folder of a submitted job it lies beside the
    package.
    """
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def shipped_configs(searches: bool = False) -> dict[str, Path]:
    """Return the shipped configurations of runs, or the tune files, by name: the path without folder and ending."""
    folder = shipped_folder()
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    if searches:
        return {name.removeprefix(f"{SEARCHES}/"): path for name, path in found.items() if name.startswith(SEARCHES)}
    return {name: path for name, path in found.items() if not name.startswith(f"{SEARCHES}/")}


def find_config(given: str, searches: bool = False) -> str:
    """Return the path of the file that `--config` names.

    Args:
        given: a path, or the name of a shipped configuration.
        searches: whether it is that of a search.

    Raises:
        UserError: there is none; or a shipped one and a file of this name in the working folder, so that either may
            be meant.
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
