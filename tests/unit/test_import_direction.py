"""Imports run one way: jobs -> pipeline -> distributed -> data -> core. Core and data never import Ray."""

import ast
import importlib.util
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "dpt_ray"

# What each layer may import of this package, and what it must not import of others.
OWN = {
    "config": {"config", "errors", "text"},
    "core": {"core", "config", "errors", "text"},
    "data": {"data", "core", "config", "errors", "text"},
    "distributed": {"distributed", "data", "core", "config", "errors", "text"},
    "report": {"report", "data", "core", "config", "errors", "text"},
    "export": {"export", "data", "core", "config", "errors", "text"},
}
STORAGE = {"webdataset", "fsspec", "s3fs"}
FOREIGN = {
    "config": {"ray", "torch", *STORAGE},
    "core": {"ray", *STORAGE},
    "data": {"ray"},
    "distributed": set(),
    "report": {"ray"},
    "export": {"ray"},
}


def imported(source: str, module: str) -> set[str]:
    """Return the full names of all that a module's source imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                names.add(str(node.args[0].value))
    return names


def violations(source: str, module: str) -> list[str]:
    """Return the imports of a module that its layer must not have."""
    layer = module.split(".")[1]
    wrong = []
    for name in sorted(imported(source, module)):
        top, _, rest = name.partition(".")
        part = rest.partition(".")[0]
        is_layer = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()
        if top in FOREIGN[layer] or (top == "dpt_ray" and is_layer and part not in OWN[layer]):
            wrong.append(f"{module} imports {name}")
    return wrong


def modules(layer: str) -> dict[str, str]:
    """Return the sources of a layer's modules by name."""
    paths = sorted((PACKAGE / layer).rglob("*.py"))
    return {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path.read_text() for path in paths}


@pytest.mark.parametrize("layer", OWN)
def test_no_layer_imports_what_it_must_not(layer):
    sources = modules(layer)
    assert len(sources) > 2
    assert [line for module, source in sources.items() for line in violations(source, module)] == []


@pytest.mark.parametrize("layer", ["core", "data", "config", "report", "export"])
@pytest.mark.parametrize(
    "source",
    [
        "import ray",
        "import ray.data as rd",
        "from ray.train import report",
        "def f():\n    import ray",
        "if True:\n    from ray import train",
        "try:\n    import numpy, ray\nexcept ImportError:\n    pass",
        "import importlib\nray = importlib.import_module('ray.data')",
        "ray = __import__('ray')",
        "from dpt_ray.distributed.reading import open_source",
        "from dpt_ray.pipeline import graph",
        "from dpt_ray import distributed",
        "import dpt_ray.pipeline.graph",
        "from ..distributed import reading",
        "from .. import pipeline",
    ],
)
def test_an_import_of_ray_or_of_a_higher_layer_would_be_found(layer, source):
    assert violations(source, f"dpt_ray.{layer}.module") != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dpt_ray.core.models.uvit", "import fsspec"),
        ("dpt_ray.core.models.uvit", "from webdataset import TarWriter"),
        ("dpt_ray.core.models.uvit", "import s3fs"),
        ("dpt_ray.core.models.uvit", "from dpt_ray.data import stores"),
        ("dpt_ray.core.models.uvit", "from ...data import stores"),
        ("dpt_ray.config.schema", "from dpt_ray.core import random"),
        ("dpt_ray.data.loading.order", "from dpt_ray.report.page import render"),
        ("dpt_ray.distributed.ray_training", "from dpt_ray.pipeline.graph import Step"),
        ("dpt_ray.distributed.ray_training", "from dpt_ray import report"),
    ],
)
def test_other_wrong_imports_would_be_found(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dpt_ray.core.row_random", "import torch\nimport rayleigh"),
        (
            "dpt_ray.data.storage.stores",
            "import fsspec\nfrom dpt_ray.core.row_random import derive_seed\nfrom . import shards",
        ),
        ("dpt_ray.config.load", "from dpt_ray.errors import UserError\nfrom dpt_ray import __version__"),
        ("dpt_ray.distributed.cluster", "import ray\nfrom dpt_ray.data import stores"),
    ],
)
def test_right_imports_are_not_complained_of(module, source):
    assert violations(source, module) == []


def test_torchvision_is_neither_installed_nor_imported():
    assert importlib.util.find_spec("torchvision") is None
    everything = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    assert [
        str(p) for p, source in everything.items() if "torchvision" in {n.split(".")[0] for n in imported(source, "")}
    ] == []
