"""Packages with plug-ins in folders of their own, as `pip install --target` leaves them."""

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

TOY = Path(__file__).parent / "toy_plugins"


def install_toy(folder: Path, version: str | None = None) -> Path:
    """Put the toy plug-ins into a folder, under another version if one is given; return the folder."""
    project = tomllib.loads((TOY / "pyproject.toml").read_text())["project"]
    shutil.copytree(TOY / "dpt_toy", folder / "dpt_toy", ignore=shutil.ignore_patterns("__pycache__"))
    return describe(folder, project["name"], version or project["version"], project["entry-points"])


def describe(folder: Path, name: str, version: str, entry_points: Mapping[str, Mapping[str, str]]) -> Path:
    """Write the metadata of a distribution into a folder; return the folder."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        line
        for group, named in entry_points.items()
        for line in (f"[{group}]", *(f"{n} = {o}" for n, o in named.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
