"""Print what pyproject.toml requires, one a line: list_requirements.py PYPROJECT [EXTRA,...].

So an image's packages depend on those files and constraints.txt alone, and a change of code installs nothing anew.
"""

import sys
import tomllib
from pathlib import Path


def list_requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """Return the requirements of the project and of its `extras`.

    Raises:
        SystemExit: there is no such extra.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    optional = project["optional-dependencies"]
    unknown = [extra for extra in extras if extra not in optional]
    if unknown:
        raise SystemExit(f"error: {pyproject} has no extra {unknown[0]!r}; there are: {', '.join(sorted(optional))}")
    return [*project["dependencies"], *(requirement for extra in extras for requirement in optional[extra])]


if __name__ == "__main__":
    wanted = [extra for extra in ",".join(sys.argv[2:]).split(",") if extra]
    print("\n".join(list_requirements(Path(sys.argv[1]), wanted)))
