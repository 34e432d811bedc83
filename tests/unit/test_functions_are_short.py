"""Every function of the package fits on a screen."""

import ast
from collections.abc import Iterator
from pathlib import Path

import dpt_ray

MOST_LINES = 60


def long_functions(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_LINES:
                yield f"{node.name} has {lines} lines"


def test_functions_are_short():
    package = Path(dpt_ray.__file__).parent
    found = [
        f"{path.relative_to(package)}: {function}"
        for path in sorted(package.rglob("*.py"))
        for function in long_functions(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_a_long_function_is_found():
    body = "\n".join(["    pass"] * MOST_LINES)
    assert list(long_functions(f"def short():\n{body[9:]}\n\n\nclass Long:\n  def method(self):\n{body}\n")) == [
        f"method has {MOST_LINES + 1} lines"
    ]
