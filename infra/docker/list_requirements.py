"""Print the requirements in pyproject.toml, one for each line: list_requirements.py PYPROJECT [EXTRA,...].

The image installs this list before it copies the code. So a change of the code does not rebuild the layer of packages.
"""

import re
import sys
import tomllib
from pathlib import Path


def list_requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """Return the requirements of the project and of its `extras`.

    An extra that names other extras of the project, as in `dpt_ray[onnx]`, is replaced by their requirements. The
    project itself must never be looked up in an index, where anybody could have registered its name.

    Raises:
        SystemExit: there is no such extra.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    optional = project["optional-dependencies"]
    found, left, seen = list(project["dependencies"]), list(extras), set()
    while left:
        extra = left.pop(0)
        if extra not in optional:
            raise SystemExit(f"error: {pyproject} has no extra {extra!r}; there are: {', '.join(sorted(optional))}")
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in optional[extra]:
            own = re.fullmatch(rf"{project['name']}\[(.*)\]", requirement)
            if own:
                left += [name.strip() for name in own[1].split(",")]
            else:
                found.append(requirement)
    return found


if __name__ == "__main__":
    wanted = [extra for extra in ",".join(sys.argv[2:]).split(",") if extra]
    print("\n".join(list_requirements(Path(sys.argv[1]), wanted)))
