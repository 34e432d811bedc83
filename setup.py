"""What pyproject.toml cannot say of a wheel: its packages, its addresses, and a front page without relative links.

`configs/` becomes `dpt_ray/configs`. DPT_RAY_REPOSITORY names the web address of the repository or of a fork: links of
the front page then lead to the files of this version's tag there, and the metadata names it. Without the variable, a
link becomes its text, since a package index shows the page where no file stands beside it.
"""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
ADDRESS = os.environ.get("DPT_RAY_REPOSITORY", "").rstrip("/")

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


def version() -> str:
    """Return the version that the package names."""
    found = re.search(r'^__version__ = "(.+)"$', (HERE / "dpt_ray" / "__init__.py").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def front_page() -> str:
    """Return README.md with absolute links, or with texts in their place."""

    def replaced(link: re.Match[str]) -> str:
        mark, text, place = link.groups()
        if not ADDRESS:
            return "" if mark else text
        return f"{mark}[{text}]({ADDRESS}/{'raw' if mark else 'blob'}/v{version()}/{place})"

    return _LINK.sub(replaced, (HERE / "README.md").read_text(encoding="utf-8"))


def addresses() -> dict[str, str]:
    """Return the links of the metadata by name."""
    if not ADDRESS:
        return {}
    tagged = f"{ADDRESS}/blob/v{version()}"
    return {
        "Repository": ADDRESS,
        "Documentation": f"{tagged}/docs/index.md",
        "Changelog": f"{tagged}/CHANGELOG.md",
    }


def packages() -> list[str]:
    """Return the packages, of which those of configurations hold no Python."""
    folders = [Path("configs"), *(path.relative_to(HERE) for path in (HERE / "configs").rglob("*") if path.is_dir())]
    return [*find_packages(include=["dpt_ray*"]), *sorted(".".join(("dpt_ray", *folder.parts)) for folder in folders)]


setup(
    packages=packages(),
    package_dir={"dpt_ray.configs": "configs"},
    long_description=front_page(),
    long_description_content_type="text/markdown",
    project_urls=addresses(),
)
