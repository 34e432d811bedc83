"""Imports run one way, between packages and between their sub-packages; see `LAYERS`.

Ray is imported above `distributed` at most where a job starts; networks, data and exports work without it.
"""

import ast
import importlib.util
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "dpt_ray"

LAYERS = [
    {"errors", "json_values", "text", "tables", "plugins"},
    {"config"},
    {"core"},
    {"data"},
    {"networks"},
    {"distributed"},
    {"report", "export", "capacity"},
    {"pipeline"},
    {"experiments", "serving"},
    {"benchmark"},
    {"cli"},
]
"""Each package may import those above it in this list, and nothing else of this project; of its own, what is its own.
`errors` and `text` hide secrets in URLs and so read `config.places`, which imports nothing. `plugins` looks up
the names of built-ins where one might clash."""
WITHOUT_RAY_BELOW = {"report": {"distributed"}, "export": {"distributed"}}
"""What is loaded or shown without a cluster must not need Ray."""
FOREIGN_LAYERS = {
    "config": {"ray", "torch"},
    "core": {"ray"},
    "data": {"ray"},
    "networks": {"ray"},
    "report": {"ray"},
    "export": {"ray"},
    "capacity": {"ray"},
}
STORAGE = {"webdataset", "fsspec", "s3fs"}


def allowed(layer: str) -> set[str]:
    """Return the packages that a package may import."""
    below: set[str] = set()
    for packages in LAYERS:
        if layer in packages:
            return below - WITHOUT_RAY_BELOW.get(layer, set()) | {layer}
        below |= packages
    raise KeyError(layer)


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
        foreign = FOREIGN_LAYERS.get(layer, set()) | (STORAGE if layer in ("config", "core") else set())
        if top in foreign or (top == "dpt_ray" and is_layer and part not in allowed(layer)):
            wrong.append(f"{module} imports {name}")
    return wrong


def modules(layer: str) -> dict[str, str]:
    """Return the sources of a layer's modules by name."""
    paths = sorted((PACKAGE / layer).rglob("*.py"))
    return {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path.read_text() for path in paths}


@pytest.mark.parametrize("layer", sorted(set().union(*LAYERS) - {"errors", "json_values", "text", "tables", "plugins"}))
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
        ("dpt_ray.core.models.uvit", "from dpt_ray.data.storage import stores"),
        ("dpt_ray.core.models.uvit", "from ...data import stores"),
        ("dpt_ray.config.schema", "from dpt_ray.core import row_random"),
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
            "import fsspec\nfrom dpt_ray.core.seeds import derive_seed\nfrom . import shards",
        ),
        ("dpt_ray.config.load", "from dpt_ray.errors import UserError\nfrom dpt_ray import __version__"),
        ("dpt_ray.distributed.cluster_nodes", "import ray\nfrom dpt_ray.data.storage import stores"),
    ],
)
def test_right_imports_are_not_complained_of(module, source):
    assert violations(source, module) == []


def all_modules() -> dict[str, str]:
    """Return the sources of all modules by name; a package's name stands for its `__init__`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def module_imports(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the modules of this project that each module imports."""
    return {
        module: {known for name in imported(source, module) if (known := _module_of(name, sources)) and known != module}
        for module, source in sources.items()
    }


def _module_of(name: str, known: Mapping[str, str]) -> str | None:
    """Return the module that a full name of an import lies in."""
    if name in known:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in known else None


def circles(edges: Mapping[str, set[str]]) -> list[set[str]]:
    """Return groups of nodes that reach each other."""

    def reached(start: str) -> set[str]:
        seen, waiting = set(), [start]
        while waiting:
            for target in edges.get(waiting.pop(), set()) - seen:
                seen.add(target)
                waiting.append(target)
        return seen

    reach = {node: reached(node) for node in edges}
    groups = [
        {other for other in reach[node] if node in reach.get(other, set())} for node in edges if node in reach[node]
    ]
    return [group for position, group in enumerate(groups) if group not in groups[:position]]


def package_imports(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return which packages and sub-packages each of them imports; files right in a package count as that package."""
    packages = {name for name in sources if (PACKAGE.parent / name.replace(".", "/")).is_dir()}

    def package(module: str) -> str:
        return module if module in packages else module.rpartition(".")[0]

    edges: dict[str, set[str]] = {}
    for module, targets in module_imports(sources).items():
        home = package(module)
        if home != "dpt_ray":
            edges.setdefault(home, set()).update({package(target) for target in targets} - {home, "dpt_ray"})
    return edges


def test_no_two_packages_or_sub_packages_import_each_other():
    assert circles(package_imports(all_modules())) == []


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]
    sources = all_modules()
    sources["dpt_ray.data.shards.samples"] += "\nfrom dpt_ray.networks import files"
    assert len(circles(package_imports(sources))) == 1


def test_no_step_imports_another():
    steps = {name: targets for name, targets in module_imports(all_modules()).items() if ".pipeline.steps." in name}
    assert len(steps) > 10
    assert {name: found for name, targets in steps.items() if (found := targets & set(steps))} == {}


def test_every_file_name_stands_once():
    names = [path.name for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" and path.parent.name != "cli"]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_torchvision_is_neither_installed_nor_imported():
    assert importlib.util.find_spec("torchvision") is None
    everything = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    assert [
        str(p) for p, source in everything.items() if "torchvision" in {n.split(".")[0] for n in imported(source, "")}
    ] == []
