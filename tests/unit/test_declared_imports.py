"""Every package that the code imports is declared: nothing is there only because something else needs it."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = {name: set(map(canonicalize_name, names)) for name, names in {
    extra: [Requirement(text).name for text in texts] for extra, texts in PROJECT["optional-dependencies"].items()
}.items()}  # fmt: skip
CORE = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level names of all modules that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def undeclared(source: str, declared: set[str]) -> set[str]:
    """Distributions whose modules a source imports without being declared."""
    distributions = packages_distributions()
    foreign = {name for name in imported(ast.parse(source)) if name not in {*sys.stdlib_module_names, "dpt_ray"}}
    owners = {name: {canonicalize_name(owner) for owner in distributions.get(name, [name])} for name in foreign}
    return {name for name, owning in owners.items() if not owning & declared}


@pytest.mark.parametrize("folder", ["dpt_ray", "jobs"])
def test_every_import_is_declared(folder):
    declared = CORE.union(*(names for extra, names in EXTRAS.items() if extra != "dev"))
    found = {
        str(file.relative_to(REPOSITORY)): names
        for file in (REPOSITORY / folder).rglob("*.py")
        if (names := undeclared(file.read_text(), declared))
    }
    assert found == {}


def test_a_package_that_something_else_brings_is_found():
    assert undeclared("import dpt_ray, os\nimport numpy as np\ndef f():\n    from jinja2.sandbox import x", CORE) == {
        "jinja2"
    }
