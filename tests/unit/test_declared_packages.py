"""Every package that the code imports is one that pyproject.toml declares, not one that another package brings."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]


NOT_INSTALLED = {"mlflow": ["mlflow-skinny"], "wandb": ["wandb"]}
"""Import name -> packages of the extras that the development environment lacks: they bring hundreds of MB."""


def imported(source: str) -> set[str]:
    """Return the top-level names of all absolute imports, wherever in a source they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                names.add(str(node.args[0].value))
    return {name.partition(".")[0] for name in names}


def undeclared(sources: dict[str, str], requirements: list[str]) -> list[str]:
    """Return what sources import of packages that no requirement names."""
    declared = {canonicalize_name(Requirement(text).name) for text in requirements} | {"dpt-ray"}
    distributions = {**NOT_INSTALLED, **packages_distributions()}
    return [
        f"{file} imports {name}"
        for file, source in sources.items()
        for name in sorted(imported(source) - set(sys.stdlib_module_names))
        if not declared & {canonicalize_name(each) for each in distributions.get(name, [])}
    ]


def requirements() -> list[str]:
    """Return what the project needs, extras for users too, but not what only its developers need."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = {name: needed for name, needed in project["optional-dependencies"].items() if name != "dev"}
    return [*project["dependencies"], *(text for needed in extras.values() for text in needed)]


def sources() -> dict[str, str]:
    """Return what a user runs, by file."""
    files = [file for folder in ("dpt_ray", "jobs") for file in sorted((REPOSITORY / folder).rglob("*.py"))]
    return {file.relative_to(REPOSITORY).as_posix(): file.read_text() for file in files}


def test_every_imported_package_is_declared():
    assert len(sources()) > 100
    assert undeclared(sources(), requirements()) == []


def test_an_undeclared_import_would_be_found():
    needed = [text for text in requirements() if not re.match(r"(pyyaml|pillow)\b", text)]
    code = {
        "a.py": "import numpy.random\ndef f():\n    from PIL import Image",
        "b.py": "import_module('yaml.x')\nimport os",
    }
    assert undeclared(code, needed) == ["a.py imports PIL", "b.py imports yaml"]
    assert undeclared({"c.py": "import no_such_package"}, needed) == ["c.py imports no_such_package"]


def test_the_tested_versions_are_within_the_declared_bounds():
    for text in requirements():
        requirement = Requirement(text)
        if [requirement.name] not in NOT_INSTALLED.values():
            assert requirement.specifier.contains(version(requirement.name)), text
